package main

import (
	"database/sql"
	"errors"
	"testing"
	"time"
)

func (f *fixture) state(t *testing.T, id string) (state string, try, closed int) {
	t.Helper()
	if err := f.bills.db.QueryRowContext(t.Context(), `SELECT state, try, closed FROM bills WHERE bill_id = ?`, id).
		Scan(&state, &try, &closed); err != nil {
		t.Fatal(err)
	}
	return state, try, closed
}

func TestBillStore_AnnouncesOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b1 := row{"B1", "A1", "gas", 1000, 1500, 2}
	now := time.UnixMilli(1_000_000)
	fresh, conflicts, err := f.bills.Announce(t.Context(), []row{b1}, now)
	if err != nil || len(fresh) != 1 || len(conflicts) != 0 || !fresh[0].DueAt.Equal(now.Add(1500*time.Millisecond)) {
		t.Fatalf("%+v, %v, %v", fresh, conflicts, err)
	}
	again, other := b1, b1
	again.Line, other.Line, other.AmountCents = 7, 8, 999
	fresh, conflicts, err = f.bills.Announce(t.Context(), []row{again, other}, now)
	if err != nil || len(fresh) != 0 || len(conflicts) != 1 {
		t.Fatalf("%+v, %v, %v; want nothing new and one conflict", fresh, conflicts, err)
	}
	const want = "line 8: bill B1 was announced before with account A1, kind gas, amount_cents 1000, due_ms 1500"
	if conflicts[0].Error() != want {
		t.Errorf("got %q, want %q", conflicts[0], want)
	}
}

// A payment belongs to one try. After Reopen the earlier one can neither commit
// nor, by its late check-back, roll the bill back.
func TestBillStore_AnAbandonedTryHasNoSay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	fresh, _, err := f.bills.Announce(t.Context(), []row{{"B1", "A1", "gas", 1000, 1500, 2}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	open, err := f.bills.Reopen(t.Context())
	if err != nil || len(open) != 1 || open[0].Try != 2 || open[0].txID() != "B1/2" {
		t.Fatalf("%+v, %v", open, err)
	}
	pay := func(b *bill) error {
		return inTx(t.Context(), f.bills.db, func(tx *sql.Tx) error { return f.bills.Pay(t.Context(), tx, b, false) })
	}
	if err := pay(&fresh[0]); !errors.Is(err, errNotOpen) {
		t.Errorf("the first try pays: %v", err)
	}
	if err := f.bills.RollBack(t.Context(), fresh[0].txID()); err != nil {
		t.Fatal(err)
	}
	if err := pay(&open[0]); err != nil {
		t.Errorf("the second try does not pay: %v", err)
	}
	if state, _, _ := f.state(t, "B1"); state != statePaid {
		t.Errorf("the bill is %s", state)
	}
	if open, err = f.bills.Reopen(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("a paid bill is reopened: %+v, %v", open, err)
	}
}

func TestBillStore_ClosesUnpaidBillsOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.pay(t, "B1", "A1")
	if _, _, err := f.bills.Announce(t.Context(), []row{{"B2", "A1", "gas", 1, 1, 2}, {"B3", "A1", "gas", 1, 1, 3}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := f.bills.RollBack(t.Context(), "B3/1"); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]struct {
		decided bool
		closed  int
	}{"B1": {true, 0}, "B2": {false, 0}, "B3": {true, 1}} {
		decided, err := f.bills.Close(t.Context(), id)
		if _, _, closed := f.state(t, id); err != nil || decided != want.decided || closed != want.closed {
			t.Errorf("%s: decided %v, closed %d, %v; want %+v", id, decided, closed, err, want)
		}
	}
	if _, err := f.bills.Close(t.Context(), "B9"); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("an unknown bill: %v", err)
	}
}

func TestTxID(t *testing.T) {
	t.Parallel()
	b := bill{row: row{BillID: "B-1.x"}, Try: 12}
	if id, try, ok := splitTxID(b.txID()); !ok || id != b.BillID || try != 12 {
		t.Errorf("%q reads back as %q, %d, %v", b.txID(), id, try, ok)
	}
	for _, bad := range []string{"", "B1", "B1/", "B1/x"} {
		if _, _, ok := splitTxID(bad); ok {
			t.Errorf("%q is taken for a transaction", bad)
		}
	}
}
