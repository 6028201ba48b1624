package reference

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Config holds the times of the broker; zero fields take the defaults.
type Config struct {
	// RevokeTimeout defaults to 30 s, CheckAfter to 6 s, CheckEvery to 30 s, CheckMax to 15.
	RevokeTimeout, CheckAfter, CheckEvery time.Duration
	CheckMax                              int
}

const maxBody, maxBatch = 4 << 20, 100

// Broker is the store and the coordinator.
type Broker struct {
	cfg Config
	wg  sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced by every change
	topics  map[string]*topic
	groups  map[string]*group
	halves  map[string]*half
	order   []*half
	checks  map[string][]*checks
	conns   map[*Conn]bool
	pending map[*stored]bool // not due yet
	handles map[string]*stored
	asking  map[string]chan *driver.Message // requests without a reply
	epoch   int                             // counts crashes: timers of an earlier life do nothing
	seq     int
}

type topic struct{ queues []*queue }

type queue struct {
	topic string
	num   int
	msgs  []*stored
}

// stored is one copy of a message.
type stored struct {
	m        driver.Message
	offsetID string
	at       time.Time
	attempt  int
	due      time.Time
	into     *queue
}

// New returns an empty broker.
func New(cfg Config) *Broker {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.RevokeTimeout, 30*time.Second)
	def(&cfg.CheckAfter, 6*time.Second)
	def(&cfg.CheckEvery, 30*time.Second)
	if cfg.CheckMax == 0 {
		cfg.CheckMax = 15
	}
	return &Broker{
		cfg: cfg, changed: make(chan struct{}), topics: map[string]*topic{}, groups: map[string]*group{},
		halves: map[string]*half{}, checks: map[string][]*checks{}, conns: map[*Conn]bool{}, pending: map[*stored]bool{},
		handles: map[string]*stored{}, asking: map[string]chan *driver.Message{},
	}
}

// wake tells every waiter that something changed. The lock is held.
func (b *Broker) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait blocks until the next change, d, or the end of ctx. The lock is not held.
func wait(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	case <-ctx.Done():
	}
}

func (b *Broker) topic(name string, queues int) *topic {
	t := b.topics[name]
	if t == nil {
		t = &topic{}
		for i := range queues {
			t.queues = append(t.queues, &queue{topic: name, num: i})
		}
		b.topics[name] = t
	}
	return t
}

func (b *Broker) id() string {
	b.seq++
	return fmt.Sprintf("REF%029d", b.seq)
}

// put appends s to its queue now, or when it is due. The lock is held.
func (b *Broker) put(s *stored) int64 {
	if time.Until(s.due) > 0 {
		b.pending[s] = true
		return -1
	}
	b.seq++
	s.offsetID, s.at = fmt.Sprintf("%032X", b.seq), time.Now()
	s.into.msgs = append(s.into.msgs, s)
	b.wake()
	return int64(len(s.into.msgs) - 1)
}

// ripen moves what is due and tells when the next one is. The lock is held.
func (b *Broker) ripen() (next time.Duration) {
	next = time.Second
	var due []*stored
	for s := range b.pending {
		if d := time.Until(s.due); d <= 0 {
			due = append(due, s)
		} else {
			next = min(next, d)
		}
	}
	slices.SortFunc(due, func(x, y *stored) int { return x.due.Compare(y.due) })
	for _, s := range due {
		delete(b.pending, s)
		b.put(s)
	}
	return next
}

func clone(m *driver.Message) driver.Message {
	c := *m
	c.Keys, c.Body, c.Properties = slices.Clone(m.Keys), slices.Clone(m.Body), maps.Clone(m.Properties)
	c.DeliverAt = time.Time{}
	if c.BornAt.IsZero() {
		c.BornAt = time.Now()
	}
	return c
}

func (s *stored) delivery(offset int64, token any) *driver.Delivery {
	return &driver.Delivery{Message: clone(&s.m), OffsetID: s.offsetID, Offset: offset, Attempt: s.attempt, StoredAt: s.at, Token: token}
}

func invalid(op, format string, args ...any) *driver.Error {
	return driver.Errorf(driver.InvalidArgument, op, format, args...)
}

// check refuses what cannot be stored.
func (b *Broker) check(m *driver.Message) error {
	if err := m.Check(); err != nil {
		return invalid("send to "+m.Topic, "%w", err)
	}
	if len(m.Body) > maxBody {
		return invalid("send to "+m.Topic, "body has %d bytes, at most %d are allowed", len(m.Body), maxBody)
	}
	if t := b.topic(m.Topic, 4); m.QueueSet && m.Queue >= len(t.queues) {
		return invalid("send to "+m.Topic, "queue %d of %d", m.Queue, len(t.queues))
	}
	return nil
}

func (b *Broker) route(m *driver.Message) *queue {
	qs := b.topic(m.Topic, 4).queues
	switch {
	case m.QueueSet:
		return qs[m.Queue]
	case m.OrderingKey != "":
		h := 0
		for _, c := range []byte(m.OrderingKey) {
			h = h*31 + int(c)
		}
		return qs[(h&0x7fffffff)%len(qs)]
	default:
		b.seq++
		return qs[b.seq%len(qs)]
	}
}

// locate finds the place of a position on q. The lock is held.
func (q *queue) locate(p driver.Position) int64 {
	end := int64(len(q.msgs))
	switch p.Kind {
	case driver.Latest:
		return end
	case driver.AtOffset:
		return min(max(p.Offset, 0), end)
	case driver.AtTime:
		i := slices.IndexFunc(q.msgs, func(s *stored) bool { return !s.at.Before(p.Time) })
		if i < 0 {
			return end
		}
		return int64(i)
	default:
		return 0
	}
}

// Crash forgets every member and every delivery in progress. The Conns are
// dead; Connect works at once.
func (b *Broker) Crash() {
	b.mu.Lock()
	b.epoch++
	conns := slices.Collect(maps.Keys(b.conns))
	for _, g := range b.groups {
		g.forget()
	}
	b.checks = map[string][]*checks{}
	b.mu.Unlock()
	for _, c := range conns {
		c.die()
	}
	b.wg.Wait()
}

// Close ends every Conn and waits for the goroutines of the broker.
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	conns := slices.Collect(maps.Keys(b.conns))
	b.mu.Unlock()
	for _, c := range conns {
		if err := c.Close(ctx); err != nil {
			return err
		}
	}
	b.wg.Wait()
	return nil
}

// Scheme implements [driver.Driver].
func (b *Broker) Scheme() string { return "reference" }

// Open implements [driver.Driver].
func (b *Broker) Open(_ context.Context, cfg driver.Config) (driver.Conn, error) {
	return b.Connect(cfg.ClientID), nil
}

// Connect makes a client.
func (b *Broker) Connect(clientID string) *Conn {
	root, cancel := context.WithCancel(context.Background())
	c := &Conn{b: b, id: clientID, root: root, cancel: cancel, subs: map[*subscription]bool{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns[c] = true
	return c
}

func joinFilter(topic string, f driver.Filter) string {
	return strings.TrimSpace(topic + " " + f.String())
}
