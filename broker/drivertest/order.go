package drivertest

import (
	"fmt"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
)

// orderCases: same key, same lane, same order.
func orderCases() []testCase {
	const g = "order"
	return []testCase{
		{g, "same_key_same_lane", 0, func(e *env) {
			topic := e.topic(4)
			sendKeyed(e, topic, 0, 5)
			m := e.member(e.its("group"), topic)
			lanes := keyedLanes(e, m.take(keys*5), 0)
			if used := distinct(lanes); e.caps.Queues && used < 2 {
				e.Errorf("%d keys went to %d lane of 4", keys, used)
			}
		}},
		{g, "kept_over_reopen", needReopen | needDurable, func(e *env) {
			keyedOverRestart(e, e.reopen)
		}},
		{g, "kept_over_crash", needCrash | needDurable, func(e *env) {
			keyedOverRestart(e, e.crash)
		}},
		{g, "ordered_returns_wait", needOrdered, orderedReturn},
		{g, "ordered_return_keeps_successors", needOrdered, orderedReturnBatch},
		{g, "ordered_has_no_retry_lane", needOrdered, func(e *env) {
			topic := e.topic(2)
			m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Ordered: true}, memberOptions{})
			e.sendN(topic, 4)
			ackAll(m.take(4))
			for _, l := range m.owned() {
				if l.Info().Retry {
					e.Errorf("ordered subscription was assigned the retry lane %s", l.Name())
				}
			}
		}},
		{g, "ordered_over_handover", needOrdered, orderedHandover},
	}
}

// keys is the number of ordering keys tried; no multiple of a number of queues,
// so that dealing out in turn is not mistaken for hashing.
const keys = 19

// sendKeyed sends n messages for each key, the keys interleaved.
func sendKeyed(e *env, topic string, from, n int) {
	for i := from; i < from+n; i++ {
		for k := range keys {
			e.send(&driver.Message{Topic: topic, OrderingKey: fmt.Sprint("key-", k), Body: fmt.Appendf(nil, "%d %d", k, i)})
		}
	}
}

// keyedLanes requires the messages of each key to come by one lane in order,
// from number from on, and returns the lane of each key.
func keyedLanes(e *env, got []arrival, from int) map[int]string {
	e.Helper()
	lanes, next := map[int]string{}, map[int]int{}
	for _, a := range got {
		var k, i int
		if _, err := fmt.Sscan(string(a.d.Body), &k, &i); err != nil {
			e.Fatalf("delivery %v was never sent", a)
		}
		if want := from + next[k]; i != want {
			e.Errorf("key %d: got message %d, want %d", k, i, want)
		}
		next[k]++
		lane := a.lane.Name()
		if before, ok := lanes[k]; ok && before != lane {
			e.Errorf("key %d came by lane %s and by %s", k, before, lane)
		}
		lanes[k] = lane
	}
	return lanes
}

func distinct(lanes map[int]string) int {
	names := map[string]bool{}
	for _, l := range lanes {
		names[l] = true
	}
	return len(names)
}

func keyedOverRestart(e *env, restart func()) {
	topic := e.topic(4)
	sendKeyed(e, topic, 0, 3)
	restart()
	sendKeyed(e, topic, 3, 3)
	keyedLanes(e, e.member(e.its("group"), topic).take(keys*6), 0)
}

func orderedReturn(e *env) {
	topic := e.topic(1)
	m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Ordered: true}, memberOptions{limit: 1, manual: true})
	e.sendN(topic, 3)
	lane := m.awaitLanes(1)[0]
	for i := range 3 {
		// Each message is returned once and must come again before the next.
		for try := range 2 {
			a := fetchOne(e, m, lane)
			if want := fmt.Sprint("m", i); string(a.d.Body) != want {
				e.Fatalf("try %d: got %v, want %s: the lane waits with a returned message", try, a, want)
			}
			if a.d.Attempt != 1 {
				e.Errorf("%v after Return: want attempt 1", a)
			}
			if try == 0 {
				a.settle(driver.Return, e.lim.Delays[0])
			} else {
				a.ack()
			}
		}
	}
}

func orderedReturnBatch(e *env) {
	topic := e.topic(1)
	m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Ordered: true}, memberOptions{manual: true})
	e.sendN(topic, 4)
	lane := m.awaitLanes(1)[0]
	held := fetchN(e, m, lane, 4)
	held[0].ack()
	// Everything behind the first is given back, as a drain does.
	for _, a := range held[1:] {
		a.settle(driver.Return, 0)
	}
	got := bodies(fetchN(e, m, lane, 3))
	if want := "m1 m2 m3"; strings.Join(got, " ") != want {
		e.Errorf("after a Return of m1 to m3: got %q, want %s", got, want)
	}
}

func orderedHandover(e *env) {
	topic := e.topic(2)
	spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Ordered: true}
	a := e.join("a", spec, memberOptions{manual: true})
	lanes := a.awaitLanes(1)
	e.await("a to own every lane", func() bool { lanes = a.fresh(); return !e.caps.Queues || len(lanes) == 2 })
	for i := range 10 {
		e.send(&driver.Message{Topic: topic, OrderingKey: fmt.Sprint("key-", i%4), Body: fmt.Appendf(nil, "%d %d", i%4, i/4)})
	}
	// a has fetched everything and settled the first of each lane only.
	held := 0
	for _, l := range lanes {
		ds, err := l.Fetch(e.ctx(), 16)
		e.must("fetch", err)
		if held += len(ds); len(ds) > 0 {
			e.must("settle", l.Settle(e.ctx(), []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}}))
		}
	}
	if held == 0 {
		e.Fatalf("a fetched nothing from %d lanes", len(lanes))
	}
	a.close()
	b := e.join("b", spec, memberOptions{})
	next := map[int]int{}
	for _, x := range b.take(10 - len(lanes)) {
		var k, i int
		_, _ = fmt.Sscan(string(x.d.Body), &k, &i)
		if n, ok := next[k]; ok && i != n {
			e.Errorf("key %d after the hand-over: got message %d, want %d", k, i, n)
		}
		next[k] = i + 1
	}
}

// fetchOne calls Fetch until it answers one delivery.
func fetchOne(e *env, m *member, l driver.Lane) arrival {
	e.Helper()
	return fetchLimit(e, m, l, 1, 1)[0]
}

// fetchN calls Fetch until n deliveries came.
func fetchN(e *env, m *member, l driver.Lane, n int) []arrival {
	e.Helper()
	return fetchLimit(e, m, l, n, 16)
}

func fetchLimit(e *env, m *member, l driver.Lane, n, limit int) []arrival {
	e.Helper()
	ctx := e.ctx()
	var got []arrival
	for len(got) < n {
		ds, err := l.Fetch(ctx, min(limit, n-len(got)))
		if err != nil || ctx.Err() != nil {
			e.Fatalf("fetch from lane %s: got %d of %d deliveries (%s), then %v", l.Name(), len(got), n, describe(got), err)
		}
		for _, d := range ds {
			got = append(got, arrival{m: m, lane: l, d: d})
		}
	}
	return got
}
