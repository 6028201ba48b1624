package reference

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

// group holds the positions of a group; broadcast members have one each.
type group struct {
	name    string
	cursors map[*queue]*cursor
	subs    map[string][]*subscription // by topic
	busy    map[string]bool            // topics that are being balanced
}

// cursor is the position on one queue.
type cursor struct {
	next, base int64 // next to fetch; everything below base is settled
	done       map[int64]bool
	open       map[int64]*token
	again      []int64 // returned on an ordered lane
	again0     time.Time
	gen        int // grows with Seek: older deliveries no longer move it
}

type token struct {
	lane    *lane
	offset  int64
	gen     int
	s       *stored
	settled bool
}

func (g *group) forget() {
	for _, c := range g.cursors {
		c.rewind()
	}
	g.subs, g.busy = map[string][]*subscription{}, map[string]bool{}
}

// rewind forgets what is fetched and not settled.
func (c *cursor) rewind() {
	c.next, c.open, c.again = c.base, map[int64]*token{}, nil
	c.done = map[int64]bool{}
}

func (c *cursor) settle(offset int64) {
	c.done[offset] = true
	delete(c.open, offset)
	for c.done[c.base] {
		delete(c.done, c.base)
		c.base++
	}
}

func (b *Broker) group(name string) *group {
	g := b.groups[name]
	if g == nil {
		g = &group{name: name, cursors: map[*queue]*cursor{}, subs: map[string][]*subscription{}, busy: map[string]bool{}}
		b.groups[name] = g
	}
	return g
}

func (g *group) cursor(q *queue, from driver.Position) *cursor {
	c := g.cursors[q]
	if c == nil {
		at := q.locate(from)
		c = &cursor{next: at, base: at, done: map[int64]bool{}, open: map[int64]*token{}}
		g.cursors[q] = c
	}
	return c
}

func laneName(q *queue) string { return q.topic + "/" + strconv.Itoa(q.num) }

// subscription is one member of a group for one topic.
type subscription struct {
	c      *Conn
	g      *group
	spec   driver.SubscribeSpec
	ev     driver.LaneEvents
	lanes  map[*queue]*lane
	leave  bool
	closed chan struct{}   // closed when the last lane is gone
	cut    context.Context // of the first Close
}

// Subscribe implements [driver.Conn].
func (c *Conn) Subscribe(_ context.Context, spec driver.SubscribeSpec, ev driver.LaneEvents) (driver.Subscription, error) {
	b := c.b
	op := "subscribe group " + spec.Group + " to " + spec.Topic
	if err := checkSpec(op, spec); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := c.closed(op); err != nil {
		return nil, err
	}
	name := spec.Group
	for _, s := range b.group(name).subs[spec.Topic] {
		if s.spec.Filter.String() != spec.Filter.String() || s.spec.Ordered != spec.Ordered || s.spec.Broadcast != spec.Broadcast {
			return nil, driver.Errorf(driver.FailedPrecondition, op, "filter %q (ordered %v, broadcast %v) differs from that of client %s, %q (ordered %v, broadcast %v)",
				spec.Filter, spec.Ordered, spec.Broadcast, s.c.id, s.spec.Filter, s.spec.Ordered, s.spec.Broadcast)
		}
	}
	g := b.group(name)
	s := &subscription{c: c, g: g, spec: spec, ev: ev, lanes: map[*queue]*lane{}, closed: make(chan struct{})}
	g.subs[spec.Topic] = append(g.subs[spec.Topic], s)
	c.subs[s] = true
	b.balance(g, spec.Topic)
	return s, nil
}

func checkSpec(op string, spec driver.SubscribeSpec) error {
	if err := driver.ValidTopic(spec.Topic); err != nil {
		return invalid(op, "%w", err)
	}
	if err := driver.ValidGroup(spec.Group); err != nil {
		return invalid(op, "%w", err)
	}
	for _, t := range spec.Filter.Tags {
		if err := driver.ValidTag(t); err != nil {
			return invalid(op, "%w", err)
		}
	}
	if spec.Filter.SQL == "" {
		return nil
	}
	if len(spec.Filter.Tags) > 0 {
		return invalid(op, "tags and SQL exclude each other")
	}
	if _, err := sql92.Parse(spec.Filter.SQL); err != nil {
		return invalid(op, "%w", err)
	}
	return nil
}

// queuesOf lists what the members of g share for a topic.
func (b *Broker) queuesOf(g *group, s *subscription) []*queue {
	qs := slices.Clone(b.topic(s.spec.Topic, 4).queues)
	if !s.spec.Ordered && !s.spec.Broadcast {
		qs = append(qs, b.topic(driver.RetryTopic(g.name)+"%"+s.spec.Topic, 1).queues...)
	}
	return qs
}

// wants says who is to own which queue. The lock is held.
func (b *Broker) wants(g *group, name string) map[*queue]*subscription {
	out := map[*queue]*subscription{}
	var living []*subscription
	for _, s := range g.subs[name] {
		if !s.leave {
			living = append(living, s)
		}
	}
	if len(living) == 0 {
		return out
	}
	for i, q := range b.queuesOf(g, living[0]) { // a retry lane comes last and makes nobody idle
		out[q] = living[i%len(living)]
	}
	return out
}

// balance starts the hand-overs for a topic unless they are under way. The
// lock is held.
func (b *Broker) balance(g *group, name string) {
	if g.busy[name] {
		return
	}
	g.busy[name] = true
	epoch := b.epoch
	b.wg.Go(func() {
		for b.handover(g, name, epoch) {
		}
	})
}

// handover does one round: revoke what is misplaced, then assign.
func (b *Broker) handover(g *group, name string, epoch int) bool {
	b.mu.Lock()
	if b.epoch != epoch {
		b.mu.Unlock()
		return false
	}
	wants := b.wants(g, name)
	var revoke, assign []*lane
	owned := map[*queue]bool{}
	for _, s := range g.subs[name] {
		for q, l := range s.lanes {
			if want := wants[q]; want != s && (!s.spec.Broadcast || s.leave) {
				revoke = append(revoke, l)
			}
			owned[q] = true
		}
	}
	for _, s := range slices.Clone(g.subs[name]) {
		if s.leave && len(s.lanes) == 0 {
			g.subs[name] = slices.DeleteFunc(g.subs[name], func(o *subscription) bool { return o == s })
			close(s.closed)
			continue
		}
		for _, q := range b.queuesOf(g, s) {
			if s.leave || s.lanes[q] != nil || !s.spec.Broadcast && (owned[q] || wants[q] != s) {
				continue
			}
			l := s.newLane(q)
			assign = append(assign, l)
		}
	}
	if len(revoke)+len(assign) == 0 {
		delete(g.busy, name)
		b.wake()
		b.mu.Unlock()
		return false
	}
	b.mu.Unlock()
	done := make(chan struct{}, len(revoke))
	for _, l := range revoke {
		b.wg.Go(func() { b.revoke(l); done <- struct{}{} })
	}
	for _, l := range assign {
		l.s.ev.Assigned(l)
		<-l.calls
	}
	for range revoke {
		<-done
	}
	return true
}

func (b *Broker) revoke(l *lane) {
	ctx, cancel := context.WithTimeout(l.s.c.root, b.cfg.RevokeTimeout)
	defer cancel()
	b.mu.Lock()
	if l.gone {
		b.mu.Unlock()
		return
	}
	l.stopFetch = true
	if l.s.cut != nil { // Subscription.Close has less time
		var cancel2 context.CancelFunc
		ctx, cancel2 = context.WithCancel(ctx)
		defer cancel2()
		defer context.AfterFunc(l.s.cut, cancel2)()
	}
	b.wake()
	b.mu.Unlock()
	done := make(chan struct{})
	b.wg.Go(func() {
		defer close(done)
		l.end(func() { l.s.ev.Revoked(ctx, l) })
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l.drop()
}

// lose ends a member without asking.
func (s *subscription) lose() {
	b := s.c.b
	b.mu.Lock()
	var lost []*lane
	for _, l := range s.lanes {
		if !l.gone {
			lost = append(lost, l)
		}
		l.drop()
	}
	s.leave = true
	b.balance(s.g, s.spec.Topic)
	b.mu.Unlock()
	for _, l := range lost {
		l.end(func() { s.ev.Lost(l) })
	}
}

// end tells the framework once how the lane ended.
func (l *lane) end(tell func()) {
	l.calls <- struct{}{}
	defer func() { <-l.calls }()
	if !l.ended {
		l.ended = true
		tell()
	}
}

// Close implements [driver.Subscription].
func (s *subscription) Close(ctx context.Context) error {
	b := s.c.b
	b.mu.Lock()
	s.leave = true
	if s.cut == nil {
		s.cut = ctx
	}
	delete(s.c.subs, s)
	if s.c.root.Err() != nil {
		b.mu.Unlock()
		return nil
	}
	b.balance(s.g, s.spec.Topic)
	b.mu.Unlock()
	select {
	case <-s.closed:
		return nil
	case <-s.c.root.Done():
		return nil
	case <-ctx.Done():
		select {
		case <-s.closed:
			return nil
		case <-time.After(time.Millisecond): // the hand-over sees the end of ctx, too
		}
		return driver.FromContext(ctx, "close subscription", false)
	}
}

func (g *group) info() driver.GroupInfo {
	info := driver.GroupInfo{Name: g.name}
	for _, name := range slices.Sorted(maps.Keys(g.subs)) {
		for i, s := range g.subs[name] {
			if !slices.Contains(info.Members, s.c.id) {
				info.Members = append(info.Members, s.c.id)
			}
			if i == 0 {
				info.Subscriptions = append(info.Subscriptions, joinFilter(name, s.spec.Filter))
			}
		}
	}
	slices.Sort(info.Members)
	return info
}

func retryOf(q *queue) bool { return strings.HasPrefix(q.topic, "%RETRY%") }

func describe(q *queue) string { return fmt.Sprintf("lane %s", laneName(q)) }
