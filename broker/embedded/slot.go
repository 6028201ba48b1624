package embedded

import (
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/queue"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/internal/window"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// maxInFlight is how many messages of one lane may be fetched and not settled.
// It bounds memory and the size of a stored position; Fetch waits beyond it.
const maxInFlight = 4096

// slot is one lane of a group, whoever owns it: the window of what was fetched
// and not settled. It outlives owners, so that a hand-over repeats only what
// was in flight.
type slot struct {
	e            *engine
	group, topic string
	client       string // of a broadcast group
	queue        int    // or record.RetryLane
	name         string
	info         driver.LaneInfo

	// Guarded by groups.mu.
	target *member
	owner  *lane
	busy   bool // a goroutine hands it over

	mu     sync.Mutex
	filter driver.Filter
	tags   map[int32]bool // hashes of filter.Tags; nil for all
	order  bool
	win    *window.Window
	lane   *lane         // the one that may settle, nil for none
	moved  chan struct{} // closed when something may be fetched that could not before
	dirty  bool          // the window differs from what is stored
}

func newSlot(e *engine, sub *subscription, client string, n int) *slot {
	s := &slot{e: e, group: sub.group, topic: sub.topic, client: client, queue: n, moved: make(chan struct{})}
	if n == record.RetryLane {
		at := e.st.retryQueue(sub.group, sub.topic)
		s.name = laneName(retryTopic(sub.group), at)
		s.info = driver.LaneInfo{Topic: sub.topic, Queue: at, Retry: true}
	} else {
		s.name = laneName(sub.topic, n)
		s.info = driver.LaneInfo{Topic: sub.topic, Queue: n}
	}
	p, _ := e.st.position(s.key(), n)
	if end := s.max(); p.Next > end {
		p = record.LanePosition{Next: end}
	}
	s.win = window.New(sub.spec.Ordered, p.Next, p.Unsettled)
	s.setFilter(sub.spec)
	return s
}

// key names the positions of the slot in the state.
func (s *slot) key() progressKey { return progressKey{s.group, s.topic, s.client} }

// reopen prepares the slot for members that subscribe as spec says.
func (s *slot) reopen(spec driver.SubscribeSpec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane != nil {
		return // it is in use, by members that subscribe as spec says
	}
	if s.order != spec.Ordered {
		s.win = window.New(spec.Ordered, s.win.Next(), s.win.Unsettled())
	}
	s.setFilter(spec)
}

func (s *slot) setFilter(spec driver.SubscribeSpec) {
	s.order, s.filter, s.tags = spec.Ordered, spec.Filter, nil
	if s.queue == record.RetryLane {
		s.filter = driver.Filter{} // a redelivery is the group's, whatever its tag
	}
	if len(s.filter.Tags) > 0 {
		s.tags = map[int32]bool{}
		for _, t := range s.filter.Tags {
			s.tags[message.TagCode(t)] = true
		}
	}
}

// ownerMember is the member that owns the slot. groups.mu is held.
func (s *slot) ownerMember() *member {
	if s.owner == nil {
		return nil
	}
	return s.owner.member
}

// log answers the queue the slot reads from; nil if the topic was deleted.
func (s *slot) log() *queue.Queue { return s.e.st.queue(s.group, s.topic, s.queue) }

// max is the end of the queue.
func (s *slot) max() int64 {
	if q := s.log(); q != nil {
		return q.Max()
	}
	return 0
}

// attach lets l fetch and settle.
func (s *slot) attach(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lane, l.filter = l, s.filter
}

// stopFetch ends fetching by l; what it holds may still be settled.
func (s *slot) stopFetch(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.revoked {
		l.revoked = true
		close(l.stopped)
	}
}

// detach ends settling by l: what it holds comes again.
func (s *slot) detach(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane == l {
		s.lane = nil
		s.win.Abandon()
		s.changed()
	}
}

// changed notes that the window moved. mu is held.
func (s *slot) changed() {
	close(s.moved)
	s.moved = make(chan struct{})
	if !s.dirty {
		s.dirty = true
		s.e.flush.later(s)
	}
}

func (s *slot) isDirty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dirty
}

// snapshot answers what is to be stored, if it has changed, and takes the mark
// of change off.
func (s *slot) snapshot() (p record.LanePosition, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty {
		return p, false
	}
	s.dirty = false
	return record.LanePosition{Queue: s.queue, Next: s.win.Next(), Unsettled: s.win.Unsettled()}, true
}

// touch puts the mark of change back after a snapshot could not be stored.
func (s *slot) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = true
	s.e.flush.later(s)
}

// seek moves the slot to where p is, clamped to the ends of the queue.
func (s *slot) seek(p driver.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset(p)
}

// reset is seek with mu held.
func (s *slot) reset(p driver.Position) {
	to := int64(0)
	if q := s.log(); q != nil {
		to = resolve(q, p)
	}
	s.win.Reset(to)
	s.changed()
}

// resolve finds the offset that p means.
func resolve(q *queue.Queue, p driver.Position) int64 {
	switch p.Kind {
	case driver.Latest:
		return q.Max()
	case driver.AtOffset:
		return min(max(p.Offset, 0), q.Max())
	case driver.AtTime:
		if p.Time.IsZero() {
			return 0
		}
		return q.AtTime(ceilMs(p.Time))
	default:
		return 0
	}
}

// progress tells how far the slot is.
func (s *slot) progress() (position int64, inFlight int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane != nil {
		inFlight = s.win.InFlight()
	}
	return s.win.Position(), inFlight
}

// catch is one message that was taken from the window, to be read.
type catch struct {
	flight *window.Flight
	entry  queue.Entry
}

// wait is what Fetch waits for when there is nothing.
type wait struct {
	moved, grown <-chan struct{}
	// at is when a returned message may be fetched; zero for no such time.
	at time.Time
}

// grab takes up to limit messages, returned ones first. Without any it answers
// what to wait for. ok is false if l may not fetch.
func (s *slot) grab(l *lane, limit int) (got []catch, w wait, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane != l || l.revoked {
		return nil, w, false
	}
	w.moved = s.moved
	q := s.log()
	if q == nil {
		return nil, w, true
	}
	now := time.Now()
	for len(got) < limit {
		f := s.win.Again(now)
		if f == nil {
			break
		}
		if e, ok := q.At(f.Offset); ok {
			got = append(got, catch{f, e})
		} else if s.win.Begin(f) {
			s.win.Settle(f) // beyond the end of a topic that was made anew
		}
	}
	all, some := s.win.Blocked(now)
	w.at = some
	if !all.IsZero() {
		return got, w, true // an ordered lane waits for its first message
	}
	got = s.grabNew(q, got, limit)
	if s.win.InFlight() < maxInFlight {
		w.grown = q.Grown(s.win.Next())
	}
	return got, w, true
}

// grabNew takes messages that were never fetched. What the filter does not
// select is skipped by the hash of its tag. mu is held.
func (s *slot) grabNew(q *queue.Queue, got []catch, limit int) []catch {
	from := s.win.Next()
	if end := q.Max(); from > end {
		from = end
		s.win.Reset(end)
	}
	room := maxInFlight - s.win.InFlight()
	skipped := int64(-1)
	q.Scan(from, func(offset int64, e queue.Entry) bool {
		if len(got) >= limit || room <= 0 {
			return false
		}
		if s.tags != nil && !s.tags[e.Tag] {
			skipped = offset
			return true
		}
		got = append(got, catch{s.win.Take(offset), e})
		room--
		return true
	})
	if skipped >= 0 {
		s.win.Skip(skipped)
	}
	if s.win.Next() != from {
		if !s.dirty {
			s.dirty = true
			s.e.flush.later(s)
		}
	}
	return got
}

// give settles what the filter does not select after all, and puts back what
// could not be read.
func (s *slot) give(unselected, unread []*window.Flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range unselected {
		if s.win.Begin(f) {
			s.win.Settle(f)
		}
	}
	for _, f := range unread {
		s.win.Unfetch(f)
	}
	if len(unselected)+len(unread) > 0 {
		s.changed()
	}
}

// mayFetch reports whether l still may hand out what it has fetched.
func (s *slot) mayFetch(l *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lane == l && !l.revoked
}
