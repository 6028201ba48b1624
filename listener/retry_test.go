package listener_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

func TestRetry_SixteenRetriesOverTheFullLadder(t *testing.T) {
	t.Parallel()
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			r.add(fmt.Sprint(m.Attempt))
			return errors.New("wallet is away")
		}))
		b.send("t", "m1")
		time.Sleep(5 * time.Hour)
		equal(t, "runs", r.get(), []string{
			"0s 1", "10s 2", "40s 3", "1m40s 4", "3m40s 5", "6m40s 6", "10m40s 7", "15m40s 8", "21m40s 9",
			"28m40s 10", "36m40s 11", "45m40s 12", "55m40s 13", "1h15m40s 14", "1h45m40s 15", "2h45m40s 16", "4h45m40s 17",
		})
		dead := b.broker.deadLetters()
		if len(dead) != 1 {
			t.Fatalf("dead letters: %d", len(dead))
		}
		p := dead[0].Properties
		if p[driver.DeadReason] != "exhausted" || p[driver.DeadAttempts] != "17" || p[driver.DeadError] != "wallet is away" ||
			p[driver.DeadGroup] != "g" || p[driver.DeadAt] == "" {
			t.Errorf("properties of the dead letter: %v", p)
		}
	})
	t.Logf("4h45m40s passed in %s of real time", time.Since(began))
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		body   string
		result func() error
		want   string
		reason string
		err    string
	}{
		"ack":         {result: func() error { return nil }, want: "ack m1"},
		"failed":      {result: func() error { return errors.New("x") }, want: "retry m1 10s"},
		"defer":       {result: func() error { return listener.Defer(3 * time.Second) }, want: "return m1 3s"},
		"defer cause": {result: func() error { return fmt.Errorf("w: %w", listener.DeferCause(time.Second, errors.New("busy"))) }, want: "return m1 1s"},
		"hold":        {result: func() error { return listener.Hold(time.Minute, errors.New("db down")) }, want: "return m1"},
		"reject":      {result: func() error { return listener.Reject(errors.New("no such bill")) }, want: "dead_letter m1", reason: "rejected", err: "rejected: no such bill"},
		"undecodable": {body: "{", result: func() error { return nil }, want: "dead_letter m1", reason: "undecodable", err: "decode application/json"},
		"panic":       {result: func() error { panic("boom") }, want: "retry m1 10s"},
		"goexit":      {result: func() error { runtime.Goexit(); return nil }, want: "retry m1 10s"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := start(t, bundleOptions{}, on(t, func(context.Context, *sdk.Message[bill]) error { return c.result() }))
				body := c.body
				if body == "" {
					body = `{"id":"m1"}`
				}
				b.broker.put("t", 0, driver.Message{ID: "m1", Body: []byte(body)})
				synctest.Wait()
				equal(t, "settlements", b.broker.settlements(), []string{c.want})
				if c.reason == "" {
					return
				}
				p := b.broker.deadLetters()[0].Properties
				if p[driver.DeadReason] != c.reason || !strings.HasPrefix(p[driver.DeadError], c.err) || p[driver.DeadAttempts] != "1" {
					t.Errorf("dead letter: %v", p)
				}
			})
		})
	}
}

func TestPanic_StackInTheDeadLetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, bundleOptions{}, on(t, func(context.Context, *sdk.Message[bill]) error {
			panic(errors.New("bo\x01om"))
		}, listener.Attempts(1)))
		b.send("t", "m1")
		synctest.Wait()
		p := b.broker.deadLetters()[0].Properties
		if p[driver.DeadReason] != "exhausted" || p[driver.DeadError] != "panic: bo om" {
			t.Errorf("dead letter: %v", p)
		}
		if !strings.Contains(p[driver.DeadStack], "retry_test.go") || len(p[driver.DeadStack]) > 4<<10 {
			t.Errorf("stack: %q", p[driver.DeadStack])
		}
		for k, v := range p {
			if err := driver.ValidProperty(k, v); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestGoexit_InterceptorsSeeAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen error
		b := start(t, bundleOptions{interceptors: []sdk.Interceptor{{
			Name: "see", Order: 350,
			Consume: func(_ sdk.ListenerInfo, next sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
				return func(ctx context.Context, d *sdk.Delivery) error {
					seen = next(ctx, d)
					return nil
				}, nil
			},
		}}}, on(t, func(context.Context, *sdk.Message[bill]) error { runtime.Goexit(); return nil }))
		b.send("t", "m1")
		synctest.Wait()
		if !errors.Is(seen, listener.ErrGoexit) {
			t.Errorf("the interceptor saw %v", seen)
		}
		equal(t, "settlements", b.broker.settlements(), []string{"ack m1"})
	})
}

func TestInterceptor_ThatPanicsOrExitsCostsNoWorker(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(){"panic": func() { panic("x") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := start(t, bundleOptions{interceptors: []sdk.Interceptor{{
					Name: "bad",
					Consume: func(_ sdk.ListenerInfo, next sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
						return func(ctx context.Context, d *sdk.Delivery) error {
							if d.Attempt == 1 {
								bad()
							}
							return next(ctx, d)
						}, nil
					},
				}}}, on(t, func(context.Context, *sdk.Message[bill]) error { return nil }, listener.Concurrency(1)))
				b.send("t", "m1", "m2")
				time.Sleep(time.Minute)
				got := b.broker.settlements()
				slices.Sort(got) // retries of the same instant come in any order
				equal(t, "settlements", got, []string{"ack m1", "ack m2", "retry m1 10s", "retry m2 10s"})
			})
		})
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, func(ctx context.Context, m *sdk.Message[bill]) error {
			<-ctx.Done()
			r.add(context.Cause(ctx).Error())
			return ctx.Err()
		}, listener.Timeout(5*time.Second), listener.Attempts(2), listener.Backoff("1s")))
		b.send("t", "m1")
		time.Sleep(time.Minute)
		equal(t, "causes", r.get(), []string{"5s handler timeout", "11s handler timeout"})
		p := b.broker.deadLetters()[0].Properties
		if !strings.HasPrefix(p[driver.DeadError], "handler ran for longer than its timeout of 5s") {
			t.Errorf("error: %q", p[driver.DeadError])
		}
	})
}

func TestTimeout_DeafHandlerKeepsItsSlotAndIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			r.add("begin " + m.ID)
			if m.ID == "m1" {
				time.Sleep(time.Minute)
			}
			return nil
		}, listener.Timeout(5*time.Second), listener.Concurrency(1)))
		events := b.c.Events(t.Context(), 10)
		b.send("t", "m1", "m2")
		time.Sleep(16 * time.Second)
		if e := <-events; e.Kind != listener.EventStuck || e.Subject != "m1" || e.Listener != "l" {
			t.Errorf("event: %+v", e)
		}
		if !strings.Contains(b.logs.String(), "handler ignores the end of its ctx") {
			t.Error("no warning in the log")
		}
		time.Sleep(time.Hour)
		equal(t, "runs", r.get(), []string{"0s begin m1", "1m0s begin m2"})
		// It did its work after all: late success is success.
		equal(t, "settlements", b.broker.settlements(), []string{"ack m1", "ack m2"})
	})
}

func TestBackoff_ListAndExponentialAndJitter(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		"10s..2h":   "10s 20s 40s 1m20s 2m40s 5m20s 10m40s 21m20s 42m40s 1h25m20s 2h0m0s",
		"1s, 2s,5m": "1s 2s 5m0s",
		"5s":        "5s",
		"1s..1s":    "1s",
		"0s":        "0s",
	} {
		ds, err := listener.ParseBackoff(expr)
		var got []string
		for _, d := range ds {
			got = append(got, d.String())
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, %v, want %s", expr, got, err, want)
		}
	}
	for _, expr := range []string{"", "x", "2h..10s", "0s..10s", "-1s", "1s,,2s", "1s..", "1000d", "1s..9999h"} {
		if ds, err := listener.ParseBackoff(expr); err == nil {
			t.Errorf("%q was accepted: %v", expr, ds)
		}
	}
	p := listener.RetryPolicy{Attempts: 4, Delays: []time.Duration{10 * time.Second, 20 * time.Second}, Jitter: 0.1}
	if got := p.Horizon(); got != 55*time.Second {
		t.Errorf("horizon %s", got)
	}
	for range 1000 {
		if d := p.Delay(2); d < 18*time.Second || d > 22*time.Second {
			t.Fatalf("delay %s", d)
		}
	}
}

func TestBroadcast_RetriesInMemoryAndGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			r.add(fmt.Sprintf("%s %d", m.ID, m.Attempt))
			return errors.New("no")
		}, listener.WithBroadcast(), listener.Attempts(2), listener.Backoff("1s")))
		b.send("t", "m1")
		time.Sleep(time.Minute)
		equal(t, "runs", r.get(), []string{"0s m1 1", "1s m1 2"})
		equal(t, "settlements", b.broker.settlements(), []string{"ack m1"})
		if !strings.Contains(b.logs.String(), "message given up") {
			t.Error("giving up was not logged")
		}
	})
}
