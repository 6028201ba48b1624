package reference

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

// lane is the ownership of one queue by one subscription.
type lane struct {
	s         *subscription
	q         *queue
	cur       *cursor
	calls     chan struct{} // one slot: calls of LaneEvents for a lane never overlap
	ended     bool          // Revoked or Lost was called; guarded by calls
	stopFetch bool          // it is being revoked
	gone      bool
}

func (s *subscription) newLane(q *queue) *lane {
	owner := s.g
	if s.spec.Broadcast {
		owner = s.c.b.group(s.g.name + "@" + s.c.id)
	}
	from := s.spec.From
	if retryOf(q) {
		from = driver.Position{}
	}
	l := &lane{s: s, q: q, cur: owner.cursor(q, from), calls: make(chan struct{}, 1)}
	l.calls <- struct{}{} // Assigned comes first
	s.lanes[q] = l
	return l
}

// drop gives the lane away: what is open comes again. The lock is held.
func (l *lane) drop() {
	if l.gone {
		return
	}
	l.gone = true
	delete(l.s.lanes, l.q)
	l.cur.rewind()
	l.s.c.b.wake()
}

func (l *lane) Name() string { return laneName(l.q) }

func (l *lane) Info() driver.LaneInfo {
	return driver.LaneInfo{Topic: l.s.spec.Topic, Queue: l.q.num, Retry: retryOf(l.q)}
}

func (l *lane) lost(op string) error {
	if l.s.c.root.Err() != nil {
		return driver.Errorf(driver.Closed, op+" "+describe(l.q), "the client is closed")
	}
	if l.gone {
		return driver.Errorf(driver.LaneLost, op+" "+describe(l.q), "the lane was given away")
	}
	return nil
}

// Fetch implements [driver.Lane].
func (l *lane) Fetch(ctx context.Context, limit int) ([]*driver.Delivery, error) {
	if limit < 1 {
		return nil, invalid("fetch from "+describe(l.q), "limit %d, want at least 1", limit)
	}
	b := l.s.c.b
	for deadline := time.Now().Add(time.Second); ; {
		b.mu.Lock()
		if err := l.lost("fetch from"); err != nil {
			b.mu.Unlock()
			return nil, err
		}
		next := b.ripen()
		var ds []*driver.Delivery
		if !l.stopFetch && ctx.Err() == nil {
			ds, next = l.collect(limit, next)
		}
		changed := b.changed
		b.mu.Unlock()
		if len(ds) > 0 || ctx.Err() != nil || time.Until(deadline) <= 0 {
			return ds, nil
		}
		wait(ctx, changed, min(next, time.Until(deadline)))
	}
}

// collect takes what may be delivered now. The lock is held.
func (l *lane) collect(limit int, next time.Duration) (ds []*driver.Delivery, _ time.Duration) {
	c := l.cur
	if len(c.again) > 0 {
		if d := time.Until(c.again0); d > 0 {
			return nil, min(next, d)
		}
		slices.Sort(c.again)
		for len(c.again) > 0 && len(ds) < limit {
			ds = append(ds, l.deliver(c.again[0]))
			c.again = c.again[1:]
		}
	}
	for len(ds) < limit && c.next < int64(len(l.q.msgs)) {
		o := c.next
		c.next++
		if c.done[o] {
			continue
		}
		if !retryOf(l.q) && !selects(l.s.spec.Filter, &l.q.msgs[o].m) {
			c.settle(o)
			continue
		}
		ds = append(ds, l.deliver(o))
	}
	return ds, next
}

// selects reports whether f selects m.
func selects(f driver.Filter, m *driver.Message) bool {
	if f.SQL == "" {
		return f.MatchTag(m.Tag)
	}
	e, err := sql92.Parse(f.SQL)
	return err == nil && e.Match(func(name string) (v string, ok bool) {
		switch name {
		case "TAGS":
			return m.Tag, m.Tag != ""
		case "KEYS":
			return strings.Join(m.Keys, " "), len(m.Keys) > 0
		}
		v, ok = m.Properties[name]
		return v, ok
	})
}

func (l *lane) deliver(o int64) *driver.Delivery {
	t := &token{lane: l, offset: o, gen: l.cur.gen, s: l.q.msgs[o]}
	l.cur.open[o] = t
	return t.s.delivery(o, t)
}

// Settle implements [driver.Lane].
func (l *lane) Settle(_ context.Context, ss []driver.Settlement) error {
	b := l.s.c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := l.lost("settle on"); err != nil {
		return err
	}
	for _, s := range ss {
		if s.Delivery == nil || s.Outcome < driver.Ack || s.Outcome > driver.Return {
			return invalid("settle on "+describe(l.q), "outcome %v of delivery %v", s.Outcome, s.Delivery != nil)
		}
		if t, ok := s.Delivery.Token.(*token); !ok || t.lane != l {
			return invalid("settle on "+describe(l.q), "the delivery came by another lane")
		}
	}
	for _, s := range ss {
		t := s.Delivery.Token.(*token)
		if !t.settled {
			t.settled = true
			l.settle(t, s)
		}
	}
	b.wake()
	return nil
}

func (l *lane) settle(t *token, s driver.Settlement) {
	moves := t.gen == l.cur.gen
	if s.Outcome == driver.Return && l.s.spec.Ordered {
		if moves {
			l.cur.again = append(l.cur.again, t.offset)
			l.cur.again0 = time.Now().Add(s.Delay)
			delete(l.cur.open, t.offset)
		}
		return
	}
	if s.Outcome != driver.Ack {
		l.copy(t, s)
	}
	if moves {
		l.cur.settle(t.offset)
	}
}

// copy stores the message again: to be retried, or as a dead letter.
func (l *lane) copy(t *token, s driver.Settlement) {
	b := l.s.c.b
	n := &stored{m: clone(&t.s.m), attempt: t.s.attempt}
	if n.m.Properties == nil {
		n.m.Properties = map[string]string{}
	}
	maps.Copy(n.m.Properties, s.Properties)
	if s.Outcome == driver.DeadLetter {
		if _, ok := n.m.Properties[driver.DeadOffset]; !ok {
			n.m.Properties[driver.DeadTopic] = n.m.Topic
			n.m.Properties[driver.DeadQueue] = strconv.Itoa(l.q.num)
			n.m.Properties[driver.DeadOffset] = strconv.FormatInt(t.offset, 10)
		}
		n.attempt = 1
		n.into = b.topic(driver.DeadLetterTopic(l.s.g.name), 1).queues[0]
	} else {
		n.due = time.Now().Add(s.Delay)
		n.into = b.topic(driver.RetryTopic(l.s.g.name)+"%"+l.s.spec.Topic, 1).queues[0]
	}
	if s.Outcome == driver.Retry {
		n.attempt++
	}
	b.put(n)
}

// Extend implements [driver.Lane]; there is no lease.
func (l *lane) Extend(context.Context, []*driver.Delivery) error {
	l.s.c.b.mu.Lock()
	defer l.s.c.b.mu.Unlock()
	return l.lost("extend on")
}

// Seek implements [driver.Lane].
func (l *lane) Seek(_ context.Context, p driver.Position) error {
	b := l.s.c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := l.lost("seek on"); err != nil {
		return err
	}
	l.cur.seek(l.q.locate(p))
	b.wake()
	return nil
}

func (c *cursor) seek(at int64) {
	c.base = at
	c.gen++
	c.rewind()
}

// admin is the other extensions.
type admin struct{ c *Conn }

func (a admin) lock(op string) error {
	a.c.b.mu.Lock()
	return a.c.closed(op)
}

func (a admin) CreateTopic(_ context.Context, t driver.TopicInfo) error {
	defer a.c.b.mu.Unlock()
	if err := a.lock("create topic"); err != nil {
		return err
	}
	if err := driver.ValidTopic(t.Name); err != nil {
		return invalid("create topic", "%w", err)
	}
	if t.Queues < 1 {
		return invalid("create topic "+t.Name, "%d queues, want at least 1", t.Queues)
	}
	if a.c.b.topics[t.Name] != nil {
		return driver.Errorf(driver.AlreadyExists, "create topic "+t.Name, "it exists")
	}
	a.c.b.topic(t.Name, t.Queues)
	return nil
}

func (a admin) DeleteTopic(_ context.Context, name string) error {
	b := a.c.b
	defer b.mu.Unlock()
	if err := a.lock("delete topic"); err != nil {
		return err
	}
	if b.topics[name] == nil {
		return driver.Errorf(driver.NotFound, "delete topic "+name, "no such topic")
	}
	delete(b.topics, name)
	return nil
}

func (a admin) Topics(context.Context) ([]driver.TopicInfo, error) {
	defer a.c.b.mu.Unlock()
	if err := a.lock("topics"); err != nil {
		return nil, err
	}
	var out []driver.TopicInfo
	for _, name := range slices.Sorted(maps.Keys(a.c.b.topics)) {
		out = append(out, driver.TopicInfo{Name: name, Queues: len(a.c.b.topics[name].queues)})
	}
	return out, nil
}

func (a admin) Groups(context.Context) ([]driver.GroupInfo, error) {
	defer a.c.b.mu.Unlock()
	if err := a.lock("groups"); err != nil {
		return nil, err
	}
	var out []driver.GroupInfo
	for _, name := range slices.Sorted(maps.Keys(a.c.b.groups)) {
		if driver.ValidGroup(name) == nil {
			out = append(out, a.c.b.groups[name].info())
		}
	}
	return out, nil
}

func (a admin) Lag(_ context.Context, name string) ([]driver.LaneLag, error) {
	defer a.c.b.mu.Unlock()
	if err := a.lock("lag"); err != nil {
		return nil, err
	}
	g := a.c.b.groups[name]
	if g == nil {
		return nil, driver.Errorf(driver.NotFound, "lag", "no group %q", name)
	}
	var out []driver.LaneLag
	for q, c := range g.cursors {
		out = append(out, driver.LaneLag{
			Lane: driver.LaneInfo{Topic: q.topic, Queue: q.num, Retry: retryOf(q)}, Name: laneName(q),
			Committed: c.base, Max: int64(len(q.msgs)), InFlight: len(c.open),
		})
	}
	return out, nil
}

func (a admin) ResetOffsets(_ context.Context, name, topicName string, p driver.Position) error {
	b := a.c.b
	defer b.mu.Unlock()
	if err := a.lock("reset offsets"); err != nil {
		return err
	}
	if err := driver.ValidGroup(name); err != nil {
		return invalid("reset offsets", "%w", err)
	}
	for _, q := range b.topic(topicName, 4).queues {
		b.group(name).cursor(q, p).seek(q.locate(p))
	}
	b.wake()
	return nil
}

// find returns the stored copies of a topic that match, oldest first.
func (a admin) find(name string, limit int, match func(s *stored) bool) []*driver.Delivery {
	type hit struct {
		s *stored
		o int64
	}
	var hits []hit
	if t := a.c.b.topics[name]; t != nil {
		for _, q := range t.queues {
			for o, s := range q.msgs {
				if match(s) {
					hits = append(hits, hit{s, int64(o)})
				}
			}
		}
	}
	slices.SortStableFunc(hits, func(x, y hit) int { return x.s.at.Compare(y.s.at) })
	var out []*driver.Delivery
	for _, h := range hits[:min(limit, len(hits))] {
		out = append(out, h.s.delivery(h.o, nil))
	}
	return out
}

func (a admin) ByID(_ context.Context, name, id string) (*driver.Delivery, error) {
	defer a.c.b.mu.Unlock()
	if err := a.lock("query by id"); err != nil {
		return nil, err
	}
	ds := a.find(name, 1, func(s *stored) bool { return s.m.ID == id || s.offsetID == id })
	if len(ds) == 0 {
		return nil, driver.Errorf(driver.NotFound, "query by id", "no message %q in %s", id, name)
	}
	return ds[0], nil
}

func (a admin) ByKey(_ context.Context, name, key string, r driver.TimeRange, limit int) ([]*driver.Delivery, error) {
	defer a.c.b.mu.Unlock()
	if err := a.lock("query by key"); err != nil {
		return nil, err
	}
	return a.find(name, limit, func(s *stored) bool { return slices.Contains(s.m.Keys, key) && r.Contains(s.at) }), nil
}

func (a admin) Browse(_ context.Context, name string, num int, offset int64, limit int) ([]*driver.Delivery, error) {
	defer a.c.b.mu.Unlock()
	if err := a.lock("browse"); err != nil {
		return nil, err
	}
	t := a.c.b.topics[name]
	if t == nil || num < 0 || num >= len(t.queues) {
		return nil, driver.Errorf(driver.NotFound, "browse", "no queue %d of topic %q", num, name)
	}
	var out []*driver.Delivery
	for o := max(0, offset); o < int64(len(t.queues[num].msgs)) && len(out) < limit; o++ {
		out = append(out, t.queues[num].msgs[o].delivery(o, nil))
	}
	return out, nil
}
