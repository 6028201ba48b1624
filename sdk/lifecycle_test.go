package sdk

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// journal notes what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) service(name string, phase Phase, startErr error) Service {
	return Service{
		Name: name, Phase: phase,
		Start: func(context.Context) error { j.add("start " + name); return startErr },
		Stop:  func(context.Context) error { j.add("stop " + name); return nil },
	}
}

func lifecycleOf(t *testing.T, budget time.Duration, services ...Service) *lifecycle {
	t.Helper()
	l, err := newLifecycle(services, budget, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLifecyclePhases(t *testing.T) {
	t.Parallel()
	var j journal
	l := lifecycleOf(t, 0, j.service("listeners", PhaseListeners, nil), j.service("client", PhaseConnect, nil), j.service("checks", PhaseChecks, nil), Service{Name: "idle", Phase: 150})
	if err := errors.Join(l.start(t.Context()), l.stop(t.Context()), l.stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	want := []string{"start client", "start checks", "start listeners", "stop listeners", "stop checks", "stop client"}
	if !slices.Equal(j.lines, want) {
		t.Errorf("got  %q\nwant %q", j.lines, want)
	}
	if got := l.names(); !slices.Equal(got, []string{"client", "idle", "checks", "listeners"}) {
		t.Errorf("names %q", got)
	}
}

func TestLifecycleIsParallelInsideAPhase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := func(context.Context) error { time.Sleep(time.Second); return nil }
		l := lifecycleOf(t, 0, Service{Name: "a", Start: slow, Stop: slow}, Service{Name: "b", Start: slow, Stop: slow}, Service{Name: "c", Phase: 1, Start: slow, Stop: slow})
		begin := time.Now()
		err := l.start(t.Context())
		started := time.Since(begin)
		err = errors.Join(err, l.stop(t.Context()))
		if stopped := time.Since(begin) - started; err != nil || started != 2*time.Second || stopped != 2*time.Second {
			t.Errorf("%v, start took %v, stop %v", err, started, stopped)
		}
	})
}

func TestLifecycleRefusesNames(t *testing.T) {
	t.Parallel()
	_, err := newLifecycle([]Service{{Name: "a"}, {Name: "a"}, {Phase: 7}}, 0, nil)
	want := "two services are named \"a\"; the name must be unique\na service of phase 7 has no name"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestStartFailureStopsWhatWasStarted(t *testing.T) {
	t.Parallel()
	var j journal
	l := lifecycleOf(t, 0, j.service("client", 1, nil), j.service("good", 2, nil), j.service("bad", 2, errors.New("no luck")), j.service("later", 3, nil))
	err := l.start(t.Context())
	if err == nil || err.Error() != "start service bad: no luck" {
		t.Errorf("error %v", err)
	}
	slices.Sort(j.lines[1:3]) // the two of phase 2 run in parallel
	want := []string{"start client", "start bad", "start good", "stop good", "stop client"}
	if !slices.Equal(j.lines, want) {
		t.Errorf("got  %q\nwant %q", j.lines, want)
	}
	if err := l.stop(t.Context()); err != nil || len(j.lines) != len(want) {
		t.Errorf("a second stop did something: %v, %q", err, j.lines)
	}
}

func TestPanicInService(t *testing.T) {
	t.Parallel()
	var j journal
	l := lifecycleOf(t, 0, j.service("client", 1, nil), Service{Name: "bad", Phase: 2, Start: func(context.Context) error { panic("oh") }})
	err := l.start(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "start service bad: panic: oh\n") || !slices.Contains(j.lines, "stop client") {
		t.Errorf("%v, %q", err, j.lines)
	}
}

func TestStartThatTakesTooLongIsRolledBack(t *testing.T) {
	t.Parallel()
	for name, obedient := range map[string]bool{"returns with its context": true, "never returns": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var j journal
				release := make(chan struct{})
				stuck := j.service("stuck", 2, nil)
				stuck.Start = func(ctx context.Context) error {
					if !obedient {
						<-release
						return nil
					}
					<-ctx.Done()
					return context.Cause(ctx)
				}
				l := lifecycleOf(t, 0, j.service("client", 1, nil), stuck)
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				begin := time.Now()
				err := l.start(ctx)
				took := time.Since(begin)
				close(release)
				if err == nil || !strings.HasPrefix(err.Error(), "start service stuck: ") || took > 13*time.Second {
					t.Errorf("%v after %v", err, took)
				}
				want := []string{"start client", "stop client"}
				if !obedient { // it may have started after all
					want = []string{"start client", "stop stuck", "stop client"}
				}
				if !slices.Equal(j.lines, want) {
					t.Errorf("got  %q\nwant %q", j.lines, want)
				}
			})
		})
	}
}

// TestStopReturnsInTime: whatever the services do, stop returns before the
// deadline less the margin, and the later phases get their share.
func TestStopReturnsInTime(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		timeout, budget, most time.Duration
	}{
		"fx default":      {15 * time.Second, 0, 14500 * time.Millisecond},
		"budget":          {15 * time.Second, 5 * time.Second, 5 * time.Second},
		"budget too long": {15 * time.Second, time.Hour, 14500 * time.Millisecond},
		"short":           {600 * time.Millisecond, 0, 300 * time.Millisecond},
		"no deadline":     {0, 3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				stuck := func(context.Context) error { <-release; return nil }
				var connectHad time.Duration
				var log strings.Builder
				l, err := newLifecycle([]Service{
					{Name: "client", Phase: PhaseConnect, Stop: func(ctx context.Context) error {
						end, _ := ctx.Deadline()
						connectHad = time.Until(end)
						<-ctx.Done()
						return context.Cause(ctx)
					}},
					{Name: "checks", Phase: PhaseChecks, Stop: stuck},
					{Name: "listeners", Phase: PhaseListeners, Stop: stuck},
				}, tt.budget, slog.New(slog.NewTextHandler(&log, nil)))
				if err != nil {
					t.Fatal(err)
				}
				if err := l.start(t.Context()); err != nil {
					t.Fatal(err)
				}
				ctx := t.Context()
				if tt.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.timeout)
					defer cancel()
				}
				begin := time.Now()
				err = l.stop(ctx)
				took := time.Since(begin)
				close(release)
				if took > tt.most || connectHad <= 0 {
					t.Errorf("took %v, want at most %v; the last phase had %v", took, tt.most, connectHad)
				}
				for _, want := range []string{
					"stop service listeners: it did not return in time", "stop service checks: it did not return in time",
					"stop service client: context deadline exceeded",
				} {
					if !strings.Contains(err.Error(), want) || !strings.Contains(log.String(), want) {
						t.Errorf("%q is missing in %v\nor in the log %s", want, err, log.String())
					}
				}
			})
		})
	}
}

// TestStopWithADeadContext: every Stop is called although nobody can wait for it.
func TestStopWithADeadContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var j journal
		l := lifecycleOf(t, 0, j.service("a", 1, nil), j.service("b", 2, nil))
		if err := l.start(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()
		_ = l.stop(ctx)
		synctest.Wait()
		slices.Sort(j.lines)
		if want := []string{"start a", "start b", "stop a", "stop b"}; !slices.Equal(j.lines, want) {
			t.Errorf("got %q, want %q", j.lines, want)
		}
	})
}
