package drivertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// durableCases: what survives.
func durableCases() []testCase {
	const g = "durable"
	const crash, reopen = needDurable | needCrash, needDurable | needReopen
	return []testCase{
		{g, "crash_after_send", crash, func(e *env) {
			topic := e.topic(4)
			rs := e.sendN(topic, 50)
			e.crash()
			got := e.member(e.its("group"), topic).take(50)
			samePlace(e, rs, got)
		}},
		{g, "reopen_after_send", reopen, func(e *env) {
			topic := e.topic(4)
			rs := e.sendN(topic, 50)
			e.reopen()
			samePlace(e, rs, e.member(e.its("group"), topic).take(50))
		}},
		{g, "crash_before_settle", crash, func(e *env) {
			topic := e.topic(1)
			e.sendN(topic, 5)
			e.member(e.its("group"), topic).take(5)
			e.crash()
			got := e.member(e.its("group"), topic).take(5)
			inOrderPerLane(e, got)
			for _, a := range got {
				if !e.lim.CountsAbandoned && a.d.Attempt != 1 {
					e.Errorf("%v after a crash: a crash is no failed attempt, want attempt 1", a)
				}
			}
		}},
		{g, "offsets_go_on_after_crash", crash | needQueues, durableOffsets},
		{g, "positions_survive_leaving", 0, func(e *env) { durablePositions(e, func() {}) }},
		{g, "positions_survive_reopen", reopen, func(e *env) { durablePositions(e, e.reopen) }},
		{g, "positions_survive_crash_after_leaving", crash, func(e *env) { durablePositions(e, e.crash) }},
		{g, "crash_after_some_acks_loses_nothing", crash, durablePartialAcks},
		{g, "retry_survives_crash", crash, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			e.send(message(topic, 1))
			m.take(1)[0].settle(driver.Retry, 0)
			m.take(1)[0].settle(driver.Retry, time.Millisecond)
			m.close()
			e.crash()
			a := e.member(e.its("group"), topic).take(1)[0]
			if a.d.Attempt != 3 {
				e.Errorf("%v after two failed attempts and a crash: want attempt 3", a)
			}
			a.ack()
		}},
		{g, "crash_twice", crash, func(e *env) {
			topic := e.topic(1)
			for i := range 3 {
				e.send(message(topic, i))
				e.crash()
			}
			if got := bodies(e.member(e.its("group"), topic).take(3)); !slices.Equal(got, []string{"m0", "m1", "m2"}) {
				e.Errorf("after three crashes: got %q, want m0 m1 m2", got)
			}
		}},
		{g, "topics_survive_crash", crash | needTopics, func(e *env) {
			topic := e.topic(3)
			e.crash()
			ts, err := e.ext.Topics.Topics(e.ctx())
			e.must("list topics", err)
			if !slices.Contains(ts, driver.TopicInfo{Name: topic, Queues: 3}) {
				e.Errorf("topics after a crash: got %v, want %s with 3 queues among them", ts, topic)
			}
		}},
	}
}

// samePlace requires every message to come from where Send said it was stored.
func samePlace(e *env, rs []driver.SendResult, got []arrival) {
	e.Helper()
	at := map[string]driver.SendResult{}
	for _, r := range rs {
		at[r.ID] = r
	}
	for _, a := range got {
		r, ok := at[a.d.ID]
		if !ok || a.d.Offset != r.Offset || a.d.OffsetID != r.OffsetID || e.caps.Queues && a.lane.Info().Queue != r.Queue {
			e.Errorf("%v of queue %d: stored, said Send, at offset %d of queue %d", a, a.lane.Info().Queue, r.Offset, r.Queue)
		}
		delete(at, a.d.ID)
	}
	for id := range at {
		e.Errorf("message %s was stored and never delivered", id)
	}
}

// durableOffsets: a place is given to one message only, crash or not.
func durableOffsets(e *env) {
	topic := e.topic(1)
	seen := map[int64]bool{}
	for range 3 {
		for _, r := range e.sendN(topic, 4) {
			if seen[r.Offset] {
				e.Errorf("offset %d was given to two messages", r.Offset)
			}
			seen[r.Offset] = true
		}
		e.crash()
	}
	for o := range int64(len(seen)) {
		if !seen[o] {
			e.Errorf("offsets of 12 messages are not dense: %d is missing", o)
		}
	}
}

func durablePositions(e *env, restart func()) {
	topic := e.topic(2)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 10)
	ackAll(m.take(10))
	m.close()
	e.send(message(topic, 10))
	restart()
	m = e.member(e.its("group"), topic)
	if a := m.take(1)[0]; string(a.d.Body) != "m10" {
		e.Errorf("after the restart: got %v, want m10", a)
	}
	m.none("everything else was acknowledged and the lane ended cleanly")
}

func durablePartialAcks(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 10)
	for i, a := range m.take(10) {
		if i%2 == 0 {
			a.ack()
		}
	}
	e.crash()
	m = e.member(e.its("group"), topic)
	missing := map[string]bool{}
	for i := 1; i < 10; i += 2 {
		missing[fmt.Sprint("m", i)] = true
	}
	for len(missing) > 0 {
		a := m.take(1)[0]
		delete(missing, string(a.d.Body))
		a.ack()
	}
}
