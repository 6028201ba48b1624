package drivertest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// sendCases: order, results, identity, limits.
func sendCases() []testCase {
	const g = "send"
	return []testCase{
		{g, "order_in_one_call", 0, sendOrderInOneCall},
		{g, "order_over_calls", 0, sendOrderOverCalls},
		{g, "results_per_message", 0, sendResultsPerMessage},
		{g, "ids", 0, sendIDs},
		{g, "slice_not_kept", 0, sendSliceNotKept},
		{g, "empty_request", 0, func(e *env) {
			if rs := e.main.Send(e.ctx(), driver.SendRequest{}); len(rs) != 0 {
				e.Errorf("send of nothing: got %d results", len(rs))
			}
		}},
		{g, "concurrent", 0, sendConcurrent},
		{g, "no_ack", needOneWay, sendNoAck},
		{g, "batch_limit", needMaxBatch, func(e *env) {
			topic := e.topic(1)
			e.send(messages(topic, e.caps.MaxBatch)...)
			rs := e.main.Send(e.ctx(), driver.SendRequest{Messages: messages(topic, e.caps.MaxBatch+1)})
			if len(rs) != e.caps.MaxBatch+1 {
				e.Fatalf("got %d results for %d messages", len(rs), e.caps.MaxBatch+1)
			}
			for _, r := range rs {
				e.refused("send of MaxBatch+1 messages", r)
			}
		}},
		{g, "queue", needQueues, sendToQueue},
		{g, "bad_queue", needQueues, sendToBadQueue},
		{g, "result_fields", 0, sendResultFields},
	}
}

func sendOrderInOneCall(e *env) {
	topic := e.topic(1)
	n := 50
	if e.caps.MaxBatch > 0 {
		n = min(n, e.caps.MaxBatch)
	}
	ms := messages(topic, n)
	rs := e.send(ms...)
	for i := 1; i < n; i++ {
		if rs[i].Lane == rs[i-1].Lane && rs[i].Offset <= rs[i-1].Offset {
			e.Errorf("result %d has offset %d after %d; want ascending", i, rs[i].Offset, rs[i-1].Offset)
		}
	}
	got := e.member(e.its("group"), topic).take(n)
	inOrderPerLane(e, got)
}

func sendOrderOverCalls(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 50)
	inOrderPerLane(e, m.take(50))
}

// inOrderPerLane requires bodies m0, m1, … to ascend within each lane.
func inOrderPerLane(e *env, got []arrival) {
	e.Helper()
	last := map[string]int{}
	for _, a := range got {
		var n int
		if _, err := fmt.Sscanf(string(a.d.Body), "m%d", &n); err != nil {
			e.Fatalf("delivery %v was never sent", a)
		}
		lane := a.lane.Name()
		if prev, ok := last[lane]; ok && n <= prev {
			e.Errorf("lane %s delivered m%d after m%d", lane, n, prev)
		}
		last[lane] = n
	}
}

func sendResultsPerMessage(e *env) {
	topic := e.topic(2)
	ms := messages(topic, 5)
	ms[1].Topic = "no/topic"
	ms[3].Tag = "a||b"
	for i, m := range ms {
		m.ID = fmt.Sprintf("ID%d", i)
	}
	rs := e.main.Send(e.ctx(), driver.SendRequest{Messages: ms})
	if len(rs) != 5 {
		e.Fatalf("got %d results for 5 messages", len(rs))
	}
	for i, r := range rs {
		if r.ID != ms[i].ID {
			e.Errorf("result %d: got id %q, want %q, also with an error", i, r.ID, ms[i].ID)
		}
		if i == 1 || i == 3 {
			e.refused("a bad message among good ones", r)
		} else if r.Err != nil || r.Status != driver.Stored {
			e.Errorf("good message %d among bad ones: got %v, %v", i, r.Status, r.Err)
		}
	}
	m := e.member(e.its("group"), topic)
	got := bodies(m.take(3))
	slices.Sort(got)
	if !slices.Equal(got, []string{"m0", "m2", "m4"}) {
		e.Errorf("got %q, want the three good messages", got)
	}
	m.none("two messages were refused")
}

func sendIDs(e *env) {
	topic := e.topic(2)
	seen, want := map[string]bool{}, map[string]string{}
	for i := range 60 {
		msg := message(topic, i)
		if i%2 == 0 {
			msg.ID = fmt.Sprintf("OWN-%d", i)
		}
		r := e.send(msg)[0]
		switch {
		case r.ID == "" || seen[r.ID]:
			e.Fatalf("message %d: id %q is empty or was given before", i, r.ID)
		case msg.ID != "" && r.ID != msg.ID:
			e.Errorf("message %d: got id %q, want the one given, %q", i, r.ID, msg.ID)
		}
		seen[r.ID] = true
		want[string(msg.Body)] = r.ID
	}
	for _, a := range e.member(e.its("group"), topic).take(60) {
		if a.d.ID != want[string(a.d.Body)] {
			e.Errorf("%v: delivered with id %q, sent with %q", a, a.d.ID, want[string(a.d.Body)])
		}
	}
}

func sendSliceNotKept(e *env) {
	topic := e.topic(1)
	msg := &driver.Message{
		Topic: topic, Tag: "tag", Keys: []string{"k1", "k2"}, Body: []byte("body"),
		Properties: map[string]string{"p": "v"}, OrderingKey: "o",
	}
	keep := *msg
	keep.Keys, keep.Body, keep.Properties = slices.Clone(msg.Keys), bytes.Clone(msg.Body), maps.Clone(msg.Properties)
	ms := []*driver.Message{msg}
	e.send(ms...)
	if ms[0] != msg || msg.ID != "" || msg.Topic != topic || !maps.Equal(msg.Properties, keep.Properties) ||
		!bytes.Equal(msg.Body, keep.Body) || !slices.Equal(msg.Keys, keep.Keys) || !msg.BornAt.IsZero() {
		e.Errorf("Send changed the message: %+v, before %+v", *msg, keep)
	}
	ms[0] = nil
	copy(msg.Body, "XXXX")
	msg.Keys[0], msg.Properties["p"], msg.Tag = "X", "X", "X"
	e.sameMessage("a message changed by the sender after Send", e.member(e.its("group"), topic).take(1)[0].d, &keep)
}

func sendConcurrent(e *env) {
	topic := e.topic(4)
	m := e.member(e.its("group"), topic)
	const procs, each = 8, 25
	var wg sync.WaitGroup
	for p := range procs {
		wg.Go(func() {
			for i := range each {
				rs := e.main.Send(e.ctx(), driver.SendRequest{Messages: []*driver.Message{{
					Topic: topic, OrderingKey: fmt.Sprint("p", p), Body: fmt.Appendf(nil, "%d %d", p, i),
				}}})
				if len(rs) != 1 || rs[0].Err != nil {
					e.Errorf("concurrent send: got %+v", rs)
				}
			}
		})
	}
	wg.Wait()
	next := map[int]int{}
	for _, a := range m.take(procs * each) {
		var p, i int
		if _, err := fmt.Sscan(string(a.d.Body), &p, &i); err != nil {
			e.Fatalf("delivery %v was never sent", a)
		}
		if i != next[p] {
			e.Errorf("sender %d: got message %d, want %d: one key, one order", p, i, next[p])
		}
		next[p] = i + 1
	}
	m.none("every message came once")
}

func sendNoAck(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	rs := e.main.Send(e.ctx(), driver.SendRequest{Messages: messages(topic, 3), NoAck: true})
	if len(rs) != 3 {
		e.Fatalf("got %d results for 3 messages", len(rs))
	}
	for i, r := range rs {
		if r.Err != nil || r.Status != driver.Unconfirmed || r.ID == "" {
			e.Errorf("one-way result %d: got %+v, want unconfirmed with an id and no error", i, r)
		}
	}
	inOrderPerLane(e, m.take(3))
	rs = e.main.Send(e.ctx(), driver.SendRequest{Messages: []*driver.Message{message("a/b", 1)}, NoAck: true})
	if len(rs) != 1 {
		e.Fatalf("got %d results for one message", len(rs))
	}
	e.refused("one-way send of a bad message", rs[0])
}

func sendToQueue(e *env) {
	topic := e.topic(4)
	m := e.member(e.its("group"), topic)
	for q := range 4 {
		// The ordering key is the same for all: the queue overrides it.
		msg := &driver.Message{Topic: topic, Queue: q, QueueSet: true, OrderingKey: "same", Body: fmt.Appendf(nil, "m%d", q)}
		if r := e.send(msg)[0]; r.Queue != q {
			e.Errorf("sent to queue %d: the result says %d", q, r.Queue)
		}
	}
	for _, a := range m.take(4) {
		if want := fmt.Sprint("m", a.lane.Info().Queue); string(a.d.Body) != want {
			e.Errorf("queue %d delivered %v, want %s", a.lane.Info().Queue, a, want)
		}
	}
}

func sendToBadQueue(e *env) {
	topic := e.topic(2)
	m := e.member(e.its("group"), topic)
	for _, q := range []int{2, 1 << 30, -1} {
		e.refused(fmt.Sprint("send to queue ", q, " of 2"), e.sendOne(&driver.Message{Topic: topic, Queue: q, QueueSet: true, Body: []byte("m")}))
	}
	m.none("every queue was wrong")
}

func sendResultFields(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	before := time.Now()
	r := e.send(message(topic, 1))[0]
	if r.Lane == "" || r.OffsetID == "" || r.Offset < 0 {
		e.Errorf("result of a stored message: got lane %q, offset id %q, offset %d", r.Lane, r.OffsetID, r.Offset)
	}
	a := m.take(1)[0]
	switch {
	case a.d.OffsetID != r.OffsetID || a.d.Offset != r.Offset:
		e.Errorf("delivered with offset id %q, offset %d; the result said %q, %d", a.d.OffsetID, a.d.Offset, r.OffsetID, r.Offset)
	case a.d.Attempt != 1:
		e.Errorf("first delivery is attempt %d, want 1", a.d.Attempt)
	case a.d.StoredAt.Before(before.Add(-time.Second)) || a.d.StoredAt.After(time.Now().Add(time.Second)):
		e.Errorf("StoredAt is %v, sent at %v", a.d.StoredAt, before)
	case a.d.BornAt.Before(before.Add(-time.Second)) || a.d.BornAt.After(time.Now().Add(time.Second)):
		e.Errorf("BornAt of a message without one is %v, want the time of Send, %v", a.d.BornAt, before)
	}
	if info := a.lane.Info(); info.Topic != topic || info.Retry || info.Queue != r.Queue {
		e.Errorf("lane %s: got info %+v, want topic %s, queue %d, no retry lane", a.lane.Name(), info, topic, r.Queue)
	}
}
