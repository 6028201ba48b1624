package rocketmq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// one sends one message with a text.
func one(ctx context.Context, c *conn, text string) driver.SendResult {
	return c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{{Topic: "t", Body: []byte(text)}}})[0]
}

// holding is a client of a broker that holds every answer.
func holding(t *testing.T, cfg Config) (*conn, *wire, <-chan asking) {
	t.Helper()
	asked := make(chan asking, 64)
	c, w := openWire(t, cfg, func(_ *wire, a asking) {
		a.frame = slices.Clone(a.frame)
		asked <- a
	})
	return c, w, asked
}

// busy sends two messages, whose answers are due then.
func busy(t *testing.T, c *conn, asked <-chan asking, wg *sync.WaitGroup) [underWay]asking {
	t.Helper()
	var due [underWay]asking
	for i := range due {
		wg.Go(func() {
			if r := one(t.Context(), c, "alone"); r.Err != nil {
				t.Error(r.Err)
			}
		})
		if due[i] = <-asked; due[i].code != remoting.ReqSendMessageV2 {
			t.Errorf("a send is a request with code %d", due[i].code)
		}
	}
	return due
}

// gather lets so many more sends come while the broker is busy.
func gather(t *testing.T, c *conn, n int, wg *sync.WaitGroup, before int) []driver.SendResult {
	t.Helper()
	results := make([]driver.SendResult, n)
	for i := range results {
		wg.Go(func() { results[i] = one(t.Context(), c, fmt.Sprint("message ", i)) })
	}
	synctest.Wait()
	if got := gatheredBy(c); got != n+before {
		t.Fatalf("%d messages have gathered, want %d", got, n+before)
	}
	return results
}

func gatheredBy(c *conn) (n int) {
	c.gather.mu.Lock()
	defer c.gather.mu.Unlock()
	for _, l := range c.gather.lanes {
		for _, b := range l.batches {
			n += len(b.waiting)
		}
	}
	return n
}

// What is sent while the broker is busy goes in one request, and each sender
// hears of its own message.
func TestGather_OneRequest(t *testing.T) { synctest.Test(t, testOneRequest) }

func testOneRequest(t *testing.T) {
	c, w, asked := holding(t, Config{})
	var wg sync.WaitGroup
	due := busy(t, c, asked, &wg)
	results := gather(t, c, 5, &wg, 0)
	w.tell(func() { w.stored(due[0], 0) })
	batch := <-asked
	elements := batch.batch(t)
	w.tell(func() { w.stored(due[1], 1); w.stored(batch, 2) })
	wg.Wait()
	if len(elements) != len(results) {
		t.Fatalf("%d messages in the request, want %d", len(elements), len(results))
	}
	for i, r := range results {
		at := slices.IndexFunc(elements, func(e message.BatchElement) bool { return string(e.Body) == fmt.Sprint("message ", i) })
		if r.Err != nil || r.Status != driver.Stored || r.Offset != int64(2+at) || r.Lane != "t/b/0" || r.ID == "" {
			t.Errorf("message %d at place %d has the result %+v", i, at, r)
		}
	}
}

// A broker that refuses what has gathered is asked about each message alone.
func TestGather_RefusedForOne(t *testing.T) { synctest.Test(t, testRefusedForOne) }

func testRefusedForOne(t *testing.T) {
	c, w, asked := holding(t, Config{})
	var wg sync.WaitGroup
	due := busy(t, c, asked, &wg)
	results := gather(t, c, 3, &wg, 0)
	w.tell(func() { w.stored(due[0], 0) })
	all := <-asked
	w.tell(func() { w.reply(all, remoting.ResMessageIllegal, "", nil) })
	for i := range results {
		alone := <-asked
		elements := alone.batch(t)
		w.tell(func() {
			if string(elements[0].Body) == "message 1" {
				w.reply(alone, remoting.ResMessageIllegal, "", nil)
			} else {
				w.stored(alone, 1+i)
			}
		})
	}
	w.tell(func() { w.stored(due[1], 9) })
	wg.Wait()
	for i, r := range results {
		if bad := i == 1; bad != (driver.CodeOf(r.Err) == driver.InvalidArgument) || bad != (r.Status == driver.NotStored) {
			t.Errorf("message %d has the result %+v", i, r)
		}
	}
}

// Who leaves before his message has gone takes it along; once it is on its way
// he hears that it may be stored. The others get their results.
func TestGather_SenderLeaves(t *testing.T) {
	for name, cfg := range map[string]Config{"behind others": {}, "lingering": {Linger: time.Second}} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testSenderLeaves(t, cfg) }) })
	}
}

func testSenderLeaves(t *testing.T, cfg Config) {
	c, w, asked := holding(t, cfg)
	var wg sync.WaitGroup
	var due []asking
	if cfg.Linger == 0 {
		for _, a := range busy(t, c, asked, &wg) {
			due = append(due, a)
		}
	}
	leaver := func(text string) (leave func(maybe bool)) {
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan driver.SendResult)
		go func() { left <- one(ctx, c, text) }()
		synctest.Wait()
		return func(maybe bool) {
			t.Helper()
			cancel()
			var e *driver.Error
			if r := <-left; !errors.As(r.Err, &e) || e.Code != driver.Canceled || e.MaybeDone != maybe || r.Status != driver.NotStored {
				t.Errorf("the sender of %q got %+v", text, r)
			}
		}
	}
	leaver("gone alone")(false)
	if n := gatheredBy(c); n != 0 {
		t.Errorf("%d messages are left of one whose sender has left", n)
	}
	first := leaver("gone first")
	results := gather(t, c, 2, &wg, 1)
	late := leaver("gone late")
	first(false)
	if cfg.Linger == 0 {
		w.tell(func() { w.stored(due[0], 0) })
	}
	batch := <-asked
	late(true)
	elements := batch.batch(t)
	if len(elements) != 3 || string(elements[2].Body) != "gone late" {
		t.Errorf("sent were %q", elements)
	}
	w.tell(func() {
		for _, a := range due[min(1, len(due)):] {
			w.stored(a, 1)
		}
		w.stored(batch, 2)
	})
	wg.Wait()
	for i, r := range results {
		at := slices.IndexFunc(elements, func(e message.BatchElement) bool { return string(e.Body) == fmt.Sprint("message ", i) })
		if r.Err != nil || r.Offset != int64(2+at) {
			t.Errorf("message %d at place %d has the result %+v", i, at, r)
		}
	}
}

// Without an answer what has gathered behind it is not sent.
func TestGather_NoAnswer(t *testing.T) { synctest.Test(t, testNoAnswer) }

func testNoAnswer(t *testing.T) {
	c, _, asked := holding(t, Config{})
	began := time.Now()
	var wg sync.WaitGroup
	for range underWay {
		wg.Go(func() {
			var e *driver.Error
			if r := one(t.Context(), c, "alone"); !errors.As(r.Err, &e) || e.Code != driver.Timeout || !e.MaybeDone || !e.Retryable {
				t.Errorf("a message without an answer got %+v", r)
			}
		})
		<-asked
	}
	results := gather(t, c, 3, &wg, 0)
	wg.Wait()
	for _, r := range results {
		var e *driver.Error
		if !errors.As(r.Err, &e) || e.Code != driver.Timeout || e.MaybeDone || !e.Retryable || r.ID == "" {
			t.Errorf("a message that was not sent got %+v", r)
		}
	}
	if took := time.Since(began); took != defaultTimeout || len(asked) > 0 {
		t.Errorf("all was over after %v, %d more requests were sent", took, len(asked))
	}
}

// Close ends those who wait. What has gathered was not sent.
func TestGather_Close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { testClose(t, Config{}, underWay) })
	synctest.Test(t, func(t *testing.T) { testClose(t, Config{Linger: time.Second}, 0) })
}

func testClose(t *testing.T, cfg Config, sent int) {
	c, _, asked := holding(t, cfg)
	results := make(chan driver.SendResult, sent+1)
	for i := range sent + 1 {
		go func() { results <- one(t.Context(), c, "m") }()
		if i < sent {
			<-asked
		}
	}
	synctest.Wait()
	began, unsent := time.Now(), 0
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for range sent + 1 {
		var e *driver.Error
		r := <-results
		if !errors.As(r.Err, &e) || e.Code != driver.Closed {
			t.Errorf("got %+v, want %s", r, driver.Closed)
		} else if !e.MaybeDone {
			unsent++
		}
	}
	if took := time.Since(began); took > 0 || unsent != 1 || len(asked) > 0 {
		t.Errorf("%d are said to be not sent, want 1; %d more were sent in %v", unsent, len(asked), took)
	}
}

// Queues that nobody sends to any more are forgotten, those with work are not.
func TestGather_ForgetsIdleQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held []asking
		c, w := openWire(t, Config{}, func(w *wire, a asking) {
			if bytes.Contains(a.frame, []byte("busy")) {
				a.frame = nil
				held = append(held, a)
				return
			}
			w.stored(a, 1)
		})
		send := func(topic string) {
			if r := c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: topic, Body: []byte("m")}}})[0]; r.Err != nil {
				t.Error(r.Err)
			}
		}
		var wg sync.WaitGroup
		for range underWay + 1 {
			wg.Go(func() { send("busy") })
		}
		synctest.Wait()
		for i := range 3 * idleQueues {
			send(fmt.Sprint("topic-", i))
		}
		if n := len(c.gather.lanes); n > idleQueues || c.gather.lanes[Queue{"busy", "b", -1}] == nil {
			t.Errorf("%d queues are remembered, want %d at most, and the one with work", n, idleQueues)
		}
		for range 2 { // those on their way, and what has gathered behind them
			w.tell(func() {
				for _, a := range held {
					w.stored(a, 1)
				}
				held = nil
			})
			synctest.Wait()
		}
		wg.Wait()
	})
}

// With a linger messages wait for others of their queue, a lone one exactly so
// long, and go in the order in which they came.
func TestLinger_Time(t *testing.T) { synctest.Test(t, testLingerTime) }

func testLingerTime(t *testing.T) {
	c, w, asked := holding(t, Config{Linger: 10 * time.Millisecond})
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 3 {
		time.Sleep(time.Duration(min(i, 1)) * 4 * time.Millisecond) // 0, 4 and 8 ms
		wg.Go(func() {
			if r := one(t.Context(), c, fmt.Sprint(i)); r.Err != nil || r.Offset != int64(i) {
				t.Errorf("message %d has the result %+v", i, r)
			}
		})
	}
	batch := <-asked
	if took := time.Since(began); took != 10*time.Millisecond {
		t.Errorf("it went after %v, want 10 ms", took)
	}
	if elements := batch.batch(t); len(elements) != 3 || string(elements[0].Body) != "0" || string(elements[2].Body) != "2" {
		t.Errorf("sent were %q", elements)
	}
	// Under way, it does not keep the next one from its time.
	wg.Go(func() {
		if r := one(t.Context(), c, "lone"); r.Err != nil {
			t.Error(r.Err)
		}
	})
	lone := <-asked
	if took := time.Since(began); took != 20*time.Millisecond {
		t.Errorf("the lone one went after %v, want 20 ms", took)
	}
	w.tell(func() { w.stored(batch, 0); w.stored(lone, 3) })
	wg.Wait()
}

// A full request goes at once; what does not fit into one goes alone, at once.
func TestLinger_Full(t *testing.T) { synctest.Test(t, testLingerFull) }

func testLingerFull(t *testing.T) {
	c, w, asked := holding(t, Config{Linger: time.Second, BatchSize: 500})
	began := time.Now()
	var wg sync.WaitGroup
	send := func(size int) {
		wg.Go(func() {
			if r := one(t.Context(), c, strings.Repeat("x", size)); r.Err != nil {
				t.Error(r.Err)
			}
		})
		synctest.Wait()
	}
	send(100)
	send(100)
	if len(asked) > 0 {
		t.Error("there was room for more")
	}
	send(200)
	full := <-asked
	if n := len(full.batch(t)); n != 2 || time.Since(began) > 0 {
		t.Errorf("%d messages went after %v", n, time.Since(began))
	}
	send(500)
	if large := <-asked; large.code != remoting.ReqSendMessageV2 || time.Since(began) > 0 {
		t.Errorf("a message without room went by code %d after %v", large.code, time.Since(began))
	} else {
		w.tell(func() { w.stored(full, 0); w.stored(large, 2) })
	}
	last := <-asked
	if n := len(last.batch(t)); n != 1 || time.Since(began) != time.Second {
		t.Errorf("%d messages went after %v", n, time.Since(began))
	}
	w.tell(func() { w.stored(last, 3) })
	wg.Wait()
}

// Two requests under way hold back what is ready behind them.
func TestLinger_BrokerBusy(t *testing.T) { synctest.Test(t, testLingerBusy) }

func testLingerBusy(t *testing.T) {
	c, w, asked := holding(t, Config{Linger: time.Millisecond})
	var wg sync.WaitGroup
	for i := range underWay + 2 {
		wg.Go(func() {
			if r := one(t.Context(), c, fmt.Sprint(i)); r.Err != nil {
				t.Error(r.Err)
			}
		})
		time.Sleep(2 * time.Millisecond)
	}
	if len(asked) != underWay {
		t.Errorf("%d requests are under way, want %d", len(asked), underWay)
	}
	first, second := <-asked, <-asked
	w.tell(func() { w.stored(first, 0) })
	behind := <-asked
	if n := len(behind.batch(t)); n != 2 {
		t.Errorf("%d messages went, want 2", n)
	}
	w.tell(func() { w.stored(second, 1); w.stored(behind, 2) })
	wg.Wait()
}

// Messages whose births were measured one after the other go together; those of
// another day do not.
func TestSend_Births(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for want, births := range map[int][]time.Time{
		4: {now, now.Add(1), now.Add(time.Second), now.Add(-time.Second)},
		3: {{}, {}, {}, now},
		1: {now, now.Add(time.Second + 1)},
		2: {now, now, {}},
	} {
		var lane []outgoing
		for _, b := range births {
			lane = append(lane, outgoing{m: &driver.Message{Topic: "t", BornAt: b}})
		}
		if n := batchOf(lane); n != want {
			t.Errorf("%d of those born at %v go together, want %d", n, births, want)
		}
	}
}

// A send allocates what its results are made of, and little else.
func TestSend_Allocations(t *testing.T) {
	const answer = `"msgId":"7F00000100002A9F0000000000000000","queueId":"0","queueOffset":"7"`
	c, _ := openWire(t, Config{}, func(w *wire, a asking) { w.reply(a, remoting.ResSuccess, answer, nil) })
	m := []*driver.Message{{Topic: "t", Body: make([]byte, 1024)}}
	send := func() {
		if r := c.Send(t.Context(), driver.SendRequest{Messages: m}); r[0].Err != nil {
			t.Fatal(r[0].Err)
		}
	}
	send() // finds the route
	const most = 8
	if n := testing.AllocsPerRun(500, send); n > most {
		t.Errorf("%v allocations a send, want at most %d", n, most)
	}
}
