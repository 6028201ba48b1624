package sdk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// ConsumeFunc handles one delivery; a nil error acknowledges it.
type ConsumeFunc func(ctx context.Context, d *Delivery) error

// ProduceFunc sends messages in slice order and answers one result for each, in
// the same order. Results of messages that were not stored hold their error in
// Err; the error joins them.
type ProduceFunc func(ctx context.Context, ms []*Outgoing) ([]SendResult, error)

// The orders of the built-in interceptors, outermost first.
const (
	OrderTracing     = 100
	OrderMetrics     = 200
	OrderIdempotency = 300
	OrderTimeout     = 400
	OrderRecover     = 500
)

// Interceptor wraps what is sent and what is handled. Interceptors are ordered
// by (Order, Name), outermost first; two with the same name are refused. Add one
// with [AsInterceptor].
type Interceptor struct {
	// Name is unique in the application.
	Name string
	// Order places it among the others: outermost first.
	Order int
	// Annotations are the names of listener annotations that it serves. A
	// listener with an annotation that nobody serves is refused.
	Annotations []string
	// Consume wraps the handler of one listener; it is called once per
	// listener when the application is built and may return next itself.
	// Nil: nothing is wrapped.
	Consume func(info ListenerInfo, next ConsumeFunc) (ConsumeFunc, error)
	// Produce wraps sending; it is called once. It may add headers to the
	// messages, which belong to this send. Nil: nothing is wrapped.
	Produce func(next ProduceFunc) ProduceFunc
}

// ListenerInfo describes a listener to its interceptors.
type ListenerInfo struct {
	// Name, Group and Topic of the listener.
	Name, Group, Topic string
	// Ordered and Broadcast say how it consumes.
	Ordered, Broadcast bool
	// MaxAttempts before the message is given up; 0: never.
	MaxAttempts int
	// RetryHorizon is how long after the first delivery the last one may come.
	RetryHorizon time.Duration
	// Annotations by name; the values belong to who defined them.
	Annotations map[string]any
	// Logger carries the name of the listener.
	Logger *slog.Logger
}

// sortInterceptors orders a copy and refuses bad ones, all together.
func sortInterceptors(in []Interceptor) ([]Interceptor, error) {
	out := slices.Clone(in)
	slices.SortFunc(out, func(a, b Interceptor) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), strings.Compare(a.Name, b.Name))
	})
	var errs []error
	seen := map[string]bool{}
	for _, x := range out {
		switch {
		case x.Name == "":
			errs = append(errs, fmt.Errorf("an interceptor of order %d has no name", x.Order))
		case seen[x.Name]:
			errs = append(errs, fmt.Errorf("two interceptors are named %q; the name must be unique", x.Name))
		}
		seen[x.Name] = true
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

func produceChain(list []Interceptor, last ProduceFunc) (ProduceFunc, error) {
	for _, x := range slices.Backward(list) {
		if x.Produce == nil {
			continue
		}
		if last = x.Produce(last); last == nil {
			return nil, fmt.Errorf("interceptor %q: Produce returned nil; return next to wrap nothing", x.Name)
		}
	}
	return last, nil
}

// ConsumeChain wraps handler in the interceptors of the application for one
// listener. It refuses an annotation that no interceptor serves; all problems
// are reported together.
func (c *Client) ConsumeChain(info ListenerInfo, handler ConsumeFunc) (ConsumeFunc, error) {
	errs := c.unserved(info)
	if info.Logger == nil {
		info.Logger = c.logger
	}
	next := handler
	for _, x := range slices.Backward(c.interceptors) {
		if x.Consume == nil {
			continue
		}
		wrapped, err := x.Consume(info, next)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("listener %s: interceptor %q: %w", info.Name, x.Name, err))
		case wrapped == nil:
			errs = append(errs, fmt.Errorf("listener %s: interceptor %q: Consume returned nil; return next to wrap nothing", info.Name, x.Name))
		default:
			next = wrapped
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return next, nil
}

func (c *Client) unserved(info ListenerInfo) []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(info.Annotations)) {
		served := slices.ContainsFunc(c.interceptors, func(x Interceptor) bool { return slices.Contains(x.Annotations, name) })
		if served {
			continue
		}
		advice := "add the module that serves it to the fx options"
		if name == "idempotency" {
			advice = "add redisstore.Module or memstore.Module to the fx options"
		}
		errs = append(errs, fmt.Errorf("listener %s: nothing serves its annotation %q; %s", info.Name, name, advice))
	}
	return errs
}
