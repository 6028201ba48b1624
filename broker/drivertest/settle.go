package drivertest

import (
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// settleCases: how deliveries end.
func settleCases() []testCase {
	const g = "settle"
	return []testCase{
		{g, "ack_out_of_order", 0, settleOutOfOrder},
		{g, "ack_highest_first_keeps_the_rest", 0, settleHighestFirst},
		{g, "twice", 0, settleTwice},
		{g, "mixed_batch", 0, settleMixed},
		{g, "after_close", 0, settleAfterClose},
		{g, "bad_settlements", 0, settleBad},
		{g, "retry_counts_an_attempt", 0, settleRetry},
		{g, "return_counts_no_attempt", 0, settleReturn},
		{g, "retry_keeps_message_and_adds_properties", 0, settleRetryCopy},
		{g, "retry_then_return", 0, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			e.send(message(topic, 1))
			for i, step := range []struct {
				o    driver.Outcome
				next int
			}{{driver.Return, 1}, {driver.Retry, 2}, {driver.Return, 2}, {driver.Return, 2}, {driver.Retry, 3}} {
				m.take(1)[0].settle(step.o, 0)
				if a := m.wait1(); a.d.Attempt != step.next {
					e.Errorf("step %d, after %v: got attempt %d, want %d", i, step.o, a.d.Attempt, step.next)
				}
			}
			m.take(1)[0].ack()
			m.none("the message was acknowledged")
		}},
		{g, "retry_survives_leaving", 0, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			e.send(message(topic, 1))
			m.take(1)[0].settle(driver.Retry, 0)
			m.close()
			m = e.member(e.its("group"), topic)
			if a := m.take(1)[0]; a.d.Attempt != 2 {
				e.Errorf("%v after joining again: want attempt 2", a)
			}
		}},
		{g, "unsettled_comes_again", 0, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			e.sendN(topic, 3)
			m.take(3)
			m.close()
			m = e.member(e.its("group"), topic)
			got := m.take(3)
			inOrderPerLane(e, got)
			for _, a := range got {
				if !e.lim.CountsAbandoned && a.d.Attempt != 1 {
					e.Errorf("%v was never settled: want attempt 1", a)
				}
			}
		}},
		{g, "group_keeps_retries_to_itself", 0, func(e *env) {
			topic := e.topic(1)
			a, b := e.member(e.its("a"), topic), e.member(e.its("b"), topic)
			e.send(message(topic, 1))
			a.take(1)[0].settle(driver.Retry, 0)
			b.take(1)[0].ack()
			a.take(1)[0].ack()
			b.none("the retry belongs to the other group")
		}},
	}
}

// wait1 waits for one delivery and leaves it to be taken.
func (m *member) wait1() arrival {
	m.e.Helper()
	a := m.take(1)[0]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taken--
	return a
}

func settleOutOfOrder(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 10)
	got := m.take(10)
	for i := len(got) - 1; i >= 0; i-- {
		got[i].ack()
	}
	m.none("everything was acknowledged")
	m.close()
	e.member(e.its("group"), topic).none("everything was acknowledged before the lane ended")
}

func settleHighestFirst(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 10)
	got := m.take(10)
	for _, i := range []int{9, 0, 7, 1, 5} {
		got[i].ack()
	}
	m.close()
	m = e.member(e.its("group"), topic)
	// A log may deliver m5, m7 and m9 once more; m0 and m1 lie below.
	missing := map[string]bool{"m2": true, "m3": true, "m4": true, "m6": true, "m8": true}
	for len(missing) > 0 {
		a := m.take(1)[0]
		if b := string(a.d.Body); b == "m0" || b == "m1" {
			e.Errorf("%v was acknowledged and nothing before it is open", a)
		}
		delete(missing, string(a.d.Body))
	}
}

func settleTwice(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	pairs := [][2]driver.Outcome{
		{driver.Ack, driver.Ack},
		{driver.Ack, driver.Retry},
		{driver.Ack, driver.Return},
		{driver.Ack, driver.DeadLetter},
		{driver.Retry, driver.Ack},
		{driver.Retry, driver.Retry},
		{driver.Return, driver.Ack},
		{driver.Return, driver.Retry},
		{driver.DeadLetter, driver.Ack},
		{driver.DeadLetter, driver.DeadLetter},
	}
	dlq := 0
	for i, p := range pairs {
		e.send(message(topic, i))
		a := m.take(1)[0]
		a.settle(p[0], 0)
		a.settle(p[1], 0)
		switch p[0] {
		case driver.Retry, driver.Return:
			again := m.take(1)[0]
			if want := map[driver.Outcome]int{driver.Retry: 2, driver.Return: 1}[p[0]]; again.d.Attempt != want {
				e.Errorf("%v then %v: got attempt %d, want %d: the first settlement counts", p[0], p[1], again.d.Attempt, want)
			}
			again.ack()
		case driver.DeadLetter:
			dlq++
		}
		m.noneFor(e.lim.Quiet/4, fmt.Sprintf("%v then %v: the second changes nothing", p[0], p[1]))
	}
	d := e.member(e.its("dlq-reader"), driver.DeadLetterTopic(e.its("group")))
	d.take(dlq)
	d.none("each message was dead-lettered once")
}

func settleMixed(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 4)
	got := m.take(4)
	lane := got[0].lane
	var ss []driver.Settlement
	for i, o := range []driver.Outcome{driver.Return, driver.Ack, driver.DeadLetter, driver.Retry} {
		if got[i].lane != lane {
			e.Fatalf("one queue, but lanes %s and %s", lane.Name(), got[i].lane.Name())
		}
		ss = append(ss, driver.Settlement{Delivery: got[i].d, Outcome: o})
	}
	e.must("settle four deliveries in one call", lane.Settle(e.ctx(), ss))
	e.must("settle nothing", lane.Settle(e.ctx(), nil))
	attempts := map[string]int{}
	for _, a := range m.take(2) {
		attempts[string(a.d.Body)] = a.d.Attempt
		a.ack()
	}
	if want := map[string]int{"m0": 1, "m3": 2}; !maps.Equal(attempts, want) {
		e.Errorf("attempts by message: got %v, want %v", attempts, want)
	}
	if a := e.member(e.its("dlq-reader"), driver.DeadLetterTopic(e.its("group"))).take(1)[0]; string(a.d.Body) != "m2" {
		e.Errorf("dead letter: got %v, want m2", a)
	}
}

func settleAfterClose(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 2)
	got := m.take(2)
	m.close()
	e.wantCode("settle after the subscription was closed", got[0].try(driver.Settlement{Outcome: driver.Ack}), driver.LaneLost, driver.Closed)
	_, err := got[0].lane.Fetch(e.ctx(), 1)
	e.wantCode("fetch after the subscription was closed", err, driver.LaneLost, driver.Closed)
	e.wantCode("seek after the subscription was closed", got[0].lane.Seek(e.ctx(), driver.Position{}), driver.LaneLost, driver.Closed)
	e.must("close the client", m.conn.Close(e.ctx()))
	e.wantCode("settle after the client was closed", got[1].try(driver.Settlement{Outcome: driver.Ack}), driver.LaneLost, driver.Closed)
	m = e.member(e.its("group"), topic)
	ackAll(m.take(2))
}

func settleBad(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.send(message(topic, 1))
	a := m.take(1)[0]
	for _, o := range []driver.Outcome{0, 99} {
		e.wantCode(fmt.Sprint("settle with outcome ", o), a.try(driver.Settlement{Outcome: o}), driver.InvalidArgument)
	}
	err := a.lane.Settle(e.ctx(), []driver.Settlement{{Outcome: driver.Ack}})
	e.wantCode("settle no delivery", err, driver.InvalidArgument)
	a.settle(driver.Retry, 0) // it is still open
	m.take(1)[0].ack()
}

func settleRetry(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	r := e.send(message(topic, 1))[0]
	for want := 1; want <= 6; want++ {
		a := m.take(1)[0]
		if a.d.Attempt != want || a.d.ID != r.ID || a.d.Topic != topic {
			e.Errorf("got %v, id %q, topic %s; want attempt %d of %q from %s", a, a.d.ID, a.d.Topic, want, r.ID, topic)
		}
		if info := a.lane.Info(); info.Topic != topic {
			e.Errorf("lane %s says topic %q, want the topic subscribed to, %q", a.lane.Name(), info.Topic, topic)
		}
		if want < 6 {
			a.settle(driver.Retry, 0)
		} else {
			a.ack()
		}
	}
	m.none("the sixth attempt succeeded")
}

func settleReturn(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.send(message(topic, 1))
	for range 5 {
		a := m.take(1)[0]
		if a.d.Attempt != 1 {
			e.Errorf("%v after Return: want attempt 1", a)
		}
		a.settle(driver.Return, 0)
	}
	m.take(1)[0].ack()
	m.none("the message was acknowledged")
}

func settleRetryCopy(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	sent := &driver.Message{
		Topic: topic, Tag: "t", Keys: []string{"a", "b"}, OrderingKey: "o", Body: everyByte(),
		Properties: map[string]string{"p": "v", "q": "w"}, BornAt: time.Now().Add(-time.Hour).Truncate(time.Millisecond),
	}
	r := e.send(sent)[0]
	a := m.take(1)[0]
	e.must("retry with properties", a.try(driver.Settlement{Outcome: driver.Retry, Properties: map[string]string{"q": "changed", "cause": "läuft nicht"}}))
	want := *sent
	want.ID, want.Properties = r.ID, map[string]string{"p": "v", "q": "changed", "cause": "läuft nicht"}
	a = m.take(1)[0]
	e.sameMessage("the redelivery", a.d, &want)
	if !a.d.BornAt.Equal(sent.BornAt) {
		e.Errorf("the redelivery was born at %v, the message at %v", a.d.BornAt, sent.BornAt)
	}
	a.ack()
}

// deadLetterCases: what a dead letter carries.
func deadLetterCases() []testCase {
	const g = "dead_letter"
	return []testCase{
		{g, "keeps_message_and_origin", 0, deadLetterOrigin},
		{g, "after_retries", 0, deadLetterAfterRetries},
		{g, "one_topic_per_group", 0, func(e *env) {
			topic := e.topic(1)
			a, b := e.member(e.its("a"), topic), e.member(e.its("b"), topic)
			e.send(message(topic, 1))
			a.take(1)[0].settle(driver.DeadLetter, 0)
			b.take(1)[0].ack()
			e.member(e.its("reader"), driver.DeadLetterTopic(e.its("a"))).take(1)
			a.none("a dead letter is done with")
		}},
		{g, "survives_crash", needDurable | needCrash, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			e.send(message(topic, 1))
			m.take(1)[0].settle(driver.DeadLetter, 0)
			m.close()
			e.crash()
			if a := e.member(e.its("reader"), driver.DeadLetterTopic(e.its("group"))).take(1)[0]; string(a.d.Body) != "m1" {
				e.Errorf("dead letter after a crash: got %v", a)
			}
			e.member(e.its("group"), topic).none("the message was dead-lettered and the lane ended cleanly")
		}},
	}
}

func deadLetterOrigin(e *env) {
	topic := e.topic(2)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 5)
	ackAll(m.take(5))
	sent := &driver.Message{
		Topic: topic, Tag: "t", Keys: []string{"a", "b"}, OrderingKey: "o", Body: everyByte(),
		Properties: map[string]string{"p": "v", "größe": "水"},
	}
	r := e.send(sent)[0]
	a := m.take(1)[0]
	frame := map[string]string{driver.DeadReason: "exhausted", driver.DeadError: "wallet: no\nroute", driver.DeadAttempts: "1"}
	e.must("dead-letter", a.try(driver.Settlement{Outcome: driver.DeadLetter, Properties: frame}))
	d := e.member(e.its("reader"), driver.DeadLetterTopic(e.its("group"))).take(1)[0].d
	if string(d.Body) != string(sent.Body) || d.ID != r.ID || d.Tag != "t" || fmt.Sprint(d.Keys) != "[a b]" {
		e.Errorf("dead letter: got body %.30q id %q tag %q keys %q; want those of the message, id %q", d.Body, d.ID, d.Tag, d.Keys, r.ID)
	}
	want := map[string]string{driver.DeadTopic: topic, driver.DeadOffset: strconv.FormatInt(r.Offset, 10)}
	if e.caps.Queues {
		want[driver.DeadQueue] = strconv.Itoa(r.Queue)
	}
	maps.Copy(want, sent.Properties)
	maps.Copy(want, frame)
	for k, v := range want {
		if d.Properties[k] != v {
			e.Errorf("dead letter: property %s is %q, want %q", k, d.Properties[k], v)
		}
	}
}

func deadLetterAfterRetries(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	sent := &driver.Message{Topic: topic, Keys: []string{"k"}, Body: []byte("body"), Properties: map[string]string{"p": "v"}}
	r := e.send(sent)[0]
	m.take(1)[0].settle(driver.Retry, 0)
	m.take(1)[0].settle(driver.Retry, 0)
	m.take(1)[0].settle(driver.DeadLetter, 0)
	d := e.member(e.its("reader"), driver.DeadLetterTopic(e.its("group"))).take(1)[0].d
	if d.ID != r.ID || string(d.Body) != "body" || d.Properties["p"] != "v" || fmt.Sprint(d.Keys) != "[k]" {
		e.Errorf("dead letter after two retries: got %+v, want id %q and the message as sent", d.Message, r.ID)
	}
	if got := d.Properties[driver.DeadTopic]; got != topic {
		e.Errorf("dead letter after two retries: origin is topic %q, want the one it was first sent to, %q", got, topic)
	}
	m.none("a dead letter is done with")
}
