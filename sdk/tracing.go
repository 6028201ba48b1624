package sdk

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

const instrumentation = "github.com/sluicemq/sluice/sdk"

// Names of our own attributes, where the conventions have none.
const (
	attrMaybeDone = attribute.Key("sluice.maybe_done")
	attrAttempts  = attribute.Key("sluice.attempts")
	attrAttempt   = attribute.Key("sluice.attempt")
	attrListener  = attribute.Key("sluice.listener")
	attrStatus    = attribute.Key("sluice.send.status")
	attrTag       = attribute.Key("sluice.message.tag")
	attrKeys      = attribute.Key("sluice.message.keys")
	attrType      = attribute.Key("sluice.message.type")
)

// ErrorTyper is an error that names its own kind for spans and metrics, in a few
// lower case words joined by underscores. The empty name says that the error is
// no failure, such as a message that a listener puts off.
type ErrorTyper interface {
	error
	ErrorType() string
}

// errorType is the OTel error.type: of low cardinality, "" for no failure.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	if t, ok := errors.AsType[ErrorTyper](err); ok {
		return t.ErrorType()
	}
	if code := CodeOf(err); code != Unknown {
		return code.String()
	}
	return "handler_error"
}

// Tracing makes the spans of the framework by the OTel messaging conventions
// and carries the trace context in message headers. Without a tracer provider
// it costs next to nothing. Bodies and payloads are never recorded. It is safe
// for concurrent use.
type Tracing struct {
	client     *Client
	off        bool // no provider: the context is carried, nothing else
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

func newTracing(c *Client, provider trace.TracerProvider, propagator propagation.TextMapPropagator) *Tracing {
	off := provider == nil
	if off {
		provider = tracenoop.NewTracerProvider()
	}
	if propagator == nil {
		propagator = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
	}
	return &Tracing{
		client:     c,
		off:        off,
		tracer:     provider.Tracer(instrumentation, trace.WithSchemaURL(semconv.SchemaURL)),
		propagator: propagator,
	}
}

// Inject writes the trace context of ctx into headers.
func (t *Tracing) Inject(ctx context.Context, headers map[string]string) {
	t.propagator.Inject(ctx, propagation.MapCarrier(headers))
}

// Extract returns ctx with the trace context of headers.
func (t *Tracing) Extract(ctx context.Context, headers map[string]string) context.Context {
	return t.propagator.Extract(ctx, propagation.MapCarrier(headers))
}

// carried is the span context in headers.
func (t *Tracing) carried(headers map[string]string) trace.SpanContext {
	return trace.SpanContextFromContext(t.Extract(t.client.root, headers)) // the root has no span
}

// traceOrigin is where a message came from.
type traceOrigin struct {
	span trace.SpanContext
	bag  baggage.Baggage
}

func originOf(ctx context.Context) traceOrigin {
	return traceOrigin{span: trace.SpanContextFromContext(ctx), bag: baggage.FromContext(ctx)}
}

// restore gives ctx the origin of an asynchronous message.
func (o traceOrigin) restore(ctx context.Context) context.Context {
	if o.bag.Len() > 0 {
		ctx = baggage.ContextWithBaggage(ctx, o.bag)
	}
	if o.span.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, o.span)
	}
	return ctx
}

func (t *Tracing) base(opName string, opType attribute.KeyValue, topic string) []attribute.KeyValue {
	attrs := []attribute.KeyValue{
		semconv.MessagingSystemKey.String(t.client.system()),
		semconv.MessagingOperationName(opName), opType,
		semconv.MessagingClientID(t.client.id),
	}
	if topic != "" {
		attrs = append(attrs, semconv.MessagingDestinationName(topic))
	}
	return attrs
}

// labels are tag, keys and type, under the names that the conventions have for
// RocketMQ where the broker is one.
func (t *Tracing) labels(tag string, keys []string, kind, group string, due time.Time) []attribute.KeyValue {
	rocket := t.client.system() == semconv.MessagingSystemRocketMQ.Value.AsString()
	var attrs []attribute.KeyValue
	pick := func(ours, theirs attribute.Key) attribute.Key {
		if rocket {
			return theirs
		}
		return ours
	}
	if rocket {
		attrs = append(attrs, semconv.MessagingRocketMQNamespace(""))
		if kind == "fifo" {
			attrs = append(attrs, semconv.MessagingRocketMQMessageGroup(group))
		}
		if !due.IsZero() {
			attrs = append(attrs, semconv.MessagingRocketMQMessageDeliveryTimestamp(int(due.UnixMilli())))
		}
	}
	if kind != "" {
		attrs = append(attrs, pick(attrType, semconv.MessagingRocketMQMessageTypeKey).String(kind))
	}
	if tag != "" {
		attrs = append(attrs, pick(attrTag, semconv.MessagingRocketMQMessageTagKey).String(tag))
	}
	if len(keys) > 0 {
		attrs = append(attrs, pick(attrKeys, semconv.MessagingRocketMQMessageKeysKey).StringSlice(slices.Clone(keys)))
	}
	return attrs
}

func (t *Tracing) messageAttrs(m *Outgoing) []attribute.KeyValue {
	kind, due := "normal", m.DeliverAt
	switch {
	case m.Delay > 0 || !m.DeliverAt.IsZero():
		kind = "delay"
		if due.IsZero() {
			due = time.Now().Add(m.Delay)
		}
	case m.OrderingKey != "":
		kind = "fifo"
	}
	return append(t.labels(m.Tag, m.Keys, kind, m.OrderingKey, due), semconv.MessagingMessageID(m.ID))
}

// StartSend begins the span "send {topic}" of one message and writes its context
// into the headers. A message that carries a context already, such as one that
// is sent again from the dead letters, keeps it and is linked. end is called once.
func (t *Tracing) StartSend(ctx context.Context, m *Outgoing) (sent context.Context, end func(SendResult, error)) {
	ctx = m.trace.restore(ctx)
	if t.off {
		t.carry(ctx, m)
		return ctx, func(SendResult, error) {}
	}
	attrs := append(t.base("send", semconv.MessagingOperationTypeSend, m.Topic), t.messageAttrs(m)...)
	kind := trace.SpanKindProducer
	opts := []trace.SpanStartOption{trace.WithAttributes(attrs...)}
	carried := t.carried(m.Headers)
	if carried.IsValid() {
		kind = trace.SpanKindClient
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: carried}))
	}
	ctx, span := t.tracer.Start(ctx, spanName("send", m.Topic), append(opts, trace.WithSpanKind(kind))...)
	if !carried.IsValid() {
		t.inject(ctx, m)
	}
	return ctx, func(r SendResult, err error) {
		t.endSend(span, r)
		finish(span, err)
	}
}

// carry passes the caller's context on unless the message has one already.
func (t *Tracing) carry(ctx context.Context, m *Outgoing) {
	if !t.carried(m.Headers).IsValid() {
		t.inject(ctx, m)
	}
}

func (t *Tracing) inject(ctx context.Context, m *Outgoing) {
	if m.Headers == nil {
		m.Headers = map[string]string{}
	}
	t.Inject(ctx, m.Headers)
}

func (t *Tracing) endSend(span trace.Span, r SendResult) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(semconv.MessagingSystemKey.String(t.client.system()), // unknown before the first connection
		attrStatus.String(r.Status.String()))
	if r.Lane != "" {
		span.SetAttributes(semconv.MessagingDestinationPartitionID(r.Lane))
	}
	if r.MaybeDone {
		span.SetAttributes(attrMaybeDone.Bool(true))
	}
	if r.Attempts > 1 {
		span.SetAttributes(attrAttempts.Int(r.Attempts))
	}
}

// startBatch makes a span "create {topic}" per message, whose context the
// message carries, and one span "send" that links to them. Without create spans
// the messages carry the context of the send span.
func (t *Tracing) startBatch(ctx context.Context, ms []*Outgoing) (sent context.Context, end func([]SendResult, error)) {
	if t.off {
		for _, m := range ms {
			t.carry(m.trace.restore(ctx), m)
		}
		return ctx, func([]SendResult, error) {}
	}
	topic := ""
	if topics := topicsOf(ms); len(topics) == 1 {
		topic = topics[0]
	}
	attrs := append(t.base("send", semconv.MessagingOperationTypeSend, topic), semconv.MessagingBatchMessageCount(len(ms)))
	kind := trace.SpanKindProducer
	var links []trace.Link
	var fresh []*Outgoing // carry no context yet
	for _, m := range ms {
		if carried := t.carried(m.Headers); carried.IsValid() {
			links = append(links, trace.Link{SpanContext: carried})
			continue
		}
		fresh = append(fresh, m)
	}
	if !t.client.settings.TracingNoCreate {
		for _, m := range fresh {
			links = append(links, trace.Link{SpanContext: t.create(ctx, m)})
		}
		fresh = nil
	}
	if len(links) > 0 {
		kind = trace.SpanKindClient
	}
	ctx, span := t.tracer.Start(ctx, spanName("send", topic), trace.WithSpanKind(kind), trace.WithAttributes(attrs...), trace.WithLinks(links...))
	for _, m := range fresh {
		t.inject(ctx, m)
	}
	return ctx, func(results []SendResult, err error) {
		for _, r := range results {
			if r.MaybeDone {
				span.SetAttributes(attrMaybeDone.Bool(true))
			}
		}
		span.SetAttributes(semconv.MessagingSystemKey.String(t.client.system()))
		finish(span, err)
	}
}

func (t *Tracing) create(ctx context.Context, m *Outgoing) trace.SpanContext {
	attrs := append(t.base("create", semconv.MessagingOperationTypeCreate, m.Topic), t.messageAttrs(m)...)
	ctx, span := t.tracer.Start(m.trace.restore(ctx), spanName("create", m.Topic),
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attrs...))
	defer span.End()
	t.inject(ctx, m)
	return span.SpanContext()
}

// StartProcess begins the span "process {topic}" of a handler: child of the
// span that the message carries and linked to it, so that one business
// transaction is one trace, or with sluice.tracing.process: link a trace of its
// own. The context also carries the sender's baggage.
func (t *Tracing) StartProcess(ctx context.Context, info ListenerInfo, d *Delivery) (handling context.Context, end func(error)) {
	if t.off {
		return t.Extract(ctx, d.Headers), func(error) {}
	}
	attrs := append(t.base("process", semconv.MessagingOperationTypeProcess, d.Topic), t.deliveryAttrs(d)...)
	attrs = append(attrs, attrListener.String(info.Name), attrAttempt.Int(d.Attempt))
	if t.client.system() == semconv.MessagingSystemRocketMQ.Value.AsString() {
		model := semconv.MessagingRocketMQConsumptionModelClustering
		if info.Broadcast {
			model = semconv.MessagingRocketMQConsumptionModelBroadcasting
		}
		attrs = append(attrs, model)
	}
	opts := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...)}
	ctx = t.Extract(ctx, d.Headers)
	if carried := t.carried(d.Headers); carried.IsValid() {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: carried}))
	}
	if t.client.settings.TracingLink {
		opts = append(opts, trace.WithNewRoot())
	}
	ctx, span := t.tracer.Start(ctx, spanName("process", d.Topic), opts...) //nolint:spancheck // end ends it
	return ctx, func(err error) { finish(span, err) }                       //nolint:spancheck // end ends it
}

func (t *Tracing) deliveryAttrs(d *Delivery) []attribute.KeyValue {
	attrs := append(t.labels(d.Tag, d.Keys, "", "", time.Time{}), semconv.MessagingMessageID(d.ID))
	if d.Group != "" {
		attrs = append(attrs, semconv.MessagingConsumerGroupName(d.Group))
	}
	if d.Lane != "" {
		attrs = append(attrs, semconv.MessagingDestinationPartitionID(d.Lane))
	}
	return attrs
}

// StartSettle begins the span "{op} {topic}" of a settlement that goes to the
// broker; op is the String of a driver.Outcome: ack, retry, dead_letter or
// return. A single delivery that is settled outside of any span keeps to the
// trace of its message, unless sluice.tracing.process is link; several make one
// span that links to the context of each.
// It also measures the duration.
func (t *Tracing) StartSettle(ctx context.Context, op string, ds ...*Delivery) (settling context.Context, end func(error)) {
	if len(ds) == 0 {
		return ctx, func(error) {}
	}
	d := ds[0]
	measured := t.client.metrics.operation(op, "settle", d.Topic, d.Group)
	if t.off {
		return ctx, func(err error) { measured(ctx, err) }
	}
	attrs := t.base(op, semconv.MessagingOperationTypeSettle, d.Topic)
	if len(ds) == 1 {
		attrs = append(attrs, t.deliveryAttrs(d)...)
	} else {
		attrs = append(attrs, semconv.MessagingBatchMessageCount(len(ds)), semconv.MessagingConsumerGroupName(d.Group))
	}
	var links []trace.Link
	for _, x := range ds {
		if carried := t.carried(x.Headers); carried.IsValid() {
			links = append(links, trace.Link{SpanContext: carried})
		}
	}
	if len(ds) == 1 && !t.client.settings.TracingLink && !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = t.Extract(ctx, d.Headers)
	}
	ctx, span := t.tracer.Start(ctx, spanName(op, d.Topic), trace.WithSpanKind(trace.SpanKindClient), //nolint:spancheck // end ends it
		trace.WithAttributes(attrs...), trace.WithLinks(links...))
	return ctx, func(err error) { //nolint:spancheck // end ends it
		measured(ctx, err)
		finish(span, err)
	}
}

// TxOp is a step of a transaction, for [Tracing.StartTx].
type TxOp string

// The steps of a transaction.
const (
	TxPrepare  TxOp = "prepare"
	TxCommit   TxOp = "commit"
	TxRollback TxOp = "rollback"
	TxCheck    TxOp = "check"
	TxLocal    TxOp = "local"
)

// TxSpan describes a half message to its spans.
type TxSpan struct {
	// ID, Topic and Group of the half message.
	ID, Topic, Group string
	// Headers of the message. TxPrepare writes its context into them; the other
	// steps link to what is there.
	Headers map[string]string
}

// StartTx begins the span of a step: prepare is a PRODUCER, whose context the
// message carries; commit and rollback are CLIENT, check is CONSUMER, and local
// is the transaction of the application's database. It also measures the
// duration of what goes to the broker.
func (t *Tracing) StartTx(ctx context.Context, op TxOp, x TxSpan) (running context.Context, end func(error)) {
	kind, opType := trace.SpanKindInternal, attribute.KeyValue{}
	switch op {
	case TxPrepare:
		kind, opType = trace.SpanKindProducer, semconv.MessagingOperationTypeSend
	case TxCommit, TxRollback:
		kind, opType = trace.SpanKindClient, semconv.MessagingOperationTypeSettle
	case TxCheck:
		kind, opType = trace.SpanKindConsumer, semconv.MessagingOperationTypeProcess
	case TxLocal: // no message moves
	}
	attrs := []attribute.KeyValue{semconv.MessagingDestinationName(x.Topic)}
	if opType.Valid() {
		attrs = t.base(string(op), opType, x.Topic)
	}
	attrs = append(attrs, semconv.MessagingMessageID(x.ID))
	attrs = append(attrs, t.labels("", nil, "transaction", "", time.Time{})...)
	opts := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attrs...)}
	if carried := t.carried(x.Headers); carried.IsValid() && op != TxPrepare {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: carried}))
	}
	ctx, span := t.tracer.Start(ctx, spanName(string(op), x.Topic), opts...)
	if op == TxPrepare && x.Headers != nil {
		t.Inject(ctx, x.Headers)
	}
	measured := func(context.Context, error) {}
	if opType.Valid() {
		measured = t.client.metrics.operation(string(op), opType.Value.AsString(), x.Topic, x.Group)
	}
	return ctx, func(err error) {
		measured(ctx, err)
		finish(span, err)
	}
}

// finish records the error, if it is a failure, and ends the span.
func finish(span trace.Span, err error) {
	defer span.End()
	kind := errorType(err)
	if kind == "" || !span.IsRecording() {
		return
	}
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, err.Error())
	if e, ok := errors.AsType[*Error](err); ok && e.MaybeDone {
		span.SetAttributes(attrMaybeDone.Bool(true))
	}
}

func spanName(op, topic string) string {
	if topic == "" {
		return op
	}
	return op + " " + topic
}

func (t *Tracing) interceptor() Interceptor {
	return Interceptor{
		Name: "tracing", Order: OrderTracing,
		Consume: func(info ListenerInfo, next ConsumeFunc) (ConsumeFunc, error) {
			return func(ctx context.Context, d *Delivery) error {
				ctx, end := t.StartProcess(ctx, info, d)
				err := next(ctx, d)
				end(err)
				return err
			}, nil
		},
		Produce: func(next ProduceFunc) ProduceFunc {
			return func(ctx context.Context, ms []*Outgoing) ([]SendResult, error) {
				if len(ms) == 1 {
					ctx, end := t.StartSend(ctx, ms[0])
					results, err := callChain(ctx, next, ms)
					end(results[0], err)
					return results, err
				}
				ctx, end := t.startBatch(ctx, ms)
				results, err := callChain(ctx, next, ms)
				end(results, err)
				return results, err
			}
		},
	}
}
