package embedded

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/embedded/internal/duetime"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
)

// keepDecided is how many decided half messages are remembered. A sender that
// repeats a decision after that many later ones is told that there is no such
// half message.
const keepDecided = 1 << 17

// state is everything that follows from the log: a fold over its frames, in
// their order, and nothing else. The writer applies a frame once it is as
// durable as the broker promises, so what readers see is durable. Messages go
// to the segment index, which has locks of its own; everything else is small
// and guarded by mu.
type state struct {
	set *segindex.Set // nil in a fold that only wants the rest

	mu        sync.RWMutex
	topics    map[string]*topic
	delays    *duetime.Queue
	halves    *halves.Table
	positions map[progressKey]*progress
	settings  map[settingKey][]byte
	nextID    uint32       // of the next new queue
	spare     []uint32     // numbers below it that no record has had, ascending
	base      int64        // of the segment that was written to last, -1 at first
	ends      []segmentEnd // of the full segments, ascending
	lastMs    int64        // store time of the last message

	// onDelay and onHalf are told, with mu held, that a message waits which is
	// due before all others, and that there is a new half message. onRoll is
	// told, without mu, that a segment is full and the next begins at base;
	// what is applied so far is exactly what lies before it. They are set
	// before the first write and must not block.
	onDelay func()
	onHalf  func(halves.Half)
	onRoll  func(base int64)
}

// segmentEnd is when a full segment got its last message.
type segmentEnd struct{ base, lastMs int64 }

// topic is one topic. It is not changed once it is in the state: more queues
// make another one, with the same queues in front.
type topic struct {
	name    string
	queues  []*topicQueue
	origins []string // of a retry topic: whose redeliveries a queue holds
}

// topicQueue is one queue of a topic.
type topicQueue struct {
	*segindex.Queue // nil in a fold without an index

	id   uint32
	lane string // name of its lane
	next int64  // offset that the next message gets; belongs to the writer

	watchers atomic.Pointer[[]watcher] // whom a new message wakes
	tail     atomic.Pointer[tail]      // what end has found
	head     atomic.Pointer[head]      // what first has found
	stuck    stuck                     // what Queue.Read has told of
}

// watcher is woken by a new message. signal must not block.
type watcher interface{ signal() }

// progressKey names who consumes what; client is set for broadcast groups.
type progressKey struct{ group, topic, client string }

// settingKey names what settings are about.
type settingKey struct {
	scope record.Scope
	name  string
}

// progress is how far a group has come, by queue; see [record.RetryLane].
type progress struct{ lanes map[int]record.LanePosition }

func newState(set *segindex.Set) *state {
	return &state{
		set: set, topics: map[string]*topic{}, delays: duetime.New(), base: -1,
		halves: halves.New(keepDecided), positions: map[progressKey]*progress{}, settings: map[settingKey][]byte{},
	}
}

// newQueue makes a queue of topic; next is its first offset.
func (s *state) newQueue(name string, n int, id uint32, next int64) *topicQueue {
	q := &topicQueue{id: id, lane: laneName(name, n), next: next}
	if s.set != nil {
		q.Queue = s.set.Queue(id)
		if next > q.Max() {
			q.SetStart(next)
		}
		q.next = q.Max()
	}
	return q
}

// apply folds one frame into the state. Calls exclude each other. Its errors
// mean that the log contradicts itself, which only a replay can meet.
func (s *state) apply(f *fact) error {
	if f.base != s.base {
		s.roll(f.base)
	}
	switch f.kind {
	case record.Message:
		return s.visible(f)
	case record.Fired:
		s.mu.Lock()
		s.delays.Done(f.msg.ref)
		s.mu.Unlock()
		return s.visible(f)
	case record.Committed:
		s.mu.Lock()
		s.halves.Decide(f.msg.ref, halves.Committed)
		s.mu.Unlock()
		return s.visible(f)
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.applyHidden(f)
	}
}

// applyHidden folds a frame that makes no message visible; mu is held.
func (s *state) applyHidden(f *fact) error {
	switch f.kind {
	case record.Delayed:
		q := f.msg.q
		if t := s.topics[f.msg.topic]; q == nil && t != nil && f.msg.queue < len(t.queues) {
			q = t.queues[f.msg.queue]
		}
		if q == nil {
			return fmt.Errorf("delayed message at %d is for queue %d of topic %q, which does not exist", f.pos, f.msg.queue, f.msg.topic)
		}
		if s.delays.Add(duetime.Item{DueMs: f.msg.due, Pos: f.pos, Queue: q.id}) && s.onDelay != nil {
			s.onDelay()
		}
	case record.Half:
		h := halves.Half{
			ID: halves.ID{Group: f.msg.group, Tx: f.msg.id}, State: halves.Open,
			Pos: f.pos, StoredMs: f.msg.storedMs, Size: f.size,
		}
		s.halves.Prepare(h)
		if s.onHalf != nil {
			s.onHalf(h)
		}
	case record.RolledBack:
		s.halves.Decide(f.ctl.half, halves.RolledBack)
	case record.Parked:
		s.halves.Park(f.ctl.half, f.ctl.park.At, f.ctl.park.Checks)
	case record.TopicCreated:
		s.createTopic(f.pos, f.ctl)
	case record.TopicDeleted:
		s.deleteTopic(f.ctl.topic.Name)
	case record.Positions:
		s.progressed(f.ctl.positions)
	case record.Settings:
		s.remember(f.ctl.setting)
	case record.GroupDeleted:
		s.deleteGroup(f.ctl.setting.Name)
	default: // messages that are visible, see apply
	}
	return nil
}

// roll notes that a new segment begins.
func (s *state) roll(base int64) {
	s.mu.Lock()
	if s.base >= 0 {
		s.ends = append(s.ends, segmentEnd{s.base, s.lastMs})
	}
	first := s.base < 0
	s.base = base
	s.mu.Unlock()
	if s.set != nil {
		s.set.Begin(base)
	}
	if s.onRoll != nil && !first {
		s.onRoll(base)
	}
}

// visible puts a message into its queue and into the index, and wakes who
// waits for it.
func (s *state) visible(f *fact) error {
	m := &f.msg
	q := m.q
	if q == nil {
		t := s.topics[m.topic]
		if t == nil || m.queue < 0 || m.queue >= len(t.queues) {
			return fmt.Errorf("message at %d is for queue %d of topic %q, which does not exist", f.pos, m.queue, m.topic)
		}
		q = t.queues[m.queue]
	}
	s.lastMs = max(s.lastMs, m.storedMs)
	if s.set == nil {
		q.next = m.offset + 1
		return nil
	}
	if end := q.Max(); end > m.offset {
		return fmt.Errorf("message at %d has offset %d in queue %s, which has %d messages", f.pos, m.offset, q.lane, end)
	}
	s.set.Add(q.Queue, m.offset, segindex.Entry{Pos: f.pos, StoredMs: m.storedMs, Tag: m.tag, Size: int32(f.size)})
	for _, h := range m.hashes {
		s.set.AddKey(h, f.pos)
	}
	q.next = m.offset + 1
	q.wake()
	return nil
}

// wake tells the lanes that read the queue that it has grown.
func (q *topicQueue) wake() {
	if w := q.watchers.Load(); w != nil {
		for _, s := range *w {
			s.signal()
		}
	}
}

// watch makes s one of those that a new message wakes.
func (q *topicQueue) watch(s watcher) {
	for {
		old := q.watchers.Load()
		var list []watcher
		if old != nil {
			if slices.Contains(*old, s) {
				return
			}
			list = slices.Clone(*old)
		}
		list = append(list, s)
		if q.watchers.CompareAndSwap(old, &list) {
			return
		}
	}
}

// unwatch is the opposite of watch.
func (q *topicQueue) unwatch(s watcher) {
	for {
		old := q.watchers.Load()
		if old == nil || !slices.Contains(*old, s) {
			return
		}
		list := slices.DeleteFunc(slices.Clone(*old), func(o watcher) bool { return o == s })
		if q.watchers.CompareAndSwap(old, &list) {
			return
		}
	}
}

// createTopic makes a topic, or adds queues to it, as the frame at pos says; mu
// is held.
func (s *state) createTopic(pos int64, c *control) {
	t := c.made
	if t == nil {
		old := s.topics[c.topic.Name]
		if old != nil && !old.grewTo(c.topic) {
			s.deleteTopic(old.name) // its deletion was lost with a damaged range
			old = nil
		}
		t = s.grownTopic(old, c.topic)
	}
	for _, q := range t.queues {
		s.spare = slices.DeleteFunc(s.spare, func(id uint32) bool { return id == q.id })
		for ; s.nextID <= q.id; s.nextID++ {
			if s.nextID < q.id {
				s.spare = append(s.spare, s.nextID)
			}
		}
	}
	for i, next := range c.topic.Next {
		// Behind a quarantined range offsets are left out that a lost message
		// may have had.
		q := t.queues[i]
		if s.set != nil && q.Max() < next {
			s.set.Add(q.Queue, next-1, segindex.Entry{Pos: pos, StoredMs: s.lastMs})
		}
		q.next = max(q.next, next)
	}
	s.topics[t.name] = t
}

// newID is the number of a queue whose record was lost. Numbers were given in
// order, so it is one that later records have left out, or else the next one:
// no later record has it.
func (s *state) newID() uint32 {
	if len(s.spare) > 0 {
		id := s.spare[0]
		s.spare = s.spare[1:]
		return id
	}
	s.nextID++
	return s.nextID - 1
}

// grewTo reports whether r describes t, perhaps with more queues.
func (t *topic) grewTo(r record.Topic) bool {
	for i, q := range t.queues {
		if i >= r.Queues || i < len(r.IDs) && r.IDs[i] != q.id {
			return false
		}
	}
	return true
}

// grownTopic is the topic that r describes, with the queues that t has.
func (s *state) grownTopic(t *topic, r record.Topic) *topic {
	made := &topic{name: r.Name, origins: slices.Clone(r.Origins)}
	if t != nil {
		made.queues = slices.Clone(t.queues)
	}
	for i := len(made.queues); i < r.Queues; i++ {
		next := int64(0)
		var id uint32
		if i < len(r.IDs) {
			id = r.IDs[i]
		} else {
			id = s.newID()
		}
		if i < len(r.Next) {
			next = r.Next[i]
		}
		made.queues = append(made.queues, s.newQueue(r.Name, i, id, next))
	}
	return made
}

// deleteTopic removes a topic, what waits for its time to go there, and the
// positions of its groups; mu is held.
func (s *state) deleteTopic(name string) {
	gone := map[uint32]bool{}
	if t := s.topics[name]; t != nil {
		for _, q := range t.queues {
			gone[q.id] = true
			if s.set != nil {
				s.set.Drop(q.id)
			}
		}
	}
	delete(s.topics, name)
	delete(s.settings, settingKey{record.OfTopic, name})
	for k, p := range s.positions {
		if k.topic == name {
			delete(s.positions, k)
			continue
		}
		if _, ok := p.lanes[record.RetryLane]; ok && retryTopic(k.group) == name {
			if delete(p.lanes, record.RetryLane); len(p.lanes) == 0 {
				delete(s.positions, k)
			}
		}
	}
	// What waits in a retry topic belongs to the topic that is gone. The queue
	// goes on with the next topic of that name.
	for _, t := range s.topics {
		i := slices.Index(t.origins, name)
		if i < 0 {
			continue
		}
		gone[t.queues[i].id] = true
		s.progressed(record.GroupPositions{
			Group: groupOfRetry(t.name), Topic: name,
			Lanes: []record.LanePosition{{Queue: record.RetryLane, Next: t.queues[i].next}},
		})
	}
	s.delays.Drop(func(queue uint32) bool { return gone[queue] })
}

// remember keeps settings, or forgets them; mu is held.
func (s *state) remember(r record.Setting) {
	k := settingKey{r.Scope, r.Name}
	if len(r.Value) == 0 {
		delete(s.settings, k)
		return
	}
	s.settings[k] = r.Value
}

// deleteGroup removes the positions and the settings of a group; mu is held.
func (s *state) deleteGroup(name string) {
	delete(s.settings, settingKey{record.OfGroup, name})
	for k := range s.positions {
		if k.group == name {
			delete(s.positions, k)
		}
	}
	// What waits in its retry topic, or waits for its time to go there, never
	// comes again: the originals do, unless their topic is gone.
	t := s.topics[retryTopic(name)]
	if t == nil {
		return
	}
	gone := map[uint32]bool{}
	for i, origin := range t.origins {
		gone[t.queues[i].id] = true
		s.progressed(record.GroupPositions{
			Group: name, Topic: origin, Lanes: []record.LanePosition{{Queue: record.RetryLane, Next: t.queues[i].next}},
		})
	}
	s.delays.Drop(func(queue uint32) bool { return gone[queue] })
}

// consumes reports whether the group has come to a queue of the topic itself;
// where redeliveries go on may be known of a group that was deleted.
func (p *progress) consumes() bool {
	for lane := range p.lanes {
		if lane != record.RetryLane {
			return true
		}
	}
	return false
}

func (s *state) progressed(g record.GroupPositions) {
	k := progressKey{g.Group, g.Topic, g.Client}
	p := s.positions[k]
	if p == nil {
		p = &progress{lanes: map[int]record.LanePosition{}}
		s.positions[k] = p
	}
	for _, l := range g.Lanes {
		p.lanes[l.Queue] = l
	}
}

// queue answers a queue of a topic, or nil. The queue number of the retry lane
// means the queue of the group's retry topic that belongs to the topic.
func (s *state) queue(group, name string, n int) *topicQueue {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n == record.RetryLane {
		t := s.topics[retryTopic(group)]
		if t == nil {
			return nil
		}
		if n = slices.Index(t.origins, name); n < 0 {
			return nil
		}
		return t.queues[n]
	}
	if t := s.topics[name]; t != nil && n >= 0 && n < len(t.queues) {
		return t.queues[n]
	}
	return nil
}

// queues is the number of queues of a topic, 0 if there is none.
func (s *state) queues(name string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.topics[name]; t != nil {
		return len(t.queues)
	}
	return 0
}

// retryQueue is the number of the queue in the group's retry topic that holds
// redeliveries for topic, -1 if there is none.
func (s *state) retryQueue(group, name string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.topics[retryTopic(group)]; t != nil {
		return slices.Index(t.origins, name)
	}
	return -1
}

// retryPlace is retryQueue with the number of queues of the retry topic.
func (s *state) retryPlace(group, name string) (at, queues int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.topics[retryTopic(group)]; t != nil {
		return slices.Index(t.origins, name), len(t.queues)
	}
	return -1, 0
}

// origin is the topic whose redeliveries queue n of a group's retry topic
// holds, "" if it has none.
func (s *state) origin(group string, n int) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.topics[retryTopic(group)]; t != nil && n >= 0 && n < len(t.origins) {
		return t.origins[n]
	}
	return ""
}

// position answers the stored position of a lane.
func (s *state) position(k progressKey, queue int) (record.LanePosition, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.positions[k]
	if p == nil {
		return record.LanePosition{}, false
	}
	l, ok := p.lanes[queue]
	return l, ok
}
