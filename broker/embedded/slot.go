package embedded

import (
	"errors"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/internal/window"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
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
	queueTopic   string // topic of the queue it reads
	// woken has a buffer of 1: something may be fetched that could not before.
	woken chan struct{}

	// Guarded by groups.mu.
	target *member
	owner  *lane
	busy   bool // a goroutine hands it over
	// abroad is the client elsewhere that has the lane, "" for none; see
	// [Store.Join]. handed, if not nil, is closed once giver, which had it
	// before, has told its last position; then target gets the lane.
	abroad, giver string
	handed        chan struct{}

	mu     sync.Mutex
	filter driver.Filter
	tags   map[int32]bool // hashes of filter.Tags; nil for all
	sql    *sql92.Expr    // filter.SQL; nil for all
	order  bool
	win    *window.Window
	lane   *lane       // the one that may settle, nil for none
	dirty  bool        // the window differs from what is stored
	known  bool        // the group has a position here
	gone   bool        // the group or the topic was deleted, nothing is stored any more
	reads  *topicQueue // whose watcher it is
	buf    []segindex.Entry
}

func newSlot(e *engine, sub *subscription, client string, n int) *slot {
	s := &slot{e: e, group: sub.group, topic: sub.topic, client: client, queue: n, woken: make(chan struct{}, 1)}
	if n == record.RetryLane {
		at := e.st.retryQueue(sub.group, sub.topic)
		s.queueTopic = retryTopic(sub.group)
		s.name = laneName(s.queueTopic, at)
		s.info = driver.LaneInfo{Topic: sub.topic, Queue: at, Retry: true}
	} else {
		s.queueTopic = sub.topic
		s.name = laneName(sub.topic, n)
		s.info = driver.LaneInfo{Topic: sub.topic, Queue: n}
	}
	s.load(sub.spec.Ordered)
	s.setFilter(sub.spec)
	return s
}

// load makes the window of what is stored.
func (s *slot) load(ordered bool) {
	p, ok := s.e.st.within(s.key(), s.queue, s.max())
	s.win, s.known = window.New(ordered, p.Next, p.Unsettled), ok
}

// within answers the stored position of a lane whose queue ends at end.
func (s *state) within(k progressKey, queue int, end int64) (record.LanePosition, bool) {
	p, ok := s.position(k, queue)
	if p.Next > end {
		p = record.LanePosition{Next: end}
	}
	return p, ok
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
	if !s.known {
		s.load(spec.Ordered) // somebody has asked for it before the group came
	} else if s.order != spec.Ordered {
		s.win = window.New(spec.Ordered, s.win.Next(), s.win.Unsettled())
	}
	s.setFilter(spec)
}

func (s *slot) setFilter(spec driver.SubscribeSpec) {
	s.order, s.filter, s.tags = spec.Ordered, spec.Filter, nil
	if s.queue == record.RetryLane {
		s.filter = driver.Filter{} // a redelivery is the group's, whatever it carries
	}
	s.setSQL()
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
func (s *slot) log() *topicQueue { return s.e.st.queue(s.group, s.topic, s.queue) }

// max is the end of the queue.
func (s *slot) max() int64 {
	if q := s.log(); q != nil {
		return q.Max()
	}
	return 0
}

// end is the end of the queue without lost offsets behind the last message.
func (s *slot) end() int64 {
	if q := s.log(); q != nil {
		return q.end()
	}
	return 0
}

// attach lets l fetch and settle.
func (s *slot) attach(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lane, l.filter, l.sql = l, s.filter, s.sql
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
		s.known = true
		s.win.Abandon()
		s.changed()
	}
}

// changed notes that the window moved. mu is held.
func (s *slot) changed() {
	s.signal()
	if !s.dirty && !s.gone {
		s.dirty = true
		s.e.flush.later(s)
	}
}

// forget takes the slot out of use for good.
func (s *slot) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone, s.dirty = true, false
	s.follow(nil)
}

// signal wakes the Fetch that waits, or the next one that would.
func (s *slot) signal() {
	select {
	case s.woken <- struct{}{}:
	default:
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
	if s.gone {
		return
	}
	s.dirty = true
	s.e.flush.later(s)
}

// seek moves the slot to where p is, clamped to the ends of the queue.
func (s *slot) seek(p driver.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset(p)
}

// skipTo is seek, but never back.
func (s *slot) skipTo(p driver.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.log(); q != nil && resolve(q, p) > s.win.Position() {
		s.reset(p)
	}
}

// reset is seek with mu held.
func (s *slot) reset(p driver.Position) {
	to := int64(0)
	if q := s.log(); q != nil {
		to = resolve(q, p)
	}
	s.win.Reset(to)
	s.known = true
	s.changed()
}

// resolve finds the offset that p means.
func resolve(q *topicQueue, p driver.Position) int64 {
	switch p.Kind {
	case driver.Latest:
		return q.Max()
	case driver.AtOffset:
		return min(max(p.Offset, q.Min()), q.Max())
	case driver.AtTime:
		if p.Time.IsZero() {
			return q.Min()
		}
		at, err := q.AtTime(envelope.Millis(p.Time))
		if err != nil {
			return q.Min() // more again is better than less
		}
		return at
	default:
		return q.Min()
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
type catch struct{ token *token }

// end is the position behind the frame.
func (c catch) end() int64 { return c.token.pos + commitlog.FrameSize(c.token.size) }

// grabbed is what a look for messages has found.
type grabbed struct {
	caught []catch
	// gap is what is lost instead, if nothing was caught.
	gap *driver.GapError
	// err: the index cannot be read.
	err error
	// more: look again at once, much was filtered out.
	more bool
	// at is when a returned message may be fetched; zero for no such time.
	at time.Time
}

const (
	// fetchBytes ends a Fetch, so that many large messages do not come at once.
	fetchBytes = 4 << 20
	// scanEntries is how many entries are looked at with the slot locked.
	scanEntries = 16 << 10
)

// grab takes up to limit messages, returned ones first. ok is false if l may
// not fetch.
func (s *slot) grab(l *lane, limit int, into []catch) (g grabbed, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.caught = into
	if s.lane != l || l.revoked {
		return g, false
	}
	q := s.log()
	if s.reads != q {
		s.follow(q)
	}
	if q == nil {
		return g, true
	}
	if s.win.Waiting() > 0 {
		now := time.Now()
		s.grabAgain(l, q, &g, limit, now)
		all, some := s.win.Blocked(now)
		g.at = some
		if !all.IsZero() || g.gap != nil {
			return g, true // an ordered lane waits for its first message
		}
	}
	if len(g.caught) < limit && g.err == nil {
		s.grabNew(l, q, &g, limit)
	}
	return g, true
}

// follow makes q the queue that wakes the slot. mu is held.
func (s *slot) follow(q *topicQueue) {
	if s.reads != nil {
		s.reads.unwatch(s)
	}
	if s.reads = q; q != nil {
		q.watch(s)
	}
}

// grabAgain takes returned messages. mu is held.
func (s *slot) grabAgain(l *lane, q *topicQueue, g *grabbed, limit int, now time.Time) {
	for len(g.caught) < limit && g.gap == nil {
		f := s.win.Again(now)
		if f == nil {
			return
		}
		var one [1]segindex.Entry
		n, err := q.Read(f.Offset, one[:])
		switch {
		case n == 1 && one[0].Size > 0:
			g.caught = append(g.caught, catch{&token{lane: l, flight: f, pos: one[0].Pos, size: int(one[0].Size)}})
			continue
		case err != nil && !errors.Is(err, segindex.ErrTrimmed):
			s.win.Unfetch(f)
			g.err = err
			return
		}
		// It is gone: by retention, by damage, or because the topic was made anew.
		if s.win.Begin(f) {
			s.win.Settle(f)
			s.changed()
		}
		if f.Offset < q.Max() && len(g.caught) == 0 {
			g.gap = s.gap(f.Offset, f.Offset+1, s.e.gone())
			if n == 1 {
				g.gap.Reason = driver.Damage
			}
			g.gap.Unsure = n == 1 && s.e.guessed(one[0].Pos)
		}
	}
}

// gap describes lost messages.
func (s *slot) gap(from, to int64, why driver.GapReason) *driver.GapError {
	return &driver.GapError{Lane: s.name, From: from, To: to, Reason: why}
}

// grabNew takes messages that were never fetched. What the filter does not
// select is skipped by the hash of its tag. mu is held.
func (s *slot) grabNew(l *lane, q *topicQueue, g *grabbed, limit int) {
	from, end := s.win.Next(), q.Max()
	if from > end {
		s.win.Reset(end)
		s.changed()
		return
	}
	if first := q.Min(); from < first {
		if len(g.caught) == 0 {
			s.pass(first)
			g.gap = s.gap(from, first, s.e.gone())
		}
		return
	}
	room := min(maxInFlight-s.win.InFlight(), limit-len(g.caught))
	if room <= 0 || from == end {
		return
	}
	tokens := make([]token, 0, min(int64(room), end-from))
	size := 0
	for scanned := 0; scanned < scanEntries && room > 0 && s.win.Next() < end; {
		at := s.win.Next()
		n, err := s.readEntries(q, at, room)
		if err != nil {
			g.err = err
			break
		}
		scanned += n
		for i, e := range s.buf[:n] {
			offset := at + int64(i)
			switch {
			case e.Size == 0 && len(g.caught) == 0 && len(tokens) == 0:
				s.skipLost(q, offset, g)
				return
			case e.Size == 0 || room == 0 || size > fetchBytes:
				room = 0
			case s.tags != nil && !s.tags[e.Tag]:
				s.win.Skip(offset)
				continue
			default:
				tokens = append(tokens, token{lane: l, pos: e.Pos, size: int(e.Size)})
				t := &tokens[len(tokens)-1]
				t.flight = &t.own
				s.win.Take(offset, t.flight)
				g.caught = append(g.caught, catch{t})
				size += int(e.Size)
				room--
				continue
			}
			break
		}
	}
	g.more = len(g.caught) == 0 && g.err == nil && s.win.Next() < end
	if len(g.caught) > 0 {
		g.err = nil // the next grab meets it first
	}
	if s.win.Next() != from && !s.dirty {
		s.dirty = true
		s.e.flush.later(s)
	}
}

// readEntries reads up to about room entries from offset on into s.buf.
func (s *slot) readEntries(q *topicQueue, offset int64, room int) (int, error) {
	want := room
	if s.tags != nil {
		want = max(want, 256) // most may be filtered out
	}
	if want = min(want, 1024); cap(s.buf) < want {
		s.buf = make([]segindex.Entry, want)
	}
	s.buf = s.buf[:want]
	n, err := q.Read(offset, s.buf)
	if n > 0 {
		return n, nil
	}
	if err == nil {
		err = errNoEntry
	}
	return 0, err
}

// skipLost moves behind the lost messages that begin at offset, as far as they
// became known together. mu is held.
func (s *slot) skipLost(q *topicQueue, offset int64, g *grabbed) {
	to, known := offset, int64(-1)
	for end := q.Max(); to < end; {
		n, err := s.readEntries(q, to, 1024)
		if err != nil {
			break
		}
		if known < 0 {
			known = s.buf[0].Pos
		}
		lost := lostRun(s.buf[:n], known)
		if to += int64(lost); lost < n {
			break
		}
	}
	s.pass(to)
	g.gap = s.gap(offset, to, driver.Damage)
	g.gap.Unsure = s.e.guessed(known)
}

// trimmed reports whether retention has removed the message at offset.
func (s *slot) trimmed(offset int64) bool {
	q := s.log()
	return q != nil && offset < q.Min()
}

// pass moves the window to offset, what lies before is gone. mu is held.
func (s *slot) pass(offset int64) {
	s.win.Skip(offset - 1)
	s.changed()
}

// drop settles a message that cannot be had any more. It reports false if that
// was decided otherwise meanwhile.
func (s *slot) drop(l *lane, f *window.Flight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane != l {
		return false
	}
	f = s.win.Find(f.Offset)
	if f == nil || !s.win.Discard(f) {
		return false
	}
	s.changed()
	return true
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
