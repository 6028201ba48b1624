package driver

import "time"

// Decision is the end of a half message.
type Decision uint8

const (
	// Undecided: ask again later.
	Undecided Decision = iota
	// Commit makes the message visible.
	Commit
	// Rollback makes it vanish.
	Rollback
)

// String returns "undecided", "commit" or "rollback".
func (d Decision) String() string {
	switch d {
	case Commit:
		return "commit"
	case Rollback:
		return "rollback"
	default:
		return "undecided"
	}
}

// Half names a half message.
type Half struct {
	// TxID names the transaction; it equals the unique id of the message.
	TxID string
	// Group is the producer group.
	Group string
	// Handle is the broker's own, opaque, and survives a restart.
	Handle []byte
}

// ParkedHalf is a half message that nobody decided.
type ParkedHalf struct {
	Half     Half
	Message  *Delivery
	Checks   int
	ParkedAt time.Time
}
