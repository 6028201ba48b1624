package rocketmq

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// keep starts what is to be done from time to time. Each has its own goroutine:
// a server that is silent to one keeps it from nothing else. They end with the
// client.
func (c *conn) keep() {
	c.wg.Go(c.keepRoutes)
	c.wg.Go(func() { c.every(c.cfg.HeartbeatEvery, c.beat, c.beatAll) })
	c.wg.Go(func() {
		c.every(leaseEvery, nil, func() {
			c.eachGroup(min(c.cfg.Timeout, leaseEvery), func(ctx context.Context, g *group) { g.renewLeases(ctx) })
		})
	})
	c.wg.Go(func() {
		c.every(c.cfg.CommitEvery, nil, func() {
			c.eachGroup(c.cfg.Timeout, func(ctx context.Context, g *group) { g.commitAll(ctx) })
		})
	})
}

// every runs f in a period, and when it is wanted.
func (c *conn) every(d time.Duration, wanted <-chan struct{}, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-c.root.Done():
			return
		case <-wanted:
		case <-tick.C:
		}
		f()
	}
}

// keepRoutes asks for routes in a period, and for those that may have changed.
func (c *conn) keepRoutes() {
	tick := time.NewTicker(c.cfg.RouteEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.root.Done():
			return
		case topic := <-c.stale:
			c.refresh(topic, refreshGap)
		case <-tick.C:
			c.refreshAll()
		}
	}
}

// refreshAll asks for all that is to be known, until no name server answers.
func (c *conn) refreshAll() {
	var held []string
	for _, g := range c.allGroups() {
		held = append(held, g.topics()...)
	}
	for _, topic := range c.routes.next(held) {
		if !c.refresh(topic, c.cfg.RouteEvery/2) {
			return
		}
	}
	c.mu.Lock()
	checks := len(c.checkers) > 0
	c.mu.Unlock()
	if !checks {
		return
	}
	before, _ := c.routes.masters()
	if after := c.everyMaster(); !slices.Equal(before, after) {
		c.wantBeat()
	}
}

// everyMaster asks for all masters of the cluster; those that are known count if
// no name server answers.
func (c *conn) everyMaster() []string {
	ctx, cancel := context.WithTimeoutCause(c.root, c.cfg.Timeout, errAttempt)
	defer cancel()
	if _, err := c.masters(ctx); err != nil && ctx.Err() == nil {
		c.log.Debug("the brokers are not to be had; those that are known count", slog.Any("error", err))
	}
	addrs, _ := c.routes.masters()
	return addrs
}

// refresh asks for a route again and lets the groups look at it; false: no name
// server answers.
func (c *conn) refresh(topic string, gap time.Duration) bool {
	ctx, cancel := context.WithTimeoutCause(c.root, c.cfg.Timeout, errAttempt)
	defer cancel()
	changed, err := c.routes.again(ctx, topic, gap)
	if err != nil && err.Code != driver.NotFound && c.root.Err() == nil {
		c.log.Warn("a route is not to be had; the one before counts", slog.String("topic", topic), slog.Any("error", err))
		return isRefusal(err) || err.Code == driver.Internal // an answer that cannot be read is one
	}
	if !changed {
		return true
	}
	for _, g := range c.allGroups() {
		if slices.Contains(g.topics(), topic) {
			g.rebalance()
		}
	}
	return true
}

func (c *conn) allGroups() []*group {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*group, 0, len(c.groups))
	for _, g := range c.groups {
		out = append(out, g)
	}
	return out
}

// eachGroup runs f for all groups side by side, within that time.
func (c *conn) eachGroup(within time.Duration, f func(ctx context.Context, g *group)) {
	ctx, cancel := context.WithTimeoutCause(c.root, within, errAttempt)
	defer cancel()
	var wg sync.WaitGroup
	for _, g := range c.allGroups() {
		wg.Go(func() { f(ctx, g) })
	}
	wg.Wait()
}

// commitAll stores the positions that have changed, the brokers side by side: one
// that is silent uses up the time for its own alone.
func (g *group) commitAll(ctx context.Context) {
	at := map[string][]*feed{}
	for _, f := range g.every() {
		if f.running() {
			at[f.queue.Broker] = append(at[f.queue.Broker], f)
		}
	}
	var wg sync.WaitGroup
	for _, feeds := range at {
		wg.Go(func() {
			for _, f := range feeds {
				if err := f.commit(ctx); err != nil && ctx.Err() == nil {
					g.c.log.Debug("a position was not stored yet", slog.Any("error", err))
				}
			}
		})
	}
	wg.Wait()
}

// turn is a lock that can be waited for in time.
type turn chan struct{}

func newTurn() turn {
	t := make(turn, 1)
	t <- struct{}{}
	return t
}

// take reports whether the turn came before ctx ended.
func (t turn) take(ctx context.Context) bool {
	select {
	case <-t:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t turn) give() { t <- struct{}{} }

// beatAll sends the heartbeats of every group.
func (c *conn) beatAll() {
	var wg sync.WaitGroup
	wg.Go(c.beatProducers)
	c.eachGroup(c.cfg.Timeout, func(ctx context.Context, g *group) { c.beatGroup(ctx, g) })
	wg.Wait()
}

// beatGroup registers the member of a group at every broker of its topics.
func (c *conn) beatGroup(ctx context.Context, g *group) {
	if !g.beating.take(ctx) {
		return
	}
	defer g.beating.give()
	data, ok := g.consumerData()
	if !ok {
		return
	}
	id := g.memberID()
	g.mu.Lock()
	g.registered = id
	g.mu.Unlock()
	body := remoting.Heartbeat{ClientID: id, Consumers: []remoting.ConsumerData{data}}.AppendTo(nil)
	c.beatTo(ctx, c.routes.addresses(g.topics(), true), body)
}

// beatTo sends one heartbeat to several brokers.
func (c *conn) beatTo(ctx context.Context, addrs []string, body []byte) {
	c.tell(ctx, "send a heartbeat", addrs, &remoting.Command{Code: remoting.ReqHeartbeat, Body: body})
}

// tell tells several brokers the same, side by side.
func (c *conn) tell(ctx context.Context, op string, addrs []string, req *remoting.Command) {
	var wg sync.WaitGroup
	for _, addr := range addrs {
		wg.Go(func() {
			if _, err := c.call(ctx, op, addr, req, true); err != nil && c.root.Err() == nil {
				c.log.Debug("a broker was not told", slog.String("addr", addr), slog.Any("error", err))
			}
		})
	}
	wg.Wait()
}

// consumerData is what a heartbeat says of the group; false if nobody is left.
func (g *group) consumerData() (remoting.ConsumerData, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := remoting.ConsumerData{
		Group: g.name, ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering, ConsumeFromWhere: remoting.FromFirstOffset,
	}
	for _, s := range g.subs {
		if s.leaving() {
			continue
		}
		d.Subscriptions = append(d.Subscriptions, subscriptionData(s.spec, g.version))
		switch s.spec.From.Kind {
		case driver.Latest:
			d.ConsumeFromWhere = remoting.FromLastOffset
		case driver.AtTime:
			d.ConsumeFromWhere = remoting.FromTimestamp
		default: // an offset cannot be said
		}
		if s.spec.Broadcast {
			d.MessageModel = remoting.Broadcasting
		}
	}
	if len(d.Subscriptions) == 0 {
		return d, false
	}
	if d.MessageModel == remoting.Clustering {
		d.Subscriptions = append(d.Subscriptions, subscriptionData(driver.SubscribeSpec{Topic: driver.RetryTopic(g.name)}, g.version))
	}
	return d, true
}
