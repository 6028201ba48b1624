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
	// Pos is the position of its frame.
	Pos int64
	// StoredMs is when it was stored.
	StoredMs int64
	// Checks and ParkedMs are set when it was parked.
	Checks   int
	ParkedMs int64
}

// Table holds half messages. The owner guards it.
type Table struct {
	keep    int
	byID    map[ID]*Half
	open    map[int64]*Half // by position: Open and Parked ones
	decided []*Half         // oldest decision first, from head on
	head    int
}

// New makes an empty table that remembers the last keep decisions.
func New(keep int) *Table {
	return &Table{keep: keep, byID: map[ID]*Half{}, open: map[int64]*Half{}}
}

// Get answers the half message id; its state is None if there is none.
func (t *Table) Get(id ID) Half {
	if h := t.byID[id]; h != nil {
		return *h
	}
	return Half{ID: id}
}

// Prepared adds a half message; a second one of the same identity changes nothing.
func (t *Table) Prepared(id ID, pos, storedMs int64) {
	if t.byID[id] != nil {
		return
	}
	h := &Half{ID: id, State: Open, Pos: pos, StoredMs: storedMs}
	t.byID[id], t.open[pos] = h, h
}

// Decide ends the half message at pos; a decided one stays as it is.
func (t *Table) Decide(pos int64, s State) {
	h := t.open[pos]
	if h == nil {
		return
	}
	delete(t.open, pos)
	h.State = s
	t.decided = append(t.decided, h)
	for len(t.decided)-t.head > t.keep {
		delete(t.byID, t.decided[t.head].ID)
		t.decided[t.head] = nil
		t.head++
	}
	if t.head > t.keep {
		t.decided = append([]*Half(nil), t.decided[t.head:]...)
		t.head = 0
	}
}

// Park notes that the half message at pos stayed undecided.
func (t *Table) Park(pos, ms int64, checks int) {
	if h := t.open[pos]; h != nil && h.State == Open {
		h.State, h.ParkedMs, h.Checks = Parked, ms, checks
	}
}

// Undecided calls f for every Open or Parked half message, in no order.
func (t *Table) Undecided(f func(Half)) {
	for _, h := range t.open {
		f(*h)
	}
}
