package listener

import (
	"context"
	"sync"
	"time"
)

// EventKind says what an [Event] is about.
type EventKind uint8

const (
	// EventState: the listener went From one state To another.
	EventState EventKind = iota
	// EventGateRed: the gate named in Subject is red, for the reason in Err.
	EventGateRed
	// EventHold: a handler returned [Hold]; nothing is fetched until Until.
	EventHold
	// EventHoldEnded: fetching goes on.
	EventHoldEnded
	// EventBlocked: an ordered message spent its attempts; the lane in Subject,
	// or one key of it, waits behind it.
	EventBlocked
	// EventStuck: the handler of the message in Subject ignores the end of its
	// ctx and occupies its slot.
	EventStuck
	// EventGivenUp: the message in Subject was dropped, as configured.
	EventGivenUp
	// EventLost: the broker has lost messages of the lane in Subject before the
	// group came to them; Err unwraps to a [*driver.GapError], which says which
	// and why, and whether there were any for sure. Consumption goes on behind
	// them.
	EventLost
)

// Event is something that an operator may want to know. Events are few: none is
// sent for an ordinary message.
type Event struct {
	Kind     EventKind
	At       time.Time
	Listener string
	// From, To with their modes, for EventState.
	From, To         State
	FromMode, ToMode Mode
	// Subject is a gate, a lane or a message id, by kind.
	Subject string
	// Until is the end of a hold.
	Until time.Time
	Err   error
	// Missed is how many events before this one were dropped because the
	// receiver was slow.
	Missed int
}

// broadcaster hands events to bounded receivers; a slow one loses events, never
// the time of the container.
type broadcaster struct {
	mu        sync.Mutex
	closed    bool
	receivers map[*receiver]struct{}
}

type receiver struct {
	ch     chan Event
	missed int
}

func (b *broadcaster) send(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.receivers {
		e.Missed = r.missed
		select {
		case r.ch <- e:
			r.missed = 0
		default:
			r.missed++
		}
	}
}

func (b *broadcaster) receive(ctx context.Context, buffer int) <-chan Event {
	r := &receiver{ch: make(chan Event, max(buffer, 1))}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		close(r.ch)
		return r.ch
	}
	if b.receivers == nil {
		b.receivers = map[*receiver]struct{}{}
	}
	b.receivers[r] = struct{}{}
	context.AfterFunc(ctx, func() { b.drop(r) })
	return r.ch
}

func (b *broadcaster) drop(r *receiver) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.receivers[r]; ok {
		delete(b.receivers, r)
		close(r.ch)
	}
}

func (b *broadcaster) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for r := range b.receivers {
		close(r.ch)
	}
	clear(b.receivers)
}
