package rocketmq_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// direct has the only member of group g consume the first message of topic t.
func (c *cluster) direct(topic string) *remoting.Command {
	var m *peer
	var req *remoting.Command
	c.with(func() {
		p := c.brokers["a"]
		for _, m = range p.members["g"] {
		}
		s := p.logs[rocketmq.Queue{Topic: "t", Broker: "a"}][0]
		s.Topic = topic
		body, _ := s.AppendTo(nil)
		req = &remoting.Command{Code: remoting.ReqConsumeMessageDirectly, Body: body}
		remoting.ConsumeDirectly{Group: "g", MsgID: "id", Topic: topic, BrokerName: "a"}.AppendTo(&req.Fields)
	})
	return m.ask(req)
}

// What comes of a message that an operator has consumed is told, and nothing
// else comes of it: no copy, no position, no second delivery.
func TestDirect_Outcomes(t *testing.T) {
	t.Parallel()
	for _, ordered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, conn := of(t, remoting.Version, remoting.Version, rocketmq.Config{})
			m := newConsumer(t)
			outcome := driver.Ack
			m.handle = func(driver.Lane, *driver.Delivery) driver.Settlement {
				return driver.Settlement{Outcome: outcome, Delay: time.Second, Properties: map[string]string{driver.DeadError: "why"}}
			}
			m.join(conn, driver.SubscribeSpec{Group: "g", Topic: "t", Ordered: ordered})
			fill(t, conn, "t", 0, 1)
			time.Sleep(10 * time.Second)
			var sent int
			c.with(func() { sent = len(c.brokers["a"].sends) })
			for o, want := range map[driver.Outcome]string{
				driver.Ack: remoting.DirectSuccess, driver.Retry: remoting.DirectLater, driver.Return: remoting.DirectLater, driver.DeadLetter: remoting.DirectException,
			} {
				outcome = o
				a := c.direct("t")
				res, err := remoting.DecodeDirectResult(a.Body)
				if a.Code != remoting.ResSuccess || err != nil || res.Result != want || res.Order != ordered || res.Remark != "why" {
					t.Errorf("outcome %v: answered %d %q, %+v", o, a.Code, a.Remark, res)
				}
			}
			time.Sleep(10 * time.Second)
			if got := m.bodies(); len(got) != 5 {
				t.Errorf("the handler got %q, want the message once and once for each question", got)
			}
			if err := m.errors(); err != nil {
				t.Error(err)
			}
			c.with(func() {
				p := c.brokers["a"]
				if len(p.sends) != sent || p.offsets["g@t/0"] != 1 {
					t.Errorf("%d messages were stored, the position is %d", len(p.sends)-sent, p.offsets["g@t/0"])
				}
			})
		})
	}
}

// A member that cannot says why: no lane of the topic, a listener that is
// paused. What nobody took is not delivered later, and meanwhile the member
// answers other questions.
func TestDirect_Refusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := of(t, remoting.Version, remoting.Version, rocketmq.Config{})
		n := nobody{make(chan driver.Lane, 8)}
		if _, err := conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: "g", Topic: "t", Ordered: true}, n); err != nil {
			t.Fatal(err)
		}
		l := <-n.assigned
		fill(t, conn, "t", 0, 1)
		if a := c.direct("other"); a.Code != remoting.ResSystemError || !strings.Contains(a.Remark, "no lane of topic other") {
			t.Errorf("without a lane: answered %d %q", a.Code, a.Remark)
		}
		began := time.Now()
		answer := make(chan *remoting.Command, 1)
		go func() { answer <- c.direct("t") }()
		synctest.Wait()
		var m *peer
		c.with(func() {
			for _, m = range c.brokers["a"].members["g"] {
			}
		})
		info := &remoting.Command{Code: remoting.ReqGetConsumerRunningInfo, Fields: remoting.Fields{{Name: "consumerGroup", Value: "g"}}}
		if a := m.ask(info); a.Code != remoting.ResSuccess || time.Since(began) != 0 {
			t.Errorf("another question meanwhile: answered %d after %v", a.Code, time.Since(began))
		}
		if a := <-answer; a.Code != remoting.ResSystemError || !strings.Contains(a.Remark, "paused") || time.Since(began) != 9*time.Second {
			t.Errorf("paused: answered %d %q after %v", a.Code, a.Remark, time.Since(began))
		}
		ds, err := l.Fetch(t.Context(), 10)
		if err != nil || len(ds) != 1 {
			t.Errorf("fetched %d messages, %v; one is there", len(ds), err)
		}
		// Taken, but not settled.
		go func() { answer <- c.direct("t") }()
		synctest.Wait()
		if ds, err = l.Fetch(t.Context(), 10); err != nil || len(ds) != 1 {
			t.Fatalf("fetched %d messages, %v; one was offered", len(ds), err)
		}
		if a := <-answer; a.Code != remoting.ResSystemError || !strings.Contains(a.Remark, "not done") {
			t.Errorf("at work: answered %d %q", a.Code, a.Remark)
		}
		if err := l.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}}); err != nil {
			t.Errorf("settled behind the answer: %v", err)
		}
		// The client closes while it is asked.
		go func() { answer <- c.direct("t") }()
		synctest.Wait()
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		<-answer
	})
}

// The same through the bundled broker, as a tool asks for it.
func TestDirect_BundledBroker(t *testing.T) {
	t.Parallel()
	s := &served{cfg: embedded.Config{}}
	s.open(t)
	defer func() { _ = s.close(context.Background()) }()
	conn, err := s.connect(t, rocketmq.Config{})(t.Context(), "client")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: "t", Queues: 1}); err != nil {
		t.Fatal(err)
	}
	m := newConsumer(t)
	got := make(chan string, 2)
	m.handle = func(_ driver.Lane, d *driver.Delivery) driver.Settlement {
		got <- d.ID
		return driver.Settlement{Outcome: driver.Ack}
	}
	m.join(conn, driver.SubscribeSpec{Group: "g", Topic: "t"})
	r := sendOne(t.Context(), conn, &driver.Message{Topic: "t"})
	if r.Err != nil || <-got != r.ID {
		t.Fatalf("the message did not come: %v", r.Err)
	}
	admin, err := rpc.Dial(t.Context(), "tcp", s.addr, rpc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	req := &remoting.Command{Code: remoting.ReqConsumeMessageDirectly}
	remoting.ConsumeDirectly{Group: "g", MsgID: r.OffsetID, Topic: "t"}.AppendTo(&req.Fields)
	a, err := admin.Call(t.Context(), req)
	if err != nil || a.Code != remoting.ResSuccess {
		t.Fatalf("answered %+v, %v", a, err)
	}
	if res, err := remoting.DecodeDirectResult(a.Body); err != nil || res.Result != remoting.DirectSuccess {
		t.Errorf("the result is %+v, %v", res, err)
	}
	if id := <-got; id != r.ID {
		t.Errorf("the listener got message %s, want %s", id, r.ID)
	}
}

// What operators are told of a queue is what is so: one whose handler stands
// still looks like that.
func TestRunningInfo_Times(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := of(t, remoting.Version, remoting.Version, rocketmq.Config{PullWait: 5 * time.Second, Prefetch: 2})
		defer func() { _ = conn.Close(context.Background()) }()
		n := nobody{make(chan driver.Lane, 8)}
		if _, err := conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: "g", Topic: "t", Ordered: true}, n); err != nil {
			t.Fatal(err)
		}
		l := <-n.assigned
		look := func() remoting.QueueRunning {
			var m *peer
			c.with(func() {
				for _, m = range c.brokers["a"].members["g"] {
				}
			})
			a := m.ask(&remoting.Command{Code: remoting.ReqGetConsumerRunningInfo, Fields: remoting.Fields{{Name: "consumerGroup", Value: "g"}}})
			info, err := remoting.DecodeRunningInfo(a.Body)
			if err != nil || len(info.Queues) != 1 {
				t.Fatalf("%d queues, %v", len(info.Queues), err)
			}
			return info.Queues[0]
		}
		if q := look(); q.LastConsume != 0 {
			t.Errorf("nothing was consumed, and something at %d", q.LastConsume)
		}
		fill(t, conn, "t", 0, 8)
		ds, err := l.Fetch(t.Context(), 2)
		if err != nil || len(ds) == 0 {
			t.Fatalf("fetched %d messages, %v", len(ds), err)
		}
		if err := l.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}}); err != nil {
			t.Fatal(err)
		}
		settled := time.Now().UnixMilli()
		time.Sleep(20 * time.Second) // the other one is with its handler, and there is no room
		stands := time.Now().UnixMilli()
		if q := look(); q.LastConsume != settled || stands-q.LastPull < 10_000 || stands-q.LastPull > 20_000 {
			t.Errorf("consumed %d ms and pulled %d ms ago; want 20000 and about as long", stands-q.LastConsume, stands-q.LastPull)
		}
	})
}
