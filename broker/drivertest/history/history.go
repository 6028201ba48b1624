package history

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// Outcome is what a sender learned of one message.
type Outcome uint8

const (
	// Unknown: no answer yet, or the broker may have stored it.
	Unknown Outcome = iota
	// OK: the broker said that it is stored.
	OK
	// Failed: the broker has not stored it, for certain.
	Failed
)

// Ending is how a receiver ended a delivery.
type Ending uint8

const (
	// Open: not ended, or nobody knows.
	Open Ending = iota
	// Acked: acknowledged, and the broker confirmed it.
	Acked
	// Again: given back or retried; another delivery has to follow.
	Again
	// Dead: moved to the dead letters.
	Dead
	// Unsure: given back or given up, without a certain answer. The original
	// may come again, a copy may come, or both.
	Unsure
)

// History is the record of one run. The zero value is ready for use.
type History struct {
	mu       sync.Mutex
	clock    int
	sends    map[Value]*send
	order    []Value
	arrivals []*Delivery
	faults   []fault
	damaged  []string

	positions []position
}

type send struct {
	key     string
	outcome Outcome
	tries   int
	at      int

	lane       string // where the broker said it lies, if placed
	offset     int64
	placed     bool
	due        time.Time
	half       bool
	rolledBack bool
}

type fault struct {
	at    int
	what  string
	group string // empty: every group
}

// Delivery is one arrival of a value, see [History.Deliver].
type Delivery struct {
	value  Value
	group  string
	lane   string
	offset int64
	at     int
	when   time.Time
	ended  int
	ending Ending
}

func (h *History) tick() int {
	h.clock++
	return h.clock
}

// Invoke notes that v is about to be sent. Messages of one process and key are
// expected in the order of their first Invoke; an empty key expects no order.
// A second Invoke of v is a retry of the send, which permits a duplicate if an
// earlier try was not certain to have failed.
func (h *History) Invoke(v Value, key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sends == nil {
		h.sends = map[Value]*send{}
	}
	s := h.sends[v]
	if s == nil {
		s = &send{key: key, at: h.tick()}
		h.sends[v] = s
		h.order = append(h.order, v)
	}
	if s.outcome != Failed {
		s.tries++
	}
	if s.outcome == Failed {
		s.outcome = Unknown
	}
}

// Answer notes what the broker said of v. An OK stays an OK.
func (h *History) Answer(v Value, o Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sends[v]
	switch {
	case s == nil || s.outcome == OK:
	case o == Failed && s.tries > 1: // an earlier try may have done it
	default:
		if s.outcome = o; o == Failed {
			s.tries--
		}
	}
}

// Deliver notes the arrival of body in a group by a lane, at an offset (negative
// if unknown), and returns it, to be given to Settle.
func (h *History) Deliver(group string, body []byte, lane string, offset int64) *Delivery {
	v, err := Parse(body)
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &Delivery{value: v, group: group, lane: lane, offset: offset, at: h.tick(), when: time.Now()}
	if err != nil {
		h.damaged = append(h.damaged, err.Error())
		return d
	}
	h.arrivals = append(h.arrivals, d)
	return d
}

// Settle notes that d ended and the broker confirmed it.
func (h *History) Settle(d *Delivery, e Ending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.ending, d.ended = e, h.tick()
}

// Fault notes a crash, a lost lane, a cut connection: what was delivered
// before may come again afterwards.
func (h *History) Fault(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, fault{at: h.tick(), what: what})
}

// Pending lists the values that were stored and not delivered to the group yet,
// in the order of sending; a run waits until it is empty before it checks.
func (h *History) Pending(group string) []Value {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[Value]bool{}
	for _, d := range h.arrivals {
		if d.group == group {
			seen[d.value] = true
		}
	}
	var out []Value
	for _, v := range h.order {
		if h.sends[v].outcome == OK && !seen[v] {
			out = append(out, v)
		}
	}
	return out
}

// Counts returns how many values were sent, stored for certain, and how many
// deliveries were noted.
func (h *History) Counts() (sent, stored, delivered int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sends {
		if s.outcome == OK {
			stored++
		}
	}
	return len(h.sends), stored, len(h.arrivals)
}

// groups lists the groups that received anything.
func (h *History) groups() []string {
	var out []string
	for _, d := range h.arrivals {
		if !slices.Contains(out, d.group) {
			out = append(out, d.group)
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// Seen reports whether anybody received v.
func (h *History) Seen(v Value) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.arrivals {
		if d.value == v {
			return true
		}
	}
	return false
}
