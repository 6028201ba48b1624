package listener_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

func gate(t *testing.T, name string, f func(context.Context) error, opts ...listener.GateOption) listener.GateSpec {
	t.Helper()
	g, err := listener.NewGate(name, f, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func nop(context.Context, *sdk.Message[bill]) error { return nil }

func TestGate_RedKeepsItOutOfTheGroupAndIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		begin := time.Now()
		b := start(t, bundleOptions{gates: []listener.GateSpec{
			gate(t, "wallet", func(context.Context) error {
				asked = append(asked, time.Since(begin))
				if len(asked) < 5 {
					return errors.New("connection refused")
				}
				return nil
			}),
			gate(t, "always", func(context.Context) error { return nil }),
		}}, on(t, nop, listener.Paused(true)))
		events := b.c.Events(t.Context(), 100)
		synctest.Wait()
		s, _ := b.c.Status("l")
		if s.State != listener.StatePaused || s.Reason != `gate "wallet" is red: connection refused` || s.Verified || b.broker.members() != 0 {
			t.Errorf("status %+v, members %d", s, b.broker.members())
		}
		if len(s.Gates) != 2 || !s.Gates[0].Green || s.Gates[1].Green || s.Gates[1].Err == nil {
			t.Errorf("gates %+v", s.Gates)
		}
		if err := b.c.Ready(); err == nil || !strings.Contains(err.Error(), "wallet") {
			t.Errorf("ready: %v", err)
		}
		if err := b.c.Resume(t.Context(), listener.All()); err == nil || !strings.Contains(err.Error(), `gate "wallet" is red`) {
			t.Errorf("resume: %v", err)
		}
		time.Sleep(time.Minute)
		if s, _ := b.c.Status("l"); s.State != listener.StateRunning || !s.Verified || b.broker.members() != 1 {
			t.Errorf("status %+v", s)
		}
		if err := b.c.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		// At once, by Resume, and after 1, 2 and 4 seconds more.
		want := []time.Duration{0, 0, time.Second, 3 * time.Second, 7 * time.Second}
		for i, d := range want {
			if len(asked) != len(want) || asked[i] != d {
				t.Fatalf("asked at %v, want %v", asked, want)
			}
		}
		red := 0
		for len(events) > 0 {
			if e := <-events; e.Kind == listener.EventGateRed && e.Subject == "wallet" {
				red++
			}
		}
		if red == 0 {
			t.Error("no event named the gate")
		}
	})
}

func TestGate_ManualWaitsForTheOperator(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, bundleOptions{}, on(t, nop, listener.Paused(false)))
		time.Sleep(time.Hour)
		s, _ := b.c.Status("l")
		if s.State != listener.StatePaused || !s.Verified || b.broker.members() != 0 {
			t.Errorf("status %+v", s)
		}
		if err := b.c.Resume(t.Context(), listener.Named("l")); err != nil {
			t.Fatal(err)
		}
		state(t, b, "running")
	})
}

func TestGate_ForceResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, bundleOptions{gates: []listener.GateSpec{gate(t, "red", func(context.Context) error { return errors.New("no") })}},
			on(t, nop, listener.Paused(true)))
		synctest.Wait()
		if err := b.c.ForceResume(t.Context(), listener.All()); err != nil {
			t.Fatal(err)
		}
		state(t, b, "running")
		time.Sleep(time.Hour)
		state(t, b, "running")
	})
}

func TestGate_PauseDuringVerificationKeepsItPaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, bundleOptions{gates: []listener.GateSpec{gate(t, "slow", func(ctx context.Context) error {
			time.Sleep(5 * time.Second)
			return nil
		})}}, on(t, nop, listener.Paused(true)))
		time.Sleep(time.Second)
		state(t, b, "verifying")
		if err := b.c.Pause(t.Context(), listener.All(), listener.ReleaseLanes); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		state(t, b, "paused(release)")
		if err := b.c.Resume(t.Context(), listener.All()); err != nil {
			t.Fatal(err)
		}
		state(t, b, "running")
	})
}

func TestGate_DeafOneIsRedAndIsNotRunTwiceAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var running, most, runs atomic.Int32
		b := start(t, bundleOptions{gates: []listener.GateSpec{gate(t, "deaf", func(context.Context) error {
			runs.Add(1)
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			time.Sleep(20 * time.Second)
			return nil
		}, listener.GateTimeout(time.Second))}}, on(t, nop, listener.Paused(true)))
		time.Sleep(1500 * time.Millisecond)
		if s, _ := b.c.Status("l"); !strings.Contains(s.Reason, `gate "deaf" is red: no answer within 1s`) {
			t.Errorf("reason %q", s.Reason)
		}
		time.Sleep(10 * time.Second)
		if s, _ := b.c.Status("l"); !strings.Contains(s.Reason, "still running") {
			t.Errorf("reason %q", s.Reason)
		}
		if most.Load() != 1 || runs.Load() != 1 {
			t.Errorf("%d runs, %d at a time", runs.Load(), most.Load())
		}
		time.Sleep(time.Minute)
	})
}

func TestGate_PanicIsRed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := start(t, bundleOptions{gates: []listener.GateSpec{gate(t, "p", func(context.Context) error { panic("oops") })}},
			on(t, nop, listener.Paused(true)))
		synctest.Wait()
		if s, _ := b.c.Status("l"); s.Reason != `gate "p" is red: panic: oops` {
			t.Errorf("reason %q", s.Reason)
		}
	})
}

func TestGate_FailingToJoinIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		var tries atomic.Int32
		broker.onSubscribe = func(driver.SubscribeSpec) error {
			if tries.Add(1) < 3 {
				return driver.Errorf(driver.FailedPrecondition, "subscribe", "other tags")
			}
			return nil
		}
		b := start(t, bundleOptions{broker: broker}, on(t, nop, listener.Paused(true)))
		synctest.Wait()
		if s, _ := b.c.Status("l"); s.State != listener.StatePaused || !strings.Contains(s.Reason, "other tags") {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Minute)
		state(t, b, "running")
	})
}

func TestGate_Mistakes(t *testing.T) {
	t.Parallel()
	ok := func(context.Context) error { return nil }
	if _, err := listener.NewGate("a b", nil, listener.For(), listener.GateTimeout(0)); err == nil ||
		strings.Count(err.Error(), ";") < 3 {
		t.Errorf("NewGate: %v", err)
	}
	_, err := tryBuild(t, bundleOptions{gates: []listener.GateSpec{
		gate(t, "x", ok, listener.For("ll")), gate(t, "x", ok), gate(t, "y", ok, listener.For("l")),
	}}, on(t, nop))
	for _, want := range []string{
		`listener gate "x": no listener is named "ll"`,
		`two listener gates are named "x"`,
		`listener gate "y" is for listener "l", which does not start paused`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v\nlacks %s", err, want)
		}
	}
}
