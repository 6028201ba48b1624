// Package window is what a group has fetched from a lane and not settled yet.
package window

import (
	"cmp"
	"container/heap"
	"slices"
	"time"
)

// Flight is one message between its fetch and its settlement.
type Flight struct {
	// Offset is its queue offset.
	Offset int64
	// Failed counts the failed attempts that are remembered in memory only, on
	// lanes without stored redeliveries.
	Failed int

	state     state
	notBefore time.Time
	// orphan: the lane ended while it was being settled.
	orphan bool
	// detached: a seek took it off the lane; its end moves nothing.
	detached bool
}

type state uint8

const (
	out      state = iota // with the consumer
	settling              // its copy is being stored
	waiting               // returned, to be fetched again
	settled
)

// Window tracks one lane. The owner guards it.
//
// Position is the lowest offset that is not settled. Offsets below Next that
// are not in flight are settled, so a message that stays in flight for long
// costs nothing but its own place.
type Window struct {
	ordered bool
	next    int64
	flights map[int64]*Flight
	oldest  []int64 // offsets in the order of their fetch; may hold settled ones
	returns returns
}

// New makes the window of a lane whose messages from next on were never
// fetched and of which unsettled were fetched before and have to come again.
func New(ordered bool, next int64, unsettled []int64) *Window {
	w := &Window{ordered: ordered, next: next, flights: map[int64]*Flight{}, returns: returns{ordered: ordered}}
	for _, o := range unsettled {
		w.flights[o] = &Flight{Offset: o, state: waiting}
		w.oldest = append(w.oldest, o)
		heap.Push(&w.returns, w.flights[o])
	}
	return w
}

// Next is the first offset that was never fetched.
func (w *Window) Next() int64 { return w.next }

// InFlight is the number of messages that are fetched or returned and not settled.
func (w *Window) InFlight() int { return len(w.flights) }

// Position is the lowest offset that is not settled.
func (w *Window) Position() int64 {
	for i, o := range w.oldest {
		if w.flights[o] != nil {
			w.oldest = w.oldest[i:]
			return o
		}
	}
	w.oldest = w.oldest[:0]
	return w.next
}

// Unsettled lists the offsets below Next that are not settled, ascending.
func (w *Window) Unsettled() []int64 {
	if len(w.flights) == 0 {
		return nil
	}
	all := make([]int64, 0, len(w.flights))
	for o := range w.flights {
		all = append(all, o)
	}
	slices.Sort(all)
	return all
}

// Skip moves Next beyond offset without a flight: the message was filtered out,
// or is gone.
func (w *Window) Skip(offset int64) { w.next = max(w.next, offset+1) }

// Take puts the message at offset in flight; offset is not below Next. The
// flight lives in f, which belongs to the window until it is settled.
func (w *Window) Take(offset int64, f *Flight) {
	*f = Flight{Offset: offset}
	w.next = offset + 1
	w.flights[offset] = f
	if len(w.oldest) > 2*len(w.flights)+64 {
		w.oldest = slices.DeleteFunc(w.oldest, func(o int64) bool { return w.flights[o] == nil })
	}
	w.oldest = append(w.oldest, offset)
}

// Again takes the next returned message, if it may be fetched at now.
func (w *Window) Again(now time.Time) *Flight {
	if f := w.head(); f != nil && !f.notBefore.After(now) {
		heap.Pop(&w.returns)
		f.state = out
		return f
	}
	return nil
}

// Waiting is the number of returned messages.
func (w *Window) Waiting() int { return len(w.returns.list) }

// Find answers the message at offset that is in flight or returned, or nil.
func (w *Window) Find(offset int64) *Flight { return w.flights[offset] }

// Discard settles f, which is with the consumer or was returned. It reports
// false if f is being settled.
func (w *Window) Discard(f *Flight) bool {
	switch {
	case f.state == waiting:
		w.returns.list = slices.DeleteFunc(w.returns.list, func(o *Flight) bool { return o == f })
		heap.Init(&w.returns)
	case !w.Begin(f):
		return false
	}
	w.Settle(f)
	return true
}

// Blocked tells until when nothing may be fetched, not even new messages, and
// until when at least one returned message waits; zero times for no wait.
func (w *Window) Blocked(now time.Time) (all, some time.Time) {
	f := w.head()
	if f == nil || !f.notBefore.After(now) {
		return time.Time{}, time.Time{}
	}
	if w.ordered {
		return f.notBefore, f.notBefore
	}
	return time.Time{}, f.notBefore
}

// Begin marks f as being settled, so that other settlements of f have no
// effect. It reports false if f is not with the consumer any more.
func (w *Window) Begin(f *Flight) bool {
	if f.state != out || !f.detached && w.flights[f.Offset] != f {
		return false
	}
	f.state = settling
	return true
}

// Undo takes Begin back.
func (w *Window) Undo(f *Flight) {
	switch {
	case f.state != settling:
	case f.orphan:
		w.Return(f, time.Time{}, false)
	default:
		f.state = out
	}
}

// Settle ends f, which Begin has marked.
func (w *Window) Settle(f *Flight) {
	if w.flights[f.Offset] == f {
		delete(w.flights, f.Offset)
	}
	f.state = settled
}

// Return puts f, which Begin has marked, back until notBefore; failed counts
// one more failed attempt.
func (w *Window) Return(f *Flight, notBefore time.Time, failed bool) {
	f.state = settled
	if w.flights[f.Offset] != f {
		return
	}
	again := &Flight{Offset: f.Offset, Failed: f.Failed, state: waiting, notBefore: notBefore}
	if failed {
		again.Failed++
	}
	w.flights[f.Offset] = again
	heap.Push(&w.returns, again)
}

// Unfetch puts f back as if it had never been fetched.
func (w *Window) Unfetch(f *Flight) {
	if w.Begin(f) {
		w.Return(f, time.Time{}, false)
	}
}

// Abandon puts everything that is with the consumer back: the lane has ended.
// What is being settled right now stays so until Settle or Undo.
func (w *Window) Abandon() {
	for _, f := range w.flights {
		switch f.state {
		case out:
			f.state = settling
			w.Return(f, time.Time{}, false)
		case settling:
			f.orphan = true
		default: // waiting already, or settled
		}
	}
}

// Reset moves to next and forgets every flight.
func (w *Window) Reset(next int64) {
	w.next = next
	for _, f := range w.flights {
		f.detached = true
	}
	clear(w.flights)
	w.oldest, w.returns.list = nil, nil
}

// head is the first returned message.
func (w *Window) head() *Flight {
	if len(w.returns.list) == 0 {
		return nil
	}
	return w.returns.list[0]
}

// returns orders returned messages: by offset on ordered lanes, else by the
// time from which they may be fetched.
type returns struct {
	ordered bool
	list    []*Flight
}

func (r returns) Len() int { return len(r.list) }
func (r returns) Less(i, j int) bool {
	a, b := r.list[i], r.list[j]
	if r.ordered {
		return a.Offset < b.Offset
	}
	return cmp.Or(a.notBefore.Compare(b.notBefore), cmp.Compare(a.Offset, b.Offset)) < 0
}
func (r returns) Swap(i, j int) { r.list[i], r.list[j] = r.list[j], r.list[i] }
func (r *returns) Push(x any)   { r.list = append(r.list, x.(*Flight)) }
func (r *returns) Pop() any {
	last := len(r.list) - 1
	f := r.list[last]
	r.list = r.list[:last]
	return f
}
