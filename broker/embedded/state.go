package embedded

import (
	"fmt"
	"slices"
	"sync"

	"github.com/sluicemq/sluice/broker/embedded/internal/delay"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/index"
	"github.com/sluicemq/sluice/broker/embedded/internal/queue"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// keepDecided is how many decided half messages are remembered. A sender that
// repeats a decision after that many later ones is told that there is no such
// half message.
const keepDecided = 1 << 17

// Kinds of keys in the index.
const (
	byID  = 'i'
	byKey = 'k'
)

// state is everything that follows from the log: a fold over its frames, in
// their order, and nothing else. The writer applies a frame once it is as
// durable as the broker promises, so what readers see is durable.
type state struct {
	mu        sync.RWMutex
	topics    map[string]*topic
	index     *index.Index
	delays    *delay.Queue
	halves    *halves.Table
	positions map[progressKey]*progress

	// onDelay and onHalf are told, with mu held, that a message waits which is
	// due before all others, and that there is a new half message. They are
	// set before the first write and must not block.
	onDelay func()
	onHalf  func(halves.Half)
}

// topic is one topic; the slices only grow.
type topic struct {
	name    string
	queues  []*queue.Queue
	origins []string // of a retry topic: whose redeliveries a queue holds
}

// progressKey names who consumes what; client is set for broadcast groups.
type progressKey struct{ group, topic, client string }

// progress is how far a group has come, by queue; see [record.RetryLane].
type progress struct{ lanes map[int]record.LanePosition }

func newState() *state {
	return &state{
		topics: map[string]*topic{}, index: index.New(), delays: delay.New(),
		halves: halves.New(keepDecided), positions: map[progressKey]*progress{},
	}
}

// fact is what a frame says.
type fact struct {
	kind record.Kind
	pos  int64
	size int // of the payload

	// msg is set for the kinds that hold a message.
	msg messageFact
	// Control frames set one of these.
	topic     record.Topic // TopicCreated; only Name for TopicDeleted
	half      int64        // RolledBack, Parked: position of the half
	park      record.Park
	positions record.GroupPositions
}

// messageFact is what the state needs to know of a message.
type messageFact struct {
	topic    string
	queue    int
	offset   int64
	storedMs int64
	tag      int32
	id       string
	keys     []string
	due      int64  // Delayed
	ref      int64  // Fired, Committed: position of the frame it ends
	group    string // Half
}

// decodeFact reads a frame back.
func decodeFact(pos int64, k record.Kind, b []byte) (f fact, err error) {
	f.kind, f.pos, f.size = k, pos, len(b)
	switch k {
	case record.Message, record.Fired, record.Committed, record.Half, record.Delayed:
		if k == record.Delayed {
			if f.msg.due, b, err = record.SplitDue(b); err != nil {
				return f, err
			}
		}
		s, _, err := message.DecodeTrusted(b)
		if err != nil {
			return f, err
		}
		o := outgoingOf(s)
		f.msg = messageFact{
			topic: s.Topic, queue: int(s.QueueID), offset: s.QueueOffset, storedMs: s.StoreTimestamp,
			tag: o.tag, id: o.id, keys: o.keys, due: f.msg.due, ref: s.PreparedTransactionOffset,
		}
		if k == record.Half {
			f.msg.group = message.Property(s.Properties, message.ProducerGroup)
		}
	case record.RolledBack:
		var d record.Decided
		d, err = record.DecodeDecided(b)
		f.half = d.Half
	case record.Parked:
		f.park, err = record.DecodePark(b)
		f.half = f.park.Half
	case record.TopicCreated:
		f.topic, err = record.DecodeTopic(b)
	case record.TopicDeleted:
		f.topic.Name, err = record.DecodeName(b)
	case record.Positions:
		f.positions, err = record.DecodePositions(b)
	default:
		err = fmt.Errorf("kind %d: %w", k, record.ErrMalformed)
	}
	return f, err
}

// apply folds one frame into the state; mu is held. Its errors mean that the
// log contradicts itself, which only a replay can meet.
func (s *state) apply(f *fact) error {
	switch f.kind {
	case record.Message:
		return s.visible(f)
	case record.Fired:
		s.delays.Done(f.msg.ref)
		return s.visible(f)
	case record.Committed:
		s.halves.Decide(f.msg.ref, halves.Committed)
		return s.visible(f)
	case record.Delayed:
		if s.delays.Add(delay.Item{DueMs: f.msg.due, Pos: f.pos, Topic: f.msg.topic}) && s.onDelay != nil {
			s.onDelay()
		}
	case record.Half:
		id := halves.ID{Group: f.msg.group, Tx: f.msg.id}
		s.halves.Prepared(id, f.pos, f.msg.storedMs)
		if s.onHalf != nil {
			s.onHalf(s.halves.Get(id))
		}
	case record.RolledBack:
		s.halves.Decide(f.half, halves.RolledBack)
	case record.Parked:
		s.halves.Park(f.half, f.park.At, f.park.Checks)
	case record.TopicCreated:
		s.createTopic(f.topic)
	case record.TopicDeleted:
		s.deleteTopic(f.topic.Name)
	case record.Positions:
		s.progressed(f.positions)
	}
	return nil
}

// visible puts a message into its queue and into the index.
func (s *state) visible(f *fact) error {
	t := s.topics[f.msg.topic]
	if t == nil || f.msg.queue < 0 || f.msg.queue >= len(t.queues) {
		return fmt.Errorf("message at %d is for queue %d of topic %q, which does not exist", f.pos, f.msg.queue, f.msg.topic)
	}
	q := t.queues[f.msg.queue]
	if q.Max() != f.msg.offset {
		return fmt.Errorf("message at %d has offset %d in queue %d of topic %q, which has %d messages",
			f.pos, f.msg.offset, f.msg.queue, f.msg.topic, q.Max())
	}
	if f.msg.id != "" {
		s.index.Add(byID, f.msg.topic, f.msg.id, f.pos)
	}
	for _, k := range f.msg.keys {
		s.index.Add(byKey, f.msg.topic, k, f.pos)
	}
	q.Append(queue.Entry{Pos: f.pos, StoredMs: f.msg.storedMs, Tag: f.msg.tag, Size: int32(f.size)})
	return nil
}

// createTopic makes a topic, or adds queues to it.
func (s *state) createTopic(r record.Topic) {
	t := s.topics[r.Name]
	if t == nil {
		t = &topic{name: r.Name}
		s.topics[r.Name] = t
	}
	for len(t.queues) < r.Queues {
		t.queues = append(t.queues, new(queue.Queue))
	}
	t.origins = slices.Clone(r.Origins)
}

func (s *state) deleteTopic(name string) {
	delete(s.topics, name)
	s.delays.DropTopic(name)
	for k := range s.positions {
		if k.topic != name {
			continue
		}
		delete(s.positions, k)
		// What waits in the retry topic belongs to the topic that is gone. Its
		// queue goes on with the next topic of that name.
		if t := s.topics[retryTopic(k.group)]; t != nil && k.client == "" {
			if i := slices.Index(t.origins, name); i >= 0 {
				s.progressed(record.GroupPositions{
					Group: k.group, Topic: name,
					Lanes: []record.LanePosition{{Queue: record.RetryLane, Next: t.queues[i].Max()}},
				})
			}
		}
	}
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
func (s *state) queue(group, name string, n int) *queue.Queue {
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
