package embedded

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/sluicemq/sluice/broker/driver"
)

// Metrics of the bundled broker, all without attributes but the last ones.
//
//	sluice.broker.log.size          bytes that the log holds
//	sluice.broker.log.unsynced      bytes that are not on stable storage yet
//	sluice.broker.delayed           messages that are not due yet
//	sluice.broker.halves            undecided half messages, parked ones included
//	sluice.broker.quarantined       bytes of the log that are out of use
//	sluice.broker.lost              queue offsets that groups have missed; reason
//	                                is "retention" or "damage"
//	sluice.broker.read.errors       stored messages that could not be read
//	sluice.broker.failed            1 once the store takes no writes any more
const scope = "github.com/sluicemq/sluice/broker/embedded"

// observe reports the store of b to p until the answered function is called. A
// store that is not open is not reported.
func (b *Broker) observe(p metric.MeterProvider) (stop func() error, err error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	m := &instruments{meter: p.Meter(scope)}
	size := m.gauge("sluice.broker.log.size", "By", "Bytes that the log holds.")
	unsynced := m.gauge("sluice.broker.log.unsynced", "By", "Bytes that are not on stable storage yet.")
	delayed := m.gauge("sluice.broker.delayed", "{message}", "Messages that are not due yet.")
	halves := m.gauge("sluice.broker.halves", "{message}", "Undecided half messages, parked ones included.")
	quarantined := m.gauge("sluice.broker.quarantined", "By", "Bytes of the log that are out of use because they were damaged.")
	failed := m.gauge("sluice.broker.failed", "1", "1 once the store takes no writes any more, else 0.")
	lost := m.counter("sluice.broker.lost", "{message}", "Queue offsets that groups have missed.")
	unread := m.counter("sluice.broker.read.errors", "{message}", "Stored messages that could not be read.")
	if m.err != nil {
		return nil, m.err
	}
	retention := metric.WithAttributes(attribute.String("reason", driver.Retention.String()))
	damage := metric.WithAttributes(attribute.String("reason", driver.Damage.String()))
	r, err := m.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s, ok := b.stats()
		if !ok {
			return nil
		}
		o.ObserveInt64(size, s.End-s.Start)
		o.ObserveInt64(unsynced, s.End-s.Durable)
		o.ObserveInt64(delayed, int64(s.Delayed))
		o.ObserveInt64(halves, int64(s.Halves))
		o.ObserveInt64(quarantined, s.quarantined())
		o.ObserveInt64(failed, s.failed())
		o.ObserveInt64(lost, s.LostToRetention, retention)
		o.ObserveInt64(lost, s.LostToDamage, damage)
		o.ObserveInt64(unread, s.ReadErrors)
		return nil
	}, m.all...)
	if err != nil {
		return nil, err
	}
	return r.Unregister, nil
}

func (s Stats) quarantined() (n int64) {
	for _, h := range s.Holes {
		n += h.Bytes
	}
	return n
}

func (s Stats) failed() int64 {
	if s.Failed != nil {
		return 1
	}
	return 0
}

// instruments makes instruments and remembers the first error.
type instruments struct {
	meter metric.Meter
	all   []metric.Observable
	err   error
}

func (m *instruments) gauge(name, unit, what string) metric.Int64ObservableGauge {
	g, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
	m.add(g, err)
	return g
}

func (m *instruments) counter(name, unit, what string) metric.Int64ObservableCounter {
	c, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(what))
	m.add(c, err)
	return c
}

func (m *instruments) add(o metric.Observable, err error) {
	m.all = append(m.all, o)
	if m.err == nil {
		m.err = err
	}
}
