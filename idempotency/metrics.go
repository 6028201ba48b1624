package idempotency

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

const scope = "github.com/sluicemq/sluice/idempotency"

// Stats counts what a [Decorator] has done since it was made.
type Stats struct {
	// Acquired claims, each a run of a handler under a lease.
	Acquired int64
	// Duplicates were acknowledged without running the handler.
	Duplicates int64
	// Busy deliveries were deferred because another attempt had the key.
	Busy int64
	// StoreErrors are claims that the store did not answer.
	StoreErrors int64
	// Unprotected runs of handlers, by onError:"open".
	Unprotected int64
	// Completed runs were marked done; Overlaps are those of them whose lease
	// had run out or gone to somebody else.
	Completed, Overlaps int64
	// Unmarked runs succeeded and were acknowledged, but the store did not
	// take the done mark: a later copy of the message runs again.
	Unmarked int64
	// Aborted runs failed and gave the key back.
	Aborted int64
	// Lost leases ended the ctx of a handler.
	Lost int64
}

type counters struct {
	acquired, duplicates, busy, storeErrors, unprotected atomic.Int64
	completed, overlaps, unmarked, aborted, lost         atomic.Int64
}

// Stats returns a snapshot of the counters.
func (d *Decorator) Stats() Stats {
	c := &d.counters
	return Stats{
		Acquired: c.acquired.Load(), Duplicates: c.duplicates.Load(), Busy: c.busy.Load(),
		StoreErrors: c.storeErrors.Load(), Unprotected: c.unprotected.Load(),
		Completed: c.completed.Load(), Overlaps: c.overlaps.Load(), Unmarked: c.unmarked.Load(),
		Aborted: c.aborted.Load(), Lost: c.lost.Load(),
	}
}

// instruments are the metrics; their attributes are the listener and the
// outcome, both of low cardinality.
type instruments struct {
	claims      metric.Int64Counter
	completions metric.Int64Counter
	lost        metric.Int64Counter
	hold        metric.Float64Histogram
}

func newInstruments(p metric.MeterProvider) (instruments, error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	m := p.Meter(scope)
	var i instruments
	var errs [4]error
	i.claims, errs[0] = m.Int64Counter("sluice.idempotency.claims", metric.WithUnit("{claim}"),
		metric.WithDescription("Claims of a key by outcome: acquired, duplicate, busy, error (not run), unprotected (run all the same)."))
	i.completions, errs[1] = m.Int64Counter("sluice.idempotency.completions", metric.WithUnit("{completion}"),
		metric.WithDescription("Ends of claims by outcome: mine, expired, taken_over, already (the last three are overlaps), unmarked, aborted."))
	i.lost, errs[2] = m.Int64Counter("sluice.idempotency.leases.lost", metric.WithUnit("{lease}"),
		metric.WithDescription("Leases that were lost while a handler ran."))
	i.hold, errs[3] = m.Float64Histogram("sluice.idempotency.hold.duration", metric.WithUnit("s"),
		metric.WithDescription("How long a handler held its key."),
		metric.WithExplicitBucketBoundaries(.005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 1800))
	return i, errors.Join(errs[:]...)
}

func (g *guard) count(ctx context.Context, c metric.Int64Counter, outcome string) {
	c.Add(ctx, 1, metric.WithAttributes(g.listener, attribute.String("outcome", outcome)))
}

func (g *guard) recordHold(ctx context.Context, since time.Time) {
	g.d.instruments.hold.Record(ctx, time.Since(since).Seconds(), metric.WithAttributes(g.listener))
}
