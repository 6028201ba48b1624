package rocketmq

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
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
