package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
func holding(t *testing.T) (*conn, *wire, <-chan asking) {
	t.Helper()
	asked := make(chan asking, 64)
	c, w := openWire(t, Config{}, func(_ *wire, a asking) {
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
func gather(t *testing.T, c *conn, n int, wg *sync.WaitGroup) []driver.SendResult {
	t.Helper()
	results := make([]driver.SendResult, n)
	for i := range results {
		wg.Go(func() { results[i] = one(t.Context(), c, fmt.Sprint("message ", i)) })
	}
	synctest.Wait()
	if got := gatheredBy(c); got != n {
		t.Fatalf("%d messages have gathered, want %d", got, n)
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
	c, w, asked := holding(t)
	var wg sync.WaitGroup
	due := busy(t, c, asked, &wg)
	results := gather(t, c, 5, &wg)
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
	c, w, asked := holding(t)
	var wg sync.WaitGroup
	due := busy(t, c, asked, &wg)
	results := gather(t, c, 3, &wg)
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

// Who does not wait any longer hears that his message may be stored; the others
// get theirs.
func TestGather_SenderLeaves(t *testing.T) { synctest.Test(t, testSenderLeaves) }

func testSenderLeaves(t *testing.T) {
	c, w, asked := holding(t)
	var wg sync.WaitGroup
	due := busy(t, c, asked, &wg)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan driver.SendResult)
	go func() { left <- one(ctx, c, "left") }()
	synctest.Wait()
	cancel()
	var e *driver.Error
	if r := <-left; !errors.As(r.Err, &e) || e.Code != driver.Canceled || !e.MaybeDone || r.Status != driver.NotStored {
		t.Errorf("the sender that left got %+v", r)
	}
	w.tell(func() { w.stored(due[0], 0) })
	batch := <-asked
	if elements := batch.batch(t); len(elements) != 1 || string(elements[0].Body) != "left" {
		t.Errorf("sent were %q", elements)
	}
	w.tell(func() { w.stored(due[1], 1); w.stored(batch, 2) })
	wg.Wait()
}

// Without an answer what has gathered behind it is not sent.
func TestGather_NoAnswer(t *testing.T) { synctest.Test(t, testNoAnswer) }

func testNoAnswer(t *testing.T) {
	c, _, asked := holding(t)
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
	results := gather(t, c, 3, &wg)
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

// Close ends those who wait.
func TestGather_Close(t *testing.T) { synctest.Test(t, testClose) }

func testClose(t *testing.T) {
	c, _, asked := holding(t)
	results := make(chan driver.SendResult, underWay+1)
	for i := range underWay + 1 {
		go func() { results <- one(t.Context(), c, "m") }()
		if i < underWay {
			<-asked
		}
	}
	synctest.Wait()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for range underWay + 1 {
		if r := <-results; driver.CodeOf(r.Err) != driver.Closed {
			t.Errorf("got %+v, want %s", r, driver.Closed)
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
