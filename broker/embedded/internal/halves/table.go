package halves

import (
	"math"
	"strings"
	"unique"
)

// Table holds half messages. The owner guards it; methods that change nothing
// may run at the same time.
//
// One that is not decided takes up to 170 bytes with an id of 32 characters. Of
// a decided one only the key, the position and the decision are left, up to 85
// bytes.
type Table struct {
	keep    int
	marks   map[key]mark
	open    map[int64]*open // by position: Open and Parked ones
	decided []decision      // a ring once it has keep of them
	oldest  int             // in decided
}

// mark is what is known of a key: where its half message is, and whether and
// how it was decided.
type mark uint64

const (
	undecided mark = iota
	committed
	rolledBack

	markBits = 2
	markMask = 1<<markBits - 1
)

func markOf(pos int64, m mark) mark { return mark(pos)<<markBits | m }

func (m mark) pos() int64 { return int64(m >> markBits) }

// state is where a decided half message stands.
func (m mark) state() State {
	if m&markMask == committed {
		return Committed
	}
	return RolledBack
}

// open is an undecided half message, in 48 bytes.
type open struct {
	tx       string
	group    unique.Handle[string] // the ids of a group share its name
	storedMs int64
	parked   *parking // nil if it is not
	size     int32
}

// parking is what is known of a parked one beside.
type parking struct {
	ms     int64
	checks int
}

// decision is a decided half message.
type decision struct {
	key  key
	mark mark
}

// New makes an empty table that remembers the last keep decisions.
func New(keep int) *Table {
	return &Table{keep: max(keep, 0), marks: map[key]mark{}, open: map[int64]*open{}}
}

// Get answers the half message id; its state is None if there is none.
func (t *Table) Get(id ID) Half {
	m, ok := t.marks[keyOf(id)]
	if !ok {
		return Half{ID: id}
	}
	if m&markMask == undecided {
		h, _ := t.At(m.pos())
		return h
	}
	return Half{ID: id, State: m.state(), Pos: m.pos()}
}

// At answers the half message at pos if it is not decided.
func (t *Table) At(pos int64) (Half, bool) {
	o := t.open[pos]
	if o == nil {
		return Half{}, false
	}
	return o.half(pos), true
}

func (o *open) half(pos int64) Half {
	h := Half{ID: ID{o.group.Value(), o.tx}, State: Open, Pos: pos, StoredMs: o.storedMs, Size: int(o.size)}
	if o.parked != nil {
		h.State, h.ParkedMs, h.Checks = Parked, o.parked.ms, o.parked.checks
	}
	return h
}

// Prepared adds a half message; a second one of the same identity, or at the
// same position, changes nothing.
func (t *Table) Prepared(id ID, pos, storedMs int64) {
	t.Prepare(Half{ID: id, Pos: pos, StoredMs: storedMs})
}

// Prepare adds a half message, of which it takes ID, Pos, StoredMs and Size. A
// second one of the same identity, or at the same position, changes nothing.
func (t *Table) Prepare(h Half) {
	t.add(keyOf(h.ID), h.Pos, &open{
		// A part of a larger string would keep all of it in memory.
		tx: strings.Clone(h.Tx), group: unique.Make(h.Group), storedMs: h.StoredMs,
		size: int32(min(max(h.Size, 0), math.MaxInt32)),
	})
}

// add reports whether o is new.
func (t *Table) add(k key, pos int64, o *open) bool {
	if _, ok := t.marks[k]; ok || t.open[pos] != nil {
		return false
	}
	t.marks[k], t.open[pos] = markOf(pos, undecided), o
	return true
}

// Decide ends the half message at pos; a decided one stays as it is.
func (t *Table) Decide(pos int64, s State) {
	o := t.open[pos]
	if o == nil {
		return
	}
	delete(t.open, pos)
	m := markOf(pos, committed)
	if s != Committed {
		m = markOf(pos, rolledBack)
	}
	t.remember(decision{keyOf(ID{o.group.Value(), o.tx}), m})
}

// remember notes a decision and forgets the oldest one if they are too many.
func (t *Table) remember(d decision) {
	t.marks[d.key] = d.mark
	if len(t.decided) < t.keep {
		t.decided = append(t.decided, d)
		return
	}
	gone := d
	if t.keep > 0 {
		gone, t.decided[t.oldest] = t.decided[t.oldest], d
		t.oldest = (t.oldest + 1) % t.keep
	}
	delete(t.marks, gone.key)
}

// Park notes that the half message at pos stayed undecided.
func (t *Table) Park(pos, ms int64, checks int) {
	if o := t.open[pos]; o != nil && o.parked == nil {
		o.parked = &parking{ms, checks}
	}
}

// Undecided calls f for every Open or Parked half message, in no order.
func (t *Table) Undecided(f func(Half)) {
	for pos, o := range t.open {
		f(o.half(pos))
	}
}

// Len is the number of half messages that are not decided.
func (t *Table) Len() int { return len(t.open) }

// MinPos is the lowest position of a half message that is not decided. It looks
// at each of them.
func (t *Table) MinPos() (pos int64, ok bool) {
	if len(t.open) == 0 {
		return 0, false
	}
	pos = math.MaxInt64
	for p := range t.open {
		pos = min(pos, p)
	}
	return pos, true
}
