package rocketmq_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// of makes a cluster with one broker, of the releases that the name servers and
// the broker say they have.
func of(t *testing.T, names, broker int, cfg rocketmq.Config) (*cluster, driver.Conn) {
	c := newCluster(t, false, "a")
	c.topic("t", 1)
	c.release, c.brokers["a"].answer = names, broker
	conn := c.open(cfg, "client")
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return c, conn
}

// What is sent to brokers before 5.0, which have no timers: a delay that is a
// level goes as that, every other one is refused, and says so in advance.
func TestDelay_Release4(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := of(t, remoting.VersionOf(4, 9, 8), remoting.VersionOf(4, 9, 8), rocketmq.Config{})
		caps := conn.Capabilities()
		if caps.Delay != driver.Levels || caps.RetryDelay != driver.Levels || len(caps.DelayLevels) != 18 || caps.DelayLevels[17] != 2*time.Hour {
			t.Fatalf("capabilities of 4.9.8: %+v", caps)
		}
		for i, l := range caps.DelayLevels {
			m := &driver.Message{Topic: "t", BornAt: time.Now()}
			m.DeliverAt = m.BornAt.Add(l)
			time.Sleep(time.Millisecond) // what passes before the driver has it
			r := sendOne(t.Context(), conn, m)
			if r.Err != nil || r.Offset != -1 {
				t.Fatalf("a delay of %v: %+v", l, r)
			}
			props := message.ParseProperties(c.brokers["a"].sent()[i].Properties)
			if got, timer := props[message.Delay], props[message.TimerDeliverMs]; got != itoa(i+1) || timer != "" {
				t.Errorf("a delay of %v went as level %q, timer %q", l, got, timer)
			}
		}
		sent := len(c.brokers["a"].sent())
		for _, d := range []time.Duration{time.Second / 2, 7 * time.Second, 10*time.Second + time.Millisecond, 3 * time.Hour} {
			m := &driver.Message{Topic: "t", BornAt: time.Now()}
			m.DeliverAt = m.BornAt.Add(d)
			if r := sendOne(t.Context(), conn, m); driver.CodeOf(r.Err) != driver.Unsupported {
				t.Errorf("a delay of %v: %v", d, r.Err)
			}
		}
		if n := len(c.brokers["a"].sent()); n != sent {
			t.Errorf("%d messages with delays that the broker does not have were sent", n-sent)
		}
	})
}

// Redeliveries on such a broker wait by level, too; a delay that is none leaves
// the message where it is.
func TestDelay_Release4Retry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := of(t, remoting.VersionOf(4, 9, 8), remoting.VersionOf(4, 9, 8), rocketmq.Config{})
		m := newConsumer(t)
		delays := []time.Duration{7 * time.Second, 10 * time.Second}
		held := make(chan error, 1)
		m.handle = func(l driver.Lane, d *driver.Delivery) driver.Settlement {
			if l.Info().Retry {
				return driver.Settlement{Outcome: driver.Ack}
			}
			held <- l.Settle(context.Background(), []driver.Settlement{{Delivery: d, Outcome: driver.Retry, Delay: delays[0]}})
			return driver.Settlement{Outcome: driver.Retry, Delay: delays[1]}
		}
		m.join(conn, driver.SubscribeSpec{Group: "g", Topic: "t"})
		fill(t, conn, "t", 0, 1)
		if err := <-held; driver.CodeOf(err) != driver.Unsupported {
			t.Errorf("a retry after 7s: %v", err)
		}
		time.Sleep(5 * time.Second)
		if err := m.errors(); err != nil {
			t.Errorf("a retry after 10s: %v", err)
		}
		c.with(func() {
			last := c.brokers["a"].sends[len(c.brokers["a"].sends)-1]
			props := message.ParseProperties(last.Properties)
			if last.Topic != driver.RetryTopic("g") || props[message.Delay] != "3" || props[message.TimerDeliverMs] != "" {
				t.Errorf("the copy went to %s with %q", last.Topic, props)
			}
		})
	})
}

// Brokers from 5.0 on delay to any time.
func TestDelay_Release5(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := of(t, remoting.VersionOf(5, 0, 0), remoting.VersionOf(5, 0, 0), rocketmq.Config{})
		if caps := conn.Capabilities(); caps.Delay != driver.AnyTime || caps.RetryDelay != driver.AnyTime {
			t.Fatalf("capabilities of 5.0.0: %+v", caps)
		}
		m := &driver.Message{Topic: "t", DeliverAt: time.Now().Add(7*time.Second + time.Microsecond)}
		if r := sendOne(t.Context(), conn, m); r.Err != nil {
			t.Fatal(r.Err)
		}
		props := message.ParseProperties(c.brokers["a"].sent()[0].Properties)
		if want := itoa(int(m.DeliverAt.UnixMilli()) + 1); props[message.TimerDeliverMs] != want || props[message.Delay] != "" {
			t.Errorf("the message has %q, want it due at %s", props, want)
		}
	})
}

// A broker that has not been upgraded yet would deliver at once what it is told
// to deliver later. It is not sent to, unless the settings know better.
func TestDelay_OldBrokerBehindNewNameServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := of(t, remoting.Version, remoting.VersionOf(4, 9, 8), rocketmq.Config{})
		r := sendOne(t.Context(), conn, &driver.Message{Topic: "t", DeliverAt: time.Now().Add(time.Minute)})
		var e *driver.Error
		if !errors.As(r.Err, &e) || e.Code != driver.Unsupported || e.Retryable || e.MaybeDone {
			t.Errorf("a delayed message to a broker of 4.9.8: %v", r.Err)
		}
		if n := len(c.brokers["a"].sent()); n != 0 {
			t.Errorf("%d messages were sent", n)
		}
		if r := sendOne(t.Context(), conn, &driver.Message{Topic: "t"}); r.Err != nil {
			t.Errorf("a message without delay: %v", r.Err)
		}
		sure := c.open(rocketmq.Config{Delay: driver.AnyTime}, "sure")
		defer func() { _ = sure.Close(context.Background()) }()
		if r := sendOne(t.Context(), sure, &driver.Message{Topic: "t", DeliverAt: time.Now().Add(time.Minute)}); r.Err != nil {
			t.Errorf("the settings say that it can: %v", r.Err)
		}
	})
}

// Redeliveries for a topic that no member subscribes to any more are passed on by
// a level that the brokers have: those behind them are not held up for ever.
func TestDelay_ForeignRedeliveriesMakeRoom(t *testing.T) {
	t.Parallel()
	for _, levels := range [][]time.Duration{{time.Second, 10 * time.Second}, {time.Second, 2 * time.Minute}, nil} {
		synctest.Test(t, func(t *testing.T) {
			c, conn := of(t, remoting.VersionOf(4, 9, 8), remoting.VersionOf(4, 9, 8), rocketmq.Config{DelayLevels: levels, Prefetch: 4})
			c.topic("other", 1)
			a := c.brokers["a"]
			a.levels = levels
			if levels == nil {
				a.levels = conn.Capabilities().DelayLevels
			}
			fails := func(driver.Lane, *driver.Delivery) driver.Settlement {
				return driver.Settlement{Outcome: driver.Retry, Delay: time.Second}
			}
			gone := c.open(rocketmq.Config{DelayLevels: levels}, "gone")
			other := newConsumer(t)
			other.handle = fails
			other.join(gone, driver.SubscribeSpec{Group: "g", Topic: "other"})
			fill(t, gone, "other", 0, 6)
			time.Sleep(time.Second / 2)
			if err := gone.Close(t.Context()); err != nil {
				t.Error(err)
			}
			m := newConsumer(t)
			m.handle = func(_ driver.Lane, d *driver.Delivery) driver.Settlement {
				if d.Attempt == 1 {
					return driver.Settlement{Outcome: driver.Retry, Delay: time.Second}
				}
				return driver.Settlement{Outcome: driver.Ack}
			}
			m.join(conn, spec)
			time.Sleep(3 * time.Second)
			fill(t, conn, "t", 6, 1)
			time.Sleep(20 * time.Second)
			if got := m.came(); !slices.Equal(got, []string{"m006", "m006"}) || m.errors() != nil {
				t.Errorf("levels %v: there came %q: %v", levels, got, m.errors())
			}
			if got := other.bodies(); !slices.Equal(got, numbered(6)) {
				t.Errorf("levels %v: the member that left got %q", levels, got)
			}
			again := newConsumer(t)
			again.join(conn, driver.SubscribeSpec{Group: "g", Topic: "other"})
			time.Sleep(5 * time.Minute)
			if got := again.bodies(); !slices.Equal(got, numbered(6)) {
				t.Errorf("levels %v: when somebody subscribes again there come %q", levels, got)
			}
		})
	}
}
