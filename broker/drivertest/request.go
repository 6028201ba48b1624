package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// requestCases: messages that are answered.
func requestCases() []testCase {
	const g = "request"
	return []testCase{
		{g, "round_trip", needRequests, requestRoundTrip},
		{g, "each_gets_its_own", needRequests, requestMany},
		{g, "first_reply_counts", needRequests, requestTwoReplies},
		{g, "redelivered_and_answered", needRequests, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			got := e.request(e.main, message(topic, 1))
			m.take(1)[0].settle(driver.Retry, 0)
			a := m.take(1)[0]
			e.must("reply to a redelivery", e.ext.Requests.Reply(e.ctx(), a.d, &driver.Message{Body: []byte("late, but there")}))
			a.ack()
			if r := <-got; r.err != nil || string(r.m.Body) != "late, but there" {
				e.Errorf("the reply to a redelivery came as %+v, %v", r.m, r.err)
			}
		}},
		{g, "no_reply", needRequests, requestNoReply},
		{g, "caller_gives_up", needRequests, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			ctx, cancel := context.WithCancel(e.ctx())
			done := make(chan error, 1)
			go func() {
				_, err := e.ext.Requests.Request(ctx, message(topic, 1))
				done <- err
			}()
			m.take(1)[0].ack()
			cancel()
			e.asked("a request whose caller gives up", <-done, driver.Canceled)
		}},
		{g, "refusals", needRequests, requestRefusals},
		{g, "requester_is_gone", needRequests, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			c := e.connect("other")
			got := e.request(c, message(topic, 1))
			a := m.take(1)[0]
			e.must("close the requester", c.Close(e.ctx()))
			e.asked("a request whose client is closed", (<-got).err, driver.Closed)
			e.await("the broker to see that the requester is gone", func() bool {
				err := e.ext.Requests.Reply(e.ctx(), a.d, &driver.Message{Body: []byte("to nobody")})
				return driver.CodeOf(err) == driver.NotFound
			})
			a.ack()
		}},
		{g, "closed_client", needRequests, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			got := e.request(e.main, message(topic, 1))
			a := m.take(1)[0]
			c := e.connect("other")
			x := c.Extensions().Requests
			e.must("close a client", c.Close(e.ctx()))
			_, err := x.Request(e.ctx(), message(topic, 2))
			e.wantCode("request of a closed client", err, driver.Closed)
			e.wantCode("reply of a closed client", x.Reply(e.ctx(), a.d, &driver.Message{}), driver.Closed)
			e.must("reply of another client", e.ext.Requests.Reply(e.ctx(), a.d, &driver.Message{Body: []byte("r")}))
			a.ack()
			e.must("request", (<-got).err)
		}},
	}
}

// replied is how a request ended.
type replied struct {
	m   *driver.Message
	err error
}

// request sends a request, whose reply comes later.
func (e *env) request(c driver.Conn, m *driver.Message) <-chan replied {
	ctx, x, done := e.ctx(), c.Extensions().Requests, make(chan replied, 1)
	go func() {
		got, err := x.Request(ctx, m)
		done <- replied{got, err}
	}()
	return done
}

// asked requires the error of a request that was stored.
func (e *env) asked(what string, err error, code driver.Code) {
	e.Helper()
	e.wantCode(what, err, code)
	if de, ok := errors.AsType[*driver.Error](err); ok && !de.MaybeDone {
		e.Errorf("%s: its error %v does not say that it may be done", what, err)
	}
}

func requestRoundTrip(e *env) {
	topic := e.topic(2)
	m := e.join("replier", driver.SubscribeSpec{Group: e.its("group"), Topic: topic}, memberOptions{via: e.connect("other")})
	sent := &driver.Message{
		Topic: topic, ID: "REQUEST-1", Tag: "t", Keys: []string{"a", "b"}, OrderingKey: "o", Body: everyByte(),
		Properties: map[string]string{"p": "v", "größe": "水"},
	}
	keep := *sent
	keep.Properties = maps.Clone(sent.Properties)
	for _, answer := range []*driver.Message{
		{ID: "REPLY-1", Tag: "u", Keys: []string{"c"}, Body: everyByte(), Properties: map[string]string{"q": "w"}},
		{Body: []byte("plain")},
		{},
		{Body: slices.Repeat([]byte("large "), 10_000)},
	} {
		got := e.request(e.main, sent)
		a := m.take(1)[0]
		asked := *a.d
		asked.Properties = maps.Clone(a.d.Properties)
		maps.DeleteFunc(asked.Properties, func(name, _ string) bool { return sent.Properties[name] == "" }) // the driver's own
		e.sameMessage("the request", &asked, sent)
		e.must("reply", m.conn.Extensions().Requests.Reply(e.ctx(), a.d, answer))
		a.ack()
		r := <-got
		if r.err != nil {
			e.Fatalf("request: %v", r.err)
		}
		if string(r.m.Body) != string(answer.Body) || r.m.Topic != topic || r.m.Tag != answer.Tag || !slices.Equal(r.m.Keys, answer.Keys) ||
			!maps.Equal(r.m.Properties, answer.Properties) || r.m.ID == "" || answer.ID != "" && r.m.ID != answer.ID {
			e.Errorf("the reply came as %+.200v, want %+.200v", r.m, answer)
		}
	}
	if sent.ID != keep.ID || !maps.Equal(sent.Properties, keep.Properties) || !sent.BornAt.IsZero() {
		e.Errorf("Request changed the message to %+v", sent)
	}
	m.none("every request came once")
}

// requestMany: replies in another order than the requests.
func requestMany(e *env) {
	topic := e.topic(2)
	m := e.member(e.its("group"), topic)
	const n = 20
	var all []<-chan replied
	for i := range n {
		all = append(all, e.request(e.main, message(topic, i)))
	}
	arrivals := m.take(n)
	slices.Reverse(arrivals)
	var wg sync.WaitGroup
	for _, a := range arrivals {
		wg.Go(func() {
			if err := e.ext.Requests.Reply(e.ctx(), a.d, &driver.Message{Body: append([]byte("re:"), a.d.Body...)}); err != nil {
				e.Errorf("reply to %v: %v", a, err)
			}
		})
	}
	wg.Wait()
	ackAll(arrivals)
	for i, got := range all {
		if r := <-got; r.err != nil || string(r.m.Body) != fmt.Sprint("re:m", i) {
			e.Errorf("request m%d: got %+v, %v", i, r.m, r.err)
		}
	}
}

func requestTwoReplies(e *env) {
	topic := e.topic(1)
	one, two := e.member(e.its("group-a"), topic), e.join("second", driver.SubscribeSpec{Group: e.its("group-b"), Topic: topic}, memberOptions{})
	for i := range 3 {
		got := e.request(e.main, message(topic, i))
		a, b := one.take(1)[0], two.take(1)[0]
		e.must("the first reply", e.ext.Requests.Reply(e.ctx(), a.d, &driver.Message{Body: []byte("first")}))
		e.must("the second reply", e.ext.Requests.Reply(e.ctx(), b.d, &driver.Message{Body: []byte("second")}))
		a.ack()
		b.ack()
		if r := <-got; r.err != nil || string(r.m.Body) != "first" {
			e.Errorf("got %+v, %v; want the first reply", r.m, r.err)
		}
	}
}

// requestNoReply: nobody answers in time; what comes later is nobody's.
func requestNoReply(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	ctx, cancel := context.WithTimeout(e.ctx(), time.Second)
	defer cancel()
	began := time.Now()
	_, err := e.ext.Requests.Request(ctx, message(topic, 1))
	e.asked("a request without a reply", err, driver.Timeout)
	if took := time.Since(began); took < 900*time.Millisecond || e.h.Virtual && took > time.Second {
		e.Errorf("it was given up after %v, want 1s", took)
	}
	a := m.take(1)[0]
	e.must("reply to who waits no longer", e.ext.Requests.Reply(e.ctx(), a.d, &driver.Message{Body: []byte("late")}))
	a.ack()
	got := e.request(e.main, message(topic, 2))
	b := m.take(1)[0]
	e.must("reply", e.ext.Requests.Reply(e.ctx(), b.d, &driver.Message{Body: []byte("in time")}))
	b.ack()
	if r := <-got; r.err != nil || string(r.m.Body) != "in time" {
		e.Errorf("the next request got %+v, %v", r.m, r.err)
	}
}

func requestRefusals(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	_, err := e.ext.Requests.Request(context.WithoutCancel(e.Context()), message(topic, 1))
	e.wantCode("request without a deadline", err, driver.InvalidArgument)
	_, err = e.ext.Requests.Request(e.ctx(), nil)
	e.wantCode("request without a message", err, driver.InvalidArgument)
	later := message(topic, 1)
	later.DeliverAt = time.Now().Add(time.Hour)
	_, err = e.ext.Requests.Request(e.ctx(), later)
	e.wantCode("request with a due time", err, driver.InvalidArgument)
	m.none("no request was accepted")
	e.send(message(topic, 1))
	a := m.take(1)[0]
	e.wantCode("reply to what is no request", e.ext.Requests.Reply(e.ctx(), a.d, &driver.Message{}), driver.InvalidArgument)
	e.wantCode("reply to nothing", e.ext.Requests.Reply(e.ctx(), nil, &driver.Message{}), driver.InvalidArgument)
	e.wantCode("reply to another's delivery", e.ext.Requests.Reply(e.ctx(), &driver.Delivery{}, &driver.Message{}), driver.InvalidArgument)
	a.ack()
	got := e.request(e.main, message(topic, 2))
	a = m.take(1)[0]
	for what, r := range map[string]*driver.Message{
		"no message": nil, "a topic": {Topic: topic}, "a queue": {QueueSet: true}, "an ordering key": {OrderingKey: "k"}, "a due time": {DeliverAt: time.Now().Add(time.Hour)},
	} {
		e.wantCode("reply with "+what, e.ext.Requests.Reply(e.ctx(), a.d, r), driver.InvalidArgument)
	}
	e.must("reply", e.ext.Requests.Reply(e.ctx(), a.d, &driver.Message{}))
	a.ack()
	e.must("request", (<-got).err)
}
