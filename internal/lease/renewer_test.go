package lease_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/internal/lease"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const term = 30 * time.Second

// backend grants leases of term on its own clock, which is the test's.
type backend struct {
	mu       sync.Mutex
	renewals []time.Time
	expires  time.Time
	answer   func(ctx context.Context, n int) error // nil: granted
	inside   atomic.Int32
}

func (b *backend) Renew(ctx context.Context) (time.Time, error) {
	b.inside.Add(1)
	defer b.inside.Add(-1)
	sent := time.Now()
	b.mu.Lock()
	b.renewals = append(b.renewals, sent)
	n := len(b.renewals)
	b.mu.Unlock()
	if b.answer != nil {
		if err := b.answer(ctx, n); err != nil {
			return time.Time{}, err
		}
	}
	b.mu.Lock()
	b.expires = time.Now().Add(term)
	b.mu.Unlock()
	return lease.Deadline(sent, term), nil
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.renewals)
}

// grant makes the backend start a lease now and keeps it.
func (b *backend) grant(r *lease.Renewer, lost func(error)) *lease.Kept {
	b.expires = time.Now().Add(term)
	return r.Keep(b, term/3, lease.Deadline(time.Now(), term), lost)
}

func neverLost(t *testing.T) func(error) {
	return func(cause error) { t.Errorf("lost: %v", cause) }
}

func TestDeadline_LeavesOnePercentAnd50Milliseconds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	if got, want := lease.Deadline(now, term), now.Add(term-350*time.Millisecond); !got.Equal(want) {
		t.Fatalf("got %v, want %v", got.Sub(now), want.Sub(now))
	}
}

func TestRenewer_RenewsEveryThirdWithJitter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		defer r.Close()
		b := &backend{}
		start := time.Now()
		k := b.grant(r, neverLost(t))
		time.Sleep(100 * term)
		k.Stop()
		if n := b.count(); n < 270 || n > 330 {
			t.Fatalf("%d renewals in %v, want about 300", n, 100*term)
		}
		previous, different := start, map[time.Duration]bool{}
		for _, at := range b.renewals {
			gap := at.Sub(previous)
			if gap < 9*time.Second || gap > 11*time.Second {
				t.Fatalf("a renewal %v after the one before, want 10s and at most a tenth off", gap)
			}
			different[gap] = true
			previous = at
		}
		if len(different) < 10 {
			t.Fatalf("only %d different gaps; there is no jitter", len(different))
		}
	})
}

func TestRenewer_HungBackendIsLostBeforeTheBackendsOwnEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		b := &backend{answer: func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}}
		causes := make(chan error, 2)
		var at time.Time
		k := b.grant(r, func(cause error) { at = time.Now(); causes <- cause })
		cause := <-causes
		if !errors.Is(cause, lease.ErrLost) || !errors.Is(cause, context.DeadlineExceeded) {
			t.Errorf("cause %v, want ErrLost and why", cause)
		}
		if left := b.expires.Sub(at); left < lease.Margin(term) || left > time.Second {
			t.Errorf("lost %v before the backend would give the lease away, want %v", left, lease.Margin(term))
		}
		time.Sleep(10 * term)
		k.Stop()
		r.Close()
		if len(causes) != 0 {
			t.Error("lost was called twice")
		}
	})
}

// The renewal ignores its ctx altogether: lost must come all the same.
func TestRenewer_DeafBackendIsLostInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		release := make(chan struct{})
		b := &backend{answer: func(context.Context, int) error { <-release; return nil }}
		lost := make(chan time.Time, 2)
		k := b.grant(r, func(error) { lost <- time.Now() })
		if at := <-lost; !at.Before(b.expires) {
			t.Errorf("lost %v too late", at.Sub(b.expires))
		}
		if k.Held() {
			t.Error("a lost lease says that it is held")
		}
		close(release)
		r.Close()
		if len(lost) != 0 {
			t.Error("lost was called twice")
		}
	})
}

func TestRenewer_FailuresAreTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		defer r.Close()
		b := &backend{answer: func(_ context.Context, n int) error {
			if n%3 != 0 {
				return errors.New("connection refused")
			}
			return nil
		}}
		k := b.grant(r, neverLost(t))
		time.Sleep(20 * term)
		if !k.Held() {
			t.Error("not held although every third renewal was granted")
		}
		k.Stop()
	})
}

func TestRenewer_BackendThatFailsAtOnceIsNotFlooded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		b := &backend{answer: func(context.Context, int) error { return errors.New("connection refused") }}
		lost := make(chan error, 1)
		b.grant(r, func(cause error) { lost <- cause })
		<-lost
		r.Close()
		if n := b.count(); n < 4 || n > 25 {
			t.Errorf("%d tries in one lease, want some but not many", n)
		}
	})
}

func TestRenewer_ErrLostEndsTheLeaseAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		defer r.Close()
		start := time.Now()
		b := &backend{answer: func(context.Context, int) error { return lease.ErrLost }}
		lost := make(chan error, 1)
		k := b.grant(r, func(cause error) { lost <- cause })
		<-lost
		if d := time.Since(start); d > 11*time.Second {
			t.Errorf("lost after %v, want the first renewal", d)
		}
		if k.Held() {
			t.Error("held")
		}
	})
}

func TestRenewer_PanicIsAFailedRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		defer r.Close()
		b := &backend{answer: func(_ context.Context, n int) error {
			if n == 1 {
				panic("boom")
			}
			return nil
		}}
		k := b.grant(r, neverLost(t))
		time.Sleep(3 * term)
		k.Stop()
	})
}

func TestKept_StopWaitsForTheRunningRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		defer r.Close()
		b := &backend{answer: func(ctx context.Context, _ int) error {
			<-ctx.Done()                // Stop ends it
			time.Sleep(2 * time.Second) // but it takes its time
			return nil
		}}
		k := b.grant(r, neverLost(t))
		time.Sleep(12 * time.Second)
		if b.inside.Load() != 1 {
			t.Fatal("no renewal is running")
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range 3 { // Stop may be called by several
			wg.Go(func() {
				k.Stop()
				if n := b.inside.Load(); n != 0 {
					t.Errorf("%d renewals in flight after Stop", n)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("Stop took %v, want the 2s of the renewal", d)
		}
		n := b.count()
		time.Sleep(10 * term)
		if b.count() != n {
			t.Error("renewed after Stop")
		}
	})
}

func TestKept_StopInsideLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		defer r.Close()
		b := &backend{answer: func(context.Context, int) error { return lease.ErrLost }}
		done := make(chan struct{})
		kept := make(chan *lease.Kept, 1)
		kept <- b.grant(r, func(error) { (<-kept).Stop(); close(done) })
		<-done
	})
}

func TestRenewer_CloseEndsEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		b := &backend{answer: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}
		var lost atomic.Int32
		for range 3 {
			b.grant(r, func(cause error) {
				if !errors.Is(cause, lease.ErrClosed) || !errors.Is(cause, lease.ErrLost) {
					t.Errorf("cause %v, want ErrClosed and ErrLost", cause)
				}
				lost.Add(1)
			})
		}
		time.Sleep(12 * time.Second)
		r.Close()
		r.Close()
		if lost.Load() != 3 || b.inside.Load() != 0 {
			t.Errorf("%d of 3 owners told, %d renewals in flight", lost.Load(), b.inside.Load())
		}
		late := b.grant(r, func(error) { lost.Add(1) })
		if lost.Load() != 4 || late.Held() {
			t.Error("a lease on a closed renewer is held")
		}
		late.Stop()
	})
}

func TestRenewer_SurvivesMoreHungLeasesThanItRenewsAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := lease.NewRenewer(nil)
		hung := &backend{answer: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}
		var lost atomic.Int32
		start := time.Now()
		for range 1000 {
			hung.grant(r, func(error) {
				lost.Add(1)
				if d := time.Since(start); d > term-lease.Margin(term) {
					t.Errorf("told after %v", d)
				}
			})
		}
		time.Sleep(term)
		if lost.Load() != 1000 {
			t.Errorf("%d of 1000 owners told", lost.Load())
		}
		if n := hung.inside.Load(); n != 0 {
			t.Errorf("%d renewals of lost leases still run", n)
		}
		// The slots are free again.
		b := &backend{}
		b.grant(r, neverLost(t)).Stop()
		k := b.grant(r, neverLost(t))
		time.Sleep(3 * term)
		k.Stop()
		r.Close()
	})
}

func TestFrom_ReturnsWhatWithCarried(t *testing.T) {
	t.Parallel()
	r := lease.NewRenewer(nil)
	defer r.Close()
	if _, ok := lease.From(t.Context()); ok {
		t.Error("a renewer out of nothing")
	}
	if got, ok := lease.From(lease.With(t.Context(), r)); !ok || got != r {
		t.Errorf("got %p, %v, want %p", got, ok, r)
	}
}

// Whatever the backend does, while a lease says that it is held, the backend has
// not given it away; and lost comes at most once, never after Stop was decided.
func TestRenewer_HeldImpliesOwned(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		type reply struct{ Kind, Millis int }
		plans := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) reply {
			return reply{rapid.IntRange(0, 3).Draw(t, "kind"), rapid.IntRange(0, 40_000).Draw(t, "millis")}
		}), 1, 12), 1, 6).Draw(rt, "plans")
		var problem string
		synctest.Test(t, func(t *testing.T) {
			r := lease.NewRenewer(nil)
			backends := make([]*backend, len(plans))
			kept := make([]*lease.Kept, len(plans))
			told := make([]atomic.Int32, len(plans))
			for i, plan := range plans {
				b := &backend{answer: func(ctx context.Context, n int) error {
					p := plan[(n-1)%len(plan)]
					select { // the answer takes its time
					case <-time.After(time.Duration(p.Millis) * time.Millisecond):
					case <-ctx.Done():
						return ctx.Err()
					}
					if p.Kind == 0 {
						return errors.New("refused")
					}
					return nil
				}}
				backends[i] = b
				kept[i] = b.grant(r, func(error) { told[i].Add(1) })
			}
			for range 400 {
				time.Sleep(700 * time.Millisecond)
				for i, k := range kept {
					b := backends[i]
					b.mu.Lock()
					owned := time.Now().Before(b.expires)
					b.mu.Unlock()
					if k.Held() && !owned {
						problem = "held after the backend gave it away"
					}
					if told[i].Load() > 1 {
						problem = "told twice"
					}
					if !k.Held() && told[i].Load() == 0 {
						synctest.Wait()
						if told[i].Load() == 0 {
							problem = "not held, and nobody was told"
						}
					}
				}
			}
			for _, k := range kept {
				k.Stop()
			}
			r.Close()
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}
