package listener

import (
	"log/slog"

	"github.com/sluicemq/sluice/sdk"
)

// The two classes of traffic, which have shares of their own.
const (
	fresh = iota
	again
	classes
)

// freshTurns is how many fresh messages start for one retried message while
// both wait.
const freshTurns = 3

// unit is one listener at work. What is below the line is guarded by the mutex
// of its pump.
type unit struct {
	settings

	spec  *Spec
	info  sdk.ListenerInfo
	chain sdk.ConsumeFunc
	log   *slog.Logger

	limit int // concurrency now
	ready [classes]queue
	busy  [classes]int
	turns int
}

// inFlight is the number of running handlers.
func (u *unit) inFlight() int { return u.busy[fresh] + u.busy[again] }

// waits is how many deliveries may wait for a handler.
func (u *unit) waits() int {
	if u.prefetchSet {
		return u.prefetch
	}
	return u.limit
}

// take gives the next delivery to run, if there is one and a slot for it.
func (u *unit) take() *item {
	if u.inFlight() >= u.limit {
		return nil
	}
	f := u.ready[fresh].len() > 0
	// Retries never hold more than half of the slots, so that a flood of them
	// leaves room for fresh messages at once.
	a := u.ready[again].len() > 0 && u.busy[again] < max(1, u.limit/2)
	class := fresh
	switch {
	case !f && !a:
		return nil
	case f && a && u.turns >= freshTurns, !f:
		class = again
	}
	if class == again {
		u.turns = 0
	} else if a {
		u.turns++
	}
	it := u.ready[class].pop()
	it.state = itemRunning
	it.lane.running++
	u.busy[class]++
	return it
}

// queue is a FIFO of deliveries that could run now.
type queue struct {
	items []*item
	head  int
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(it *item) {
	if q.head > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, it)
}

func (q *queue) pop() *item {
	it := q.items[q.head]
	q.items[q.head] = nil
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return it
}

// drop removes the deliveries of a lane.
func (q *queue) drop(l *lane) {
	kept := q.items[:0]
	for _, it := range q.items[q.head:] {
		if it.lane != l {
			kept = append(kept, it)
		}
	}
	clear(q.items[len(kept):])
	q.items, q.head = kept, 0
}
