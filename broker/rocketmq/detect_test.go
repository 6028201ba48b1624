package rocketmq_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// twoMasters is a client of a cluster with the brokers a and b, which have one
// queue of topic t each.
func twoMasters(t *testing.T, cfg rocketmq.Config) (*cluster, driver.Conn) {
	c := newCluster(t, false, "a", "b")
	c.topic("t", 1)
	conn := c.open(cfg, "client")
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return c, conn
}

// wentTo sends n messages and answers how many each broker stored.
func (c *cluster) wentTo(conn driver.Conn, n int) (a, b int) {
	stored := func(name string) (n int) {
		c.with(func() { n = len(c.brokers[name].sends) })
		return n
	}
	a, b = -stored("a"), -stored("b")
	for range n {
		_ = sendOne(context.Background(), conn, &driver.Message{Topic: "t"})
	}
	return a + stored("a"), b + stored("b")
}

// A broker that went away is left out for as long as it is away, and comes back
// with the first question that it answers.
func TestDetect_ComesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		if a, b := c.wentTo(conn, 4); a != 2 || b != 2 {
			t.Fatalf("%d and %d messages went to brokers that are both well", a, b)
		}
		c.brokers["a"].master.set(down)
		if a, b := c.wentTo(conn, 4); a != 0 || b != 3 {
			t.Errorf("%d and %d messages, the first after the end fails and the others go to b", a, b)
		}
		for range 30 {
			time.Sleep(time.Second)
			if a, b := c.wentTo(conn, 2); a != 0 || b != 2 {
				t.Fatalf("%d and %d messages while a is away", a, b)
			}
		}
		c.brokers["a"].master.set(up)
		time.Sleep(2 * time.Second) // the pause between two questions
		synctest.Wait()
		if a, b := c.wentTo(conn, 4); a != 2 || b != 2 {
			t.Errorf("%d and %d messages, a is back", a, b)
		}
	})
}

// Nothing goes to a broker that is away because the other one is slow.
func TestDetect_SlowBeforeAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		c.wentTo(conn, 2)
		c.with(func() {
			c.brokers["b"].onSend = func(remoting.SendMessage, int) *remoting.Command { time.Sleep(600 * time.Millisecond); return nil }
		})
		c.brokers["a"].master.set(down)
		c.wentTo(conn, 2) // one of them fails
		for n := range 20 {
			if r := sendOne(t.Context(), conn, &driver.Message{Topic: "t"}); r.Err != nil {
				t.Errorf("send %d: %v", n, r.Err)
			}
		}
	})
}

// One that answered with an error is not asked: its time decides.
func TestDetect_RefusalsWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		var busy atomic.Bool
		busy.Store(true)
		c.with(func() {
			c.brokers["a"].onSend = func(remoting.SendMessage, int) *remoting.Command {
				if busy.Load() {
					return &remoting.Command{Code: remoting.ResSystemBusy, Remark: "busy"}
				}
				return nil
			}
		})
		c.wentTo(conn, 2)
		busy.Store(false)
		time.Sleep(10*time.Second - time.Nanosecond)
		if a, _ := c.wentTo(conn, 4); a != 0 {
			t.Errorf("%d messages went to a broker that said it was busy", a)
		}
		time.Sleep(time.Nanosecond)
		if a, b := c.wentTo(conn, 4); a != 2 || b != 2 {
			t.Errorf("%d and %d messages ten seconds later", a, b)
		}
		c.with(func() {
			if n := c.brokers["a"].calls[remoting.ReqGetMaxOffset]; n != 0 {
				t.Errorf("the broker was asked %d times", n)
			}
		})
	})
}

// The questions to a broker that is away end with the client, and with the
// broker: nobody asks one that the routes do not name any more.
func TestDetect_Ends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		c.wentTo(conn, 2)
		c.brokers["a"].master.set(down)
		c.wentTo(conn, 2)
		c.with(func() { c.brokers["a"].deposed = true })
		time.Sleep(31 * time.Second) // the routes are renewed
		before := c.dialed(c.brokers["a"].master)
		time.Sleep(time.Minute)
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n := c.dialed(c.brokers["a"].master); n != before {
			t.Errorf("a broker that is gone was asked %d more times", n-before)
		}
	})
}

// A send that could go elsewhere leaves time for that: all attempts share one
// deadline. One that has nowhere else to go has all of it.
func TestSend_SharesItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		c.wentTo(conn, 2)
		c.brokers["a"].master.set(silent)
		c.brokers["b"].master.set(silent)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		for _, want := range []time.Duration{time.Second, 2 * time.Second / 3} {
			began := time.Now()
			r := sendOne(ctx, conn, &driver.Message{Topic: "t"})
			var e *driver.Error
			if took := time.Since(began).Round(time.Millisecond); took != want.Round(time.Millisecond) || !errors.As(r.Err, &e) || e.Code != driver.Timeout || !e.MaybeDone || !e.Retryable {
				t.Errorf("an attempt took %v, want %v: %v", took, want, r.Err)
			}
		}
		began := time.Now()
		left := 3*time.Second - time.Second - 2*time.Second/3
		r := sendOne(ctx, conn, &driver.Message{Topic: "t", QueueSet: true})
		if took := time.Since(began); (took-left).Abs() > time.Millisecond || driver.CodeOf(r.Err) != driver.Timeout {
			t.Errorf("a send to one queue took %v of %v: %v", took, left, r.Err)
		}
	})
}

// Messages that go together wait for a silent broker no longer than alone: each
// sender has time left to go elsewhere, whatever deadlines the others have.
func TestGather_SharesTheDeadlines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		c.wentTo(conn, 2)
		c.with(func() {
			for _, p := range c.brokers { // so slow that sends gather
				p.onSend = func(remoting.SendMessage, int) *remoting.Command { time.Sleep(10 * time.Millisecond); return nil }
			}
		})
		end := time.Now().Add(5 * time.Second)
		senders := make([]sender, 32)
		var wg sync.WaitGroup
		for i := range senders {
			senders[i] = sender{conn: conn}
			if i%8 == 0 { // every eighth would wait for ever
				senders[i].conn = patient{conn}
			}
			wg.Go(func() {
				for n := 0; time.Now().Before(end); n++ {
					senders[i].send(i*1000 + n)
				}
			})
		}
		time.Sleep(time.Second + 5*time.Millisecond)
		c.brokers["a"].master.set(silent)
		wg.Wait()
		c.with(func() {
			if slices.Max(c.brokers["a"].sizes) < 2 || slices.Max(c.brokers["b"].sizes) < 2 {
				t.Error("nothing has gathered")
			}
		})
		doubts := 0
		for i := range senders {
			if i%8 > 0 && len(senders[i].lost) > 0 {
				t.Errorf("sender %d gave up %d messages with b well: %v", i, len(senders[i].lost), senders[i].lost[0])
			}
			doubts += len(senders[i].maybe)
		}
		if doubts == 0 {
			t.Error("no attempt was in doubt: nothing was on its way to the broker that is silent")
		}
	})
}

// patient sends without a deadline.
type patient struct{ driver.Conn }

func (p patient) Send(_ context.Context, req driver.SendRequest) []driver.SendResult {
	return p.Conn.Send(context.Background(), req)
}

// Half messages share their deadline as others do.
func TestPrepare_SharesItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		c.wentTo(conn, 2)
		c.brokers["a"].master.set(silent)
		for i := range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			for {
				h, err := conn.Extensions().Tx.Prepare(ctx, "pg", &driver.Message{ID: itoa(i), Topic: "t"})
				if err == nil {
					if h.TxID != itoa(i) || h.Group != "pg" || !strings.HasSuffix(string(h.Handle), "b") {
						t.Errorf("the half message is %+v", h)
					}
					break
				}
				var e *driver.Error
				if !errors.As(err, &e) || e.Code != driver.Timeout || !e.Retryable || !e.MaybeDone {
					t.Errorf("half message %d: %v", i, err)
				}
				if ctx.Err() != nil {
					t.Fatalf("half message %d was given up with b well", i)
				}
			}
			cancel()
		}
		c.with(func() {
			for _, h := range c.brokers["b"].sends[1:] {
				if h.ProducerGroup != "pg" || h.SysFlag&message.SysPrepared == 0 || !strings.Contains(h.Properties, message.TranMsg+"\x01true") {
					t.Errorf("a half message was sent as %+v", h)
				}
			}
		})
	})
}

// Nobody leaves a broker out because a caller had no time for it.
func TestPrepare_EndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		c.wentTo(conn, 2)
		c.with(func() {
			for _, p := range c.brokers {
				p.onSend = func(h remoting.SendMessage, _ int) *remoting.Command {
					if h.ProducerGroup == "pg" {
						time.Sleep(30 * time.Millisecond)
					}
					return nil
				}
			}
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		var e *driver.Error
		if _, err := conn.Extensions().Tx.Prepare(ctx, "pg", &driver.Message{Topic: "t"}); !errors.As(err, &e) || e.Code != driver.Canceled || !e.MaybeDone {
			t.Errorf("got %v", err)
		}
		time.Sleep(1500 * time.Millisecond)
		if a, b := c.wentTo(conn, 8); a != 4 || b != 4 {
			t.Errorf("%d and %d messages: a broker is left out", a, b)
		}
	})
}

// A half message says how long the broker took, like any other.
func TestPrepare_SlowBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{})
		c.wentTo(conn, 2)
		c.with(func() {
			c.brokers["a"].onSend = func(h remoting.SendMessage, _ int) *remoting.Command {
				if h.ProducerGroup == "pg" {
					time.Sleep(600 * time.Millisecond)
				}
				return nil
			}
		})
		for range 2 {
			if _, err := conn.Extensions().Tx.Prepare(t.Context(), "pg", &driver.Message{Topic: "t"}); err != nil {
				t.Error(err)
			}
		}
		if a, b := c.wentTo(conn, 4); a != 0 || b != 4 {
			t.Errorf("%d and %d messages, a took 600 ms for a half message", a, b)
		}
	})
}
