package drivertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// delayCases: not before, and not much later.
func delayCases() []testCase {
	const g = "delay"
	return []testCase{
		{g, "send_until_due", needDelay, delaySend},
		{g, "past_means_now", needDelay, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			for _, off := range []time.Duration{-time.Hour, -time.Millisecond, 0} {
				msg := message(topic, 1)
				msg.DeliverAt = time.Now().Add(off)
				e.send(msg)
				m.takeWithin(1, e.lim.DelayLate+time.Second)[0].ack()
			}
		}},
		{g, "result_while_pending", needDelay, delayResult},
		{g, "keeps_message", needDelay, delayKeepsMessage},
		{g, "sooner_overtakes_later", needDelay, delayOvertakes},
		{g, "survives_crash", needDelay | needDurable | needCrash, delayCrash},
		{g, "due_while_down", needDelay | needDurable | needReopen, delayWhileDown},
		{g, "retry", needRetryDelay, func(e *env) { delaySettle(e, driver.Retry) }},
		{g, "return", needRetryDelay, func(e *env) { delaySettle(e, driver.Return) }},
	}
}

// delays are the ones to try under granularity g, shortest first.
func (e *env) delays(g driver.Granularity) []time.Duration {
	if g != driver.Levels {
		return e.lim.Delays
	}
	var out []time.Duration
	for _, d := range e.caps.DelayLevels {
		if d <= e.lim.Delays[len(e.lim.Delays)-1] {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		out = e.caps.DelayLevels[:1]
	}
	return out
}

// onTime requires an arrival not before due and at most DelayLate after it.
// A broker may keep time in whole milliseconds.
func (e *env) onTime(what string, a arrival, due time.Time) {
	e.Helper()
	if early := due.Sub(a.at); early > time.Millisecond {
		e.Errorf("%s: %v came %v too early", what, a, early)
	}
	if late := a.at.Sub(due); late > e.lim.DelayLate {
		e.Errorf("%s: %v came %v late, %v is allowed", what, a, late, e.lim.DelayLate)
	}
}

func delaySend(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	for _, d := range e.delays(e.caps.Delay) {
		msg := message(topic, 1)
		msg.DeliverAt = time.Now().Add(d)
		e.send(msg)
		a := m.takeWithin(1, d+e.lim.Within)[0]
		e.onTime(fmt.Sprint("delay of ", d), a, msg.DeliverAt)
		a.ack()
	}
}

func delayResult(e *env) {
	topic := e.topic(1)
	msg := message(topic, 1)
	d := e.delays(e.caps.Delay)[0]
	msg.DeliverAt = time.Now().Add(d)
	r := e.send(msg)[0]
	if r.Offset != -1 || r.ID == "" || r.Lane == "" || r.Queue != 0 {
		e.Errorf("result of a delayed message: got offset %d, lane %q, queue %d, id %q; want offset -1 and the lane it goes to",
			r.Offset, r.Lane, r.Queue, r.ID)
	}
	a := e.member(e.its("group"), topic).takeWithin(1, d+e.lim.Within)[0]
	if a.d.ID != r.ID || a.d.Offset < 0 || a.d.Attempt != 1 {
		e.Errorf("%v: got id %q, want %q, attempt 1 and a queue offset", a, a.d.ID, r.ID)
	}
}

func delayKeepsMessage(e *env) {
	topic := e.topic(4)
	m := e.member(e.its("group"), topic)
	d := e.delays(e.caps.Delay)[0]
	msg := &driver.Message{
		Topic: topic, Tag: "t", Keys: []string{"a", "b"}, OrderingKey: "o", ID: "DELAYED-1",
		Body: everyByte(), Properties: map[string]string{"p": "v", "größe": "水"}, DeliverAt: time.Now().Add(d),
	}
	now := *msg
	now.DeliverAt, now.ID = time.Time{}, "NOW-1"
	lane := e.send(&now)[0].Lane
	if r := e.send(msg)[0]; r.Lane != lane {
		e.Errorf("same ordering key: the delayed message goes to lane %s, the other to %s", r.Lane, lane)
	}
	e.sameMessage("the message without delay", m.take(1)[0].d, &now)
	e.sameMessage("the delayed message", m.takeWithin(1, d+e.lim.Within)[0].d, msg)
}

func delayOvertakes(e *env) {
	delays := e.delays(e.caps.Delay)
	if len(delays) < 2 {
		e.Skip("needs two delays")
	}
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	late, soon := message(topic, 2), message(topic, 1)
	start := time.Now()
	late.DeliverAt, soon.DeliverAt = start.Add(delays[1]), start.Add(delays[0])
	e.send(late)
	e.send(soon)
	e.send(message(topic, 0))
	inTime := time.Now().Before(soon.DeliverAt)
	got := bodies(m.takeWithin(3, delays[1]+e.lim.Within))
	want := []string{"m0", "m1", "m2"}
	if !inTime { // a busy machine: the sooner one may have come before the last was stored
		notLast := func(body string) bool { return body == "m0" }
		got, want = slices.DeleteFunc(got, notLast), want[1:]
	}
	if !slices.Equal(got, want) {
		e.Errorf("got %q, want %q", got, want)
	}
}

func delayCrash(e *env) {
	topic := e.topic(1)
	d := 2 * e.delays(e.caps.Delay)[0]
	if e.caps.Delay == driver.Levels {
		d /= 2
	}
	msg := message(topic, 1)
	msg.DeliverAt = time.Now().Add(d)
	e.send(msg)
	e.crash()
	m := e.member(e.its("group"), topic)
	a := m.takeWithin(1, d+e.lim.Within)[0]
	if early := msg.DeliverAt.Sub(a.at); early > time.Millisecond {
		e.Errorf("after a crash %v came %v too early", a, early)
	}
	a.ack()
	m.none("a delayed message comes once, also after a crash")
}

func delayWhileDown(e *env) {
	topic := e.topic(1)
	d := e.delays(e.caps.Delay)[0]
	msg := message(topic, 1)
	msg.DeliverAt = time.Now().Add(d)
	e.send(msg)
	e.closeClients(true)
	e.reopen()
	e.advance(d)
	m := e.member(e.its("group"), topic)
	m.take(1)[0].ack()
	m.none("a delayed message comes once")
	e.reopen()
	e.member(e.its("group"), topic).none("it was acknowledged before the broker was closed")
}

func delaySettle(e *env, o driver.Outcome) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.send(message(topic, 1))
	a := m.take(1)[0]
	for i, d := range e.delays(e.caps.RetryDelay) {
		due := time.Now().Add(d)
		a.settle(o, d)
		a = m.takeWithin(1, d+e.lim.Within)[0]
		e.onTime(fmt.Sprintf("%v after %v", o, d), a, due)
		want := 1
		if o == driver.Retry {
			want = i + 2
		}
		if a.d.Attempt != want {
			e.Errorf("%v: got attempt %d, want %d", o, a.d.Attempt, want)
		}
	}
	a.ack()
	m.none("the message was acknowledged")
}
