package drivertest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// place is where a copy of a message came by.
type place struct {
	lane   string
	offset int64
}

// holding is a delivery that was fetched and not settled.
type holding struct {
	id   string
	m    *member
	lane driver.Lane
	d    *driver.Delivery
}

// progress is what is known of one message in one group.
type progress struct {
	body, key string
	seq       int
	failed    int  // attempts that failed
	seen      bool // delivered at least once
	done      bool // acknowledged or dead-lettered
	dead      bool
	// fuzzy: a crash, or the end of a lane with an unsettled message below,
	// allows copies that were settled before to come again.
	fuzzy     bool
	notBefore time.Time
	places    []place
}

// modelState is the model of one group. LaneEvents calls reach it from the
// driver's goroutines, everything else from the goroutine of the test.
type modelState struct {
	e       *env
	ordered bool

	mu   sync.Mutex
	msgs map[string]*progress
	held []holding
	// returned are those that wait in place; see [Limits.ReturnsInPlace].
	returned []holding
	owned    map[string]bool
	waiting  map[string]string // ordered lane → message that was returned to it
	next     map[string]int    // key → sequence number that is due
	dying    bool              // the broker crashes: lanes are lost, and Lost may come late
}

func newModelState(e *env, ordered bool) *modelState {
	return &modelState{
		e: e, ordered: ordered, msgs: map[string]*progress{}, owned: map[string]bool{},
		waiting: map[string]string{}, next: map[string]int{},
	}
}

func (s *modelState) sent(id, body, key string, seq int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.msgs[id] = &progress{body: body, key: key, seq: seq}
}

func (s *modelState) assigned(lane string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owned[lane] && s.e.caps.Queues && !s.dying {
		s.e.Errorf("lane %s was assigned while another member of the group owns it", lane)
	}
	s.owned[lane] = true
}

// ended drops what was held from the lane. Copies that lie above an unsettled
// one may come again, because a log stores one position only.
func (s *modelState) ended(l driver.Lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := l.Name()
	delete(s.owned, name)
	if w := s.waiting[name]; w != "" {
		s.msgs[w].notBefore = time.Time{} // the next owner of an ordered lane need not know of the delay
	}
	low := int64(-1)
	for _, h := range slices.Concat(s.held, s.returned) {
		if h.lane == l && (low < 0 || h.d.Offset < low) {
			low = h.d.Offset
		}
	}
	s.returned = slices.DeleteFunc(s.returned, func(h holding) bool {
		if h.lane == l {
			s.msgs[h.id].notBefore = time.Time{} // the next owner does not know of the delay
		}
		return h.lane == l
	})
	if low < 0 {
		return
	}
	s.held = slices.DeleteFunc(s.held, func(h holding) bool { return h.lane == l })
	for _, p := range s.msgs {
		if slices.ContainsFunc(p.places, func(at place) bool { return at.lane == name && at.offset > low }) {
			p.fuzzy = true
		}
	}
}

// delivered compares a delivery with the model.
func (s *modelState) delivered(m *member, l driver.Lane, d *driver.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(m.owned(), l) {
		return // taken away between Fetch and here: the framework drops it, too
	}
	p := s.msgs[d.ID]
	what := fmt.Sprintf("%q (id %s, attempt %d, offset %d of %s)", d.Body, d.ID, d.Attempt, d.Offset, l.Name())
	switch {
	case p == nil || p.body != string(d.Body):
		s.e.Errorf("delivered %s, which was never sent so", what)
		return
	case p.done && !p.fuzzy:
		s.e.Errorf("delivered %s after it was acknowledged", what)
	case !p.fuzzy && slices.ContainsFunc(s.held, func(h holding) bool { return h.id == d.ID }):
		s.e.Errorf("delivered %s while it is being handled", what)
	case d.Attempt < 1, !p.fuzzy && d.Attempt < p.failed+1, !s.e.lim.CountsAbandoned && d.Attempt > p.failed+1:
		s.e.Errorf("delivered %s; %d attempts have failed", what, p.failed)
	case !p.fuzzy && time.Until(p.notBefore) > time.Millisecond:
		s.e.Errorf("delivered %s %v too early", what, time.Until(p.notBefore))
	}
	if s.ordered {
		s.inOrder(l.Name(), d.ID, p, what)
	}
	p.seen = true
	s.returned = slices.DeleteFunc(s.returned, func(h holding) bool { return h.id == d.ID })
	if at := (place{l.Name(), d.Offset}); !slices.Contains(p.places, at) {
		p.places = append(p.places, at)
	}
	s.held = append(s.held, holding{id: d.ID, m: m, lane: l, d: d})
}

func (s *modelState) inOrder(lane, id string, p *progress, what string) {
	if w := s.waiting[lane]; w != "" {
		if w != id {
			s.e.Errorf("delivered %s, but lane %s waits with %q, which was returned", what, lane, s.msgs[w].body)
		}
		delete(s.waiting, lane)
	}
	if p.seq > s.next[p.key] {
		s.e.Errorf("delivered %s before message %d of %s", what, s.next[p.key], p.key)
	}
	s.next[p.key] = max(s.next[p.key], p.seq+1)
}

// pick chooses one of the held deliveries.
func (s *modelState) pick(n int) (holding, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		return holding{}, false
	}
	return s.held[n%len(s.held)], true
}

func (s *modelState) holds(l driver.Lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.held, func(h holding) bool { return h.lane == l })
}

// drop removes h and reports whether it was still held.
func (s *modelState) drop(h holding) bool {
	n := len(s.held)
	s.held = slices.DeleteFunc(s.held, func(o holding) bool { return o.d == h.d })
	return len(s.held) < n
}

// refused notes a settlement that came too late for the lane.
func (s *modelState) refused(h holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(h)
}

func (s *modelState) settled(h holding, o driver.Outcome, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.msgs[h.id]
	if !s.drop(h) {
		p.fuzzy = true // the lane ended meanwhile
	}
	p.notBefore = due
	switch o {
	case driver.Ack:
		p.done = true
	case driver.DeadLetter:
		p.done, p.dead = true, true
	case driver.Retry:
		p.failed++
	case driver.Return:
		if s.e.lim.ReturnsInPlace {
			s.returned = append(s.returned, h)
		}
		if s.ordered {
			s.waiting[h.lane.Name()] = h.id
		}
	}
}

func (s *modelState) crashing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dying = true
}

// crashed: a settlement may be lost with the broker, so whatever was delivered
// may come again in any of its earlier states.
func (s *modelState) crashed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.returned, s.dying = nil, nil, false
	clear(s.owned)
	clear(s.waiting) // an acknowledged message below may come before it
	for _, p := range s.msgs {
		p.fuzzy = p.fuzzy || p.seen
	}
}

// open is the number of messages that must still come.
func (s *modelState) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, p := range s.msgs {
		if !p.done {
			n++
		}
	}
	return n
}

func (s *modelState) describeOpen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id, p := range s.msgs {
		if !p.done {
			out = append(out, fmt.Sprintf("%q (id %s, %d failed attempts, fuzzy %v)", p.body, id, p.failed, p.fuzzy))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// dead are the ids of the dead-lettered messages.
func (s *modelState) dead() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]bool{}
	for id, p := range s.msgs {
		if p.dead {
			out[id] = true
		}
	}
	return out
}
