package listener

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk"
)

const (
	defaultGateTimeout = 10 * time.Second
	// A red gate is asked again after these, doubling.
	gateBackoffMin = time.Second
	gateBackoffMax = 30 * time.Second
)

// GateSpec is a check that must be green before a start-paused listener joins
// its group.
type GateSpec struct {
	name    string
	check   func(ctx context.Context) error
	timeout time.Duration
	targets []string
}

// GateOption is an option of [Gate].
type GateOption func(*GateSpec) error

// For restricts a gate to some start-paused listeners, by name.
func For(listeners ...string) GateOption {
	return func(g *GateSpec) error {
		if len(listeners) == 0 {
			return errors.New("For names no listener; leave it out for all start-paused listeners")
		}
		g.targets = append(g.targets, listeners...)
		return nil
	}
}

// GateTimeout bounds one run of the check. Defaults to 10 s.
func GateTimeout(d time.Duration) GateOption {
	return func(g *GateSpec) error {
		if d <= 0 {
			return fmt.Errorf("timeout %s; it takes a duration above zero", d)
		}
		g.timeout = d
		return nil
	}
}

// NewGate makes a gate without fx, for [ContainerParams].
func NewGate(name string, check func(ctx context.Context) error, opts ...GateOption) (GateSpec, error) {
	g := GateSpec{name: name, check: check, timeout: defaultGateTimeout}
	errs := []error{checkName(name)}
	if check == nil {
		errs = append(errs, errors.New("the check is nil"))
	}
	for _, o := range opts {
		errs = append(errs, o(&g))
	}
	if err := join(errs); err != nil {
		return GateSpec{}, fmt.Errorf("listener gate %q: %w", name, err)
	}
	return g, nil
}

type gateResult struct {
	fx.Out

	Gate GateSpec `group:"listener.gates"`
}

// Gate adds a check that must be green before start-paused listeners join their
// groups: all of them, or those named by [For]. fn is
// func(ctx context.Context, dependencies…) error with dependencies from the
// graph. The checks run side by side once the application has started; while
// one is red they are repeated after 1 s, 2 s … 30 s, and the state of the
// listener names it. A gate that ignores the end of its ctx is red and is not
// run again before it has returned.
func Gate(name string, fn any, opts ...GateOption) fx.Option {
	build, err := gateConstructor(name, fn, opts)
	if err != nil {
		return fx.Error(err)
	}
	what := fmt.Sprintf("listener gate %q", name)
	return fx.Module("listener.gate("+name+")", sdk.RequireStart(what), requireModule(what), fx.Provide(build))
}

// gateConstructor makes func(dependencies…) gateResult, which fx can call.
func gateConstructor(name string, fn any, opts []GateOption) (any, error) {
	const form = "it takes func(context.Context, dependencies…) error"
	t := reflect.TypeOf(fn)
	if t == nil || t.Kind() != reflect.Func || reflect.ValueOf(fn).IsNil() {
		return nil, fmt.Errorf("listener gate %q: the check is %T; %s", name, fn, form)
	}
	if t.IsVariadic() || t.NumIn() < 1 || t.In(0) != reflect.TypeFor[context.Context]() ||
		t.NumOut() != 1 || t.Out(0) != reflect.TypeFor[error]() {
		return nil, fmt.Errorf("listener gate %q: the check is %s; %s", name, t, form)
	}
	if _, err := NewGate(name, func(context.Context) error { return nil }, opts...); err != nil {
		return nil, err
	}
	in := make([]reflect.Type, 0, t.NumIn()-1)
	for i := 1; i < t.NumIn(); i++ {
		in = append(in, t.In(i))
	}
	out := []reflect.Type{reflect.TypeFor[gateResult]()}
	return reflect.MakeFunc(reflect.FuncOf(in, out, false), func(deps []reflect.Value) []reflect.Value {
		check := func(ctx context.Context) error {
			args := append([]reflect.Value{reflect.ValueOf(ctx)}, deps...)
			err, _ := reflect.ValueOf(fn).Call(args)[0].Interface().(error)
			return err
		}
		g, _ := NewGate(name, check, opts...) // the options were tried above
		return []reflect.Value{reflect.ValueOf(gateResult{Gate: g})}
	}).Interface(), nil
}

// GateStatus is the last result of one gate for one listener.
type GateStatus struct {
	Name string
	// Green is false before the first result.
	Green bool
	// Err is why it is red; nil before the first result.
	Err error
	// At is when the result came.
	At time.Time
}

// gate is one gate of one subscription.
type gate struct {
	GateSpec

	busy   chan struct{} // one slot: a check that overran is not started again
	status GateStatus    // guarded by the mutex of the pump
}

func newGate(g GateSpec) *gate {
	return &gate{GateSpec: g, busy: make(chan struct{}, 1), status: GateStatus{Name: g.name}}
}

// run asks once. The check keeps its slot until it has returned.
func (g *gate) run(ctx context.Context, wg *sync.WaitGroup) error {
	select {
	case g.busy <- struct{}{}:
	default:
		return fmt.Errorf("the last check is still running after its timeout of %s", g.timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	done := make(chan error, 1)
	wg.Go(func() {
		err := ErrGoexit // stays if the check neither returns nor panics
		defer func() {
			if p := recover(); p != nil {
				err = &PanicError{Value: p, Stack: debug.Stack()}
			}
			<-g.busy
			done <- err
		}()
		err = g.check(ctx)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer within %s: %w", g.timeout, context.Cause(ctx))
	}
}

// gatesFor selects the gates of a start-paused subscription.
func gatesFor(all []GateSpec, names []string) []*gate {
	var gs []*gate
	for _, g := range all {
		if len(g.targets) == 0 || slices.ContainsFunc(names, func(n string) bool { return slices.Contains(g.targets, n) }) {
			gs = append(gs, newGate(g))
		}
	}
	slices.SortFunc(gs, func(a, b *gate) int { return strings.Compare(a.name, b.name) })
	return gs
}
