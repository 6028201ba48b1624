package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

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
	asking, cancel := context.WithTimeoutCause(ctx, portion(ctx, c.cfg.Timeout, 2), errAttempt)
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
