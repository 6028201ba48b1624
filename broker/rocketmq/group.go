package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

const (
	// unsettledEvery is the period of rebalances while something is missing:
	// a route, the answer of a broker, a queue that a peer still has.
	unsettledEvery = time.Second
	// leaveTimeout bounds what is said to each broker when a lease ends or a
	// client does: the broker finds that out by itself.
	leaveTimeout = time.Second
)

// group is the membership of one client in one consumer group. Its goroutine
// decides which queues the client has; each queue has a goroutine of its own,
// see [feed].
type group struct {
	c    *conn
	name string
	wake chan struct{} // a rebalance is wanted now
	done chan struct{} // closed when the goroutine has ended
	end  context.CancelFunc
	// beating is held by who sends a heartbeat, and by who leaves: a heartbeat
	// that arrives behind the farewell would make a member that is not there.
	beating turn

	mu       sync.Mutex
	subs     map[string]*subscription // by topic
	feeds    map[Queue]*feed
	left     map[Queue]leftover // positions that brokers do not know yet
	version  int64              // of the subscriptions, a time in milliseconds
	peers    []string           // client ids of the other members at the last rebalance
	departed []string           // client ids that were peers
	// registered is the id of the last heartbeat: the one to say farewell with.
	registered string
	wanted     time.Time // when a heartbeat was last asked for out of turn
	warned     time.Time // when gravity last answered a warning
}

// subscription is the membership for one topic.
type subscription struct {
	g    *group
	spec driver.SubscribeSpec
	ev   driver.LaneEvents
	// began are the queues that the topic had when the subscription began; it
	// is not changed. On others a group without a position begins at the start.
	began []Queue
	// closing is closed when Close begins; revoke bounds what is revoked then.
	closing chan struct{}
	once    sync.Once
	revoke  context.Context //nolint:containedctx // that of Close, set before closing is closed
	gone    chan struct{}   // closed when Close has done its work
	err     error           // of Close, set before gone is closed
	// missing is when the topic was first not there, zero while it is; missed,
	// that it was told. The goroutine of the group has both.
	missing time.Time
	missed  bool
}

// Subscribe joins a group; see [driver.Conn].
func (c *conn) Subscribe(ctx context.Context, s driver.SubscribeSpec, ev driver.LaneEvents) (driver.Subscription, error) {
	op := fmt.Sprintf("subscribe group %s to %s", s.Group, s.Topic)
	if err := c.use(ctx, op); err != nil {
		return nil, err
	}
	if err := checkSpec(s); err != nil {
		return nil, invalid(op, err)
	}
	r, err := c.place(ctx, s.Topic)
	if err != nil {
		return nil, asDriver(err, op)
	}
	if err := c.agree(ctx, op, s); err != nil {
		return nil, err
	}
	if s.Filter.SQL != "" {
		if err := c.checkFilter(ctx, op, s); err != nil {
			return nil, err
		}
	}
	if s.Broadcast {
		if err := c.local.ready(s.Group); err != nil {
			return nil, driver.Errorf(driver.FailedPrecondition, op, "%w", err)
		}
	}
	sub := &subscription{spec: s, ev: ev, closing: make(chan struct{}), gone: make(chan struct{})}
	if r != nil {
		sub.began = r.read
	}
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return nil, closed(op)
	}
	g := c.groups[s.Group]
	if g == nil {
		g = c.newGroup(s.Group)
		c.groups[s.Group] = g
	}
	sub.g = g
	g.mu.Lock()
	err = g.admit(op, s)
	if err == nil {
		g.subs[s.Topic] = sub
		g.changed()
	}
	g.mu.Unlock()
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	beating, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errAttempt)
	defer cancel()
	c.beatGroup(beating, g)
	g.rebalance()
	return sub, nil
}

// place answers the route of a topic, nil if there is none. What was known of it
// counts while no name server answers.
func (c *conn) place(ctx context.Context, topic string) (*route, *driver.Error) {
	asking, cancel := context.WithTimeoutCause(ctx, c.share(ctx, 2), errAttempt)
	defer cancel()
	r, err := c.routes.renew(asking, topic, refreshGap)
	switch known := c.routes.cached(topic); {
	case err == nil:
		return r, nil
	case err.Code == driver.NotFound:
		return nil, nil
	case known != nil && ctx.Err() == nil:
		return known, nil
	default:
		return nil, err
	}
}

// share is how long one of several servers, or of several steps, may take in what
// is left of ctx.
func (c *conn) share(ctx context.Context, left int) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(c.cfg.Timeout, time.Until(end)/time.Duration(left))
	}
	return c.cfg.Timeout
}

// admit refuses a subscription that cannot be beside those of this client. mu is
// held.
func (g *group) admit(op string, s driver.SubscribeSpec) *driver.Error {
	if other := g.subs[s.Topic]; other != nil {
		return driver.Errorf(driver.FailedPrecondition, op,
			"this client has a subscription of the group to the topic, %s; close it first, or use another client", describe(other.spec))
	}
	for _, other := range g.subs {
		if !other.spec.Broadcast && !s.Broadcast && other.spec.Ordered != s.Ordered {
			return mixed(op, "this client has the subscription "+describe(other.spec)+" in the group", s)
		}
	}
	return nil
}

// mixed refuses a group that is ordered for one topic and not for another: while
// an ordered lane has its lock, RocketMQ (5.1.1 and later) puts each redelivery of
// the group among the dead letters, whatever its attempts.
func mixed(op, others string, s driver.SubscribeSpec) *driver.Error {
	return driver.Errorf(driver.FailedPrecondition, op,
		"%s, this one is %s, and only one of them is ordered; RocketMQ makes dead letters of all redeliveries of such a group, use a group for each",
		others, describe(s))
}

// checkSpec refuses what no broker could do.
func checkSpec(s driver.SubscribeSpec) error {
	if err := driver.ValidGroup(s.Group); err != nil {
		return err
	}
	if len(s.Group) > maxGroup {
		return fmt.Errorf("group name %.40q… has %d characters; RocketMQ allows %d", s.Group, len(s.Group), maxGroup)
	}
	if err := driver.ValidTopic(s.Topic); err != nil {
		return err
	}
	if len(s.Filter.Tags) > 0 && s.Filter.SQL != "" {
		return errors.New("a filter by tags and by SQL; it takes one of them")
	}
	for _, t := range s.Filter.Tags {
		if err := driver.ValidTag(t); err != nil {
			return err
		}
	}
	if s.Filter.SQL == "" {
		return nil
	}
	// Brokers see an expression only if the topic is there, and cut some off
	// where they cannot read on.
	_, err := sql92.Parse(s.Filter.SQL)
	return err
}

// describe names a subscription in errors.
func describe(s driver.SubscribeSpec) string {
	how := ""
	if s.Ordered {
		how += ", ordered"
	}
	if s.Broadcast {
		how += ", broadcast"
	}
	return fmt.Sprintf("%s %s%s", s.Topic, s.Filter, how)
}

// newGroup starts the membership of a group. c.mu is held.
func (c *conn) newGroup(name string) *group {
	root, end := context.WithCancel(c.root)
	g := &group{
		c: c, name: name, wake: make(chan struct{}, 1), done: make(chan struct{}), end: end, beating: newTurn(),
		subs: map[string]*subscription{}, feeds: map[Queue]*feed{}, left: map[Queue]leftover{},
	}
	c.wg.Go(func() {
		defer close(g.done)
		g.run(root)
	})
	return g
}

// changed gives the subscriptions a new version. mu is held.
func (g *group) changed() { g.version = max(g.version+1, time.Now().UnixMilli()) }

// rebalance asks for one now.
func (g *group) rebalance() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// wantBeat asks for a heartbeat because a broker may not know the member. Every
// queue may find that, again and again; one a second will do.
func (g *group) wantBeat() {
	g.mu.Lock()
	soon := time.Since(g.wanted) < unsettledEvery
	if !soon {
		g.wanted = time.Now()
	}
	g.mu.Unlock()
	if !soon {
		g.c.wantBeat()
	}
}

// all are the subscriptions of the group.
func (g *group) all() []*subscription {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*subscription, 0, len(g.subs))
	for _, s := range g.subs {
		out = append(out, s)
	}
	return out
}

// every are the feeds of the group, those included that end or have not begun.
func (g *group) every() []*feed {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*feed, 0, len(g.feeds))
	for _, f := range g.feeds {
		out = append(out, f)
	}
	return out
}

// topics are those whose brokers the group deals with, the retry topic included.
func (g *group) topics() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := []string{driver.RetryTopic(g.name)}
	for t := range g.subs {
		out = append(out, t)
	}
	return out
}

// run rebalances until the group ends.
func (g *group) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-timer.C:
		}
		if g.balance(ctx) {
			timer.Reset(g.c.cfg.RebalanceEvery)
		} else {
			timer.Reset(min(unsettledEvery, g.c.cfg.RebalanceEvery))
		}
	}
}

// balance shares the queues of every topic anew. It reports whether all of it
// could be done.
func (g *group) balance(ctx context.Context) bool {
	settled := true
	retry := false
	for _, s := range g.all() {
		if s.leaving() {
			continue
		}
		retry = retry || !s.spec.Broadcast && !s.spec.Ordered
		if !g.balanceTopic(ctx, s.spec.Topic, s.spec.Broadcast, s.found) {
			settled = false
		}
	}
	if retry && !g.balanceTopic(ctx, driver.RetryTopic(g.name), false, func(bool) {}) {
		settled = false
	}
	return settled
}

// balanceTopic shares the queues of one topic. Found is told whether it exists.
func (g *group) balanceTopic(ctx context.Context, topic string, everything bool, found func(there bool)) bool {
	asking, cancel := context.WithTimeoutCause(ctx, g.c.cfg.Timeout, errAttempt)
	defer cancel()
	r, err := g.c.routes.get(asking, topic)
	if err != nil {
		if err.Code != driver.NotFound {
			g.c.log.Warn("no route for a topic of a group; its queues stay as they are",
				slog.String("group", g.name), slog.String("topic", topic), slog.Any("error", err))
		} else {
			found(false)
		}
		return false
	}
	found(true)
	want := r.read
	if !everything {
		self := g.memberID() // once: a subscription that closes changes it
		members, err := g.members(asking, topic, self, r)
		if err == nil && !slices.Contains(members, self) {
			// The topic was made after the last heartbeat, or the broker has
			// forgotten the member, as one that was killed has.
			g.c.beatGroup(asking, g)
			members, err = g.members(asking, topic, self, r)
		}
		registered := slices.Contains(members, self)
		if err != nil || !registered {
			g.wantBeat()
		}
		if err != nil {
			g.c.log.Log(ctx, g.gravity(err), "the members of a group are not known; its queues stay as they are",
				slog.String("group", g.name), slog.String("topic", topic), slog.Any("error", err))
			return false
		}
		if !registered {
			g.apply(topic, nil, r) // others share the queues without this member
			return false
		}
		if want, err = g.share(self, r.read, members); err != nil {
			g.c.log.Error("the queues of a topic cannot be shared; they stay as they are",
				slog.String("group", g.name), slog.String("topic", topic), slog.Any("error", err))
			return false
		}
	}
	awaited := g.catchUp(asking, topic, want, r)
	if awaited {
		g.c.suspect(topic)
	}
	return g.apply(topic, want, r) && !awaited
}

// warnEvery is the least time between two warnings of the same kind.
const warnEvery = time.Minute

// gravity is the level of an error that goes away by itself, or that somebody has
// to do something about: a key that is wrong.
func (g *group) gravity(err error) slog.Level {
	switch driver.CodeOf(err) {
	case driver.PermissionDenied, driver.Unauthenticated:
	default:
		return slog.LevelDebug
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.warned) < warnEvery {
		return slog.LevelDebug
	}
	g.warned = time.Now()
	return slog.LevelWarn
}

// found notes whether the topic exists. One that does not is waited for, which
// may be what is wanted or a wrong name.
func (s *subscription) found(there bool) {
	group, topic := slog.String("group", s.spec.Group), slog.String("topic", s.spec.Topic)
	switch {
	case there:
		if s.missed {
			s.g.c.log.Info("a topic of a group exists now", group, topic, slog.Duration("waited", time.Since(s.missing).Round(time.Millisecond)))
		}
		s.missing, s.missed = time.Time{}, false
	case s.missing.IsZero():
		s.missing = time.Now()
	case !s.missed && time.Since(s.missing) >= awayAfter:
		s.missed = true
		s.g.c.log.Warn("no name server knows a topic of a group; it is waited for", group, topic)
	}
}

// share answers the queues of the member self, which is one of the members.
func (g *group) share(self string, queues []Queue, members []string) ([]Queue, error) {
	if len(queues) == 0 {
		return nil, nil
	}
	return g.c.cfg.Strategy.Allocate(self, queues, members)
}

// apply starts and ends queues of a topic. It reports whether nothing is under
// way that needs another look soon.
func (g *group) apply(topic string, want []Queue, r *route) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	settled := true
	for q, f := range g.feeds {
		if q.Topic != topic {
			continue
		}
		switch {
		case !slices.Contains(want, q) || g.lacks(f):
			f.stop()
			settled = false
		case f.stopping():
			settled = false // it starts again when it has ended
		}
	}
	for _, q := range want {
		if g.feeds[q] == nil {
			g.start(q, r.number(q))
		}
	}
	return settled
}

// lacks reports whether a feed has no lane for a subscription that came after it:
// redeliveries for that one would be for nobody. mu is held.
func (g *group) lacks(f *feed) bool {
	for _, s := range g.subs {
		if s.shares(f.queue) && !f.serves(s) {
			return true
		}
	}
	return false
}

// start begins to consume a queue, unless nobody is there for it. mu is held.
func (g *group) start(q Queue, number int) {
	f := newFeed(g, q, number)
	if f == nil {
		return
	}
	g.feeds[q] = f
	g.c.wg.Go(f.run)
}

// ended is told by a feed that it has ended.
func (g *group) ended(f *feed) {
	g.mu.Lock()
	if g.feeds[f.queue] == f {
		delete(g.feeds, f.queue)
	}
	g.mu.Unlock()
	g.rebalance()
}

// memberMark separates a client id from what the member subscribes to.
const memberMark = "~"

// orderMark is behind the mark of a topic that is consumed in order.
const orderMark = "o"

// memberID is the id by which the group knows this member: that of the client,
// and a hash of each topic that it subscribes to, so that members with other
// topics do not count on it for theirs. Brokers of RocketMQ keep one set of
// subscriptions for a whole group, that of the last heartbeat, which cannot
// tell.
func (g *group) memberID() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var marks []string
	for topic, s := range g.subs {
		if s.leaving() {
			continue
		}
		marks = append(marks, topicMark(topic, s.spec.Ordered))
	}
	slices.Sort(marks)
	return g.c.id + memberMark + strings.Join(marks, memberMark)
}

// topicMark is the mark of a topic.
func topicMark(topic string, ordered bool) string {
	mark := fmt.Sprintf("%08x", uint32(message.TagCode(topic)))
	if ordered {
		return mark + orderMark
	}
	return mark
}

// parseMember reads the id of a member. Marks are nil for a client that is not
// Sluice's, which is taken to subscribe to everything.
func parseMember(id string) (client string, marks []string) {
	client, rest, ok := strings.Cut(id, memberMark)
	if !ok {
		return id, nil
	}
	return client, strings.Split(rest, memberMark)
}

// members asks the brokers of the topic, all at once, who is in the group and
// subscribes to the topic. Who is known to one of them is a member: a broker that
// has just come back does not know those yet that have not heard of it. What
// comes soon after the first answer counts. An empty answer is an answer; no
// answer is an error.
func (g *group) members(ctx context.Context, topic, self string, r *route) ([]string, error) {
	type answer struct {
		ids []string
		err error
	}
	brokers := r.brokersOf()
	answers := make(chan answer, len(brokers))
	asked := 0
	for _, broker := range brokers {
		if addr, _, ok := g.c.routes.replica(broker, masterID); ok {
			asked++
			g.c.wg.Go(func() { // it ends with ctx
				ids, err := g.membersAt(ctx, addr)
				answers <- answer{ids, err}
			})
		}
	}
	errs := []error{fmt.Errorf("no broker of topic %s answers", topic)}
	var ids []string
	var over <-chan time.Time
	for range asked {
		select {
		case a := <-answers:
			if a.err != nil {
				errs = append(errs, a.err)
				continue
			}
			ids = append(ids, a.ids...)
			if over == nil {
				soon := time.NewTimer(opinion)
				defer soon.Stop()
				over = soon.C
			}
			continue
		case <-over:
		}
		break
	}
	if over == nil {
		return nil, errors.Join(errs...)
	}
	client, _ := parseMember(self)
	ids = slices.DeleteFunc(ids, func(id string) bool { // what this client was before it subscribed to more, or less
		c, _ := parseMember(id)
		return c == client && id != self
	})
	slices.Sort(ids)
	ids = slices.Compact(ids)
	g.notePeers(ids)
	return subscribers(ids, topic), nil
}

// membersAt asks one broker who is in the group.
func (g *group) membersAt(ctx context.Context, addr string) ([]string, error) {
	op := "list the members of group " + g.name
	req := &remoting.Command{Code: remoting.ReqGetConsumerListByGroup, Fields: remoting.Fields{{Name: "consumerGroup", Value: g.name}}}
	a, err := g.c.links.call(ctx, g.c.cfg.Timeout, addr, req)
	if err == nil && a.Code != remoting.ResSuccess {
		err = refused(op, addr, a)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	list, err := remoting.DecodeConsumerList(a.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return list.ClientIDs, nil
}

// subscribers are the members that subscribe to the topic, sorted; everybody
// has a share in a retry topic.
func subscribers(ids []string, topic string) []string {
	all := strings.HasPrefix(topic, driver.RetryTopic(""))
	var out []string
	for _, id := range ids {
		_, marks := parseMember(id)
		if all || marks == nil || slices.Contains(marks, topicMark(topic, false)) || slices.Contains(marks, topicMark(topic, true)) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mostDeparted is how many members that left are remembered.
const mostDeparted = 64

// notePeers remembers who has left, so that what they have locked can be taken.
func (g *group) notePeers(ids []string) {
	var now []string
	for _, id := range ids {
		if client, _ := parseMember(id); client != g.c.id {
			now = append(now, client)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range g.peers {
		if !slices.Contains(now, id) && !slices.Contains(g.departed, id) {
			g.departed = append(g.departed, id)
		}
	}
	g.departed = slices.DeleteFunc(g.departed, func(id string) bool { return slices.Contains(now, id) })
	if n := len(g.departed) - mostDeparted; n > 0 {
		g.departed = slices.Delete(g.departed, 0, n)
	}
	g.peers = now
}

// others tells who else is in the group, and who was.
func (g *group) others() (peers int, departed []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.peers), slices.Clone(g.departed)
}

// leaving reports whether Close was called.
func (s *subscription) leaving() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Close leaves the group; see [driver.Subscription].
func (s *subscription) Close(ctx context.Context) error {
	first := false
	s.once.Do(func() {
		first = true
		s.revoke = ctx
		close(s.closing)
	})
	if !first {
		if err := await(ctx, s.gone, "close the subscription of group "+s.spec.Group); err != nil {
			return err
		}
		return s.err
	}
	s.err = s.g.leave(ctx, s)
	close(s.gone)
	return s.err
}

// leave ends the feeds of a subscription and tells the brokers. That the
// positions are stored is told by the error.
func (g *group) leave(ctx context.Context, s *subscription) error {
	g.mu.Lock()
	var ending []*feed
	for q, f := range g.feeds {
		if q.Topic == s.spec.Topic || f.serves(s) {
			f.stop()
			ending = append(ending, f)
		}
	}
	g.mu.Unlock()
	var errs []error
	for _, f := range ending {
		<-f.done // bounded: what it waits for ends with s.revoke
		errs = append(errs, f.err)
	}
	g.c.mu.Lock()
	g.mu.Lock()
	delete(g.subs, s.spec.Topic)
	g.changed()
	last := len(g.subs) == 0
	patience := g.c.cfg.Timeout // a broker that was not told keeps queues for a member that is none, for minutes
	if g.c.closing {
		patience = leaveTimeout
	}
	if last && g.c.groups[g.name] == g {
		delete(g.c.groups, g.name)
	}
	g.mu.Unlock()
	g.c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if last {
		g.end()
		<-g.done
		if g.beating.take(ctx) {
			defer g.beating.give()
		}
		g.unregister(ctx, s.spec.Topic)
	} else {
		g.c.beatGroup(ctx, g)
		g.rebalance()
	}
	return errors.Join(errs...)
}

// unregister tells every broker that the member has left.
func (g *group) unregister(ctx context.Context, topic string) {
	g.mu.Lock()
	id := g.registered
	g.mu.Unlock()
	req := &remoting.Command{Code: remoting.ReqUnregisterClient}
	remoting.UnregisterClient{ClientID: id, ConsumerGroup: g.name}.AppendTo(&req.Fields)
	var wg sync.WaitGroup
	for _, addr := range g.c.routes.addresses([]string{topic, driver.RetryTopic(g.name)}, true) {
		wg.Go(func() {
			if _, err := g.c.call(ctx, "leave group "+g.name, addr, req, true); err != nil {
				g.c.log.Debug("a broker was not told that a member has left", slog.String("group", g.name), slog.Any("error", err))
			}
		})
	}
	wg.Wait()
}
