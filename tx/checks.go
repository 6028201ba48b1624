package tx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

// The waits before a check loop that the broker ended begins again.
const (
	firstRejoin   = time.Second
	longestRejoin = 30 * time.Second
)

// Checks answers the check-backs of the senders of a process, with one loop per
// producer group. Under fx [Provide] takes care of it; without fx there is one
// per client, started before the first Send and stopped after the last.
type Checks struct {
	client *sdk.Client
	logger *slog.Logger
	groups map[string]*producerGroup

	root   context.Context //nolint:containedctx // the service's own root; of answers; ends when Stop gives up waiting
	cancel context.CancelCauseFunc
	loops  context.Context //nolint:containedctx // the service's own root; ends when Stop begins to end the loops
	end    context.CancelFunc
	wg     sync.WaitGroup
}

type producerGroup struct {
	name     string
	parallel int
	types    map[string]*endpoint
}

// NewChecks collects the senders. Two senders with the same group and type name
// are refused: a check-back could not tell them apart.
func NewChecks(client *sdk.Client, senders ...AnySender) (*Checks, error) {
	c := &Checks{client: client, logger: client.Logger(), groups: map[string]*producerGroup{}}
	var errs []error
	for _, s := range senders {
		e := s.endpoint()
		g := c.groups[e.group]
		if g == nil {
			g = &producerGroup{name: e.group, types: map[string]*endpoint{}}
			c.groups[e.group] = g
		}
		if other, twice := g.types[e.typeName]; twice {
			errs = append(errs, fmt.Errorf("two senders of group %s have the type name %q (topics %s and %s); give one of them another by tx.TypeName, or another tx.Group",
				e.group, e.typeName, other.topic, e.topic))
			continue
		}
		g.types[e.typeName] = e
		g.parallel = max(g.parallel, e.parallel)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.root, c.cancel = context.WithCancelCause(context.Background()) //nolint:forbidigo // a root that owns a lifecycle
	c.loops, c.end = context.WithCancel(c.root)
	return c, nil
}

// Service makes c a service of [sdk.PhaseChecks].
func (c *Checks) Service() sdk.Service {
	return sdk.Service{Name: "tx.checks", Phase: sdk.PhaseChecks, Start: c.Start, Stop: c.Stop}
}

// Start begins the loops. A broker without half messages is refused, with the
// names of the senders. It is called once.
func (c *Checks) Start(ctx context.Context) error {
	if len(c.groups) == 0 {
		return nil
	}
	tr, err := transactor(ctx, c.client)
	if err != nil {
		return fmt.Errorf("start check-backs for %s: %w", c.names(), err)
	}
	for _, g := range c.groups {
		c.wg.Go(func() { c.run(tr, g) })
	}
	return nil
}

// names lists the senders in the form "billing.BillSettled (group bills)".
func (c *Checks) names() string {
	var names []string
	for _, g := range c.groups {
		for name := range g.types {
			names = append(names, name+" (group "+g.name+")")
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Stop refuses new Sends, waits for those that run, then leaves the producer
// groups and waits until the check-backs under way are answered. When ctx ends
// first, the contexts of these check-backs end, and Stop says what was left.
func (c *Checks) Stop(ctx context.Context) error {
	var errs []error
	for _, g := range c.groups {
		for _, e := range g.types {
			if left := e.sends.shut(ctx); left > 0 {
				errs = append(errs, fmt.Errorf("%d transactions of %s still run; they are left to their check-backs", left, e.typeName))
			}
		}
	}
	c.end()
	defer c.cancel(ErrStopped)
	done := make(chan struct{})
	go func() {
		c.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return errors.Join(errs...)
	case <-ctx.Done():
		return errors.Join(append(errs, fmt.Errorf("check-backs are still being answered: %w", context.Cause(ctx)))...)
	}
}

// run keeps the membership in one group until Stop.
func (c *Checks) run(tr driver.Transactor, g *producerGroup) {
	wait := firstRejoin
	for c.loops.Err() == nil {
		began := time.Now()
		err := tr.Checks(c.loops, g.name, g.parallel, func(ctx context.Context, h driver.Half, d *driver.Delivery, check int) Decision {
			return c.answer(ctx, g, h, d, check)
		})
		if c.loops.Err() != nil {
			return
		}
		if driver.CodeOf(err) == driver.Closed {
			c.logger.LogAttrs(c.root, slog.LevelError, "check-backs ended with the connection", slog.String("group", g.name), slog.Any("error", err))
			return
		}
		if time.Since(began) > longestRejoin {
			wait = firstRejoin
		}
		c.logger.LogAttrs(c.root, slog.LevelWarn, "check-backs were interrupted and begin again",
			slog.String("group", g.name), slog.Duration("in", wait), slog.Any("error", err))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.loops.Done():
			timer.Stop()
		}
		wait = min(2*wait, longestRejoin)
	}
}

// answer finds the sender by the type name and contains what it does.
func (c *Checks) answer(ctx context.Context, g *producerGroup, h driver.Half, d *driver.Delivery, check int) Decision {
	name := d.Properties[HeaderType]
	attrs := []slog.Attr{
		slog.String("group", g.name), slog.String("id", h.TxID), slog.String("topic", d.Topic),
		slog.String("type", name), slog.Int("check", check),
	}
	e := g.types[name]
	if e == nil {
		known := slices.Sorted(maps.Keys(g.types))
		c.logger.LogAttrs(ctx, slog.LevelWarn, "no sender of this process answers for the half message; it stays undecided",
			append(attrs, slog.Any("known", known))...)
		return Undecided
	}
	// A stop lets answers under way finish: the driver's context ends with the
	// loop, that of the answer with its own deadline or with the end of Stop.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), e.timeout,
		fmt.Errorf("no answer within %v: %w", e.timeout, context.DeadlineExceeded))
	defer cancel()
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	stop := context.AfterFunc(c.root, func() { abort(context.Cause(c.root)) })
	defer stop()

	// The check is part of the trace of its transaction, however much later.
	ctx = c.client.Tracing().Extract(ctx, d.Properties)
	ctx, end := c.client.Tracing().StartTx(ctx, sdk.TxCheck, sdk.TxSpan{ID: h.TxID, Topic: d.Topic, Group: g.name, Headers: d.Properties})
	decision, err := e.answer(ctx, h, d, check)
	if err == nil && decision > Rollback {
		err = fmt.Errorf("the checker answered %d, which is no decision", decision)
	}
	end(err)
	if err == nil {
		c.logger.LogAttrs(ctx, slog.LevelDebug, "check-back answered", append(attrs, slog.String("decision", decision.String()))...)
		return decision
	}
	level := slog.LevelWarn
	if p, ok := errors.AsType[*PanicError](err); ok {
		level = slog.LevelError
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	c.logger.LogAttrs(ctx, level, "a check-back failed; the half message stays undecided", append(attrs, slog.Any("error", err))...)
	return Undecided
}

// leads reports whether own is the first of all senders in the order of group
// and type name. Two that share both are both first, and NewChecks refuses them.
func leads(own AnySender, all []AnySender) bool {
	me := own.endpoint()
	for _, s := range all {
		e := s.endpoint()
		if cmp.Or(strings.Compare(e.group, me.group), strings.Compare(e.typeName, me.typeName)) < 0 {
			return false
		}
	}
	return true
}
