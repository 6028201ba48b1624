package sdk

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
)

// metrics are the instruments of the client. Where the OTel conventions have a
// name it is used, else the name begins with sluice.
type metrics struct {
	system    func() string
	duration  messagingconv.ClientOperationDuration
	sent      messagingconv.ClientSentMessages
	consumed  messagingconv.ClientConsumedMessages
	process   messagingconv.ProcessDuration
	maybeDone metric.Int64Counter
	retries   metric.Int64Counter
	drops     metric.Int64Counter
	buffered  metric.Int64UpDownCounter
}

// seconds are the bucket boundaries that the conventions advise; the default of
// the API is for milliseconds.
func seconds() metric.HistogramOption {
	return metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10)
}

func newMetrics(provider metric.MeterProvider, system func() string) (*metrics, error) {
	if provider == nil {
		provider = metricnoop.NewMeterProvider()
	}
	meter := provider.Meter(instrumentation, metric.WithSchemaURL(semconv.SchemaURL))
	m := &metrics{system: system}
	var errs [8]error
	m.duration, errs[0] = messagingconv.NewClientOperationDuration(meter, seconds())
	m.sent, errs[1] = messagingconv.NewClientSentMessages(meter)
	m.consumed, errs[2] = messagingconv.NewClientConsumedMessages(meter)
	m.process, errs[3] = messagingconv.NewProcessDuration(meter, seconds())
	m.maybeDone, errs[4] = meter.Int64Counter("sluice.send.maybe_done", metric.WithUnit("{message}"),
		metric.WithDescription("Messages of which the broker may have stored more copies than it confirmed."))
	m.retries, errs[5] = meter.Int64Counter("sluice.send.retries", metric.WithUnit("{attempt}"),
		metric.WithDescription("Tries of sends after the first one."))
	m.drops, errs[6] = meter.Int64Counter("sluice.async.dropped", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that SendAsync dropped because its buffer was full."))
	m.buffered, errs[7] = meter.Int64UpDownCounter("sluice.async.pending", metric.WithUnit("{message}"),
		metric.WithDescription("Messages that SendAsync has taken and that have no result yet."))
	return m, errors.Join(errs[:]...)
}

func (m *metrics) sys() messagingconv.SystemAttr { return messagingconv.SystemAttr(m.system()) }

func withError(attrs []attribute.KeyValue, err error) []attribute.KeyValue {
	if kind := errorType(err); kind != "" {
		attrs = append(attrs, semconv.ErrorTypeKey.String(kind))
	}
	return attrs
}

// operation starts the clock of one client operation; group may be empty.
func (m *metrics) operation(op, opType, topic, group string) func(context.Context, error) {
	begin := time.Now()
	return func(ctx context.Context, err error) {
		attrs := []attribute.KeyValue{semconv.MessagingOperationTypeKey.String(opType)}
		if topic != "" {
			attrs = append(attrs, semconv.MessagingDestinationName(topic))
		}
		if group != "" {
			attrs = append(attrs, semconv.MessagingConsumerGroupName(group))
		}
		m.duration.Record(ctx, time.Since(begin).Seconds(), op, m.sys(), withError(attrs, err)...)
	}
}

func (m *metrics) dropped(ctx context.Context, topic string) {
	m.drops.Add(ctx, 1, metric.WithAttributes(semconv.MessagingDestinationName(topic)))
}

func (m *metrics) pending(ctx context.Context, n int64) { m.buffered.Add(ctx, n) }

func (m *metrics) result(ctx context.Context, r SendResult) {
	dest := semconv.MessagingDestinationName(r.Topic)
	m.sent.Add(ctx, 1, "send", m.sys(), withError([]attribute.KeyValue{dest}, r.Err)...)
	if r.Attempts > 1 {
		m.retries.Add(ctx, int64(r.Attempts-1), metric.WithAttributes(dest))
	}
	if r.MaybeDone {
		m.maybeDone.Add(ctx, 1, metric.WithAttributes(dest))
	}
}

func (m *metrics) interceptor() Interceptor {
	return Interceptor{
		Name: "metrics", Order: OrderMetrics,
		Consume: func(info ListenerInfo, next ConsumeFunc) (ConsumeFunc, error) {
			return func(ctx context.Context, d *Delivery) error {
				begin := time.Now()
				err := next(ctx, d)
				attrs := withError([]attribute.KeyValue{
					semconv.MessagingDestinationName(d.Topic), semconv.MessagingConsumerGroupName(info.Group),
				}, err)
				m.consumed.Add(ctx, 1, "process", m.sys(), attrs...)
				m.process.Record(ctx, time.Since(begin).Seconds(), "process", m.sys(), attrs...)
				return err
			}, nil
		},
		Produce: func(next ProduceFunc) ProduceFunc {
			return func(ctx context.Context, ms []*Outgoing) ([]SendResult, error) {
				topic := ""
				if topics := topicsOf(ms); len(topics) == 1 {
					topic = topics[0]
				}
				measured := m.operation("send", "send", topic, "")
				results, err := callChain(ctx, next, ms)
				measured(ctx, err)
				for _, r := range results {
					m.result(ctx, r)
				}
				return results, err
			}
		},
	}
}
