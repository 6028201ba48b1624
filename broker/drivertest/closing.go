package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// closeCases: Close at any time, from any goroutine, more than once.
func closeCases() []testCase {
	const g = "close"
	return []testCase{
		{g, "twice", 0, func(e *env) {
			c := e.connect("other")
			for range 3 {
				e.must("close", c.Close(e.ctx()))
			}
		}},
		{g, "concurrently", 0, closeConcurrently},
		{g, "answers_closed_afterwards", 0, closeAnswers},
		{g, "unblocks_fetch", 0, closeFetch},
		{g, "unblocks_checks", needTx, func(e *env) {
			c := e.connect("other")
			tx := c.Extensions().Tx
			closeDuring(e, "Checks", c, func() error { return tx.Checks(e.Context(), e.its("producers"), 2, undecided) }, true)
		}},
		{g, "during_send", 0, closeDuringSend},
		{g, "during_subscribe", 0, closeDuringSubscribe},
		{g, "during_prepare", needTx, func(e *env) {
			topic := e.topic(1)
			c := e.connect("other")
			tx := c.Extensions().Tx
			closeDuring(e, "Prepare", c, func() error {
				h, err := tx.Prepare(e.Context(), e.its("producers"), message(topic, 1))
				if err != nil {
					return err
				}
				return tx.Resolve(e.Context(), h, driver.Commit)
			}, false)
		}},
		{g, "during_health", 0, func(e *env) {
			c := e.connect("other")
			closeDuring(e, "Health", c, func() error { return c.Health(e.Context()) }, false)
		}},
		{g, "with_unsettled_deliveries", 0, closeUnsettled},
		{g, "other_clients_go_on", 0, func(e *env) {
			topic := e.topic(1)
			c := e.connect("other")
			m := e.member(e.its("group"), topic)
			e.must("close", c.Close(e.ctx()))
			e.send(message(topic, 1))
			m.take(1)[0].ack()
			e.must("health of the client that is still open", e.main.Health(e.ctx()))
		}},
	}
}

func closeDuringSend(e *env) {
	topic := e.topic(2)
	c := e.connect("other")
	closeDuring(e, "Send", c, func() error {
		rs := c.Send(e.Context(), driver.SendRequest{Messages: messages(topic, 2)})
		if len(rs) != 2 {
			return fmt.Errorf("%d results for two messages", len(rs))
		}
		return rs[1].Err
	}, false)
}

// closeDuringSubscribe: a Subscribe that Close overtakes must not leave a member behind.
func closeDuringSubscribe(e *env) {
	topic := e.topic(2)
	c := e.connect("other")
	n := 0
	closeDuring(e, "Subscribe", c, func() error {
		n++
		_, err := e.tryJoin("other", driver.SubscribeSpec{Group: e.its(fmt.Sprint("group-", n)), Topic: topic}, memberOptions{via: c})
		return err
	}, false)
}

func closeUnsettled(e *env) {
	topic := e.topic(1)
	c := e.connect("other")
	m := e.join("member", driver.SubscribeSpec{Group: e.its("group"), Topic: topic}, memberOptions{via: c})
	e.sendN(topic, 4)
	ackAll(m.take(4)[:2])
	e.must("close the client", c.Close(e.ctx()))
	if n := len(m.owned()); n != 0 {
		e.Errorf("Close ended, but %d lanes were neither revoked nor lost", n)
	}
	got := bodies(e.member(e.its("group"), topic).take(2))
	if fmt.Sprint(got) != "[m2 m3]" {
		e.Errorf("after Close of the first member: got %q, want m2 m3", got)
	}
}

func closeConcurrently(e *env) {
	c := e.connect("other")
	e.join("member", driver.SubscribeSpec{Group: e.its("group"), Topic: e.topic(2)}, memberOptions{via: c}).awaitLanes(1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := c.Close(e.ctx()); err != nil {
				e.Errorf("one of eight Close calls: %v", err)
			}
		})
	}
	wg.Wait()
}

// closeDuring repeats call until it fails while the client is closed from
// another goroutine. A call that blocks by nature must be unblocked.
func closeDuring(e *env, what string, c driver.Conn, call func() error, blocks bool) {
	e.Helper()
	done, started := make(chan struct{}), make(chan struct{})
	var last error
	go func() {
		defer close(done)
		close(started)
		for deadline := time.Now().Add(e.lim.Within); last == nil && time.Now().Before(deadline); {
			if last = call(); blocks {
				return
			}
			time.Sleep(time.Millisecond) // lets a bubble's clock move
		}
	}()
	<-started
	time.Sleep(30 * time.Millisecond)
	e.must("close during "+what, c.Close(e.ctx()))
	if e.returns(what+" of a client that was closed meanwhile", done, e.lim.Within) {
		e.wantCode(what+" of a closed client", last, driver.Closed)
	}
}

func closeFetch(e *env) {
	c := e.connect("other")
	topic := e.topic(1)
	m := e.join("member", driver.SubscribeSpec{Group: e.its("group"), Topic: topic}, memberOptions{via: c, manual: true})
	l := m.awaitLanes(1)[0]
	done := make(chan struct{})
	var last error
	go func() {
		defer close(done)
		for last == nil {
			_, last = l.Fetch(e.Context(), 1)
		}
	}()
	time.Sleep(30 * time.Millisecond)
	start := time.Now()
	e.must("close during Fetch", c.Close(e.ctx()))
	if e.returns("Fetch of a client that was closed meanwhile", done, e.lim.Within) {
		e.wantCode("Fetch of a closed client", last, driver.Closed, driver.LaneLost)
	}
	if took := time.Since(start); e.h.Virtual && took > 5*time.Second {
		e.Errorf("Close during Fetch took %v", took)
	}
}

func closeAnswers(e *env) {
	topic := e.topic(1)
	c := e.connect("other")
	m := e.join("member", driver.SubscribeSpec{Group: e.its("group"), Topic: topic}, memberOptions{via: c, manual: true})
	l := m.awaitLanes(1)[0]
	x := c.Extensions()
	e.must("close", c.Close(e.ctx()))
	rs := c.Send(e.ctx(), driver.SendRequest{Messages: messages(topic, 2)})
	if len(rs) != 2 {
		e.Fatalf("send on a closed client: got %d results for two messages", len(rs))
	}
	for _, r := range rs {
		e.refused("send on a closed client", r, driver.Closed)
	}
	_, err := c.Subscribe(e.ctx(), driver.SubscribeSpec{Group: e.its("group"), Topic: topic}, m)
	e.wantCode("subscribe on a closed client", err, driver.Closed)
	e.wantCode("health of a closed client", c.Health(e.ctx()), driver.Closed)
	_, err = l.Fetch(e.ctx(), 1)
	e.wantCode("fetch on a closed client", err, driver.Closed, driver.LaneLost)
	e.must("close the subscription of a closed client", m.leave(e.ctx()))
	if x.Tx != nil {
		_, err = x.Tx.Prepare(e.ctx(), e.its("producers"), message(topic, 1))
		e.wantCode("prepare on a closed client", err, driver.Closed)
		e.wantCode("resolve on a closed client", x.Tx.Resolve(e.ctx(), driver.Half{TxID: "x", Group: e.its("producers")}, driver.Commit), driver.Closed)
		e.wantCode("checks on a closed client", x.Tx.Checks(e.ctx(), e.its("producers"), 1, undecided), driver.Closed)
		_, err = x.Tx.Parked(e.ctx(), 1)
		e.wantCode("parked on a closed client", err, driver.Closed)
	}
	if x.Topics != nil {
		_, err = x.Topics.Topics(e.ctx())
		e.wantCode("topics on a closed client", err, driver.Closed)
		e.wantCode("create a topic on a closed client", x.Topics.CreateTopic(e.ctx(), driver.TopicInfo{Name: "t", Queues: 1}), driver.Closed)
		e.wantCode("delete a topic on a closed client", x.Topics.DeleteTopic(e.ctx(), topic), driver.Closed)
	}
	if x.Groups != nil {
		_, err = x.Groups.Groups(e.ctx())
		e.wantCode("groups on a closed client", err, driver.Closed)
		_, err = x.Groups.Lag(e.ctx(), e.its("group"))
		e.wantCode("lag on a closed client", err, driver.Closed)
	}
	if x.Query != nil {
		_, err = x.Query.ByID(e.ctx(), topic, "id")
		e.wantCode("query on a closed client", err, driver.Closed)
	}
}

// contextCases: the end of a ctx, and whether MaybeDone tells the truth.
func contextCases() []testCase {
	const g = "context"
	return []testCase{
		{g, "send_with_ended_ctx", 0, contextEnded},
		{g, "send_while_ctx_ends", 0, contextEnding},
		{g, "open_with_ended_ctx", 0, func(e *env) {
			ctx, cancel := context.WithDeadline(e.Context(), time.Now().Add(-time.Second))
			defer cancel()
			c, err := e.b.Connect(ctx, e.its("late"))
			if err == nil { // it needs no time
				e.must("close", c.Close(e.ctx()))
				return
			}
			e.wantCode("open with a deadline in the past", err, driver.Timeout)
		}},
		{g, "conn_outlives_its_ctx", 0, func(e *env) {
			ctx, cancel := context.WithCancel(e.Context())
			c, err := e.b.Connect(ctx, e.its("outlives"))
			e.must("open", err)
			topic := e.topic(1)
			m := &member{}
			*m = member{
				e: e, id: "outlives", conn: c, lanes: map[string]*laneRun{}, busy: map[string]bool{}, changed: make(chan struct{}),
				memberOptions: memberOptions{limit: 4}, spec: driver.SubscribeSpec{Group: e.its("group"), Topic: topic},
			}
			m.sub, err = c.Subscribe(ctx, m.spec, m)
			e.must("subscribe", err)
			cancel()
			e.settleDown()
			e.send(message(topic, 1))
			m.take(1)[0].ack()
			e.must("close", c.Close(e.ctx()))
			m.stop()
		}},
		{g, "subscribe_with_ended_ctx", 0, func(e *env) {
			ctx, cancel := context.WithCancel(e.Context())
			cancel()
			m := &member{}
			*m = member{e: e, id: "late", lanes: map[string]*laneRun{}, busy: map[string]bool{}, changed: make(chan struct{})}
			sub, err := e.main.Subscribe(ctx, driver.SubscribeSpec{Group: e.its("group"), Topic: e.topic(1)}, m)
			if err == nil {
				e.must("close", sub.Close(e.ctx()))
				m.stop()
				return
			}
			e.wantCode("subscribe with a canceled ctx", err, driver.Canceled, driver.Timeout)
		}},
	}
}

// verdicts keeps what Send said of each message and what may follow from it.
type verdicts struct{ must, may, never map[string]bool }

func newVerdicts() verdicts {
	return verdicts{must: map[string]bool{}, may: map[string]bool{}, never: map[string]bool{}}
}

func (v verdicts) add(ctx context.Context, e *env, body string, r driver.SendResult) {
	de, _ := errors.AsType[*driver.Error](r.Err)
	switch {
	case r.Err == nil:
		v.must[body] = true
		return
	case ctx.Err() == context.DeadlineExceeded:
		e.wantCode("send after the deadline", r.Err, driver.Timeout)
	default:
		e.wantCode("send with a ctx that ends", r.Err, driver.Timeout, driver.Canceled)
	}
	if de != nil && de.MaybeDone {
		v.may[body] = true
	} else {
		v.never[body] = true
	}
}

// check drains the topic and compares.
func (v verdicts) check(e *env, m *member) {
	e.Helper()
	end := message(m.spec.Topic, 0)
	end.Body = []byte("end")
	e.send(end)
	for {
		a := m.take(1)[0]
		body := string(a.d.Body)
		if body == "end" {
			break
		}
		if v.never[body] {
			e.Errorf("%v was delivered, but its error said that the broker has not done it (MaybeDone false)", a)
		}
		delete(v.must, body)
	}
	for body := range v.must {
		e.Errorf("message %s was stored, said Send, and was never delivered", body)
	}
}

func contextEnded(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	v := newVerdicts()
	past, cancel := context.WithDeadline(e.Context(), time.Now().Add(-time.Second))
	defer cancel()
	canceled, cancel2 := context.WithCancel(e.Context())
	cancel2()
	for i, ctx := range []context.Context{past, canceled, past, canceled} {
		ms := []*driver.Message{message(topic, 2*i), message(topic, 2*i+1)}
		ms[0].ID = fmt.Sprint("ID", i)
		rs := e.main.Send(ctx, driver.SendRequest{Messages: ms})
		if len(rs) != 2 {
			e.Fatalf("got %d results for two messages", len(rs))
		}
		if rs[0].ID != ms[0].ID {
			e.Errorf("result with an error: got id %q, want %q", rs[0].ID, ms[0].ID)
		}
		for j, r := range rs {
			v.add(ctx, e, string(ms[j].Body), r)
		}
	}
	v.check(e, m)
}

// contextEnding cancels at a random moment of the call.
func contextEnding(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	v := newVerdicts()
	for i := range 60 {
		ctx, cancel := context.WithCancel(e.Context())
		if i%2 == 1 {
			ctx, cancel = context.WithTimeout(e.Context(), time.Duration(i)*10*time.Microsecond)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range i * 5 {
				if ctx.Err() != nil {
					break
				}
			}
			cancel()
		}()
		ms := []*driver.Message{message(topic, 2*i), message(topic, 2*i+1)}
		for j, r := range e.main.Send(ctx, driver.SendRequest{Messages: ms}) {
			v.add(ctx, e, string(ms[j].Body), r)
		}
		<-ended
		cancel()
	}
	v.check(e, m)
}
