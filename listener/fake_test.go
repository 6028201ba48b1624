package listener_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// fakeBroker is a broker in memory that is exact in virtual time: lanes are
// queues and one retry lane for each group and topic, ownership moves by
// Revoked and Assigned, and everything that was settled is written down.
type fakeBroker struct {
	mu     sync.Mutex
	caps   driver.Capabilities
	queues int
	lanes  map[string]*fakeLane // group/topic/name
	subs   []*fakeSub
	dead   []*driver.Delivery
	log    []string // settlements, "retry m1 10s"
	seq    int64
	change chan struct{}
	// hooks, called without mu.
	onSubscribe func(driver.SubscribeSpec) error
	onSettle    func(s []driver.Settlement) error
	onFetch     func() error
	onExtend    func(ds []*driver.Delivery) error
	rebalance   sync.Mutex
	late        time.Duration // a fetch that is cancelled takes so long, and brings what there is
	notice      time.Duration // from the end of fetching a lane to the call of Revoked
	deaf        bool          // a fetch that waits does not hear that its lane is being revoked
	maxBatch    int
}

type fakeLane struct {
	group, topic, name string
	info               driver.LaneInfo
	pending            []*driver.Delivery
	inflight           map[int64]*driver.Delivery
	owner              *fakeHandle
}

// fakeHandle is the ownership of a lane for a while.
type fakeHandle struct {
	b   *fakeBroker
	l   *fakeLane
	sub *fakeSub
	// revoked ends fetching, gone settling.
	revoked, gone bool
}

type fakeSub struct {
	b      *fakeBroker
	spec   driver.SubscribeSpec
	ev     driver.LaneEvents
	closed bool
}

func newFake() *fakeBroker {
	return &fakeBroker{
		caps: driver.Capabilities{
			System: "fake", Delay: driver.AnyTime, RetryDelay: driver.AnyTime, Tags: true, SQL: true,
			Broadcast: true, Ordered: true, Queues: true,
		},
		queues: 1, lanes: map[string]*fakeLane{}, change: make(chan struct{}),
	}
}

func (b *fakeBroker) Scheme() string { return "fake" }

func (b *fakeBroker) Open(context.Context, driver.Config) (driver.Conn, error) { return b, nil }

func (b *fakeBroker) Capabilities() driver.Capabilities { return b.caps }

func (b *fakeBroker) Extensions() driver.Extensions { return driver.Extensions{} }

func (b *fakeBroker) Health(context.Context) error { return nil }

func (b *fakeBroker) Close(context.Context) error { return nil }

func (b *fakeBroker) Send(_ context.Context, req driver.SendRequest) []driver.SendResult {
	out := make([]driver.SendResult, len(req.Messages))
	for i, m := range req.Messages {
		q := 0
		if m.QueueSet {
			q = m.Queue
		}
		b.put(m.Topic, q, *m)
		out[i] = driver.SendResult{ID: m.ID, Status: driver.Stored, Queue: q}
	}
	return out
}

// put hands a message to every group that is or was subscribed to its topic.
func (b *fakeBroker) put(topic string, queue int, m driver.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m.Topic = topic
	if m.ID == "" {
		m.ID = fmt.Sprintf("m%d", b.seq+1)
	}
	for _, l := range b.lanes {
		if l.topic == topic && !l.info.Retry && l.info.Queue == queue && b.wants(l.group, topic, m.Tag) {
			b.seq++
			l.pending = append(l.pending, &driver.Delivery{Message: m, Offset: b.seq, Attempt: 1, StoredAt: time.Now()})
		}
	}
	b.signal()
}

func (b *fakeBroker) wants(group, topic, tag string) bool {
	for _, s := range b.subs {
		if s.spec.Group == group && s.spec.Topic == topic {
			return s.spec.Filter.MatchTag(tag)
		}
	}
	return true
}

func (b *fakeBroker) signal() {
	close(b.change)
	b.change = make(chan struct{})
}

func (b *fakeBroker) Subscribe(_ context.Context, s driver.SubscribeSpec, ev driver.LaneEvents) (driver.Subscription, error) {
	if b.onSubscribe != nil {
		if err := b.onSubscribe(s); err != nil {
			return nil, err
		}
	}
	sub := &fakeSub{b: b, spec: s, ev: ev}
	b.mu.Lock()
	b.subs = append(b.subs, sub)
	for q := range b.queues {
		b.lane(s, fmt.Sprintf("%s/%d", s.Topic, q), driver.LaneInfo{Topic: s.Topic, Queue: q})
	}
	if !s.Ordered && !s.Broadcast {
		b.lane(s, s.Topic+"/retry", driver.LaneInfo{Topic: s.Topic, Retry: true})
	}
	b.mu.Unlock()
	b.assign(context.Background(), s.Group, s.Topic)
	return sub, nil
}

func (b *fakeBroker) lane(s driver.SubscribeSpec, name string, info driver.LaneInfo) {
	key := s.Group + "/" + s.Topic + "/" + name
	if b.lanes[key] == nil {
		b.lanes[key] = &fakeLane{group: s.Group, topic: s.Topic, name: name, info: info, inflight: map[int64]*driver.Delivery{}}
	}
}

// assign spreads the lanes of a group over its members.
func (b *fakeBroker) assign(ctx context.Context, group, topic string) {
	b.rebalance.Lock()
	defer b.rebalance.Unlock()
	b.mu.Lock()
	var members []*fakeSub
	for _, s := range b.subs {
		if s.spec.Group == group && s.spec.Topic == topic && !s.closed {
			members = append(members, s)
		}
	}
	keys := slices.Sorted(maps.Keys(b.lanes))
	var lanes []*fakeLane
	for _, k := range keys {
		if l := b.lanes[k]; l.group == group && l.topic == topic {
			lanes = append(lanes, l)
		}
	}
	b.mu.Unlock()
	for i, l := range lanes {
		var want *fakeSub
		if len(members) > 0 {
			want = members[i%len(members)]
		}
		b.mu.Lock()
		old := l.owner
		b.mu.Unlock()
		if old != nil && old.sub == want {
			continue
		}
		if old != nil {
			// As real drivers do: nothing is fetched any more, and a Fetch that
			// waits hears of it before Revoked is called; settling goes on.
			b.mu.Lock()
			old.revoked = true
			b.signal()
			b.mu.Unlock()
			time.Sleep(b.notice)
			old.sub.ev.Revoked(ctx, old)
			b.takeAway(old)
		}
		if want != nil {
			h := &fakeHandle{b: b, l: l, sub: want}
			b.mu.Lock()
			l.owner = h
			b.mu.Unlock()
			want.ev.Assigned(h)
		}
	}
}

// takeAway ends the ownership of a lane; what was not settled comes again.
func (b *fakeBroker) takeAway(h *fakeHandle) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.gone = true
	for _, d := range h.l.inflight {
		h.l.insert(d)
	}
	clear(h.l.inflight)
	h.l.owner = nil
	b.signal()
}

// lose takes a lane away without asking and gives it to the same member again.
func (b *fakeBroker) lose(name string) {
	b.mu.Lock()
	var h *fakeHandle
	for _, l := range b.lanes {
		if l.name == name {
			h = l.owner
		}
	}
	b.mu.Unlock()
	b.takeAway(h)
	h.sub.ev.Lost(h)
	b.assign(context.Background(), h.l.group, h.l.topic)
}

func (s *fakeSub) Close(ctx context.Context) error {
	s.b.mu.Lock()
	if s.closed {
		s.b.mu.Unlock()
		return nil
	}
	s.closed = true
	s.b.mu.Unlock()
	s.b.assign(ctx, s.spec.Group, s.spec.Topic)
	return nil
}

func (l *fakeLane) insert(d *driver.Delivery) {
	at, _ := slices.BinarySearchFunc(l.pending, d, func(a, b *driver.Delivery) int { return int(a.Offset - b.Offset) })
	l.pending = slices.Insert(l.pending, at, d)
}

func (h *fakeHandle) Name() string { return h.l.name }

func (h *fakeHandle) Info() driver.LaneInfo { return h.l.info }

func (h *fakeHandle) Fetch(ctx context.Context, limit int) ([]*driver.Delivery, error) {
	if h.b.onFetch != nil {
		if err := h.b.onFetch(); err != nil {
			return nil, err
		}
	}
	wait := time.NewTimer(time.Second)
	defer wait.Stop()
	for {
		h.b.mu.Lock()
		if h.gone || h.revoked && !h.b.deaf {
			h.b.mu.Unlock()
			return nil, driver.Errorf(driver.LaneLost, "fetch", "not the owner")
		}
		if n := min(limit, len(h.l.pending)); n > 0 && !h.revoked {
			out := slices.Clone(h.l.pending[:n])
			h.l.pending = slices.Delete(h.l.pending, 0, n)
			for _, d := range out {
				h.l.inflight[d.Offset] = d
			}
			h.b.mu.Unlock()
			return out, nil
		}
		change := h.b.change
		h.b.mu.Unlock()
		select {
		case <-change:
		case <-wait.C:
			return nil, nil
		case <-ctx.Done():
			time.Sleep(h.b.late)
			return h.take(limit), driver.FromContext(ctx, "fetch", false)
		}
	}
}

// take is what a fetch may still bring after its ctx has ended.
func (h *fakeHandle) take(limit int) []*driver.Delivery {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	if h.b.late == 0 || h.gone || h.revoked {
		return nil
	}
	n := min(limit, len(h.l.pending))
	out := slices.Clone(h.l.pending[:n])
	h.l.pending = slices.Delete(h.l.pending, 0, n)
	for _, d := range out {
		h.l.inflight[d.Offset] = d
	}
	return out
}

func (h *fakeHandle) Settle(ctx context.Context, ss []driver.Settlement) error {
	if h.b.onSettle != nil {
		if err := h.b.onSettle(ss); err != nil {
			return err
		}
	}
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	if h.gone {
		return driver.Errorf(driver.LaneLost, "settle", "not the owner")
	}
	h.b.maxBatch = max(h.b.maxBatch, len(ss))
	for _, s := range ss {
		d, ok := h.l.inflight[s.Delivery.Offset]
		if !ok {
			continue
		}
		delete(h.l.inflight, d.Offset)
		h.b.settleOne(h.l, d, s)
	}
	h.b.signal()
	return nil
}

// settleOne is called with mu held.
func (b *fakeBroker) settleOne(l *fakeLane, d *driver.Delivery, s driver.Settlement) {
	line := fmt.Sprintf("%s %s", s.Outcome, d.ID)
	if s.Delay > 0 {
		line += " " + s.Delay.String()
	}
	b.log = append(b.log, line)
	again := *d
	later := func(l *fakeLane, delay time.Duration) {
		if delay <= 0 {
			l.insert(&again)
			return
		}
		time.AfterFunc(delay, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			l.insert(&again)
			b.signal()
		})
	}
	switch s.Outcome {
	case driver.Retry:
		again.Attempt++
		b.seq++
		again.Offset = b.seq
		later(b.lanes[l.group+"/"+l.topic+"/"+l.topic+"/retry"], s.Delay)
	case driver.Return:
		later(l, s.Delay)
	case driver.DeadLetter:
		again.Properties = maps.Clone(d.Properties)
		if again.Properties == nil {
			again.Properties = map[string]string{}
		}
		maps.Copy(again.Properties, s.Properties)
		b.dead = append(b.dead, &again)
	}
}

func (h *fakeHandle) Extend(_ context.Context, ds []*driver.Delivery) error {
	if h.b.onExtend != nil {
		return h.b.onExtend(ds)
	}
	return nil
}

func (h *fakeHandle) Seek(context.Context, driver.Position) error { return errors.ErrUnsupported }

func (b *fakeBroker) settlements() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.log)
}

func (b *fakeBroker) deadLetters() []*driver.Delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.dead)
}

func (b *fakeBroker) members() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.subs {
		if !s.closed {
			n++
		}
	}
	return n
}

func (b *fakeBroker) backlog() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, l := range b.lanes {
		n += len(l.pending) + len(l.inflight)
	}
	return n
}
