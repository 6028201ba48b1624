package rocketmq_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// The tests of this file are named after what users of RocketMQ's clients have
// reported. What else is known of that kind is in docs/traps.md, with the test
// or the reason why it cannot happen.

// one is a cluster with one broker and one queue, and a client that commits
// every second.
func one(t *testing.T) (*cluster, *pair, driver.Conn) {
	c := newCluster(t, false, "a")
	c.topic("t", 1)
	conn := c.open(rocketmq.Config{CommitEvery: time.Second, Prefetch: 4}, "client")
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return c, c.brokers["a"], conn
}

// position is that of group g on the queue.
func (c *cluster) position() (at int64) {
	c.with(func() { at = c.brokers["a"].offsets[offsetKey("g", "t", 0)] })
	return at
}

var spec = driver.SubscribeSpec{Group: "g", Topic: "t"}

// A retry copy that the broker refused left the original settled: lost. Here it
// stays open, and the position stays in front of it.
func TestTrap_FailedRetryCopyLosesTheMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		n := nobody{make(chan driver.Lane, 8)}
		if _, err := conn.Subscribe(t.Context(), spec, n); err != nil {
			t.Fatal(err)
		}
		l := <-n.assigned
		for l.Info().Retry {
			l = <-n.assigned
		}
		fill(t, conn, "t", 0, 3)
		time.Sleep(time.Second)
		ds, err := l.Fetch(t.Context(), 10)
		if err != nil || len(ds) != 3 {
			t.Fatalf("fetched %d: %v", len(ds), err)
		}
		c.with(func() {
			a.onSend = func(remoting.SendMessage, int) *remoting.Command {
				return &remoting.Command{Code: remoting.ResSystemError}
			}
		})
		err = l.Settle(t.Context(), []driver.Settlement{
			{Delivery: ds[0], Outcome: driver.Ack}, {Delivery: ds[1], Outcome: driver.Retry}, {Delivery: ds[2], Outcome: driver.Ack},
		})
		if driver.CodeOf(err) != driver.Unavailable {
			t.Errorf("settle: %v", err)
		}
		time.Sleep(3 * time.Second)
		if at := c.position(); at != 1 {
			t.Errorf("the position is %d, the message at 1 is not stored again", at)
		}
		c.with(func() { a.onSend = nil })
		if err := l.Settle(t.Context(), []driver.Settlement{{Delivery: ds[1], Outcome: driver.Retry}}); err != nil {
			t.Errorf("settled again: %v", err)
		}
		time.Sleep(3 * time.Second)
		if at, copies := c.position(), c.count(driver.RetryTopic("g")); at != 3 || copies != 1 {
			t.Errorf("the position is %d and there are %d copies", at, copies)
		}
	})
}

// A copy that is stored, if not flushed or replicated in time, was taken for
// failed and stored again.
func TestTrap_StoredCopyCountsAsFailed(t *testing.T) {
	t.Parallel()
	for _, code := range []int{remoting.ResFlushDiskTimeout, remoting.ResFlushSlaveTimeout, remoting.ResSlaveNotAvailable} {
		synctest.Test(t, func(t *testing.T) {
			c, a, conn := one(t)
			var copies atomic.Int32
			c.with(func() {
				a.onSend = func(h remoting.SendMessage, _ int) *remoting.Command {
					if h.Topic != driver.RetryTopic("g") {
						return nil
					}
					copies.Add(1)
					return &remoting.Command{Code: code, Fields: ok("msgId", "", "queueId", "0", "queueOffset", "0").Fields}
				}
			})
			m := newConsumer(t)
			m.handle = func(driver.Lane, *driver.Delivery) driver.Settlement { return driver.Settlement{Outcome: driver.Retry} }
			m.join(conn, spec)
			fill(t, conn, "t", 0, 1)
			time.Sleep(5 * time.Second)
			if at := c.position(); copies.Load() != 1 || at != 1 || m.errors() != nil {
				t.Errorf("code %d: %d copies, position %d: %v", code, copies.Load(), at, m.errors())
			}
		})
	}
}

// Redeliveries for a subscription that came after the others of its group never
// came.
func TestTrap_LateSubscriptionGetsNoRedeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn := one(t)
		c.topic("other", 1)
		first, late := newConsumer(t), newConsumer(t)
		first.join(conn, spec)
		time.Sleep(10 * time.Second)
		late.join(conn, driver.SubscribeSpec{Group: "g", Topic: "other"})
		for i, m := range []*consumer{first, late} {
			m.handle = func(_ driver.Lane, d *driver.Delivery) driver.Settlement {
				if d.Attempt == 1 {
					return driver.Settlement{Outcome: driver.Retry, Delay: time.Second}
				}
				return driver.Settlement{Outcome: driver.Ack}
			}
			topic := []string{"t", "other"}[i]
			fill(t, conn, topic, i, 1)
			time.Sleep(10 * time.Second)
			if got, want := m.came(), numbered(i + 1)[i]; !slices.Equal(got, []string{want, want}) || m.errors() != nil {
				t.Errorf("topic %s: there came %q: %v", topic, got, m.errors())
			}
		}
	})
}

// A result that nobody set meant success.
func TestTrap_NoResultMeansSuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn := one(t)
		m := newConsumer(t)
		m.handle = func(driver.Lane, *driver.Delivery) driver.Settlement { return driver.Settlement{} }
		m.join(conn, spec)
		fill(t, conn, "t", 0, 1)
		time.Sleep(3 * time.Second)
		if err := m.errors(); driver.CodeOf(err) != driver.InvalidArgument || c.position() != 0 {
			t.Errorf("the position is %d: %v", c.position(), err)
		}
	})
}

// An ordered message whose attempt failed came never again.
func TestTrap_OrderlyFailureLosesTheMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn := one(t)
		m := newConsumer(t)
		m.limit = 1 // who fetches more has to give back what is behind a failure
		failed := 0
		m.handle = func(_ driver.Lane, d *driver.Delivery) driver.Settlement {
			if string(d.Body) == "m001" && failed < 3 {
				failed++
				return driver.Settlement{Outcome: driver.Retry, Delay: 10 * time.Second}
			}
			return driver.Settlement{Outcome: driver.Ack}
		}
		ordered := spec
		ordered.Ordered = true
		m.join(conn, ordered)
		fill(t, conn, "t", 0, 1)
		time.Sleep(time.Second)
		fill(t, conn, "t", 1, 1)
		time.Sleep(time.Second)
		fill(t, conn, "t", 2, 1)
		time.Sleep(time.Minute)
		if want := []string{"m000", "m001", "m001", "m001", "m001", "m002"}; !slices.Equal(m.came(), want) || c.position() != 3 {
			t.Errorf("there came %q, the position is %d", m.came(), c.position())
		}
	})
}

// Every deployment delivered again what was done.
func TestTrap_DeploymentDeliversAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, _ := one(t)
		var got []string
		for range 5 {
			conn := c.open(rocketmq.Config{CommitEvery: time.Hour}, "next")
			m := newConsumer(t)
			m.handle = func(driver.Lane, *driver.Delivery) driver.Settlement {
				time.Sleep(10 * time.Millisecond)
				return driver.Settlement{Outcome: driver.Ack}
			}
			m.join(conn, spec)
			fill(t, conn, "t", len(got), 10)
			time.Sleep(25 * time.Millisecond) // in the middle of it
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			got = append(got, m.bodies()...)
			conn = c.open(rocketmq.Config{CommitEvery: time.Hour}, "rest")
			rest := newConsumer(t)
			rest.join(conn, spec)
			time.Sleep(5 * time.Second)
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			got = append(got, rest.bodies()...)
		}
		if !slices.Equal(got, numbered(50)) {
			t.Errorf("there came %q", got)
		}
	})
}

// A broadcast member forgot where it was when its queues were away for a while.
func TestTrap_BroadcastMissesAfterDisconnect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		m := newConsumer(t)
		broadcast := spec
		broadcast.Broadcast, broadcast.From = true, driver.Position{Kind: driver.Latest}
		m.join(conn, broadcast)
		time.Sleep(time.Second)
		fill(t, conn, "t", 0, 2)
		time.Sleep(2 * time.Second)
		c.with(func() { a.deposed = true })
		time.Sleep(40 * time.Second)
		c.with(func() { // stored while nobody looks
			s := a.logs[rocketmq.Queue{Topic: "t", Broker: "a"}][0]
			s.Body = []byte("m002")
			a.store(rocketmq.Queue{Topic: "t", Broker: "a"}, s)
			a.deposed = false
		})
		time.Sleep(40 * time.Second)
		if got := m.bodies(); !slices.Equal(got, numbered(3)) {
			t.Errorf("there came %q", got)
		}
	})
}

// A broadcast member that had nothing to settle on a queue yet began at its end
// again after each restart.
func TestTrap_BroadcastBeginsAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, _, producer := one(t)
		broadcast := spec
		broadcast.Broadcast, broadcast.From = true, driver.Position{Kind: driver.Latest}
		run := func() []string {
			conn := c.open(rocketmq.Config{OffsetDir: dir}, "stable")
			m := newConsumer(t)
			m.join(conn, broadcast)
			time.Sleep(10 * time.Second)
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
			return m.bodies()
		}
		if got := run(); len(got) != 0 {
			t.Errorf("from a queue that is empty there came %q", got)
		}
		fill(t, producer, "t", 0, 3)
		if got := run(); !slices.Equal(got, numbered(3)) {
			t.Errorf("what was sent between two runs came as %q", got)
		}
	})
}

// A group that begins at the end skipped what was sent to a queue before its
// members knew that it is there.
func TestTrap_NewQueueBeginsAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, broadcast := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, _, conn := one(t)
			producer := c.open(rocketmq.Config{RouteEvery: time.Second}, "producer")
			defer func() { _ = producer.Close(context.Background()) }()
			m := newConsumer(t)
			latest := spec
			latest.Broadcast, latest.From = broadcast, driver.Position{Kind: driver.Latest}
			m.join(conn, latest)
			time.Sleep(time.Second)
			fill(t, producer, "t", 0, 1)
			c.topic("t", 2)
			time.Sleep(3 * time.Second)
			fill(t, producer, "t", 1, 4)
			time.Sleep(70 * time.Second)
			if got := m.bodies(); !slices.Equal(got, numbered(5)) {
				t.Errorf("broadcast %v: there came %q", broadcast, got)
			}
		})
	}
}

// Ordered and broadcast together waited for a lock that nobody gives.
func TestTrap_OrderlyBroadcastWaitsForALock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		c.with(func() { a.locks["g@t/0"] = locked{"somebody", time.Now().Add(time.Hour)} })
		m := newConsumer(t)
		both := spec
		both.Broadcast, both.Ordered = true, true
		m.join(conn, both)
		fill(t, conn, "t", 0, 1)
		time.Sleep(time.Second)
		if got := m.bodies(); !slices.Equal(got, numbered(1)) {
			t.Errorf("there came %q", got)
		}
	})
}

// An ordered consumer began 20 s late, and again when a peer had left.
func TestTrap_OrderlyStartsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn := one(t)
		ordered := spec
		ordered.Ordered = true
		first, second := newConsumer(t), newConsumer(t)
		fill(t, conn, "t", 0, 1)
		first.join(conn, ordered)
		time.Sleep(100 * time.Millisecond)
		if got := first.bodies(); !slices.Equal(got, numbered(1)) {
			t.Errorf("a tenth of a second after the start there came %q", got)
		}
		other := c.open(rocketmq.Config{}, "other")
		defer func() { _ = other.Close(context.Background()) }()
		second.join(other, ordered)
		time.Sleep(2 * time.Second)
		fill(t, other, "t", 1, 1)
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if got := append(first.bodies(), second.bodies()...); !slices.Equal(got, numbered(2)) {
			t.Errorf("two seconds after the other had left there came %q", got)
		}
	})
}

// A queue stopped for ever when its broker came back, or came back elsewhere.
func TestTrap_QueueStopsAfterBrokerRestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		m := newConsumer(t)
		m.join(conn, spec)
		fill(t, conn, "t", 0, 1)
		time.Sleep(time.Second)
		a.master.set(down)
		time.Sleep(time.Minute)
		a.master.set(up)
		time.Sleep(2 * time.Second)
		fill(t, conn, "t", 1, 1)
		time.Sleep(time.Second)
		if got := m.bodies(); !slices.Equal(got, numbered(2)) {
			t.Errorf("after a restart there came %q", got)
		}
		// Another address under the same name.
		a.master.set(down)
		moved := c.serve("10.9.9.9:10911", a.master.handle)
		c.with(func() { a.master = moved })
		time.Sleep(35 * time.Second)
		fill(t, conn, "t", 2, 1)
		time.Sleep(time.Second)
		if got := m.bodies(); !slices.Equal(got, numbered(3)) {
			t.Errorf("after a move there came %q", got)
		}
	})
}

// A position that could not be read was taken for none, and all came again; and
// one below zero was used.
func TestTrap_ErrorTakenForNoPosition(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]*remoting.Command{
		"error":    {Code: remoting.ResSystemError},
		"negative": ok("offset", "-1"),
		"nothing":  ok(),
	} {
		synctest.Test(t, func(t *testing.T) {
			c, a, conn := one(t)
			var broken atomic.Bool
			broken.Store(true)
			inner := a.master.handle
			a.master.handle = func(p *peer, req *remoting.Command) *remoting.Command {
				if req.Code == remoting.ReqQueryConsumerOffset && broken.Load() {
					b := *answer
					return &b
				}
				return inner(p, req)
			}
			fill(t, conn, "t", 0, 3)
			c.with(func() { a.offsets[offsetKey("g", "t", 0)] = 2 })
			m := newConsumer(t)
			m.join(conn, spec)
			time.Sleep(10 * time.Second)
			if got := m.bodies(); len(got) != 0 {
				t.Errorf("%s: there came %q before the position was known", name, got)
			}
			broken.Store(false)
			time.Sleep(2 * time.Second)
			if got := m.bodies(); !slices.Equal(got, []string{"m002"}) {
				t.Errorf("%s: there came %q, the position is 2", name, got)
			}
		})
	}
}

// A broker that was killed came back with older positions, and what was settled
// came again, to a member that never went away or to the next one.
func TestTrap_BrokerForgetsPositions(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{0, 5 * time.Second} {
		for _, all := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c, a, conn := one(t)
				m := newConsumer(t)
				latest := spec
				latest.From.Kind = driver.Latest
				m.join(conn, latest)
				time.Sleep(time.Second)
				fill(t, conn, "t", 0, 10)
				time.Sleep(10 * time.Second)
				a.master.set(down)
				c.with(func() {
					if a.offsets[offsetKey("g", "t", 0)] = 4; all {
						clear(a.offsets)
					}
				})
				time.Sleep(away)
				a.master.set(up)
				time.Sleep(time.Minute)
				if got, at := m.bodies(), c.position(); !slices.Equal(got, numbered(10)) || at != 10 {
					t.Errorf("away for %v: the position is %d, and there came %q", away, at, got)
				}
			})
		}
	}
}

// A broker that is back knows members by their next heartbeat only: a rebalance
// before that one took the queues away, and what was not stored came again.
func TestTrap_QueuesAreDroppedWhenABrokerForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a")
		c.topic("t", 2)
		conn := c.open(rocketmq.Config{RebalanceEvery: 2 * time.Second}, "client")
		defer func() { _ = conn.Close(context.Background()) }()
		h := newHolder()
		close(h.settle)
		if _, err := conn.Subscribe(t.Context(), inOrder, h); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		c.with(func() { delete(c.brokers["a"].members, "g") })
		time.Sleep(5 * time.Second)
		h.want(t, "the broker had forgotten the member", "assigned", "assigned")
		if len(c.members("g")) != 1 {
			t.Errorf("the members are %q", c.members("g"))
		}
	})
}

// A position a little beyond the end, as after a master lost its last messages,
// began the queue anew.
func TestTrap_PositionBeyondTheEndResetsToZero(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		fill(t, conn, "t", 0, 3)
		c.with(func() { a.offsets[offsetKey("g", "t", 0)] = 5 })
		m := newConsumer(t)
		m.join(conn, spec)
		time.Sleep(2 * time.Second)
		fill(t, conn, "t", 3, 1)
		time.Sleep(2 * time.Second)
		if got := m.bodies(); !slices.Equal(got, []string{"m003"}) || c.position() != 4 {
			t.Errorf("there came %q, the position is %d", got, c.position())
		}
	})
}

// Of two resets in a row the first one won.
func TestTrap_ResetsChangePlaces(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			c, _, conn := one(t)
			if _, err := conn.Subscribe(t.Context(), spec, nobody{make(chan driver.Lane, 8)}); err != nil {
				t.Fatal(err)
			}
			fill(t, conn, "t", 0, 9)
			time.Sleep(3 * time.Second)
			c.reset(7)
			c.reset(3)
			time.Sleep(3 * time.Second)
			if at := c.position(); at != 3 {
				t.Errorf("the position is %d, the last reset said 3", at)
			}
		})
	}
}

// A reset that came while a member asked where its queue goes on was forgotten.
func TestTrap_ResetWhileAQueueBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		fill(t, conn, "t", 0, 9)
		c.with(func() { a.offsets[offsetKey("g", "t", 0)] = 7 })
		inner := a.master.handle
		a.master.handle = func(p *peer, req *remoting.Command) *remoting.Command {
			answer := inner(p, req)
			if req.Code == remoting.ReqQueryConsumerOffset && req.Fields.Get("topic") == "t" {
				time.Sleep(2 * time.Second)
			}
			return answer
		}
		m := newConsumer(t)
		m.join(conn, spec)
		time.Sleep(time.Second)
		c.reset(3)
		time.Sleep(5 * time.Second)
		if got := m.bodies(); !slices.Equal(got, numbered(9)[3:]) {
			t.Errorf("there came %q, the reset said 3", got)
		}
	})
}

// Messages that were removed before they were read vanished without a word.
func TestTrap_RemovedMessagesAreSkippedInSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		fill(t, conn, "t", 0, 10)
		c.with(func() {
			a.offsets[offsetKey("g", "t", 0)] = 2
			a.trim[rocketmq.Queue{Topic: "t", Broker: "a"}] = 7
		})
		m := newConsumer(t)
		m.join(conn, spec)
		time.Sleep(2 * time.Second)
		var gap *driver.GapError
		if err := m.errors(); !errors.As(err, &gap) || gap.From != 2 || gap.To != 7 {
			t.Errorf("the gap is said to be %v", err)
		}
		if got := m.bodies(); !slices.Equal(got, numbered(10)[7:]) {
			t.Errorf("there came %q", got)
		}
	})
}

// Where all messages are of other tags the position stood still; and tags with
// the same hash came through.
func TestTrap_PositionStandsWhenAllIsFiltered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn := one(t)
		m := newConsumer(t)
		tagged := spec
		tagged.Filter = driver.Filter{Tags: []string{"Aa"}}
		m.join(conn, tagged)
		for range 20 { // the scripted broker filters nothing, as if every hash were the same
			if r := sendOne(t.Context(), conn, &driver.Message{Topic: "t", Tag: "BB"}); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		time.Sleep(3 * time.Second)
		if got := m.bodies(); len(got) != 0 || message.TagCode("Aa") != message.TagCode("BB") {
			t.Errorf("%d messages with another tag of the same hash came", len(got))
		}
		if at := c.position(); at != 20 {
			t.Errorf("the position is %d, want 20", at)
		}
	})
}

// One broker that is silent used up the time of every attempt.
func TestTrap_SilentBrokerTakesAllAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		c.brokers["a"].master.set(silent)
		s := &sender{conn: conn}
		for n := range 4 {
			s.send(n)
		}
		if len(s.acked) != 4 {
			t.Errorf("%d of 4 messages are stored: %v", len(s.acked), s.lost)
		}
	})
}

// With the whole cluster away there was a panic, or a start that never ended.
func TestTrap_ClusterAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		fill(t, conn, "t", 0, 1)
		a.master.set(down)
		for _, n := range c.names {
			n.set(down)
		}
		for what, err := range map[string]error{
			"send":    sendOne(t.Context(), conn, &driver.Message{Topic: "t"}).Err,
			"unknown": sendOne(t.Context(), conn, &driver.Message{Topic: "never-seen"}).Err,
			"health":  conn.Health(t.Context()),
		} {
			var e *driver.Error
			if !errors.As(err, &e) || e.Code != driver.Unavailable || !e.Retryable || what != "send" && e.MaybeDone {
				t.Errorf("%s: %v", what, err)
			}
		}
		for _, to := range []state{down, silent, halfDead} {
			c.names[0].set(to)
			c.names[1].set(to)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			_, err := rocketmq.New(rocketmq.Config{NameServers: []string{"n1:9876", "n2:9876"}, Dial: c.dial, OffsetDir: t.TempDir()}).
				Open(ctx, driver.Config{ClientID: "new"})
			cancel()
			if code := driver.CodeOf(err); code != driver.Unavailable && code != driver.Timeout || time.Since(began) > 10*time.Second {
				t.Errorf("open with name servers in state %d: %v after %v", to, err, time.Since(began))
			}
		}
	})
}

// A server that ends every connection, as one does that is no broker or has too
// many clients, was connected to as fast as it could.
func TestTrap_ServerHangsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		m := newConsumer(t)
		m.join(conn, spec)
		time.Sleep(time.Second)
		a.master.set(down)
		a.master.set(hangsUp)
		before := c.dialed(a.master)
		time.Sleep(20 * time.Second)
		if n := c.dialed(a.master) - before; n < 10 || n > 100 { // a few things ask every second
			t.Errorf("%d connections in 20 s", n)
		}
		a.master.set(up)
		time.Sleep(2 * time.Second)
		fill(t, conn, "t", 0, 1)
		time.Sleep(time.Second)
		if got := m.came(); len(got) != 1 || len(c.members("g")) != 1 {
			t.Errorf("two seconds after the end there came %q, the members are %q", got, c.members("g"))
		}
	})
}

// Two clusters in one process were one, and closing one client broke another.
func TestTrap_TwoClustersInOneProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, _, conn := one(t)
		_, _, other := one(t) // the same client id, group and topic
		m, n := newConsumer(t), newConsumer(t)
		m.join(conn, spec)
		n.join(other, spec)
		fill(t, conn, "t", 0, 2)
		fill(t, other, "t", 2, 1)
		time.Sleep(time.Second)
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		fill(t, other, "t", 3, 1)
		time.Sleep(time.Second)
		if a, b := m.bodies(), n.bodies(); !slices.Equal(a, []string{"m000", "m001"}) || !slices.Equal(b, []string{"m002", "m003"}) {
			t.Errorf("the clients of two clusters got %q and %q", a, b)
		}
	})
}

// Broadcast positions of two clusters with the same names were one, and those of
// one cluster were of no use when its name servers changed. Positions in the form
// of older releases go to the first cluster that looks for them.
func TestTrap_BroadcastPositionsAreMixed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := filepath.Join(dir, fmt.Sprintf("%x", "stable"), fmt.Sprintf("%x.json", "g"))
	if err := errors.Join(os.Mkdir(filepath.Dir(old), 0o700), os.WriteFile(old, []byte(`{"t/a/0":2}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		broadcast := spec
		broadcast.Broadcast = true
		c, _, producer := one(t)
		other, _, sender := one(t)
		other.serve("m1:9876", other.names[0].handle)
		fill(t, producer, "t", 0, 3)
		fill(t, sender, "t", 3, 3)
		run := func(c *cluster, servers ...string) []string {
			conn := c.open(rocketmq.Config{OffsetDir: dir, NameServers: servers}, "stable")
			m := newConsumer(t)
			m.join(conn, broadcast)
			time.Sleep(3 * time.Second)
			if err := conn.Close(t.Context()); err != nil {
				t.Error(err)
			}
			return m.bodies()
		}
		for i, step := range []struct {
			c       *cluster
			servers []string
			want    []string
		}{
			{c, []string{"n1:9876"}, numbered(3)[2:]}, // the older release was at 2
			{other, []string{"m1:9876"}, numbered(6)[3:]},
			{c, []string{"n2:9876", "n1:9876"}, nil},
			{c, []string{"n2:9876"}, nil},
			{other, []string{"m1:9876"}, nil},
		} {
			if got := run(step.c, step.servers...); !slices.Equal(got, step.want) {
				t.Errorf("run %d by %q: there came %q, want %q", i, step.servers, got, step.want)
			}
		}
	})
	if left, err := filepath.Glob(filepath.Join(dir, "*", "*.json")); err != nil || len(left) > 0 {
		t.Errorf("there are still %q, %v", left, err)
	}
}

// A power cut left half a file of positions, and all came again or nothing.
func TestTrap_HalfWrittenPositions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broadcast := spec
	broadcast.Broadcast = true
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a")
		c.topic("t", 1)
		run := func() []string {
			conn := c.open(rocketmq.Config{OffsetDir: dir}, "stable")
			m := newConsumer(t)
			m.join(conn, broadcast)
			time.Sleep(3 * time.Second)
			if err := conn.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			return m.bodies()
		}
		producer := c.open(rocketmq.Config{}, "producer")
		fill(t, producer, "t", 0, 2)
		if got := run(); !slices.Equal(got, numbered(2)) {
			t.Fatalf("there came %q", got)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*", "*", "*.json"))
		if err != nil || len(files) != 1 {
			t.Fatalf("the positions are in %q, %v", files, err)
		}
		whole, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[0], whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		refuse := func(what, dir, want string) {
			conn := c.open(rocketmq.Config{OffsetDir: dir}, "stable")
			defer func() { _ = conn.Close(context.Background()) }()
			_, err := conn.Subscribe(t.Context(), broadcast, newConsumer(t))
			if driver.CodeOf(err) != driver.FailedPrecondition || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want an error with %q", what, err, want)
			}
		}
		refuse("half a file", dir, filepath.Base(files[0]))
		refuse("no folder", files[0], "not a directory")
		refuse("nothing to be made there", "/dev/null/offsets", "/dev/null")
		if err := os.WriteFile(files[0], whole, 0o600); err != nil {
			t.Fatal(err)
		}
		fill(t, producer, "t", 2, 1)
		if got := run(); !slices.Equal(got, []string{"m002"}) {
			t.Errorf("with the file back there came %q", got)
		}
		_ = producer.Close(t.Context())
	})
}

// A callback that did not return stopped the whole client.
func TestTrap_BlockedCallbackStopsTheClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn := one(t)
		c.topic("other", 1)
		m := newConsumer(t)
		release := make(chan struct{})
		m.handle = func(driver.Lane, *driver.Delivery) driver.Settlement {
			<-release
			return driver.Settlement{Outcome: driver.Ack}
		}
		m.join(conn, spec)
		free := newConsumer(t)
		free.join(conn, driver.SubscribeSpec{Group: "h", Topic: "other"})
		fill(t, conn, "t", 0, 10)
		time.Sleep(time.Minute)
		fill(t, conn, "other", 0, 3)
		time.Sleep(time.Second)
		if got := free.bodies(); !slices.Equal(got, numbered(3)) {
			t.Errorf("beside a handler that is stuck there came %q", got)
		}
		if got := c.members("g"); len(got) != 1 {
			t.Errorf("the members are %q", got)
		}
		close(release)
		time.Sleep(time.Second)
		if got := m.bodies(); !slices.Equal(got, numbered(10)) {
			t.Errorf("the handler that was stuck got %q", got)
		}
	})
}
