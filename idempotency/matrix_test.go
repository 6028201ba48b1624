package idempotency_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/internal/lease"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// The tests of this file are the rows of the failure matrix that a store in
// memory can show; 12 and 13, and a stopped process for 2, are with redisstore.

func TestMatrix_Row01_HandlerSlowerThanTheLease(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			d := process(t, s)
			ctx := t.Context()
			if !own { // the listener brings its renewer
				r := lease.NewRenewer(nil)
				defer r.Close()
				ctx = lease.With(ctx, r)
			}
			started := make(chan struct{})
			handle := wrap(t, d, idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
				close(started)
				time.Sleep(3*ttl + 5*time.Second)
				return idempotency.Check(ctx)
			})
			done := make(chan error, 1)
			go func() { done <- handle(ctx, bill("1", 1)) }()
			<-started
			for range 8 { // duplicates all along
				if wait := wantDefer(t, handle(ctx, bill("1", 1))); wait > 12*time.Second {
					t.Errorf("deferred for %v, want no more than the cap", wait)
				}
				time.Sleep(11 * time.Second)
			}
			if err := <-done; err != nil {
				t.Fatalf("the slow handler: %v", err)
			}
			if err := handle(ctx, bill("1", 1)); err != nil {
				t.Fatalf("a duplicate afterwards: got %v, want an acknowledgement", err)
			}
			got := d.Stats()
			if got.Acquired != 1 || got.Completed != 1 || got.Overlaps != 0 || got.Lost != 0 || got.Duplicates != 1 || got.Busy != 8 {
				t.Errorf("got %+v", got)
			}
			if n := s.count("renew"); n < 8 || n > 12 {
				t.Errorf("%d renewals in 95s, want one each 10s", n)
			}
		})
	}
}

// A process that stands still cannot renew, and looks at Check when it goes on.
func TestMatrix_Row02_PauseLongerThanTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		paused, other := process(t, s), process(t, newView(s))
		s.before["renew"] = hang
		var first, second uint64
		var check error
		slow := wrap(t, paused, idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
			first, _ = idempotency.Fence(ctx)
			time.Sleep(2 * ttl) // deaf, as a stopped process is
			check = idempotency.Check(ctx)
			return check
		})
		fast := wrap(t, other, idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
			second, _ = idempotency.Fence(ctx)
			return nil
		})
		done := make(chan error, 1)
		go func() { done <- slow(t.Context(), bill("1", 1)) }()
		time.Sleep(ttl + time.Second)
		if err := fast(t.Context(), bill("1", 1)); err != nil {
			t.Fatalf("the successor: %v", err)
		}
		wantDefer(t, <-done)
		if !errors.Is(check, idempotency.ErrLeaseLost) {
			t.Errorf("Check said %v, want ErrLeaseLost", check)
		}
		if first == 0 || second <= first {
			t.Errorf("fence %d after %d, want a higher one for the successor", second, first)
		}
		if err := slow(t.Context(), bill("1", 2)); err != nil {
			t.Errorf("the redelivery: got %v, want an acknowledgement", err)
		}
		if got := paused.Stats(); got.Lost != 1 || got.Duplicates != 1 || got.Completed != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// newView is the same store without the faults.
func newView(f *faulty) idempotency.Store { return f.Store }

func TestMatrix_Row07_RenewalFails(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(context.Context, int) error{
		"hangs":   hang,
		"refuses": func(context.Context, int) error { return errors.New("connection refused") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				d := process(t, s)
				s.before["renew"] = fault
				start := time.Now()
				handle := wrap(t, d, idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
					<-ctx.Done()
					if d := time.Since(start); d >= ttl || d < ttl-time.Second {
						t.Errorf("ctx ended after %v, want just before the lease of %v", d, ttl)
					}
					if err := context.Cause(ctx); !errors.Is(err, idempotency.ErrLeaseLost) {
						t.Errorf("cause %v, want ErrLeaseLost", err)
					}
					if err := idempotency.Check(ctx); !errors.Is(err, idempotency.ErrLeaseLost) {
						t.Errorf("Check: got %v, want ErrLeaseLost", err)
					}
					return ctx.Err()
				})
				// Interrupted by us: given back, no attempt spent.
				wantDefer(t, handle(t.Context(), bill("1", 1)))
				if got := d.Stats(); got.Lost != 1 || got.Aborted != 1 {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

func TestMatrix_Row09_DoneMarkFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault           func(context.Context, int) error
		tries           int
		marked          bool
		longest, atLast time.Duration
	}{
		"twice": {func(_ context.Context, n int) error {
			if n < 3 {
				return errors.New("connection reset")
			}
			return nil
		}, 3, true, time.Second, 0},
		"always": {func(context.Context, int) error { return errors.New("connection reset") }, 5, false, time.Second, 0},
		"hangs":  {hang, 1, false, 3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				d := process(t, s)
				s.before["complete"] = c.fault
				runs := 0
				handle := wrap(t, d, idempotency.Config{}, func(context.Context, *sdk.Delivery) error { runs++; return nil })
				start := time.Now()
				if err := handle(t.Context(), bill("1", 1)); err != nil {
					t.Fatalf("got %v, want an acknowledgement: a retry would double the effect for certain", err)
				}
				if took := time.Since(start); took > c.longest || took < c.atLast {
					t.Errorf("took %v, want at most %v", took, c.longest)
				}
				if n := s.count("complete"); n != c.tries {
					t.Errorf("%d tries to mark it done, want %d", n, c.tries)
				}
				got := d.Stats()
				if (got.Completed == 1) != c.marked || (got.Unmarked == 0) != c.marked || runs != 1 || s.count("abort") != 0 {
					t.Errorf("got %+v after %d runs, %d aborts", got, runs, s.count("abort"))
				}
			})
		})
	}
}

// The lost reply of a done mark: the repetition answers the same, nothing counts
// as an overlap.
func TestMatrix_Row09_DoneMarkReplyIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		d := process(t, s)
		s.after["complete"] = func(_ context.Context, n int) error {
			if n == 1 {
				return errors.New("connection reset")
			}
			return nil
		}
		handle := wrap(t, d, idempotency.Config{}, func(context.Context, *sdk.Delivery) error { return nil })
		if err := handle(t.Context(), bill("1", 1)); err != nil {
			t.Fatal(err)
		}
		if got := d.Stats(); got.Completed != 1 || got.Overlaps != 0 {
			t.Errorf("got %+v, want one completion and no overlap", got)
		}
	})
}

func TestMatrix_Row10_TwoCopiesToTwoConsumers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		a, b := process(t, s), process(t, s)
		var runs atomic.Int32
		next := func(context.Context, *sdk.Delivery) error {
			runs.Add(1)
			time.Sleep(time.Second)
			return nil
		}
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for i, d := range []*idempotency.Decorator{a, b} {
			handle := wrap(t, d, idempotency.Config{}, next)
			wg.Go(func() { errs[i] = handle(t.Context(), bill("1", 1)) })
		}
		wg.Wait()
		if runs.Load() != 1 {
			t.Fatalf("%d runs, want 1", runs.Load())
		}
		if errs[0] == nil {
			errs[0], errs[1] = errs[1], errs[0]
		}
		wantDefer(t, errs[0])
		if errs[1] != nil {
			t.Errorf("the winner: %v", errs[1])
		}
	})
}

func TestMatrix_Row11_StoreDownAtBegin(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(context.Context, int) error{
		"hangs":   hang,
		"refuses": func(context.Context, int) error { return errors.New("connection refused") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				d := process(t, s)
				s.set("begin", fault)
				runs := 0
				handle := wrap(t, d, idempotency.Config{}, func(context.Context, *sdk.Delivery) error { runs++; return nil })
				for range 2 {
					wantDefer(t, handle(t.Context(), bill("1", 1)))
				}
				var longest time.Duration
				for range 12 {
					err := handle(t.Context(), bill("1", 1))
					wait, ok := listener.AsHold(err)
					if !ok {
						t.Fatalf("got %v, want a hold after two failures", err)
					}
					if _, ok := errors.AsType[*idempotency.StoreError](err); !ok {
						t.Fatalf("got %v, want the store's error as the reason", err)
					}
					longest = max(longest, wait)
					time.Sleep(wait)
				}
				if longest < 30*time.Second || longest > 33*time.Second {
					t.Errorf("the longest hold was %v, want 30s and a bit", longest)
				}
				s.set("begin", nil)
				if err := handle(t.Context(), bill("1", 1)); err != nil || runs != 1 {
					t.Fatalf("when it answers again: %v after %d runs", err, runs)
				}
				s.set("begin", fault)
				if wait := wantDefer(t, handle(t.Context(), bill("2", 1))); wait > time.Second {
					t.Errorf("the next outage starts with %v, want the shortest wait", wait)
				}
				if got := d.Stats(); got.StoreErrors != 15 || got.Acquired != 1 || got.Unprotected != 0 {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

func TestMatrix_Row11_OpenRunsUnprotectedAndCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		d := process(t, s)
		s.set("begin", hang)
		failure := errors.New("from the handler")
		handle := wrap(t, d, idempotency.Config{OnError: idempotency.Open}, func(ctx context.Context, _ *sdk.Delivery) error {
			if _, ok := idempotency.Fence(ctx); ok {
				t.Error("a fence without a claim")
			}
			if err := idempotency.Check(ctx); err != nil {
				t.Errorf("Check: %v", err)
			}
			return failure
		})
		for range 5 {
			if err := handle(t.Context(), bill("1", 1)); !errors.Is(err, failure) {
				t.Fatalf("got %v, want the outcome of the handler", err)
			}
		}
		if got := d.Stats(); got.Unprotected != 5 || got.StoreErrors != 5 || s.count("complete")+s.count("abort") != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// However long the owner works, its duplicate is never failed, never
// acknowledged, and never let in.
func TestMatrix_Row16_BusyNeverSpendsAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := process(t, newFaulty())
		var runs int
		handle := wrap(t, d, idempotency.Config{}, func(context.Context, *sdk.Delivery) error {
			runs++
			time.Sleep(2 * time.Hour)
			return nil
		})
		done := make(chan error, 1)
		go func() { done <- handle(t.Context(), bill("1", 1)) }()
		synctest.Wait()
		deferrals := 0
		for start := time.Now(); time.Since(start) < 2*time.Hour-time.Minute; deferrals++ {
			time.Sleep(wantDefer(t, handle(t.Context(), bill("1", 16))))
		}
		if deferrals < 100 {
			t.Errorf("only %d deferrals in two hours", deferrals)
		}
		if err := <-done; err != nil || runs != 1 {
			t.Errorf("the owner: %v after %d runs", err, runs)
		}
	})
}

func TestMatrix_Row17_SuccessAfterTakeover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		first, second := process(t, s), process(t, newView(s))
		s.before["renew"] = hang
		slow := wrap(t, first, idempotency.Config{}, func(context.Context, *sdk.Delivery) error {
			time.Sleep(2 * ttl) // ignores its ctx, and succeeds
			return nil
		})
		var cause error
		other := wrap(t, second, idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		})
		errs := make(chan error, 1)
		go func() { errs <- slow(t.Context(), bill("1", 1)) }()
		time.Sleep(ttl + time.Second)
		// Runs until its renewal finds the work done by the first.
		wantDefer(t, other(t.Context(), bill("1", 1)))
		if err := <-errs; err != nil {
			t.Fatalf("the late success: got %v, want an acknowledgement", err)
		}
		if !errors.Is(cause, idempotency.ErrLeaseLost) {
			t.Errorf("the successor's ctx ended by %v, want ErrLeaseLost", cause)
		}
		if got := first.Stats(); got.Completed != 1 || got.Overlaps != 1 || got.Lost != 1 {
			t.Errorf("first: got %+v, want a counted overlap", got)
		}
		if err := other(t.Context(), bill("1", 2)); err != nil {
			t.Errorf("the redelivery: got %v, want an acknowledgement", err)
		}
	})
}
