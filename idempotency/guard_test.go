package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

func TestGuard_BurstOfDuplicatesRunsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := process(t, newFaulty())
		var runs, acked atomic.Int32
		handle := wrap(t, d, idempotency.Config{}, func(context.Context, *sdk.Delivery) error {
			runs.Add(1)
			time.Sleep(3 * time.Second)
			return nil
		})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for { // as a broker would: again after each deferral
					err := handle(t.Context(), bill("1", 1))
					if err == nil {
						acked.Add(1)
						return
					}
					time.Sleep(wantDefer(t, err))
				}
			})
		}
		wg.Wait()
		if runs.Load() != 1 || acked.Load() != 100 {
			t.Fatalf("%d runs, %d acknowledged, want 1 and 100", runs.Load(), acked.Load())
		}
		if got := d.Stats(); got.Duplicates != 99 || got.Acquired != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

func TestGuard_FailureGivesTheKeyBack(t *testing.T) {
	t.Parallel()
	failure := errors.New("no funds")
	for name, fail := range map[string]func(ctx context.Context) error{
		"error":  func(context.Context) error { return failure },
		"reject": func(context.Context) error { return listener.Reject(failure) },
		"defer":  func(context.Context) error { return listener.DeferCause(time.Second, failure) },
		"timeout": func(ctx context.Context) error {
			ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, failure)
			defer cancel()
			<-ctx.Done()
			return context.Cause(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := process(t, newFaulty())
				runs := 0
				handle := wrap(t, d, idempotency.Config{}, func(ctx context.Context, m *sdk.Delivery) error {
					if runs++; m.Attempt == 1 {
						return fail(ctx)
					}
					return nil
				})
				if err := handle(t.Context(), bill("1", 1)); !errors.Is(err, failure) {
					t.Fatalf("got %v, want the error of the handler to pass", err)
				}
				if err := handle(t.Context(), bill("1", 2)); err != nil || runs != 2 {
					t.Fatalf("the next attempt: got %v after %d runs, want it to run at once", err, runs)
				}
				if got := d.Stats(); got.Aborted != 1 || got.Completed != 1 {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

func TestGuard_PanicAndGoexitGiveTheKeyBackAndPass(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(){
		"panic":  func() { panic("boom") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				d := process(t, s)
				handle := wrap(t, d, idempotency.Config{}, func(_ context.Context, m *sdk.Delivery) error {
					if m.Attempt == 1 {
						leave()
					}
					return nil
				})
				done := make(chan any, 1)
				go func() {
					defer func() { done <- recover() }()
					_ = handle(t.Context(), bill("1", 1))
					t.Error("the handler returned")
				}()
				if got := <-done; name == "panic" && got != "boom" {
					t.Errorf("recovered %v, want the panic of the handler", got)
				}
				if err := handle(t.Context(), bill("1", 2)); err != nil {
					t.Errorf("the next attempt: %v", err)
				}
				time.Sleep(5 * ttl)
				if n := s.count("renew"); n != 0 {
					t.Errorf("%d renewals of a claim that has ended", n)
				}
			})
		})
	}
}

// A shutdown ends the ctx; the claim must be ended all the same.
func TestGuard_EndedContextStillEndsTheClaim(t *testing.T) {
	t.Parallel()
	for _, succeeds := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			d := process(t, s)
			ctx, cancel := context.WithCancelCause(t.Context())
			handle := wrap(t, d, idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
				cancel(listener.ErrDraining)
				if succeeds {
					return nil
				}
				return context.Cause(ctx)
			})
			err := handle(ctx, bill("1", 1))
			if succeeds && err != nil || !succeeds && !errors.Is(err, listener.ErrDraining) {
				t.Errorf("got %v", err)
			}
			if got := d.Stats(); (got.Completed == 1) != succeeds || (got.Aborted == 1) == succeeds || got.Lost != 0 {
				t.Errorf("got %+v", got)
			}
			if err := handle(ctx, bill("2", 1)); wantDefer(t, err) != 0 || !errors.Is(err, listener.ErrDraining) {
				t.Errorf("a message after the end: got %v, want it given back", err)
			}
			if got := d.Stats(); got.StoreErrors != 0 {
				t.Errorf("our own end counts as a failure of the store: %+v", got)
			}
		})
	}
}

// The store may start the lease when the request is sent. A slow answer must not
// make the local deadline later than the store's.
func TestGuard_LeaseCountsFromBeforeTheRequest(t *testing.T) {
	t.Parallel()
	slow := func(context.Context, int) error { time.Sleep(9 * time.Second); return nil }
	t.Run("begin", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			s.after["begin"], s.before["renew"] = slow, hang
			start := time.Now()
			handle := wrap(t, process(t, s), idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
				<-ctx.Done()
				return ctx.Err()
			})
			_ = handle(t.Context(), bill("1", 1))
			if d := time.Since(start); d >= ttl {
				t.Errorf("the handler was told after %v, when the store had given the key away at %v", d, ttl)
			}
		})
	})
	t.Run("renew", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			var granted time.Time
			s.before["renew"] = func(ctx context.Context, n int) error {
				if n > 1 {
					return hang(ctx, n)
				}
				granted = time.Now()
				return nil
			}
			s.after["renew"] = func(context.Context, int) error { time.Sleep(4 * time.Second); return nil }
			handle := wrap(t, process(t, s), idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
				<-ctx.Done()
				return ctx.Err()
			})
			_ = handle(t.Context(), bill("1", 1))
			if d := time.Since(granted); d >= ttl || d < ttl-2*time.Second {
				t.Errorf("the handler was told %v after the renewal, want just before %v", d, ttl)
			}
		})
	})
	t.Run("too late", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newFaulty()
			s.after["begin"] = func(context.Context, int) error { time.Sleep(ttl); return nil }
			d := process(t, s)
			handle := wrap(t, d, idempotency.Config{}, func(context.Context, *sdk.Delivery) error {
				t.Error("ran under a lease that was over")
				return nil
			})
			wantDefer(t, handle(t.Context(), bill("1", 1)))
		})
	})
}

// A failure that is the handler's own spends an attempt, lost lease or not.
func TestGuard_OwnFailureAfterLostLeasePasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newFaulty()
		s.before["renew"] = hang
		failure := errors.New("no funds")
		handle := wrap(t, process(t, s), idempotency.Config{}, func(ctx context.Context, _ *sdk.Delivery) error {
			<-ctx.Done()
			return failure
		})
		err := handle(t.Context(), bill("1", 1))
		if _, deferred := listener.AsDefer(err); deferred || !errors.Is(err, failure) {
			t.Errorf("got %v, want the failure", err)
		}
	})
}

func TestGuard_KeysOfGroupsAndTopicsAreTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := process(t, newFaulty())
		runs := 0
		next := func(context.Context, *sdk.Delivery) error { runs++; return nil }
		for _, c := range []struct {
			group, topic, namespace string
		}{{"a", "t", ""}, {"b", "t", ""}, {"a", "u", ""}, {"a", "t", "n"}} {
			i := info()
			i.Group = c.group
			handle, err := d.Wrap(i, idempotency.Config{Key: "bill_id", Namespace: c.namespace}, next)
			if err != nil {
				t.Fatal(err)
			}
			m := bill("1", 1)
			m.Topic = c.topic
			for range 2 {
				if err := handle(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
		}
		if runs != 4 {
			t.Errorf("%d runs, want one for each group, topic and namespace", runs)
		}
	})
}

// Two processes, a store that fails at random, handlers that fail and dawdle at
// random: no two runs of one message at a time, at most one completed run, and
// nothing acknowledged that did not succeed.
func TestGuard_RandomFaultsNeverOverlapAndNeverLose(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		faults := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 30).Draw(rt, "faults")
		work := rapid.SliceOfN(rapid.IntRange(0, 70), 1, 30).Draw(rt, "work")
		copies := rapid.IntRange(2, 6).Draw(rt, "copies")
		problem := ""
		synctest.Test(t, func(t *testing.T) { problem = history(t, faults, work, copies) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// randomly is a store that fails, hangs or dawdles, before or after the fact, in
// the order of faults.
func randomly(faults []int) *faulty {
	s := newFaulty()
	var step atomic.Int64
	for _, op := range []string{"begin", "renew", "abort"} {
		fault := func(ctx context.Context, _ int) error {
			switch faults[int(step.Add(1))%len(faults)] {
			case 0:
				return errors.New("refused")
			case 1:
				return hang(ctx, 0)
			case 2:
				select {
				case <-time.After(3 * time.Second):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}
		s.before[op], s.after[op] = fault, fault
	}
	return s
}

func history(t *testing.T, faults, work []int, copies int) string {
	var mu sync.Mutex
	problem, runs, inside, succeeded := "", 0, 0, 0
	s := randomly(faults)
	next := func(ctx context.Context, _ *sdk.Delivery) error {
		mu.Lock()
		if inside++; inside > 1 {
			problem = "two handlers at a time"
		}
		if succeeded > 0 {
			problem = "ran after it had succeeded"
		}
		w := work[runs%len(work)]
		runs++
		mu.Unlock()
		select { // a good handler listens to its ctx
		case <-time.After(time.Duration(w) * time.Second):
		case <-ctx.Done():
		}
		err := idempotency.Check(ctx)
		mu.Lock()
		defer mu.Unlock()
		inside--
		if err == nil && w%3 == 0 {
			err = errors.New("failed")
		}
		if err == nil {
			succeeded++
		}
		return err
	}
	var wg sync.WaitGroup
	for i := range copies {
		handle := wrap(t, process(t, s), idempotency.Config{}, next)
		wg.Go(func() {
			for attempt := 1; attempt < 200; attempt++ {
				if err := handle(t.Context(), bill("1", attempt)); err == nil {
					mu.Lock()
					if succeeded == 0 {
						problem = "acknowledged, but no handler succeeded"
					}
					mu.Unlock()
					return
				}
				time.Sleep(time.Duration(i+1) * 1100 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	return problem
}

func TestDecorator_MetricsAndSpanEvents(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	d, err := idempotency.New(idempotency.Params{Store: newFaulty(), MeterProvider: meters})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	handle := wrap(t, d, idempotency.Config{}, func(context.Context, *sdk.Delivery) error { return nil })
	for range 3 {
		ctx, span := tracer.Start(t.Context(), "process bill-settled")
		if err := handle(ctx, bill("1", 1)); err != nil {
			t.Fatal(err)
		}
		span.End()
	}
	var got []string
	for _, s := range spans.Ended() {
		for _, e := range s.Events() {
			got = append(got, e.Name)
		}
	}
	if want := "[idempotency.acquired idempotency.completed idempotency.duplicate idempotency.duplicate]"; fmt.Sprint(got) != want {
		t.Errorf("span events %v, want %v", got, want)
	}
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		sum, ok := m.Data.(metricdata.Sum[int64])
		if !ok {
			continue
		}
		for _, p := range sum.DataPoints {
			outcome, _ := p.Attributes.Value(attribute.Key("outcome"))
			name, _ := p.Attributes.Value(attribute.Key("sluice.listener"))
			counts[m.Name+" "+name.AsString()+" "+outcome.AsString()] = p.Value
		}
	}
	for k, want := range map[string]int64{
		"sluice.idempotency.claims red-packet acquired":  1,
		"sluice.idempotency.claims red-packet duplicate": 2,
		"sluice.idempotency.completions red-packet mine": 1,
	} {
		if counts[k] != want {
			t.Errorf("%s: got %d, want %d (all: %v)", k, counts[k], want, counts)
		}
	}
}
