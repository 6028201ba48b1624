package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

// gate is a conn whose sends wait until it is opened.
func gated() (*fakeConn, chan struct{}) {
	conn := newConn()
	open := make(chan struct{})
	conn.answer = func(ctx context.Context, _ int, req driver.SendRequest) []driver.SendResult {
		select {
		case <-open:
			return nil
		case <-ctx.Done():
			return refuse(req, *driver.FromContext(ctx, "", true))
		}
	}
	return conn, open
}

func TestAsyncDelivers(t *testing.T) {
	t.Parallel()
	conn := newConn()
	p := client(t, conn, nil).Producer()
	var got sdk.SendResult
	var gotErr error
	m := sdk.NewMessage("bills", bill{"1"}, sdk.Header("h", "v"))
	if err := p.SendAsync(t.Context(), m, func(r sdk.SendResult, err error) { got, gotErr = r, err }); err != nil {
		t.Fatal(err)
	}
	if err := p.SendAsync(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	sent := conn.messages()
	if gotErr != nil || got.Status != sdk.Stored || len(sent) != 2 || got.ID != sent[0].ID || sent[0].ID == sent[1].ID {
		t.Errorf("result %+v, %v; sent %v", got, gotErr, sent)
	}
	if string(sent[0].Body) != `{"bill_id":"1"}` || sent[0].Properties["content-type"] != "application/json" || sent[0].Properties["h"] != "v" {
		t.Errorf("sent %+v", sent[0])
	}
}

func TestAsyncEncodesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn, open := gated()
		p := client(t, conn, nil).Producer()
		body := []byte("before")
		begin := time.Now()
		if err := p.SendAsync(t.Context(), sdk.NewMessage("bills", body, sdk.Delay(time.Minute)), nil); err != nil {
			t.Fatal(err)
		}
		copy(body, "AFTER!")
		time.Sleep(time.Second)
		close(open)
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := conn.messages()[0]; string(m.Body) != "before" || !m.DeliverAt.Equal(begin.Add(time.Minute)) {
			t.Errorf("sent %q due %v", m.Body, m.DeliverAt)
		}
	})
}

func TestAsyncRefusesEarly(t *testing.T) {
	t.Parallel()
	p := client(t, newConn(), nil).Producer()
	never := func(sdk.SendResult, error) { t.Error("done was called for a message that was not taken") }
	err := p.SendAsync(t.Context(), sdk.NewMessage("a b", 1), never)
	wantError(t, err, `send to a b: topic name "a b" holds ' '`)
	err = p.SendAsync(t.Context(), sdk.NewMessage("a", make(chan int)), never)
	wantCode(t, err, sdk.InvalidArgument, "send to a: encode chan int as application/json: json: unsupported type: chan int")
}

func TestAsyncBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn, open := gated()
		conn.caps.MaxBatch = 4
		var sizes []int
		inner := conn.answer
		conn.answer = func(ctx context.Context, n int, req driver.SendRequest) []driver.SendResult {
			sizes = append(sizes, len(req.Messages))
			return inner(ctx, n, req)
		}
		p := client(t, conn, map[string]string{"sluice.async.batch": "8"}).Producer()
		add := func() {
			if err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1), nil); err != nil {
				t.Error(err)
			}
		}
		add()
		synctest.Wait()
		for range 10 {
			add()
		}
		close(open)
		if err := p.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []int{1, 4, 4, 2}; !slices.Equal(sizes, want) {
			t.Errorf("batches %v, want %v", sizes, want)
		}
	})
}

func TestAsyncFull(t *testing.T) {
	t.Parallel()
	settings := func(full string) map[string]string {
		return map[string]string{"sluice.async.buffer": "2", "sluice.async.full": full}
	}
	fill := func(t *testing.T, p *sdk.Producer, calls *atomic.Int32) {
		for range 2 {
			if err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1), func(sdk.SendResult, error) { calls.Add(1) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	const text = "send to a: the buffer of 2 asynchronous messages is full"
	t.Run("fail", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			conn, open := gated()
			p := client(t, conn, settings("fail")).Producer()
			var calls atomic.Int32
			fill(t, p, &calls)
			err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1), func(sdk.SendResult, error) { t.Error("done was called") })
			if e := wantCode(t, err, sdk.ResourceExhausted, text); !e.Retryable {
				t.Error("not retryable")
			}
			close(open)
			if err := p.Flush(t.Context()); err != nil || calls.Load() != 2 {
				t.Errorf("%v, %d calls", err, calls.Load())
			}
		})
	})
	t.Run("drop", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			conn, open := gated()
			p := client(t, conn, settings("drop")).Producer()
			var calls atomic.Int32
			fill(t, p, &calls)
			dropped := 0
			err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1, sdk.ID("X")), func(r sdk.SendResult, err error) {
				dropped++
				wantCode(t, err, sdk.ResourceExhausted, text)
				if r.ID != "X" || r.Status != sdk.NotStored {
					t.Errorf("result %+v", r)
				}
			})
			if err != nil || dropped != 1 {
				t.Errorf("%v, done called %d times before the return", err, dropped)
			}
			close(open)
			if err := p.Flush(t.Context()); err != nil || calls.Load() != 2 || len(conn.messages()) != 2 {
				t.Errorf("%v, %d calls, %d sent", err, calls.Load(), len(conn.messages()))
			}
		})
	})
	t.Run("block", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			conn, open := gated()
			c := client(t, conn, settings("block"))
			p := c.Producer()
			var calls atomic.Int32
			fill(t, p, &calls)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := p.SendAsync(ctx, sdk.NewMessage("a", 1), func(sdk.SendResult, error) { t.Error("done was called") })
			wantCode(t, err, sdk.Timeout, "send to a: context deadline exceeded")
			var late error
			var wg sync.WaitGroup
			wg.Go(func() {
				late = p.SendAsync(t.Context(), sdk.NewMessage("a", 1), func(sdk.SendResult, error) { calls.Add(1) })
			})
			synctest.Wait()
			close(open)
			wg.Wait()
			if err := p.Flush(t.Context()); late != nil || err != nil || calls.Load() != 3 {
				t.Errorf("%v, %v, %d calls", late, err, calls.Load())
			}
		})
	})
	t.Run("close unblocks", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			conn, open := gated()
			c := client(t, conn, settings("block"))
			var calls atomic.Int32
			fill(t, c.Producer(), &calls)
			var blocked error
			var wg sync.WaitGroup
			wg.Go(func() { blocked = c.Producer().SendAsync(t.Context(), sdk.NewMessage("a", 1), nil) })
			synctest.Wait()
			wg.Go(func() { _ = c.Close(t.Context()) })
			synctest.Wait()
			wantCode(t, blocked, sdk.Closed, "send to a: the client is closed")
			close(open)
			wg.Wait()
			if calls.Load() != 2 {
				t.Errorf("%d calls", calls.Load())
			}
		})
	})
}

// TestAsyncLanes: a lane that waits does not hold up the others.
func TestAsyncLanes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn, open := gated()
		p := client(t, conn, nil).Producer()
		for range 2 {
			for _, opt := range []sdk.MessageOption{sdk.Queue(0), sdk.Queue(1), sdk.OrderingKey("0"), sdk.ContentType("")} {
				if err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1, opt), nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if conn.sends() != 4 {
			t.Errorf("%d requests under way for 4 lanes", conn.sends())
		}
		close(open)
		if err := p.Flush(t.Context()); err != nil || len(conn.messages()) != 8 {
			t.Errorf("%v, %d sent", err, len(conn.messages()))
		}
	})
}

func TestAsyncCallbackMaySendAgain(t *testing.T) {
	t.Parallel()
	conn := newConn()
	p := client(t, conn, map[string]string{"sluice.async.buffer": "1"}).Producer()
	again := make(chan error, 1)
	err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1), func(sdk.SendResult, error) {
		again <- p.SendAsync(t.Context(), sdk.NewMessage("a", 2), nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-again; err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); err != nil || len(conn.messages()) != 2 {
		t.Errorf("%v, %d sent", err, len(conn.messages()))
	}
}

func TestAsyncContainsPanics(t *testing.T) {
	t.Parallel()
	var log logBuffer
	bad := sdk.Interceptor{Name: "bad", Produce: func(next sdk.ProduceFunc) sdk.ProduceFunc {
		return func(ctx context.Context, ms []*sdk.Outgoing) ([]sdk.SendResult, error) {
			if ms[0].Topic == "explode" {
				panic("interceptor")
			}
			return next(ctx, ms)
		}
	}}
	p := client(t, newConn(), nil, func(p *sdk.ClientParams) {
		p.Logger, p.Interceptors = log.logger(), []sdk.Interceptor{bad}
	}).Producer()
	var calls atomic.Int32
	for range 3 {
		err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1), func(sdk.SendResult, error) { calls.Add(1); panic("callback") })
		if err != nil {
			t.Fatal(err)
		}
	}
	var failure error
	if err := p.SendAsync(t.Context(), sdk.NewMessage("explode", 1), func(_ sdk.SendResult, err error) { failure = err }); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); err != nil || calls.Load() != 3 {
		t.Errorf("%v, %d calls", err, calls.Load())
	}
	if n := strings.Count(log.String(), "the callback of an asynchronous send panicked"); n != 3 {
		t.Errorf("logged %d times: %s", n, log.String())
	}
	wantError(t, failure, "send to explode: panic: interceptor", "async_test.go")
}

func TestFlushWaitsOnlyForEarlierMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conn := newConn()
		first, second := make(chan struct{}), make(chan struct{})
		conn.answer = func(_ context.Context, _ int, req driver.SendRequest) []driver.SendResult {
			if req.Messages[0].Topic == "first" {
				<-first
			} else {
				<-second
			}
			return nil
		}
		p := client(t, conn, map[string]string{"sluice.send.timeout": "1h"}).Producer()
		add := func(topic string) {
			if err := p.SendAsync(t.Context(), sdk.NewMessage(topic, 1), nil); err != nil {
				t.Error(err)
			}
		}
		add("first")
		var wg sync.WaitGroup
		flushed := make(chan error, 1)
		wg.Go(func() { flushed <- p.Flush(t.Context()) })
		synctest.Wait()
		add("second")
		select {
		case err := <-flushed:
			t.Errorf("Flush returned %v before the first message was sent", err)
		default:
		}
		close(first)
		wg.Wait()
		if err := <-flushed; err != nil {
			t.Errorf("Flush waited for a later message: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantCode(t, p.Flush(ctx), sdk.Timeout, "flush asynchronous messages: context deadline exceeded (the broker may have done it)")
		close(second)
		if err := p.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseFlushesThenCancels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // in time
		conn, open := gated()
		c := client(t, conn, nil)
		var calls atomic.Int32
		for i := range 5 {
			key := fmt.Sprint(i)
			if err := c.Producer().SendAsync(t.Context(), sdk.NewMessage("a", 1, sdk.OrderingKey(key)), func(_ sdk.SendResult, err error) {
				calls.Add(1)
				if err != nil {
					t.Error(err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(time.Second, func() { close(open) })
		if err := c.Close(t.Context()); err != nil || calls.Load() != 5 || conn.closes != 1 {
			t.Errorf("%v, %d calls, %d closes", err, calls.Load(), conn.closes)
		}
	})
	synctest.Test(t, func(t *testing.T) { // too late
		conn, _ := gated()
		c := client(t, conn, map[string]string{"sluice.async.batch": "1"})
		var errs []error
		for range 3 {
			if err := c.Producer().SendAsync(t.Context(), sdk.NewMessage("a", 1), func(_ sdk.SendResult, err error) { errs = append(errs, err) }); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err := c.Close(ctx)
		wantError(t, err, "flush asynchronous messages: context deadline exceeded")
		if took := time.Since(begin); took != time.Second || len(errs) != 3 || conn.closes != 1 {
			t.Errorf("took %v, %d errors, %d closes", took, len(errs), conn.closes)
		}
		wantCode(t, errs[0], sdk.Canceled, "send to a: the client is closed before its asynchronous messages were sent (the broker may have done it)")
		wantCode(t, errs[1], sdk.Canceled, "send to a: the client is closed before its asynchronous messages were sent")
	})
}

// TestAsyncOrder: whatever fails on the way, the messages of one topic and key
// arrive in the order in which they were taken, one request at a time, and every
// callback runs once.
func TestAsyncOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.IntRange(1, 5).Draw(rt, "keys")
		n := rapid.IntRange(1, 60).Draw(rt, "messages")
		batch := rapid.IntRange(1, 5).Draw(rt, "batch")
		buffer := rapid.IntRange(1, 20).Draw(rt, "buffer")
		fails := rapid.SliceOfN(rapid.Bool(), 16, 16).Draw(rt, "fails")
		synctest.Test(t, func(t *testing.T) {
			conn := newConn()
			var mu sync.Mutex
			busy := map[string]bool{}
			conn.answer = func(_ context.Context, call int, req driver.SendRequest) []driver.SendResult {
				key := req.Messages[0].OrderingKey
				mu.Lock()
				overlap := busy[key]
				busy[key] = true
				mu.Unlock()
				if overlap {
					t.Errorf("two requests for key %s at once", key)
				}
				time.Sleep(time.Duration(call%3) * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				busy[key] = false
				if fails[call%len(fails)] {
					return refuse(req, driver.Error{Code: driver.Unavailable, Retryable: true})
				}
				return nil
			}
			c := client(t, conn, map[string]string{
				"sluice.async.batch": fmt.Sprint(batch), "sluice.async.buffer": fmt.Sprint(buffer),
				"sluice.send.attempts": "0", "sluice.send.timeout": "1h",
			})
			calls := make([]atomic.Int32, n)
			for i := range n {
				m := sdk.NewMessage("a", []byte{byte(i)}, sdk.OrderingKey(fmt.Sprint(i%keys)))
				if err := c.Producer().SendAsync(t.Context(), m, func(_ sdk.SendResult, err error) {
					calls[i].Add(1)
					if err != nil {
						t.Errorf("message %d: %v", i, err)
					}
				}); err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
			done := c.Producer().Flush(t.Context())
			last := map[string]int{}
			for _, m := range conn.messages() {
				if i := int(m.Body[0]); i < last[m.OrderingKey] {
					t.Errorf("message %d of key %s came after %d", i, m.OrderingKey, last[m.OrderingKey])
				} else {
					last[m.OrderingKey] = i
				}
			}
			for i := range calls {
				if calls[i].Load() != 1 {
					t.Errorf("done of message %d ran %d times", i, calls[i].Load())
				}
			}
			if done != nil || len(conn.messages()) != n || c.Close(t.Context()) != nil {
				t.Errorf("%v, %d of %d sent", done, len(conn.messages()), n)
			}
		})
	})
}

func TestAsyncConcurrentUse(t *testing.T) {
	t.Parallel()
	conn := newConn()
	c := client(t, conn, map[string]string{"sluice.async.buffer": "16"})
	var taken, answered atomic.Int32
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range 100 {
				err := c.Producer().SendAsync(t.Context(), sdk.NewMessage("a", w, sdk.OrderingKey(fmt.Sprint(w))), func(sdk.SendResult, error) { answered.Add(1) })
				if e, ok := errors.AsType[*sdk.Error](err); err != nil && (!ok || e.Code != sdk.Closed) {
					t.Error(err)
				}
				if err == nil {
					taken.Add(1)
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			if err := c.Producer().Flush(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			if err := c.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if taken.Load() != answered.Load() || int(taken.Load()) != len(conn.messages()) {
		t.Errorf("%d taken, %d answered, %d sent", taken.Load(), answered.Load(), len(conn.messages()))
	}
}
