package drivertest

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// laneCases: giving lanes away. They need numbered queues, by which the suite
// knows which lane a message will come by.
func laneCases() []testCase {
	const g = "lanes"
	return []testCase{
		{g, "revoked_blocks_handover", needQueues, laneHandover},
		{g, "settled_in_revoked_is_kept", needQueues, laneSettleInRevoked},
		{g, "nothing_fetched_after_revoked", needQueues, laneNoFetchAfter},
		{g, "settle_after_revoked", needQueues, laneSettleAfter},
		{g, "revoke_timeout_loses", needQueues, laneRevokeTimeout},
		{g, "close_timeout_loses", 0, laneCloseTimeout},
		{g, "close_revokes_first", 0, laneCloseRevokes},
		{g, "close_subscription_twice", 0, func(e *env) {
			m := e.member(e.its("group"), e.topic(1))
			m.awaitLanes(1)
			done := make(chan struct{})
			go func() { defer close(done); _ = m.leave(e.ctx()) }()
			m.close()
			m.close()
			e.returns("a second Close of a Subscription", done, e.lim.Within)
		}},
		{g, "no_event_after_close", 0, func(e *env) {
			topic := e.topic(2)
			a := e.member(e.its("group"), topic)
			a.awaitLanes(1)
			a.close()
			before := len(a.events())
			b := e.member(e.its("group"), topic)
			b.awaitLanes(1)
			b.close()
			e.settleDown()
			if after := a.events(); len(after) != before {
				e.Errorf("a closed subscription saw %q", after[before:])
			}
		}},
	}
}

// handover is two members and a topic of two queues; the second member joins
// late, so that the first has to give away one lane.
type handover struct {
	e        *env
	topic    string
	spec     driver.SubscribeSpec
	a, b     *member
	entered  chan driver.Lane // a's Revoked began
	release  chan struct{}    // closing it lets Revoked return
	returned atomic.Int64     // unix nanoseconds at which Revoked returned
}

func newHandover(e *env, manual bool) *handover {
	h := &handover{e: e, topic: e.topic(2), entered: make(chan driver.Lane, 4), release: make(chan struct{})}
	h.spec = driver.SubscribeSpec{Group: e.its("group"), Topic: h.topic}
	h.a = e.join("a", h.spec, memberOptions{manual: manual, revoked: func(ctx context.Context, l driver.Lane) {
		if l.Info().Retry { // where retries have several queues they are shared, too
			return
		}
		select {
		case h.entered <- l:
		default:
		}
		select {
		case <-h.release:
		case <-ctx.Done():
		}
		h.returned.Store(time.Now().UnixNano())
	}})
	h.a.awaitLanes(2)
	return h
}

// revoke lets b join and waits until a is asked for a lane.
func (h *handover) revoke() driver.Lane {
	h.e.Helper()
	h.b = h.e.join("b", h.spec, memberOptions{})
	select {
	case l := <-h.entered:
		return l
	case <-time.After(h.e.lim.Within):
		h.e.Fatalf("a second member joined and no lane was revoked within %v", h.e.lim.Within)
		return nil
	}
}

func (h *handover) send(l driver.Lane, body string) {
	h.e.Helper()
	h.e.send(&driver.Message{Topic: h.topic, Queue: l.Info().Queue, QueueSet: true, Body: []byte(body)})
}

func (h *handover) fill(n int) {
	h.e.Helper()
	for _, l := range h.a.fresh() {
		for i := range n {
			h.send(l, fmt.Sprintf("%s/%d", l.Name(), i))
		}
	}
}

func laneHandover(e *env) {
	h := newHandover(e, true)
	h.fill(3)
	lanes := h.a.fresh()
	held := map[string][]arrival{}
	for _, l := range lanes {
		held[l.Name()] = fetchN(e, h.a, l, 3)
	}
	l := h.revoke()
	// Less than the revoke timeout: the lane must stay where it is.
	watch := min(e.lim.Quiet, e.lim.RevokeTimeout/2)
	h.b.noneFor(watch, "Revoked of a has not returned, the lane must not be given away")
	if n := len(h.b.fresh()); n != 0 {
		e.Errorf("b owns %d lanes while Revoked of a has not returned", n)
	}
	close(h.release)
	h.b.awaitLanes(1)
	for i, x := range h.b.take(3) {
		if want := fmt.Sprintf("%s/%d", l.Name(), i); string(x.d.Body) != want {
			e.Errorf("after the hand-over: got %v, want %s", x, want)
		}
		if !e.lim.CountsAbandoned && x.d.Attempt != 1 {
			e.Errorf("%v: giving a lane away is no failed attempt, want attempt 1", x)
		}
		if x.at.UnixNano() < h.returned.Load() {
			e.Errorf("%v came to b before Revoked of a had returned", x)
		}
	}
}

func laneSettleInRevoked(e *env) {
	topic := e.topic(2)
	spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic}
	var a *member
	failed := make(chan error, 4)
	a = e.join("a", spec, memberOptions{revoked: func(ctx context.Context, l driver.Lane) {
		for _, x := range a.peek() {
			if x.lane == l {
				failed <- l.Settle(ctx, []driver.Settlement{{Delivery: x.d, Outcome: driver.Ack}})
			}
		}
	}})
	for _, l := range a.awaitLanes(2) {
		e.send(&driver.Message{Topic: topic, Queue: l.Info().Queue, QueueSet: true, Body: []byte(l.Name())})
	}
	e.await("a to fetch both messages", func() bool { return len(a.peek()) == 2 })
	b := e.join("b", spec, memberOptions{})
	b.awaitLanes(1)
	select {
	case err := <-failed:
		e.must("settle inside Revoked", err)
	case <-time.After(e.lim.Within):
		e.Fatalf("Revoked of a was not called, yet b owns a lane")
	}
	b.none("a has acknowledged the message inside Revoked")
}

func laneNoFetchAfter(e *env) {
	h := newHandover(e, true)
	// One Fetch of each lane is waiting when the lane is taken away.
	lanes := h.a.fresh()
	type answer struct {
		ds  []*driver.Delivery
		err error
	}
	pending := map[string]chan answer{}
	for _, l := range lanes {
		ch := make(chan answer, 1)
		pending[l.Name()] = ch
		go func() {
			for {
				ds, err := l.Fetch(e.Context(), 4)
				if len(ds) > 0 || err != nil {
					ch <- answer{ds, err}
					return
				}
			}
		}()
	}
	l := h.revoke()
	close(h.release)
	h.b.awaitLanes(1)
	h.send(l, "after")
	h.b.take(1)[0].ack()
	select {
	case got := <-pending[l.Name()]:
		if len(got.ds) > 0 {
			e.Errorf("Fetch answered %q on lane %s after Revoked had returned", got.ds[0].Body, l.Name())
		}
		e.wantCode("the Fetch that waited when the lane was revoked", got.err, driver.LaneLost)
	case <-time.After(e.lim.Within):
		e.Errorf("the Fetch that waited when lane %s was revoked did not return", l.Name())
	}
	for range 3 {
		h.send(l, "later")
		ds, err := l.Fetch(e.ctx(), 4)
		if len(ds) > 0 {
			e.Errorf("Fetch answered %q on a lane that was given away", ds[0].Body)
		}
		e.wantCode("Fetch of a lane that was given away", err, driver.LaneLost)
	}
}

func laneSettleAfter(e *env) {
	h := newHandover(e, true)
	h.fill(1)
	held := map[string]arrival{}
	for _, l := range h.a.fresh() {
		held[l.Name()] = fetchOne(e, h.a, l)
	}
	l := h.revoke()
	close(h.release)
	x := h.b.take(1)[0]
	for _, o := range []driver.Outcome{driver.Ack, driver.Retry, driver.DeadLetter, driver.Return} {
		e.wantCode(fmt.Sprintf("settle as %v after the lane was given away", o),
			held[l.Name()].try(driver.Settlement{Outcome: o}), driver.LaneLost)
	}
	x.ack()
	h.b.none("the refused settlements must have no effect")
	for _, keep := range h.a.fresh() { // the lane that a kept works as before
		held[keep.Name()].ack()
	}
}

// laneRevokeTimeout: Revoked that does not settle in time loses the lane.
func laneRevokeTimeout(e *env) {
	h := newHandover(e, true)
	h.fill(1)
	held := map[string]arrival{}
	for _, l := range h.a.fresh() {
		held[l.Name()] = fetchOne(e, h.a, l)
	}
	start := time.Now()
	l := h.revoke()
	x := h.b.takeWithin(1, e.lim.RevokeTimeout+e.lim.Within)[0] // release stays closed: Revoked waits for its ctx
	if took := x.at.Sub(start); took < e.lim.RevokeTimeout-e.lim.RevokeTimeout/10 {
		e.Errorf("the lane was given away after %v, before the revoke timeout of %v", took, e.lim.RevokeTimeout)
	}
	if want := l.Name() + "/0"; string(x.d.Body) != want {
		e.Errorf("redelivered %v, want %s", x, want)
	}
	if !e.lim.CountsAbandoned && x.d.Attempt != 1 {
		e.Errorf("%v: a lost lane is no failed attempt, want attempt 1", x)
	}
	e.wantCode("settle on a lost lane", held[l.Name()].try(driver.Settlement{Outcome: driver.Ack}), driver.LaneLost)
	_, err := l.Fetch(e.ctx(), 1)
	e.wantCode("fetch from a lost lane", err, driver.LaneLost)
	x.ack()
	h.b.none("the message was acknowledged by its new owner")
}

// laneCloseTimeout: when the ctx of Subscription.Close ends first, the
// remaining lanes are lost.
func laneCloseTimeout(e *env) {
	topic := e.topic(1)
	spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic}
	a := e.join("a", spec, memberOptions{manual: true, revoked: func(ctx context.Context, _ driver.Lane) { <-ctx.Done() }})
	e.send(message(topic, 1))
	x := fetchOne(e, a, a.awaitLanes(1)[0])
	limit := min(time.Second, e.lim.RevokeTimeout/2)
	ctx, cancel := context.WithTimeout(e.Context(), limit)
	defer cancel()
	start := time.Now()
	_ = a.leave(ctx) // an error is allowed: not everything was settled
	if took := time.Since(start); took > limit+e.lim.DelayLate {
		e.Errorf("Close with a deadline of %v took %v", limit, took)
	}
	b := e.join("b", spec, memberOptions{})
	y := b.take(1)[0]
	e.wantCode("settle on a lost lane", x.try(driver.Settlement{Outcome: driver.Ack}), driver.LaneLost, driver.Closed)
	y.ack()
}

func laneCloseRevokes(e *env) {
	topic := e.topic(1)
	spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic}
	var a *member
	settled := make(chan error, 1)
	a = e.join("a", spec, memberOptions{revoked: func(ctx context.Context, l driver.Lane) {
		for _, x := range a.peek() {
			if x.lane == l {
				settled <- l.Settle(ctx, []driver.Settlement{{Delivery: x.d, Outcome: driver.Ack}})
			}
		}
	}})
	e.send(message(topic, 1))
	e.await("the message to arrive", func() bool { return len(a.peek()) == 1 })
	a.close()
	select {
	case err := <-settled:
		e.must("settle inside Revoked during Close", err)
	default:
		e.Fatalf("Close returned and Revoked was not called for the lane")
	}
	e.join("b", spec, memberOptions{}).none("the message was acknowledged inside Revoked, and Close makes that durable")
}

// fetchCases: Lane.Fetch.
func fetchCases() []testCase {
	const g = "fetch"
	one := func(e *env) (*member, driver.Lane, string) {
		topic := e.topic(1)
		m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic}, memberOptions{manual: true})
		return m, m.awaitLanes(1)[0], topic
	}
	return []testCase{
		{g, "limit", 0, func(e *env) {
			m, l, topic := one(e)
			e.sendN(topic, 10)
			for _, bad := range []int{0, -1} {
				_, err := l.Fetch(e.ctx(), bad)
				e.wantCode(fmt.Sprint("fetch with limit ", bad), err, driver.InvalidArgument)
			}
			for n := 0; n < 10; {
				ds, err := l.Fetch(e.ctx(), 3)
				e.must("fetch", err)
				if len(ds) > 3 {
					e.Fatalf("fetch with limit 3 answered %d deliveries", len(ds))
				}
				n += len(ds)
			}
			_ = m
		}},
		{g, "waits_about_a_second", 0, func(e *env) {
			_, l, _ := one(e)
			start := time.Now()
			ds, err := l.Fetch(e.ctx(), 1)
			if took := time.Since(start); err != nil || len(ds) > 0 || took > 2*time.Second || took < 100*time.Millisecond {
				e.Errorf("fetch from an empty lane: got %d deliveries, %v after %v; want none and no error after about 1 s", len(ds), err, took)
			}
		}},
		{g, "ends_with_ctx", 0, func(e *env) {
			_, l, _ := one(e)
			ctx, cancel := context.WithTimeout(e.Context(), 200*time.Millisecond)
			defer cancel()
			start := time.Now()
			ds, err := l.Fetch(ctx, 1)
			if took := time.Since(start); len(ds) > 0 || took > 700*time.Millisecond {
				e.Errorf("fetch with a ctx of 200ms: got %d deliveries after %v", len(ds), took)
			}
			if err != nil {
				e.wantCode("fetch with a ctx that ends", err, driver.Timeout, driver.Canceled)
			}
		}},
		{g, "wakes_up_for_a_message", 0, func(e *env) {
			m, l, topic := one(e)
			go func() {
				time.Sleep(50 * time.Millisecond)
				_ = e.main.Send(e.Context(), driver.SendRequest{Messages: messages(topic, 1)})
			}()
			start := time.Now()
			fetchOne(e, m, l).ack()
			if took := time.Since(start); e.h.Virtual && took > 500*time.Millisecond {
				e.Errorf("a message sent during Fetch came after %v", took)
			}
		}},
		{g, "unsettled_is_not_fetched_again", 0, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			e.sendN(topic, 5)
			got := m.take(5)
			m.none("the deliveries are still being handled")
			e.must("extend", got[0].lane.Extend(e.ctx(), []*driver.Delivery{got[0].d, got[4].d}))
			ackAll(got)
			m.none("the deliveries were acknowledged")
		}},
	}
}
