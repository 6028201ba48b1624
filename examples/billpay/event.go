package main

// Topics. A service knows the others by these names and by the events below,
// by nothing else.
const (
	topicSettled = "bill-settled" // a bill was paid; tag is the kind, key the bill, ordering key the account
	topicDue     = "bill-due"     // a bill is due, delayed by its due_ms from its announcement
	topicClose   = "bill-close"   // the closer asks bills to close one
)

// billSettled says that a bill was paid. It is the payload of a half message,
// so it exists for the others only if the payment does.
type billSettled struct {
	BillID      string `json:"bill_id"`
	Account     string `json:"account"`
	Kind        string `json:"kind"`
	AmountCents int64  `json:"amount_cents"`
}

// billDue reminds of a bill.
type billDue struct {
	BillID string `json:"bill_id"`
}

// closeBill asks for a bill to be closed if nobody paid it.
type closeBill struct {
	BillID string `json:"bill_id"`
}

// packet is what a settled bill earns its account: one per cent, a cent at least.
func packet(amountCents int64) int64 { return max(1, amountCents/100) }
