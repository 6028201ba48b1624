package listener_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// gauge measures how many run at a time.
type gauge struct{ now, most atomic.Int32 }

func (g *gauge) enter() { g.most.Store(max(g.most.Load(), g.now.Add(1))) }
func (g *gauge) leave() { g.now.Add(-1) }

func TestConcurrency_IsNeverExceededAndCanBeResized(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g gauge
		var done atomic.Int32
		b := start(t, bundleOptions{}, on(t, func(context.Context, *sdk.Message[bill]) error {
			g.enter()
			defer g.leave()
			time.Sleep(time.Second)
			done.Add(1)
			return nil
		}, listener.Concurrency(3)))
		for i := range 100 {
			b.send("t", fmt.Sprint(i))
		}
		time.Sleep(4500 * time.Millisecond) // four rounds of three
		if done.Load() != 12 || g.most.Load() != 3 {
			t.Errorf("done %d, at most %d", done.Load(), g.most.Load())
		}
		if err := b.c.SetConcurrency("l", 10); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if s, _ := b.c.Status("l"); s.InFlight != 10 || s.Concurrency != 10 {
			t.Errorf("status %+v", s)
		}
		if err := b.c.SetConcurrency("l", 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if s, _ := b.c.Status("l"); s.InFlight != 1 {
			t.Errorf("in flight %d", s.InFlight)
		}
		if err := b.c.SetConcurrency("ll", 1); err == nil || !strings.Contains(err.Error(), `no listener is named`) {
			t.Errorf("unknown name: %v", err)
		}
		if err := b.c.SetConcurrency("l", 0); err == nil {
			t.Error("0 was accepted")
		}
	})
}

func TestRoom_MessagesAndBytesAreBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts []listener.Option
		body int
		most int
	}{
		"messages": {opts: []listener.Option{listener.Concurrency(2), listener.Prefetch(6)}, body: 10, most: 8},
		// One fetch may overshoot: sizes are known afterwards.
		"bytes":    {opts: []listener.Option{listener.Concurrency(2), listener.Prefetch(60), listener.Buffer(10 << 10)}, body: 1 << 10, most: 2 * 62},
		"prefetch": {opts: []listener.Option{listener.Concurrency(1), listener.Prefetch(0)}, body: 10, most: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				block := make(chan struct{})
				b := start(t, bundleOptions{}, on(t, func(context.Context, *sdk.Message[bill]) error { <-block; return nil }, c.opts...))
				body := append([]byte(`{"id":"`), append(bytes.Repeat([]byte("x"), c.body), `"}`...)...)
				b.broker.put("t", 0, driver.Message{Body: body}) // the size becomes known
				synctest.Wait()
				for range 200 {
					b.broker.put("t", 0, driver.Message{Body: body})
				}
				time.Sleep(time.Minute)
				s, _ := b.c.Status("l")
				if s.Held > c.most || s.Held < min(c.most, 6) && name != "bytes" {
					t.Errorf("holds %d, want at most %d", s.Held, c.most)
				}
				if name == "bytes" && s.Held > 20 {
					t.Errorf("holds %d messages of 1 KiB in 10 KiB", s.Held)
				}
				close(block)
				time.Sleep(time.Minute)
				if b.broker.backlog() != 0 {
					t.Errorf("backlog %d", b.broker.backlog())
				}
			})
		})
	}
}

func TestRetries_DoNotStarveFreshTraffic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			if strings.HasPrefix(m.ID, "p") {
				time.Sleep(10 * time.Second)
				return errors.New("poison")
			}
			time.Sleep(time.Second)
			r.add(m.ID)
			return nil
		}, listener.Concurrency(4), listener.Backoff("1s"), listener.Attempts(1000)))
		for i := range 400 {
			b.send("t", fmt.Sprintf("p%d", i))
		}
		time.Sleep(time.Hour) // all of them retry by now, far more than four handlers can take
		for i := range 10 {
			r2 := time.Since(r.begin)
			b.send("t", fmt.Sprintf("f%d", i))
			time.Sleep(2 * time.Second)
			lines := r.get()
			if len(lines) != i+1 {
				t.Fatalf("fresh message %d sent at %s did not begin at once", i, r2)
			}
		}
	})
}

func TestFreshTraffic_DoesNotStarveRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			time.Sleep(time.Second)
			if m.ID == "again" {
				r.add(fmt.Sprint(m.Attempt))
				if m.Attempt < 5 {
					return errors.New("no")
				}
			}
			return nil
		}, listener.Concurrency(1), listener.Backoff("1s")))
		b.send("t", "again")
		for i := range 1000 {
			b.send("t", fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		if got := r.get(); len(got) != 5 {
			t.Errorf("the retried message ran %q under a flood of fresh ones", got)
		}
	})
}

func TestSettle_IsRetriedAndBatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		var calls atomic.Int32
		broker.onSettle = func(s []driver.Settlement) error {
			time.Sleep(10 * time.Millisecond) // a broker that is not here
			if calls.Add(1) <= 3 {
				return &driver.Error{Code: driver.Unavailable, Op: "settle", Retryable: true, MaybeDone: true}
			}
			return nil
		}
		b := start(t, bundleOptions{broker: broker}, on(t, nop))
		for i := range 30 {
			b.send("t", fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		if n := len(broker.settlements()); n != 30 || broker.maxBatch < 10 || broker.backlog() != 0 {
			t.Errorf("%d settlements, largest batch %d, backlog %d", n, broker.maxBatch, broker.backlog())
		}
		if calls.Load() > 10 {
			t.Errorf("%d calls", calls.Load())
		}
	})
}

func TestSettle_ARefusedOneDoesNotHarmTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		broker.onSettle = func(ss []driver.Settlement) error {
			time.Sleep(10 * time.Millisecond)
			for _, s := range ss {
				if s.Delivery.ID == "bad" {
					return driver.Errorf(driver.InvalidArgument, "settle", "no such delivery")
				}
			}
			return nil
		}
		b := start(t, bundleOptions{broker: broker}, on(t, nop))
		b.send("t", "m1", "m2", "bad", "m3")
		time.Sleep(time.Minute)
		if got := broker.settlements(); len(got) != 3 {
			t.Errorf("settlements %q", got)
		}
		if !strings.Contains(b.logs.String(), "cannot be settled") {
			t.Error("not logged")
		}
		if s, _ := b.c.Status("l"); s.Held != 0 {
			t.Errorf("still holds %d", s.Held)
		}
	})
}

func TestSettle_LostLaneIsDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		broker.onSettle = func([]driver.Settlement) error { return driver.Errorf(driver.LaneLost, "settle", "gone") }
		b := start(t, bundleOptions{broker: broker}, on(t, nop))
		b.send("t", "m1")
		time.Sleep(time.Minute)
		if s, _ := b.c.Status("l"); s.Held != 0 || len(s.Lanes) != 1 || s.Lanes[0] != "t/retry" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestFetch_ErrorsAreRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		var calls atomic.Int32
		broker.onFetch = func() error {
			if calls.Add(1) <= 10 {
				return &driver.Error{Code: driver.Unavailable, Op: "fetch", Retryable: true, RetryAfter: time.Second}
			}
			return nil
		}
		b := start(t, bundleOptions{broker: broker}, on(t, nop))
		b.send("t", "m1")
		time.Sleep(time.Minute)
		equal(t, "settlements", broker.settlements(), []string{"ack m1"})
	})
}

// What a broker has lost is an error and an event, and consumption goes on; what
// it only may have lost is a warning.
func TestFetch_Gap(t *testing.T) {
	t.Parallel()
	for unsure, want := range map[bool]string{false: `level=ERROR msg="messages are lost"`, true: `level=WARN msg="messages may be lost"`} {
		synctest.Test(t, func(t *testing.T) {
			broker := newFake()
			var lost atomic.Bool
			broker.onFetch = func() error {
				if lost.CompareAndSwap(true, false) {
					return &driver.Error{Code: driver.DataLoss, Op: "fetch", Err: &driver.GapError{Lane: "t/0", From: 3, To: 5, Reason: driver.Damage, Unsure: unsure}}
				}
				return nil
			}
			b := start(t, bundleOptions{broker: broker}, on(t, nop))
			events := b.c.Events(t.Context(), 10)
			lost.Store(true)
			b.send("t", "m1")
			time.Sleep(time.Second)
			equal(t, "settlements", broker.settlements(), []string{"ack m1"})
			if logs := b.logs.String(); !strings.Contains(logs, want) {
				t.Errorf("unsure %v: logged %s", unsure, logs)
			}
			for len(events) > 0 {
				e := <-events
				if g, ok := errors.AsType[*driver.GapError](e.Err); e.Kind == listener.EventLost && ok && g.From == 3 {
					return
				}
			}
			t.Error("no event tells of the gap")
		})
	}
}

func TestLease_IsRenewedForEverythingHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		var renewals, most atomic.Int32
		broker.onExtend = func(ds []*driver.Delivery) error {
			renewals.Add(1)
			most.Store(max(most.Load(), int32(len(ds))))
			return nil
		}
		r := newRecord()
		b := start(t, bundleOptions{broker: broker}, on(t, slow(r, 5*time.Minute), listener.Concurrency(1), listener.Prefetch(1)))
		b.send("t", "m1", "m2")
		time.Sleep(5*time.Minute - time.Second)
		if n := renewals.Load(); n < 25 || n > 35 || most.Load() != 2 {
			t.Errorf("%d renewals in five minutes, at most %d deliveries", n, most.Load())
		}
		time.Sleep(6 * time.Minute)
		equal(t, "settlements", b.broker.settlements(), []string{"ack m1", "ack m2"})
	})
}

func TestLease_ThatCannotBeRenewedCancelsTheHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		broker.onExtend = func([]*driver.Delivery) error { return driver.Errorf(driver.Unavailable, "extend", "away") }
		r := newRecord()
		b := start(t, bundleOptions{broker: broker}, on(t, slow(r, time.Hour)))
		b.send("t", "m1")
		time.Sleep(time.Minute)
		got := r.get()
		if len(got) != 2 || !strings.HasSuffix(got[1], "cut m1: "+listener.ErrLaneLost.Error()) || strings.HasPrefix(got[1], "1m") {
			t.Errorf("runs %q", got)
		}
		broker.onExtend = nil
		b.send("t", "m2") // the lane is still ours
		time.Sleep(time.Second)
		if got := r.get(); len(got) != 3 {
			t.Errorf("runs %q", got)
		}
		if len(broker.settlements()) != 0 {
			t.Errorf("settlements %q", broker.settlements())
		}
	})
}

func TestUnknownTag_IsAcknowledgedWithAWarning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, bundleOptions{}, on(t, nop, listener.Tags("a")))
		b.broker.mu.Lock()
		b.broker.subs[0].spec.Filter = driver.Filter{}
		b.broker.mu.Unlock()
		b.broker.put("t", 0, driver.Message{ID: "m1", Tag: "z", Body: []byte("{}")})
		synctest.Wait()
		equal(t, "settlements", b.broker.settlements(), []string{"ack m1"})
		if !strings.Contains(b.logs.String(), "no listener of this subscription wants the tag") {
			t.Error("no warning")
		}
	})
}
