package sdk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
)

// Phase orders services: started ascending, stopped descending, in parallel
// inside a phase.
type Phase int

// The phases of the framework. A service of the application may take any number.
const (
	PhaseConnect   Phase = 100
	PhaseChecks    Phase = 200
	PhaseListeners Phase = 300
)

// Service is something that [Start] starts and stops. Constructors start
// nothing; they hand over a Service with [AsService].
type Service struct {
	// Name is unique in the application.
	Name string
	// Phase places it among the others.
	Phase Phase
	// Start returns when the service works, or with an error after it has
	// cleaned up. Its context ends with the start; what goes on afterwards
	// needs a root of its own. Nil: nothing to do.
	Start func(context.Context) error
	// Stop returns when nothing of the service is left. It is called once, for
	// a service whose Start returned nil or did not return in time. Nil:
	// nothing to do.
	Stop func(context.Context) error
}

const (
	// stopMargin stays before the deadline of fx, so that the hooks after ours run.
	stopMargin = 500 * time.Millisecond
	// phaseReserve is kept for each phase that is still to be stopped.
	phaseReserve = 2 * time.Second
	// graceful is how long a service may take to return after its context has
	// ended, before it is left behind.
	grace = 250 * time.Millisecond
	// rollbackBudget bounds stopping what was started before a start failed.
	rollbackBudget = 2 * time.Second
)

// lifecycle starts and stops services by phase. It is used by one hook, whose
// start and stop never overlap.
type lifecycle struct {
	services []Service
	budget   time.Duration // 0: what the context gives
	logger   *slog.Logger
	started  []Service
}

func newLifecycle(services []Service, budget time.Duration, logger *slog.Logger) (*lifecycle, error) {
	l := &lifecycle{services: slices.Clone(services), budget: budget, logger: logger}
	slices.SortFunc(l.services, func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Phase, b.Phase), strings.Compare(a.Name, b.Name))
	})
	var errs []error
	seen := map[string]bool{}
	for _, s := range l.services {
		switch {
		case s.Name == "":
			errs = append(errs, fmt.Errorf("a service of phase %d has no name", s.Phase))
		case seen[s.Name]:
			errs = append(errs, fmt.Errorf("two services are named %q; the name must be unique", s.Name))
		}
		seen[s.Name] = true
	}
	return l, errors.Join(errs...)
}

// names returns the services in the order of their start.
func (l *lifecycle) names() []string {
	out := make([]string, 0, len(l.services))
	for _, s := range l.services {
		out = append(out, s.Name)
	}
	return out
}

// start runs the phases. When a service fails, or the time is over, everything
// that was started is stopped again before start returns.
func (l *lifecycle) start(ctx context.Context) error {
	end, bounded := ctx.Deadline()
	if bounded {
		// A start that times out at fx rolls nothing back, so ours ends first.
		total := time.Until(end)
		end = end.Add(-min(rollbackBudget, total/4))
	}
	for phase := range phases(l.services) {
		results := run(ctx, phase, "start", end, func(s Service) func(context.Context) error { return s.Start })
		var errs []error
		for i, r := range results {
			if r.err == nil || r.abandoned {
				l.started = append(l.started, phase[i])
			}
			errs = append(errs, r.err)
		}
		if err := errors.Join(errs...); err != nil {
			back, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit(ctx))
			defer cancel()
			return errors.Join(err, l.stopStarted(back, 0))
		}
	}
	return nil
}

// rollbackLimit leaves a little of what remains of the start.
func rollbackLimit(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return rollbackBudget
	}
	return max(time.Until(end)*9/10, 0)
}

// stop runs the phases backwards and returns at least [stopMargin] before the
// deadline of ctx.
func (l *lifecycle) stop(ctx context.Context) error { return l.stopStarted(ctx, stopMargin) }

func (l *lifecycle) stopStarted(ctx context.Context, margin time.Duration) error {
	started := l.started
	l.started = nil
	slices.Reverse(started)
	groups := slices.Collect(phases(started))
	hard, bounded := l.deadline(ctx, margin)
	reserve := phaseReserve
	if bounded && len(groups) > 0 {
		reserve = min(reserve, time.Until(hard)/time.Duration(2*len(groups)))
	}
	var errs []error
	for i, phase := range groups {
		end := hard
		if bounded {
			end = hard.Add(-reserve * time.Duration(len(groups)-1-i))
		}
		for _, r := range run(ctx, phase, "stop", end, func(s Service) func(context.Context) error { return s.Stop }) {
			if r.err != nil {
				errs = append(errs, r.err)
				l.logger.LogAttrs(ctx, slog.LevelError, "a service did not stop in order", slog.Any("error", r.err))
			}
		}
	}
	return errors.Join(errs...)
}

func (l *lifecycle) deadline(ctx context.Context, margin time.Duration) (time.Time, bool) {
	now := time.Now()
	end, bounded := ctx.Deadline()
	if bounded {
		end = end.Add(-min(margin, max(end.Sub(now), 0)/2))
	}
	if l.budget > 0 && (!bounded || now.Add(l.budget).Before(end)) {
		end, bounded = now.Add(l.budget), true
	}
	return end, bounded
}

// phases yields runs of services with the same phase.
func phases(services []Service) func(yield func([]Service) bool) {
	return func(yield func([]Service) bool) {
		for len(services) > 0 {
			n := 1
			for n < len(services) && services[n].Phase == services[0].Phase {
				n++
			}
			if !yield(services[:n:n]) {
				return
			}
			services = services[n:]
		}
	}
}

type runResult struct {
	err       error
	abandoned bool // still running when the time was over
}

// run calls one function of every service in parallel. A zero end means that
// ctx alone bounds it. A function that does not return by end is left behind;
// its context has ended [grace] earlier.
func run(ctx context.Context, services []Service, verb string, end time.Time, pick func(Service) func(context.Context) error) []runResult {
	limit := context.WithCancel
	var over <-chan time.Time
	if !end.IsZero() {
		left := max(time.Until(end), 0)
		timer := time.NewTimer(left)
		defer timer.Stop()
		over = timer.C
		cut := min(grace, left/4)
		limit = func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithDeadline(ctx, end.Add(-cut))
		}
	}
	ctx, cancel := limit(ctx)
	defer cancel()
	var mu sync.Mutex
	results := make([]runResult, len(services))
	finished := make([]bool, len(services))
	all := make(chan struct{})
	var wg sync.WaitGroup
	for i, s := range services {
		wg.Go(func() {
			err := call(ctx, s, verb, pick(s))
			mu.Lock()
			defer mu.Unlock()
			results[i].err, finished[i] = err, true
		})
	}
	go func() { wg.Wait(); close(all) }()
	select {
	case <-all:
	case <-over:
	}
	mu.Lock()
	defer mu.Unlock()
	out := slices.Clone(results)
	for i, done := range finished {
		if !done {
			out[i] = runResult{abandoned: true, err: fmt.Errorf("%s service %s: it did not return in time", verb, services[i].Name)}
		}
	}
	return out
}

func call(ctx context.Context, s Service, verb string, f func(context.Context) error) (err error) {
	if f == nil {
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s service %s: panic: %v\n%s", verb, s.Name, r, debug.Stack())
		}
	}()
	if err := f(ctx); err != nil {
		return fmt.Errorf("%s service %s: %w", verb, s.Name, err)
	}
	return nil
}
