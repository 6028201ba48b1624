// Package halves is the state machine of half messages:
//
//	NONE → Open → Committed | RolledBack
//	       Open → Parked → Committed | RolledBack
//
// Committed and RolledBack absorb. A half message is known by its producer
// group and its unique id. The table is a fold over the log and decides
// nothing itself; [State.Verdict] says what a decision would do.
package halves

import "github.com/sluicemq/sluice/broker/driver"

// State is where a half message stands.
type State uint8

const (
	// None: there is no such half message.
	None State = iota
	// Open waits for a decision.
	Open
	// Parked waits for a decision too, but is not asked for any more.
	Parked
	// Committed is final: the message is visible.
	Committed
	// RolledBack is final: the message never will be.
	RolledBack
)

// Verdict is what a decision does to a half message.
type Verdict uint8

const (
	// Unknown: there is nothing to decide.
	Unknown Verdict = iota
	// Decides: this is the decision.
	Decides
	// Repeats: it was decided like that before.
	Repeats
	// Contradicts: it was decided otherwise.
	Contradicts
)

// Verdict tells what d does in state s. d is Commit or Rollback.
func (s State) Verdict(d driver.Decision) Verdict {
	want := Committed
	if d == driver.Rollback {
		want = RolledBack
	}
	switch s {
	case None:
		return Unknown
	case Open, Parked:
		return Decides
	case want:
		return Repeats
	default:
		return Contradicts
	}
}

// ID identifies a half message.
type ID struct{ Group, Tx string }

// Half is one half message; values are copies.
type Half struct {
	ID
	State State
	// Pos is the position of its frame, 0 or more.
	Pos int64
	// The fields below are known as long as it is not decided.

	// StoredMs is when it was stored.
	StoredMs int64
	// Size is the size of the payload of its frame in bytes, 0 if it was not
	// given.
	Size int
	// Checks and ParkedMs are set when it was parked.
	Checks   int
	ParkedMs int64
}
