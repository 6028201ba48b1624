package rocketmq_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// refusing makes a broker answer pulls with a code.
func (p *pair) refusing(code int) {
	inner := p.master.handle
	p.master.handle = func(from *peer, req *remoting.Command) *remoting.Command {
		if req.Code == remoting.ReqPullMessage {
			return &remoting.Command{Code: code, Remark: "no"}
		}
		return inner(from, req)
	}
}

// A broker that refuses pulls was sent a heartbeat for each, one a second and
// queue. Only where it does not know the member one can help, and one is enough.
func TestGroup_RefusedPulls(t *testing.T) {
	t.Parallel()
	for code, most := range map[int]int{
		remoting.ResNoPermission:         2, // a minute has two anyway
		remoting.ResTopicNotExist:        2,
		remoting.ResSubscriptionNotExist: 62,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, false, "a")
			c.topic("t", 16)
			a := c.brokers["a"]
			a.refusing(code)
			conn := c.open(rocketmq.Config{}, "client")
			defer func() { _ = conn.Close(context.Background()) }()
			newConsumer(t).join(conn, spec)
			time.Sleep(10 * time.Second)
			n := 0
			c.with(func() { n = a.calls[remoting.ReqHeartbeat] })
			time.Sleep(time.Minute)
			c.with(func() { n = a.calls[remoting.ReqHeartbeat] - n })
			if n > most || n < 2 || most > 2 && n < 30 {
				t.Errorf("pulls that are refused with code %d made %d heartbeats in a minute", code, n)
			}
		})
	}
}

// A member joins with one of two brokers silent, and gets the queues of the other.
func TestSubscribe_SilentBroker(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]driver.SubscribeSpec{"tags": spec, "SQL": {Group: "g", Topic: "t", Filter: driver.Filter{SQL: "a > 1"}}} {
		for _, bound := range []time.Duration{0, 4 * time.Second} {
			t.Run(name+" "+bound.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c := newCluster(t, false, "a", "b")
					c.topic("t", 4)
					inner := c.brokers["b"].master.handle
					c.brokers["b"].master.handle = func(p *peer, req *remoting.Command) *remoting.Command {
						if req.Code == remoting.ReqCheckClientConfig {
							return ok()
						}
						return inner(p, req)
					}
					conn := c.open(rocketmq.Config{}, "client")
					defer func() { _ = conn.Close(context.Background()) }()
					c.brokers["a"].master.set(silent)
					ctx := t.Context()
					if bound > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, bound)
						defer cancel()
					}
					m := newConsumer(t)
					began := time.Now()
					if _, err := conn.Subscribe(ctx, s, m); err != nil {
						t.Fatalf("subscribe: %v", err)
					}
					if took := time.Since(began); took > 10*time.Second {
						t.Errorf("subscribe took %v", took)
					}
					time.Sleep(10 * time.Second)
					if got := ofBroker(m, "b"); got != 4 {
						t.Errorf("the member has %d of the 4 queues of the healthy broker", got)
					}
				})
			})
		}
	}
}

// ofBroker is how many queues of a broker a member has.
func ofBroker(m *consumer, broker string) (n int) {
	for _, l := range m.names() {
		if strings.HasPrefix(l, "t/"+broker+"/") {
			n++
		}
	}
	return n
}

// A subscription that was closed for a pause begins again while no name server
// answers: its brokers are known.
func TestSubscribe_NameServersAway(t *testing.T) {
	t.Parallel()
	for _, to := range []state{down, silent} {
		synctest.Test(t, func(t *testing.T) {
			c, _, conn := one(t)
			m := newConsumer(t)
			sub := m.join(conn, spec)
			fill(t, conn, "t", 0, 1)
			time.Sleep(5 * time.Second)
			if err := sub.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, n := range c.names {
				n.set(to)
			}
			fill(t, conn, "t", 1, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := conn.Subscribe(ctx, spec, m); err != nil {
				t.Errorf("name servers in state %d: %v", to, err)
			}
			time.Sleep(5 * time.Second)
			if got := m.came(); len(got) != 2 {
				t.Errorf("name servers in state %d: %q came", to, got)
			}
			if _, err := conn.Subscribe(ctx, driver.SubscribeSpec{Group: "g", Topic: "unheard-of"}, m); err == nil {
				t.Errorf("name servers in state %d: subscribed to a topic of which nothing is known", to)
			}
		})
	}
}

// The queues of a member that leaves are taken over while the first of the
// brokers, by name, does not tell who is there. It used up the time in which the
// next one was to be asked.
func TestGroup_TakeoverBesideAStuckBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a", "b")
		c.topic("t", 4)
		stuck := new(atomic.Bool)
		for name, p := range c.brokers {
			inner := p.master.handle
			p.master.handle = func(from *peer, req *remoting.Command) *remoting.Command {
				time.Sleep(time.Millisecond) // as networks do
				if name == "a" && stuck.Load() && req.Code == remoting.ReqGetConsumerListByGroup {
					return nil
				}
				return inner(from, req)
			}
		}
		cfg := rocketmq.Config{RebalanceEvery: 5 * time.Second}
		stays, leaves := c.open(cfg, "stays"), c.open(cfg, "leaves")
		defer func() { _ = stays.Close(context.Background()) }()
		m, n := newConsumer(t), newConsumer(t)
		m.join(stays, spec)
		n.join(leaves, spec)
		time.Sleep(20 * time.Second)
		if len(m.names()) != 4 || len(n.names()) != 4 {
			t.Fatalf("shared as %q and %q", m.names(), n.names())
		}
		stuck.Store(true)
		if err := leaves.Close(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Second)
		if got := m.names(); len(got) != 8 {
			t.Errorf("20s after the other member left there are owners of %d queues of 8", len(got))
		}
	})
}

// A broker that has just come back does not know those members yet that have not
// heard of it: one that had took the queues of the others beside them.
func TestTrap_QueuesHaveTwoOwnersWhenABrokerIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a", "b")
		c.topic("t", 4)
		quick, slow := c.open(rocketmq.Config{RebalanceEvery: 2 * time.Second}, "quick"), c.open(rocketmq.Config{RebalanceEvery: time.Hour}, "slow")
		defer func() { _ = errors.Join(quick.Close(context.Background()), slow.Close(context.Background())) }()
		m, n := newConsumer(t), newConsumer(t)
		m.join(quick, spec)
		n.join(slow, spec)
		time.Sleep(9 * time.Second)
		c.with(func() {
			for id := range c.brokers["a"].members["g"] {
				if strings.HasPrefix(id, "slow") {
					delete(c.brokers["a"].members["g"], id)
				}
			}
		})
		time.Sleep(9 * time.Second)
		if len(m.names()) != 4 || len(n.names()) != 4 {
			t.Errorf("shared as %q and %q", m.names(), n.names())
		}
	})
}
