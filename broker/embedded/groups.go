package embedded

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// closeGrace is how much longer than the ctx of a Close the broker waits for
// callbacks, which end with that ctx.
const closeGrace = time.Second

// awaitEnd waits for done until shortly after ctx has ended.
func awaitEnd(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}
	t := time.NewTimer(closeGrace)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// groups is who consumes what: the members of each group and topic, and which
// member owns which lane. A lane changes hands in its own goroutine, which
// runs only while there is something to do; mu is never held over a callback.
//
// Lock order: groups.mu, slot.mu, state.mu; groups.mu, conn.mu.
type groups struct {
	e  *engine
	mu sync.Mutex
	// subs holds a subscription from its first member on; its slots outlive
	// its members, so that what was settled beyond the position is not
	// delivered again.
	subs map[subKey]*subscription
	seq  int
	// closing: the broker closes, lanes are taken away and given to nobody.
	closing bool
	wg      sync.WaitGroup // hand-overs and callbacks
}

type subKey struct{ group, topic string }

// subscription is a group's interest in one topic.
type subscription struct {
	subKey
	spec    driver.SubscribeSpec // of the living members
	members []*member            // living ones, sorted by client id
	// slots are the lanes, by client for broadcast groups and else under "".
	slots map[string][]*slot
	// abroad are the clients elsewhere that consume the topic, sorted; see
	// [Store.Join]. apart are lanes that only they consume.
	abroad []string
	apart  []*slot
}

// member is one Subscription; it implements [driver.Subscription].
type member struct {
	g    *groups
	sub  *subscription
	conn *conn
	ev   driver.LaneEvents
	seq  int // tells members with the same client id apart

	// root ends when the ctx of Close does; revocations end with it.
	root   context.Context //nolint:containedctx // the service's own root
	cancel context.CancelFunc

	// What follows is guarded by groups.mu.
	leaving  bool
	deadline time.Time // of Close
	owned    int       // lanes, with callbacks that still run
	released chan struct{}
	gone     chan struct{} // closed when Close has finished
}

func newGroups(e *engine) *groups { return &groups{e: e, subs: map[subKey]*subscription{}} }

// wait waits for callbacks that outlived their members.
func (g *groups) wait() { g.wg.Wait() }

// close takes every lane away, all at once, so that none goes to a member that
// is about to be closed as well. The members are closed afterwards.
func (g *groups) close(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closing = true
	for _, sub := range g.subs {
		for _, m := range sub.members {
			m.deadline, _ = ctx.Deadline()
			context.AfterFunc(ctx, m.cancel)
		}
		g.rebalance(sub)
	}
}

// checkSpec refuses what can never be subscribed.
func checkSpec(s driver.SubscribeSpec) *driver.Error {
	err := driver.ValidGroup(s.Group)
	if err == nil {
		err = driver.ValidTopic(s.Topic)
	}
	if err == nil && len(retryTopic(s.Group)) > driver.MaxInternalName {
		err = fmt.Errorf("group name %.40q… leaves no room for %s in front", s.Group, retryTopic(""))
	}
	if err == nil {
		err = checkFilter(s.Filter)
	}
	if err == nil && s.From.Kind > driver.AtTime {
		err = fmt.Errorf("position of kind %d", s.From.Kind)
	}
	if err != nil {
		return driver.Errorf(driver.InvalidArgument, "", "%w", err)
	}
	return nil
}

// differs names the two subscriptions if s contradicts the living members.
func (sub *subscription) differs(s driver.SubscribeSpec, clientID string) *driver.Error {
	if len(sub.members) == 0 {
		return nil
	}
	have, want := describe(sub.spec), describe(s)
	if have == want {
		return nil
	}
	return driver.Errorf(driver.FailedPrecondition, "", "client %s subscribes to %s [%s], but living members of group %s (%s …) to [%s]",
		clientID, s.Topic, want, sub.group, sub.members[0].conn.id, have)
}

func describe(s driver.SubscribeSpec) string {
	d := "filter " + s.Filter.String()
	if s.Ordered {
		d += ", ordered"
	}
	if s.Broadcast {
		d += ", broadcast"
	}
	return d
}

// join makes c a member. Topic, retry queue and first positions are durable
// when it returns.
func (e *engine) join(ctx context.Context, c *conn, s driver.SubscribeSpec, ev driver.LaneEvents) (*member, *driver.Error) {
	if err := checkSpec(s); err != nil {
		return nil, err
	}
	s.Filter.Tags = slices.Clone(s.Filter.Tags)
	g := e.groups
	if err := g.compatible(s, c.id); err != nil {
		return nil, err
	}
	j := &joinJob{st: e.st, spec: s, client: c.id}
	if err := e.w.do(ctx, c.done, j, 0); err != nil {
		return nil, err
	}
	if j.err != nil {
		return nil, j.err
	}
	m := &member{g: g, conn: c, ev: ev, released: make(chan struct{}, 1), gone: make(chan struct{})}
	if err := g.enter(m, s); err != nil {
		return nil, err
	}
	// Only a whole member may be seen by the connection, which closes it.
	if !c.enter(m) {
		_ = m.Close(ctx) // the connection is closed, which is what the caller hears
		return nil, closedError("")
	}
	e.store.changed(s.Group)
	return m, nil
}

// compatible checks s against the living members.
func (g *groups) compatible(s driver.SubscribeSpec, clientID string) *driver.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if sub := g.subs[subKey{s.Group, s.Topic}]; sub != nil {
		return sub.differs(s, clientID)
	}
	return nil
}

// enter adds m to the group and rebalances at once.
func (g *groups) enter(m *member, s driver.SubscribeSpec) *driver.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := subKey{s.Group, s.Topic}
	sub := g.subs[k]
	if sub == nil {
		sub = &subscription{subKey: k, slots: map[string][]*slot{}}
		g.subs[k] = sub
	}
	if err := sub.differs(s, m.conn.id); err != nil {
		return err
	}
	if s.Broadcast && len(sub.abroad) > 0 {
		return driver.Errorf(driver.FailedPrecondition, "", "client %s subscribes to %s as broadcast, but living members of group %s (%s …) share it",
			m.conn.id, s.Topic, s.Group, sub.abroad[0])
	}
	g.seq++
	m.seq = g.seq
	m.sub = sub
	m.root, m.cancel = context.WithCancel(g.e.root)
	if !m.conn.enter(m) { // from here on, the client closes what it finds
		m.cancel()
		return closedError("")
	}
	if len(sub.members) == 0 {
		sub.spec = s
	}
	client := ""
	if s.Broadcast {
		client = m.conn.id
	}
	sub.ensureSlots(g, client)
	if len(sub.abroad) > 0 {
		g.rebalance(sub) // clients elsewhere have the new lanes until now, and hand them over
	}
	sub.members = append(sub.members, m)
	slices.SortFunc(sub.members, func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.conn.id, b.conn.id), cmp.Compare(a.seq, b.seq))
	})
	g.rebalance(sub)
	g.divide(retryTopic(s.Group)) // which may have got a queue for the topic
	return nil
}

// ensureSlots makes the lanes that client consumes from, for members that
// subscribe as sub.spec says.
func (sub *subscription) ensureSlots(g *groups, client string) {
	numbers := make([]int, 0, 5)
	for n := range g.e.st.queues(sub.topic) {
		numbers = append(numbers, n)
	}
	if !sub.spec.Broadcast && !sub.spec.Ordered {
		numbers = append(numbers, record.RetryLane)
	}
	old := sub.slots[client]
	if client == "" {
		old = slices.Concat(old, sub.apart)
	}
	slots := make([]*slot, 0, len(numbers))
	for _, n := range numbers {
		i := slices.IndexFunc(old, func(s *slot) bool { return s.queue == n })
		if i < 0 {
			slots = append(slots, newSlot(g.e, sub, client, n))
			continue
		}
		old[i].reopen(sub.spec)
		slots = append(slots, old[i])
	}
	// An ordered group that follows an unordered one has no retry lane; what
	// waits there stays, and so does its position in the log.
	sub.slots[client] = slots
	if client == "" {
		sub.apart = slices.DeleteFunc(sub.apart, func(s *slot) bool { return slices.Contains(slots, s) })
	}
}

// restore makes the slots of a client that nobody consumes as now, so that
// they can be looked at and moved. mu is held.
func (g *groups) restore(sub *subscription, client string) {
	spec := sub.spec
	if len(sub.members) == 0 {
		// The retry lane belongs to the picture if the group has one.
		sub.spec.Ordered = g.e.st.retryQueue(sub.group, sub.topic) < 0
		sub.spec.Broadcast = client != ""
	}
	sub.ensureSlots(g, client)
	sub.spec = spec
}

// rebalance computes who is to own which lane and starts the hand-overs: the
// queues in equal parts of neighbours to the members in the order of their
// client ids, as RocketMQ's clients do by default, so that members elsewhere
// come to the same result. mu is held.
func (g *groups) rebalance(sub *subscription) {
	active := make([]*member, 0, len(sub.members))
	for _, m := range sub.members {
		if !m.leaving && !g.closing {
			active = append(active, m)
		}
	}
	for client, slots := range sub.slots {
		seats := seatsOf(active, sub.abroad)
		if sub.spec.Broadcast {
			seats = nil
			if i := slices.IndexFunc(active, func(m *member) bool { return m.conn.id == client }); i >= 0 && client != "" {
				seats = seatsOf(active[i:i+1], nil)
			}
		} else if client != "" {
			seats = nil
		}
		queues := len(slots)
		if queues > 0 && slots[queues-1].queue == record.RetryLane {
			queues--
		}
		for i, s := range slots {
			at, of := i, queues
			if s.queue == record.RetryLane {
				at, of = g.e.st.retryPlace(sub.group, sub.topic)
			}
			next := seat{}
			if n := len(seats); n > 0 {
				next = seats[ownerOf(at, of, n)]
			}
			s.sit(next, at)
			g.kick(s)
		}
	}
}

// ownerOf is the member, of n, that gets queue i of a topic with that many; a
// queue beyond them, which is about to be made, goes to the first one.
func ownerOf(i, queues, n int) int {
	if i < 0 || i >= queues {
		return 0
	}
	// The first queues%n members get one queue more than the others.
	each, more := queues/n, queues%n
	if i < more*(each+1) {
		return i / (each + 1)
	}
	return more + (i-more*(each+1))/each
}

// kick starts the goroutine of a slot if owner and target differ. mu is held.
func (g *groups) kick(s *slot) {
	if s.busy || s.ownerMember() == s.target {
		return
	}
	s.busy = true
	g.wg.Go(func() { g.settleOwner(s) })
}

// settleOwner gives the lane from its owner to its target until they are one.
func (g *groups) settleOwner(s *slot) {
	for {
		g.mu.Lock()
		switch {
		case s.ownerMember() == s.target:
			s.busy = false
			g.mu.Unlock()
			return
		case s.owner == nil && s.handed != nil:
			handed := s.handed
			g.mu.Unlock()
			g.awaitHanded(handed)
			g.mu.Lock()
			if s.handed == handed {
				s.told()
			}
			g.mu.Unlock()
		case s.owner == nil:
			l := newLane(s, s.target)
			s.owner = l
			l.member.owned++
			g.mu.Unlock()
			s.attach(l)
			l.member.ev.Assigned(l)
		default:
			l := s.owner
			ctx, cancel := l.member.revocation(g.e.cfg.RevokeTimeout)
			g.mu.Unlock()
			g.revoke(ctx, s, l)
			cancel()
			g.mu.Lock()
			s.owner = nil
			l.member.release()
			g.mu.Unlock()
		}
	}
}

// revocation is the time a member gets to settle its work on a lane.
func (m *member) revocation(timeout time.Duration) (context.Context, context.CancelFunc) {
	deadline := time.Now().Add(timeout)
	if !m.deadline.IsZero() && m.deadline.Before(deadline) {
		deadline = m.deadline
	}
	return context.WithDeadline(m.root, deadline)
}

// release counts one lane, or callback, less. groups.mu is held.
func (m *member) release() {
	m.owned--
	select {
	case m.released <- struct{}{}:
	default:
	}
}

// revoke takes l from its member: fetching ends at once, settling when Revoked
// returns or ctx ends. Afterwards the position is durable and nobody owns the
// lane.
func (g *groups) revoke(ctx context.Context, s *slot, l *lane) {
	s.stopFetch(l)
	returned := make(chan struct{})
	overdue := make(chan struct{}) // closed if ctx ended first
	g.mu.Lock()
	l.member.owned++ // for the callback
	g.mu.Unlock()
	g.wg.Go(func() {
		l.member.ev.Revoked(ctx, l)
		close(returned)
		select {
		case <-overdue:
			l.member.ev.Lost(l)
		case <-l.ended:
		}
		g.mu.Lock()
		l.member.release()
		g.mu.Unlock()
	})
	select {
	case <-returned:
	case <-ctx.Done():
	}
	lost := ctx.Err() != nil
	if lost {
		g.e.cfg.Logger.Warn("a lane was taken away before its work was settled",
			slog.String("lane", l.name), slog.String("group", s.group), slog.String("client", l.member.conn.id))
		close(overdue)
	}
	s.detach(l)
	awaitEnd(ctx, returned) // a callback that minds its ctx is about to return
	g.e.flush.now(s)
	if !lost {
		close(l.ended)
	}
}

// Close leaves the group; see [driver.Subscription].
func (m *member) Close(ctx context.Context) error {
	op := fmt.Sprintf("leave group %s of %s", m.sub.group, m.sub.topic)
	g := m.g
	g.mu.Lock()
	if m.leaving {
		g.mu.Unlock()
		if awaitEnd(ctx, m.gone) {
			return nil
		}
		return driver.FromContext(ctx, op, false)
	}
	m.leaving = true
	m.deadline, _ = ctx.Deadline()
	g.rebalance(m.sub)
	g.mu.Unlock()
	defer close(m.gone)
	stop := context.AfterFunc(ctx, m.cancel)
	defer stop()
	idle := m.awaitIdle(ctx)
	late := ctx.Err() != nil
	g.mu.Lock()
	m.sub.members = slices.DeleteFunc(m.sub.members, func(o *member) bool { return o == m })
	if m.sub.spec.Broadcast {
		m.dropClient()
	}
	g.mu.Unlock()
	m.cancel()
	m.conn.leave(m)
	g.e.store.changed(m.sub.group)
	if !idle || late {
		return driver.FromContext(ctx, op, false)
	}
	return nil
}

// awaitIdle waits until m owns no lane and no callback runs.
func (m *member) awaitIdle(ctx context.Context) bool {
	done := ctx.Done()
	var grace <-chan time.Time
	for {
		m.g.mu.Lock()
		idle := m.owned == 0
		m.g.mu.Unlock()
		if idle {
			return true
		}
		select {
		case <-m.released:
		case <-done:
			done = nil
			t := time.NewTimer(closeGrace)
			defer t.Stop()
			grace = t.C
		case <-grace:
			return false
		}
	}
}

// dropClient forgets the lanes of a broadcast client once its last member is
// gone; the position is in the log. groups.mu is held.
func (m *member) dropClient() {
	if slices.ContainsFunc(m.sub.members, func(o *member) bool { return o.conn.id == m.conn.id }) {
		m.g.rebalance(m.sub)
		return
	}
	idle := func(s *slot) bool { return s.owner == nil && !s.busy && !s.isDirty() }
	if slots := m.sub.slots[m.conn.id]; !slices.ContainsFunc(slots, func(s *slot) bool { return !idle(s) }) {
		delete(m.sub.slots, m.conn.id)
	}
}

// living lists the groups with members that consume a topic; those of a retry
// topic are the members of its group.
func (g *groups) living(name string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []string
	for k, sub := range g.subs {
		if len(sub.members) > 0 && (k.topic == name || retryTopic(k.group) == name && !sub.spec.Broadcast && !sub.spec.Ordered) {
			ids = append(ids, k.group)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// forgetTopic drops the lanes of a deleted topic, unless somebody has joined
// meanwhile.
func (g *groups) forgetTopic(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, sub := range g.subs {
		switch {
		case len(sub.members) > 0:
			continue
		case k.topic == name:
			sub.forget(nil)
		case retryTopic(k.group) == name:
			sub.forget(func(queue int) bool { return queue == record.RetryLane })
		}
		g.tidy(sub)
	}
}
