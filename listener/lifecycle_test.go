package listener_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

func slow(r *record, d time.Duration) func(context.Context, *sdk.Message[bill]) error {
	return func(ctx context.Context, m *sdk.Message[bill]) error {
		r.add("begin " + m.ID)
		select {
		case <-time.After(d):
			r.add("end " + m.ID)
			return nil
		case <-ctx.Done():
			r.add(fmt.Sprintf("cut %s: %v", m.ID, context.Cause(ctx)))
			return ctx.Err()
		}
	}
}

func state(t *testing.T, b *bundle, want string) {
	t.Helper()
	s, ok := b.c.Status("l")
	got := s.State.String()
	if s.Mode != listener.NotPaused {
		got += "(" + s.Mode.String() + ")"
	}
	if !ok || got != want {
		t.Errorf("state %s, want %s", got, want)
	}
}

func TestPause_HoldReturnsWhatHasNotBegunAndWaitsForTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, slow(r, 10*time.Second), listener.Concurrency(1), listener.Prefetch(5)))
		b.send("t", "m1", "m2", "m3")
		time.Sleep(3 * time.Second)
		if err := b.c.Pause(t.Context(), listener.Named("l"), listener.HoldLanes); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(r.begin); d != 10*time.Second {
			t.Errorf("Pause returned after %s", d)
		}
		state(t, b, "paused(hold)")
		equal(t, "settlements", b.broker.settlements(), []string{"return m2", "return m3", "ack m1"})
		if b.broker.members() != 1 {
			t.Error("hold left the group")
		}
		if err := b.c.Pause(t.Context(), listener.All(), listener.HoldLanes); err != nil {
			t.Errorf("second pause: %v", err)
		}
		time.Sleep(time.Hour)
		if s, _ := b.c.Status("l"); s.Held != 0 || len(s.Lanes) != 2 || s.InFlight != 0 {
			t.Errorf("status while paused: %+v", s)
		}
		if err := b.c.Resume(t.Context(), listener.InGroup("g")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		state(t, b, "running")
		if got := b.broker.settlements(); len(got) != 5 || got[4] != "ack m3" {
			t.Errorf("settlements: %q", got)
		}
	})
}

func TestPause_ReleaseLetsPeersTakeOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		broker.queues = 4
		var a, p atomic.Int32
		count := func(n *atomic.Int32) func(context.Context, *sdk.Message[bill]) error {
			return func(context.Context, *sdk.Message[bill]) error { n.Add(1); return nil }
		}
		one := start(t, bundleOptions{broker: broker}, on(t, count(&a)))
		start(t, bundleOptions{broker: broker}, on(t, count(&p)))
		send := func() {
			for q := range 4 {
				broker.put("t", q, driver.Message{Body: []byte("{}")})
			}
			time.Sleep(time.Second)
		}
		send()
		if a.Load() != 2 || p.Load() != 2 {
			t.Fatalf("shares: %d and %d", a.Load(), p.Load())
		}
		if err := one.c.Pause(t.Context(), listener.All(), listener.ReleaseLanes); err != nil {
			t.Fatal(err)
		}
		state(t, one, "paused(release)")
		send()
		if a.Load() != 2 || p.Load() != 6 {
			t.Errorf("after release: %d and %d", a.Load(), p.Load())
		}
		// Hold after release has no lanes to hold.
		if err := one.c.Pause(t.Context(), listener.All(), listener.HoldLanes); err != nil {
			t.Fatal(err)
		}
		state(t, one, "paused(release)")
		if err := one.c.Resume(t.Context(), listener.All()); err != nil {
			t.Fatal(err)
		}
		send()
		if a.Load() != 4 || p.Load() != 8 {
			t.Errorf("after resume: %d and %d", a.Load(), p.Load())
		}
	})
}

func TestPause_SurvivesRebalance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		broker.queues = 2
		var a atomic.Int32
		one := start(t, bundleOptions{broker: broker}, on(t, func(context.Context, *sdk.Message[bill]) error { a.Add(1); return nil }))
		if err := one.c.Pause(t.Context(), listener.All(), listener.HoldLanes); err != nil {
			t.Fatal(err)
		}
		two := build(t, bundleOptions{broker: broker}, on(t, func(context.Context, *sdk.Message[bill]) error { return nil }))
		if err := two.c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		two.stop() // its lanes come back to the paused one
		broker.put("t", 0, driver.Message{Body: []byte("{}")})
		broker.put("t", 1, driver.Message{Body: []byte("{}")})
		time.Sleep(time.Minute)
		if a.Load() != 0 {
			t.Errorf("%d handled while paused", a.Load())
		}
		if err := one.c.Resume(t.Context(), listener.All()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if a.Load() != 2 {
			t.Errorf("%d handled after resume", a.Load())
		}
	})
}

func TestPause_EndOfCtxLeavesThePauseStanding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, slow(r, 10*time.Second)))
		b.send("t", "m1")
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := b.c.Pause(ctx, listener.All(), listener.ReleaseLanes)
		if err == nil || !strings.Contains(err.Error(), "1 handlers are running") || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		state(t, b, "paused(release)")
		if err := b.c.Pause(t.Context(), listener.All(), listener.ReleaseLanes); err != nil {
			t.Error(err)
		}
		if b.broker.members() != 0 || time.Since(r.begin) != 10*time.Second {
			t.Errorf("%d members after %s", b.broker.members(), time.Since(r.begin))
		}
	})
}

func TestHold_StopsFetchingAndShows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			r.add(m.ID)
			if time.Since(r.begin) < time.Minute {
				return listener.Hold(time.Minute, errors.New("db down"))
			}
			return nil
		}, listener.Concurrency(1)))
		events := b.c.Events(t.Context(), 10)
		b.send("t", "m1", "m2", "m3")
		synctest.Wait()
		s, _ := b.c.Status("l")
		if s.State != listener.StateRunning || s.HoldUntil.Sub(r.begin) != time.Minute || s.HoldCause == nil || s.HoldCause.Error() != "db down" {
			t.Errorf("status %+v", s)
		}
		time.Sleep(10 * time.Minute)
		equal(t, "runs", r.get(), []string{"0s m1", "1m0s m1", "1m0s m2", "1m0s m3"})
		if e := <-events; e.Kind != listener.EventHold {
			t.Errorf("event %+v", e)
		}
		if e := <-events; e.Kind != listener.EventHoldEnded {
			t.Errorf("event %+v", e)
		}
		if s, _ := b.c.Status("l"); !s.HoldUntil.IsZero() {
			t.Errorf("status after the hold %+v", s)
		}
	})
}

func TestHold_OperatorResumesEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		n := 0
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			r.add(m.ID)
			if n++; n == 1 {
				return listener.Hold(time.Hour, nil)
			}
			return nil
		}))
		b.send("t", "m1")
		time.Sleep(time.Minute)
		if err := b.c.Resume(t.Context(), listener.All()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		equal(t, "runs", r.get(), []string{"0s m1", "1m0s m1"})
	})
}

func TestStop_LetsHandlersFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := build(t, bundleOptions{}, on(t, slow(r, 3*time.Second), listener.Concurrency(1), listener.Prefetch(1)))
		if err := b.c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.c.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		b.send("t", "m1", "m2", "m3")
		time.Sleep(time.Second)
		go func() {
			time.Sleep(time.Second)
			if !errors.Is(b.c.Ready(), listener.ErrDraining) {
				t.Error("still ready while draining")
			}
			state(t, b, "draining")
		}()
		b.stop()
		equal(t, "runs", r.get(), []string{"0s begin m1", "3s end m1"})
		equal(t, "settlements", b.broker.settlements(), []string{"return m2", "ack m1"})
		if d := time.Since(r.begin); d != 3*time.Second {
			t.Errorf("stopped after %s", d)
		}
		state(t, b, "stopped")
		if err := b.c.Stop(t.Context()); err != nil {
			t.Errorf("second stop: %v", err)
		}
		if err := b.c.Resume(t.Context(), listener.All()); err == nil || !strings.Contains(err.Error(), "stopped cannot run") {
			t.Errorf("resume after stop: %v", err)
		}
	})
}

func TestStop_CancelsWhatOverrunsAndIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := build(t, bundleOptions{}, on(t, slow(r, time.Hour)))
		if err := b.c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.send("t", "m1")
		time.Sleep(time.Second)
		b.stop() // 15 s
		equal(t, "runs", r.get(), []string{"0s begin m1", "13.5s cut m1: listener is draining"})
		equal(t, "settlements", b.broker.settlements(), []string{"return m1"})
		if b.broker.backlog() != 1 || b.broker.members() != 0 {
			t.Errorf("backlog %d, members %d", b.broker.backlog(), b.broker.members())
		}
	})
}

func TestStop_DeafHandlerIsLeftBehindInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		b := build(t, bundleOptions{}, on(t, func(context.Context, *sdk.Message[bill]) error {
			time.Sleep(time.Minute)
			return nil
		}))
		if err := b.c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.send("t", "m1")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := b.c.Stop(ctx)
		if d := time.Since(begin); d > 9500*time.Millisecond {
			t.Errorf("took %s", d)
		}
		if err == nil || !strings.Contains(err.Error(), "left behind: 1 handlers are running") {
			t.Errorf("error %v", err)
		}
		if b.broker.backlog() != 1 || b.broker.members() != 0 {
			t.Errorf("backlog %d, members %d", b.broker.backlog(), b.broker.members())
		}
		time.Sleep(2 * time.Minute) // the handler ends, and nothing else happens
		if err := b.client.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStop_DuringEverything(t *testing.T) {
	t.Parallel()
	for name, during := range map[string]func(b *bundle){
		"pause":      func(b *bundle) { _ = b.c.Pause(context.Background(), listener.All(), listener.ReleaseLanes) },
		"other stop": func(b *bundle) { _ = b.c.Stop(context.Background()) },
		"drain":      func(b *bundle) { _ = b.c.Drain(context.Background(), listener.All()) },
		"resume":     func(b *bundle) { _ = b.c.Resume(context.Background(), listener.All()) },
		"start":      func(b *bundle) { _ = b.c.Start(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRecord()
				b := build(t, bundleOptions{}, on(t, slow(r, 5*time.Second)))
				if name != "start" {
					if err := b.c.Start(t.Context()); err != nil {
						t.Fatal(err)
					}
					b.send("t", "m1")
					synctest.Wait()
				}
				go during(b)
				if name != "start" {
					time.Sleep(time.Second)
				}
				b.stop()
				synctest.Wait()
				state(t, b, "stopped")
				if b.broker.members() != 0 {
					t.Error("still a member")
				}
				if name != "start" {
					equal(t, "settlements", b.broker.settlements(), []string{"ack m1"})
				}
			})
		})
	}
}

func TestDrain_OneListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nop := func(context.Context, *sdk.Message[bill]) error { return nil }
		b := start(t, bundleOptions{}, on(t, nop), on(t, nop, listener.Name("other"), listener.Group("h"), listener.Label("tier", "gold")))
		if err := b.c.Drain(t.Context(), listener.Labelled("tier", "gold")); err != nil {
			t.Fatal(err)
		}
		if s, _ := b.c.State("other"); s != listener.StateStopped {
			t.Errorf("other is %s", s)
		}
		state(t, b, "running")
	})
}

func TestRevoked_SettlesBeforeTheLaneGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		broker := newFake()
		broker.queues = 2
		start(t, bundleOptions{broker: broker}, on(t, slow(r, 5*time.Second), listener.Concurrency(1)))
		broker.put("t", 1, driver.Message{ID: "m1", Body: []byte("{}")})
		broker.put("t", 1, driver.Message{ID: "m2", Body: []byte("{}")})
		time.Sleep(time.Second)
		r2 := newRecord()
		start(t, bundleOptions{broker: broker}, on(t, slow(r2, 5*time.Second)))
		time.Sleep(time.Minute)
		equal(t, "first member", r.get(), []string{"0s begin m1", "5s end m1"})
		equal(t, "second member", r2.get(), []string{"4s begin m2", "9s end m2"})
	})
}

// The fetch that waits is ended: a hand-over takes no longer than the work.
func TestRevoked_EndsTheFetchThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		broker.queues, broker.deaf = 2, true
		start(t, bundleOptions{broker: broker}, on(t, slow(newRecord(), time.Second)))
		time.Sleep(1200 * time.Millisecond) // in the middle of a fetch
		r := newRecord()
		start(t, bundleOptions{broker: broker}, on(t, slow(r, time.Second)))
		broker.put("t", 1, driver.Message{ID: "m1", Body: []byte("{}")})
		time.Sleep(time.Minute)
		equal(t, "second member", r.get(), []string{"0s begin m1", "1s end m1"})
	})
}

// A lane that changes hands while a fetch of it waits: what the fetch hears must
// not end the handlers that run, for then both members would handle a message.
func TestRevoked_WhileAFetchWaits(t *testing.T) {
	t.Parallel()
	for _, notice := range []time.Duration{0, time.Second} {
		t.Run(notice.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRecord()
				broker := newFake()
				broker.queues, broker.notice = 2, notice
				start(t, bundleOptions{broker: broker}, on(t, slow(r, 5*time.Second), listener.Concurrency(8)))
				broker.put("t", 1, driver.Message{ID: "m1", Body: []byte("{}")})
				time.Sleep(time.Second)
				r2 := newRecord()
				start(t, bundleOptions{broker: broker}, on(t, slow(r2, 5*time.Second)))
				broker.put("t", 1, driver.Message{ID: "m2", Body: []byte("{}")})
				time.Sleep(time.Minute)
				equal(t, "first member", r.get(), []string{"0s begin m1", "5s end m1"})
				equal(t, "second member", r2.get()[:1], []string{"4s begin m2"})
				equal(t, "settlements", broker.settlements(), []string{"ack m1", "ack m2"})
			})
		})
	}
}

func TestLost_CancelsHandlersAndSettlesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, slow(r, 10*time.Second)))
		b.send("t", "m1")
		time.Sleep(time.Second)
		b.broker.lose("t/0")
		time.Sleep(time.Minute)
		got := r.get()
		slices.Sort(got) // the end of the first run and the begin of the second are at the same time
		equal(t, "runs", got, []string{
			"0s begin m1", "11s end m1", "1s begin m1", "1s cut m1: lane lost to another member of the group",
		})
		equal(t, "settlements", b.broker.settlements(), []string{"ack m1"})
	})
}

func TestCycles_PauseResumeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var handled atomic.Int32
		b := start(t, bundleOptions{}, on(t, func(context.Context, *sdk.Message[bill]) error { handled.Add(1); return nil }))
		cycle := func(mode listener.Mode) {
			b.send("t", "m")
			if err := b.c.Pause(t.Context(), listener.All(), mode); err != nil {
				t.Fatal(err)
			}
			if err := b.c.Resume(t.Context(), listener.All()); err != nil {
				t.Fatal(err)
			}
		}
		cycle(listener.HoldLanes)
		synctest.Wait()
		before := runtime.NumGoroutine()
		for i := range 1000 {
			cycle([]listener.Mode{listener.HoldLanes, listener.ReleaseLanes}[i%2])
		}
		synctest.Wait()
		// Other tests run beside this one: allow them a few.
		if after := runtime.NumGoroutine(); after > before+200 {
			t.Errorf("%d goroutines, %d before", after, before)
		}
		if handled.Load() != 1001 || b.broker.backlog() != 0 {
			t.Errorf("%d handled, backlog %d", handled.Load(), b.broker.backlog())
		}
	})
}

func TestStart_FailsAsAWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		broker.onSubscribe = func(s driver.SubscribeSpec) error {
			if s.Group == "bad" {
				return driver.Errorf(driver.FailedPrecondition, "subscribe", "members of bad use tags a, not b")
			}
			return nil
		}
		nop := func(context.Context, *sdk.Message[bill]) error { return nil }
		b := build(t, bundleOptions{broker: broker}, on(t, nop), on(t, nop, listener.Name("bad"), listener.Group("bad")))
		err := b.c.Start(t.Context())
		if err == nil || !strings.Contains(err.Error(), "listener bad: subscribe") || !strings.Contains(err.Error(), "use tags a, not b") {
			t.Errorf("error %v", err)
		}
		if broker.members() != 0 {
			t.Error("the good one stayed in its group")
		}
		if err := b.client.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
