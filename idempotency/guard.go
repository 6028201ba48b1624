package idempotency

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicemq/sluice/internal/lease"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// guard is the handler of one listener behind the decorator.
type guard struct {
	d        *Decorator
	config   Config
	group    string
	next     sdk.ConsumeFunc
	log      *slog.Logger
	listener attribute.KeyValue
	outage   outage
}

// consume claims the key of m and acts on what the store says.
func (g *guard) consume(ctx context.Context, m *sdk.Delivery) error {
	business, err := g.config.business(m)
	if err != nil {
		return err
	}
	a := &attempt{
		g:     g,
		key:   NewKey(g.config.Namespace, g.group, m.Topic, business),
		owner: newOwner(),
		sent:  time.Now(),
	}
	claim, err := a.begin(ctx)
	if err != nil {
		return g.unanswered(ctx, m, err)
	}
	g.answered(ctx)
	g.count(ctx, g.d.instruments.claims, claim.State.String())
	span := trace.SpanFromContext(ctx)
	switch claim.State {
	case Done:
		g.d.counters.duplicates.Add(1)
		span.AddEvent("idempotency.duplicate", trace.WithAttributes(fenceAttr(claim.Fence)))
		return nil
	case Busy:
		g.d.counters.busy.Add(1)
		span.AddEvent("idempotency.busy", trace.WithAttributes(fenceAttr(claim.Fence),
			attribute.Int64("idempotency.remaining_ms", claim.Remaining.Milliseconds())))
		return listener.Defer(g.busyDelay(claim.Remaining))
	default:
		g.d.counters.acquired.Add(1)
		span.AddEvent("idempotency.acquired", trace.WithAttributes(fenceAttr(claim.Fence)))
		a.fence = claim.Fence
		return a.run(ctx, m)
	}
}

// busyDelay is when a duplicate is worth another look: when the lease of the
// owner would end, but not too rarely, since the owner may be done long before.
func (g *guard) busyDelay(remaining time.Duration) time.Duration {
	return spread(min(max(remaining, 50*time.Millisecond), g.d.settings.BusyCap) + 10*time.Millisecond)
}

// unanswered decides about a message whose claim got no answer.
func (g *guard) unanswered(ctx context.Context, m *sdk.Delivery, err error) error {
	if ctx.Err() != nil { // we were interrupted, which says nothing about the store
		return listener.DeferCause(0, context.Cause(ctx))
	}
	g.d.counters.storeErrors.Add(1)
	failures, wait := g.outage.failed(g.d.settings)
	trace.SpanFromContext(ctx).AddEvent("idempotency.store_error", trace.WithAttributes(attribute.String("error.message", err.Error())))
	if g.config.OnError == Open {
		g.d.counters.unprotected.Add(1)
		g.count(ctx, g.d.instruments.claims, "unprotected")
		if failures == 1 {
			g.log.LogAttrs(ctx, slog.LevelWarn, "idempotency store does not answer; handlers run without protection against duplicates",
				slog.String("error", err.Error()))
		}
		return g.next(ctx, m)
	}
	g.count(ctx, g.d.instruments.claims, "error")
	if failures < g.d.settings.HoldAfter {
		return listener.DeferCause(wait, err)
	}
	if failures == g.d.settings.HoldAfter {
		g.log.LogAttrs(ctx, slog.LevelWarn, "idempotency store does not answer; the listener stops fetching until it does",
			slog.Int("failures", failures), slog.String("error", err.Error()))
	}
	return listener.Hold(wait, err)
}

func (g *guard) answered(ctx context.Context) {
	failures := g.outage.answered()
	if failures >= g.d.settings.HoldAfter || failures > 0 && g.config.OnError == Open {
		g.log.LogAttrs(ctx, slog.LevelInfo, "idempotency store answers again", slog.Int("failures", failures))
	}
}

// attempt is one claim of one key and the run of the handler under it.
type attempt struct {
	g     *guard
	key   Key
	owner string
	fence uint64
	sent  time.Time // before the claim was sent
}

// newOwner is 128 random bits: new for every attempt, because one process may
// hold two copies of a message.
func newOwner() string { return rand.Text() }

// errSlow is the failure of a claim that was answered when its lease was over.
var errSlow = errors.New("the store answered after the lease had ended")

func (a *attempt) begin(ctx context.Context) (Claim, error) {
	c := a.g.config
	ctx, cancel := context.WithTimeoutCause(ctx, c.Lease/2, fmt.Errorf("no answer within %v: %w", c.Lease/2, context.DeadlineExceeded))
	defer cancel()
	// The counter outlives the done mark that may follow.
	claim, err := a.g.d.store.Begin(ctx, a.key, a.owner, c.Lease, c.TTL+c.Lease)
	if err == nil && claim.State == Acquired && !a.deadline().After(time.Now()) {
		a.fence = claim.Fence
		a.abort(ctx)
		err = errSlow
	}
	return claim, err
}

// deadline counts from before the claim was sent, never from its answer: the
// store may have started the lease any time in between.
func (a *attempt) deadline() time.Time { return lease.Deadline(a.sent, a.g.config.Lease) }

// run runs the handler under the lease and ends the claim by its outcome.
func (a *attempt) run(ctx context.Context, m *sdk.Delivery) error {
	g := a.g
	hctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	renewer, ok := lease.From(ctx)
	if !ok {
		renewer = g.d.renewer
	}
	h := &held{fence: a.fence}
	h.kept = renewer.Keep(lease.Func(a.renew), g.config.Lease/3, a.deadline(), func(cause error) {
		g.d.counters.lost.Add(1)
		g.count(ctx, g.d.instruments.lost, "lost")
		trace.SpanFromContext(ctx).AddEvent("idempotency.lost", trace.WithAttributes(fenceAttr(a.fence)))
		cancel(fmt.Errorf("%w: %w", ErrLeaseLost, cause))
	})
	returned := false
	defer func() {
		if returned {
			return
		}
		// A panic or Goexit is on its way through; give the key back and let it pass.
		h.kept.Stop()
		a.abort(ctx)
	}()
	err := g.next(context.WithValue(hctx, heldKey{}, h), m)
	returned = true

	lost := !h.kept.Held()
	h.kept.Stop() // no renewal may be under way when the claim ends
	g.recordHold(ctx, a.sent)
	if err == nil {
		a.complete(ctx)
		return nil
	}
	a.abort(ctx)
	if lost && interrupted(err) && ctx.Err() == nil {
		// It was stopped by us, which is no failure of its own.
		return listener.DeferCause(g.busyDelay(g.config.Lease), err)
	}
	return err
}

// interrupted reports whether a handler returned because its ctx ended, and did
// not ask for an outcome itself.
func interrupted(err error) bool {
	if _, ok := listener.AsDefer(err); ok || listener.IsReject(err) {
		return false
	}
	if _, ok := listener.AsHold(err); ok {
		return false
	}
	return errors.Is(err, ErrLeaseLost) || errors.Is(err, context.Canceled)
}

// renew is the [lease.Lease] of the attempt.
func (a *attempt) renew(ctx context.Context) (time.Time, error) {
	sent := time.Now()
	ok, err := a.g.d.store.Renew(ctx, a.key, a.owner, a.fence, a.g.config.Lease)
	switch {
	case err != nil:
		return time.Time{}, err
	case !ok:
		return time.Time{}, fmt.Errorf("%w: the store says that the key is not ours any more", lease.ErrLost)
	}
	return lease.Deadline(sent, a.g.config.Lease), nil
}

// complete marks the work done, also if the ctx of the handler or the lease has
// ended: it has happened. The message is acknowledged whether or not the store
// takes the mark, since running the handler again would double the effect for
// certain.
func (a *attempt) complete(ctx context.Context) {
	g, s := a.g, a.g.d.settings
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.CompleteBudget)
	defer cancel()
	pause := 50 * time.Millisecond
	var how Completion
	var err error
	for try := 1; ; try++ {
		if how, err = g.d.store.Complete(work, a.key, a.owner, a.fence, g.config.TTL); err == nil {
			break
		}
		if try >= s.CompleteTries || !wait(work, spread(pause)) {
			g.d.counters.unmarked.Add(1)
			g.count(ctx, g.d.instruments.completions, "unmarked")
			g.log.LogAttrs(ctx, slog.LevelWarn, "idempotency store took no done mark; the message is acknowledged, a later copy of it would run again",
				slog.Int("tries", try), slog.String("error", err.Error()))
			return
		}
		pause *= 2
	}
	g.d.counters.completed.Add(1)
	g.count(ctx, g.d.instruments.completions, how.String())
	trace.SpanFromContext(ctx).AddEvent("idempotency.completed", trace.WithAttributes(fenceAttr(a.fence), attribute.String("outcome", how.String())))
	if how != Mine {
		g.d.counters.overlaps.Add(1)
		g.log.LogAttrs(ctx, slog.LevelWarn, "a handler finished after its idempotency lease had ended; the work may have been done twice",
			slog.String("outcome", how.String()), slog.Uint64("fence", a.fence))
	}
}

// abort gives the key back, so that the next attempt need not wait for the
// lease to end. If the store does not answer it has to.
func (a *attempt) abort(ctx context.Context) {
	g := a.g
	work, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(g.config.Lease/3, time.Second))
	defer cancel()
	if _, err := g.d.store.Abort(work, a.key, a.owner, a.fence); err != nil {
		g.log.LogAttrs(ctx, slog.LevelDebug, "idempotency key was not given back; it stays locked until its lease ends",
			slog.String("error", err.Error()))
	}
	g.d.counters.aborted.Add(1)
	g.count(ctx, g.d.instruments.completions, "aborted")
}

// wait passes d, or reports false if ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func fenceAttr(fence uint64) attribute.KeyValue {
	return attribute.Int64("idempotency.fence", int64(fence))
}
