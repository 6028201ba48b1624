package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

type traced struct {
	*tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
}

func newTraced(t *testing.T) traced {
	r := tracetest.NewSpanRecorder()
	p := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r))
	t.Cleanup(func() { _ = p.Shutdown(context.Background()) })
	return traced{r, p}
}

func (r traced) params(p *sdk.ClientParams) { p.TracerProvider = r.provider }

// attrs of a span that must exist exactly once.
func (r traced) span(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	var names []string
	for _, s := range r.Ended() {
		names = append(names, s.Name())
		if s.Name() == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %q among %q", len(found), name, names)
	}
	return found[0]
}

func wantAttrs(t *testing.T, s sdktrace.ReadOnlySpan, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for _, a := range s.Attributes() {
		got[string(a.Key)] = a.Value.String()
	}
	for k, v := range want {
		if have, ok := got[k]; !ok && v != "-" || ok && have != v {
			t.Errorf("span %q: %s = %q (%v), want %q", s.Name(), k, have, ok, v)
		}
	}
}

func linked(s sdktrace.ReadOnlySpan, to trace.SpanContext) bool {
	return slices.ContainsFunc(s.Links(), func(l sdktrace.Link) bool { return l.SpanContext.SpanID() == to.SpanID() })
}

func TestSendSpan(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	conn := newConn()
	c := client(t, conn, map[string]string{"sluice.client-id": "me"}, rec.params)
	ctx, parent := rec.provider.Tracer("test").Start(t.Context(), "parent")
	r, err := c.Producer().Send(ctx, "bills", bill{"secret-body"}, sdk.Tag("water"), sdk.Key("k1", "k2"))
	parent.End()
	if err != nil {
		t.Fatal(err)
	}
	s := rec.span(t, "send bills")
	if s.SpanKind() != trace.SpanKindProducer || s.Parent().SpanID() != parent.SpanContext().SpanID() || s.Status().Code != codes.Unset {
		t.Errorf("kind %v, parent %v, status %v", s.SpanKind(), s.Parent().SpanID(), s.Status())
	}
	wantAttrs(t, s, map[string]string{
		"messaging.system": "fake", "messaging.operation.name": "send", "messaging.operation.type": "send",
		"messaging.destination.name": "bills", "messaging.client.id": "me", "messaging.message.id": r.ID,
		"messaging.destination.partition.id": "bills/0", "sluice.message.tag": "water", "sluice.message.keys": `["k1","k2"]`,
		"sluice.message.type": "normal", "sluice.send.status": "stored", "error.type": "-", "sluice.maybe_done": "-",
	})
	carried := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(conn.messages()[0].Properties))
	if trace.SpanContextFromContext(carried).SpanID() != s.SpanContext().SpanID() {
		t.Errorf("the message carries %v", conn.messages()[0].Properties)
	}
	if s.InstrumentationScope().SchemaURL == "" {
		t.Error("no schema url")
	}
	if text := fmt.Sprint(s.Attributes(), s.Events()); strings.Contains(text, "secret-body") {
		t.Errorf("the body is recorded: %s", text)
	}
}

func TestSendSpanOfFailure(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	conn := newConn()
	conn.answer = func(_ context.Context, n int, req driver.SendRequest) []driver.SendResult {
		if n == 1 {
			return refuse(req, driver.Error{Code: driver.Timeout, Retryable: true, MaybeDone: true, Err: errors.New("lost")})
		}
		return refuse(req, *driver.Errorf(driver.PermissionDenied, "", "no"))
	}
	if _, err := client(t, conn, nil, rec.params).Producer().Send(t.Context(), "bills", 1); err == nil {
		t.Fatal("no error")
	}
	s := rec.span(t, "send bills")
	wantAttrs(t, s, map[string]string{"error.type": "permission_denied", "sluice.maybe_done": "true", "sluice.attempts": "2", "sluice.send.status": "not_stored"})
	if s.Status().Code != codes.Error {
		t.Errorf("status %v", s.Status())
	}
}

func TestMaybeDoneIsOnTheSpanOfASuccess(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	conn := newConn()
	conn.answer = func(_ context.Context, n int, req driver.SendRequest) []driver.SendResult {
		if n%2 == 1 {
			return refuse(req, driver.Error{Code: driver.Timeout, Retryable: true, MaybeDone: true})
		}
		return nil
	}
	p := client(t, conn, nil, rec.params).Producer()
	if _, err := p.Send(t.Context(), "bills", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SendBatch(t.Context(), []sdk.Outgoing{sdk.NewMessage("two", 1), sdk.NewMessage("two", 2)}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"send bills", "send two"} {
		wantAttrs(t, rec.span(t, name), map[string]string{"sluice.maybe_done": "true", "error.type": "-"})
	}
}

func TestSendSpanForRocketMQ(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	conn := newConn()
	conn.caps.System = "rocketmq"
	c := client(t, conn, nil, rec.params)
	if _, err := c.Conn(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := c.Producer()
	due := time.UnixMilli(4102444800000)
	for _, m := range []sdk.Outgoing{
		sdk.NewMessage("ordered", 1, sdk.OrderingKey("c1"), sdk.Tag("t"), sdk.Key("k")),
		sdk.NewMessage("delayed", 1, sdk.DeliverAt(due)), sdk.NewMessage("soon", 1, sdk.Delay(time.Hour)),
	} {
		if _, err := p.SendMessage(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	wantAttrs(t, rec.span(t, "send ordered"), map[string]string{
		"messaging.rocketmq.namespace": "", "messaging.rocketmq.message.type": "fifo", "messaging.rocketmq.message.group": "c1",
		"messaging.rocketmq.message.tag": "t", "messaging.rocketmq.message.keys": `["k"]`, "sluice.message.tag": "-",
	})
	wantAttrs(t, rec.span(t, "send delayed"), map[string]string{
		"messaging.rocketmq.message.type": "delay", "messaging.rocketmq.message.delivery_timestamp": "4102444800000",
	})
	wantAttrs(t, rec.span(t, "send soon"), map[string]string{"messaging.rocketmq.message.type": "delay"})
	for _, broadcast := range []bool{true, false} {
		_, end := c.Tracing().StartProcess(t.Context(), sdk.ListenerInfo{Broadcast: broadcast}, &sdk.Delivery{Topic: fmt.Sprint(broadcast)})
		end(nil)
	}
	wantAttrs(t, rec.span(t, "process true"), map[string]string{"messaging.rocketmq.consumption_model": "broadcasting"})
	wantAttrs(t, rec.span(t, "process false"), map[string]string{"messaging.rocketmq.consumption_model": "clustering"})
}

func TestResentMessageKeepsItsContext(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	conn := newConn()
	c := client(t, conn, nil, rec.params)
	_, origin := rec.provider.Tracer("test").Start(t.Context(), "origin")
	origin.End()
	headers := map[string]string{}
	c.Tracing().Inject(trace.ContextWithSpan(t.Context(), origin), headers)
	m := sdk.Outgoing{Topic: "bills", Headers: headers}
	if _, err := c.Producer().SendMessage(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	s := rec.span(t, "send bills")
	if s.SpanKind() != trace.SpanKindClient || !linked(s, origin.SpanContext()) || conn.messages()[0].Properties["traceparent"] != headers["traceparent"] {
		t.Errorf("kind %v, links %v, carries %v", s.SpanKind(), s.Links(), conn.messages()[0].Properties)
	}
	m.Topic = "again"
	if _, err := c.Producer().SendBatch(t.Context(), []sdk.Outgoing{m, m}); err != nil {
		t.Fatal(err)
	}
	if s := rec.span(t, "send again"); s.SpanKind() != trace.SpanKindClient || len(s.Links()) != 2 {
		t.Errorf("kind %v, links %v", s.SpanKind(), s.Links())
	}
}

func TestBatchSpans(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]bool{"with create spans": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newTraced(t)
			conn := newConn()
			settings := map[string]string{"sluice.tracing.create": fmt.Sprint(create)}
			rs, err := client(t, conn, settings, rec.params).Producer().SendBatch(t.Context(), []sdk.Outgoing{
				sdk.NewMessage("a", 1), sdk.NewMessage("b", 2),
			})
			if err != nil {
				t.Fatal(err)
			}
			s := rec.span(t, "send")
			wantAttrs(t, s, map[string]string{"messaging.batch.message_count": "2", "messaging.destination.name": "-"})
			for i, m := range conn.messages() {
				carried := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(m.Properties)))
				if !create {
					if carried.SpanID() != s.SpanContext().SpanID() || s.SpanKind() != trace.SpanKindProducer {
						t.Errorf("message %d carries %v; send is %v", i, carried, s.SpanKind())
					}
					continue
				}
				made := rec.span(t, "create "+m.Topic)
				if carried.SpanID() != made.SpanContext().SpanID() || !linked(s, carried) || s.SpanKind() != trace.SpanKindClient || made.SpanKind() != trace.SpanKindProducer {
					t.Errorf("message %d carries %v", i, carried)
				}
				wantAttrs(t, made, map[string]string{"messaging.operation.type": "create", "messaging.message.id": rs[i].ID})
			}
		})
	}
}

func TestAsyncKeepsTheTraceOfItsCaller(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	conn := newConn()
	p := client(t, conn, nil, rec.params).Producer()
	member, err := baggage.NewMember("tenant", "t1")
	if err != nil {
		t.Fatal(err)
	}
	bag, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	ctx, parent := rec.provider.Tracer("test").Start(baggage.ContextWithBaggage(t.Context(), bag), "parent")
	if err := p.SendAsync(ctx, sdk.NewMessage("bills", 1), nil); err != nil {
		t.Fatal(err)
	}
	parent.End()
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := rec.span(t, "send bills"); s.Parent().SpanID() != parent.SpanContext().SpanID() {
		t.Errorf("parent %v", s.Parent())
	}
	if got := conn.messages()[0].Properties["baggage"]; got != "tenant=t1" {
		t.Errorf("baggage %q", got)
	}
}

func TestProcessSpan(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]bool{"parent": false, "link": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rec := newTraced(t)
			c := client(t, newConn(), map[string]string{"sluice.tracing.process": name}, rec.params)
			_, origin := rec.provider.Tracer("test").Start(t.Context(), "origin")
			origin.End()
			headers := map[string]string{"baggage": "tenant=t1"}
			propagation.TraceContext{}.Inject(trace.ContextWithSpan(t.Context(), origin), propagation.MapCarrier(headers))
			chain, err := c.ConsumeChain(sdk.ListenerInfo{Name: "pay", Group: "g"}, func(ctx context.Context, _ *sdk.Delivery) error {
				if baggage.FromContext(ctx).Member("tenant").Value() != "t1" || !trace.SpanFromContext(ctx).IsRecording() {
					t.Error("the handler has neither baggage nor span")
				}
				return errors.New("no money")
			})
			if err != nil {
				t.Fatal(err)
			}
			d := &sdk.Delivery{Topic: "bills", ID: "1", Headers: headers, Group: "g", Lane: "bills/3", Attempt: 2, Tag: "water", Body: []byte("secret-body")}
			if err := chain(t.Context(), d); err == nil {
				t.Fatal("the error of the handler is lost")
			}
			s := rec.span(t, "process bills")
			if s.SpanKind() != trace.SpanKindConsumer || !linked(s, origin.SpanContext()) || s.Status().Code != codes.Error {
				t.Errorf("kind %v, links %v, status %v", s.SpanKind(), s.Links(), s.Status())
			}
			if same := s.SpanContext().TraceID() == origin.SpanContext().TraceID(); same == link || s.Parent().IsValid() == link {
				t.Errorf("same trace %v, parent %v", same, s.Parent())
			}
			wantAttrs(t, s, map[string]string{
				"messaging.system": "fake", "messaging.operation.name": "process", "messaging.operation.type": "process",
				"messaging.destination.name": "bills", "messaging.consumer.group.name": "g", "messaging.message.id": "1",
				"messaging.destination.partition.id": "bills/3", "sluice.listener": "pay", "sluice.attempt": "2",
				"sluice.message.tag": "water", "error.type": "handler_error",
			})
			if text := fmt.Sprint(s.Attributes()); strings.Contains(text, "secret-body") {
				t.Errorf("the body is recorded: %s", text)
			}
		})
	}
}

type later struct{}

func (later) Error() string { return "later" }

func (later) ErrorType() string { return "" }

func TestProcessSpanOfNoFailure(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	c := client(t, newConn(), nil, rec.params)
	_, end := c.Tracing().StartProcess(t.Context(), sdk.ListenerInfo{}, &sdk.Delivery{Topic: "a"})
	end(fmt.Errorf("put off: %w", later{}))
	s := rec.span(t, "process a")
	if wantAttrs(t, s, map[string]string{"error.type": "-"}); s.Status().Code != codes.Unset || s.Parent().IsValid() || len(s.Links()) != 0 {
		t.Errorf("status %v, parent %v, links %v", s.Status(), s.Parent(), s.Links())
	}
}

func TestSettleSpan(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	c := client(t, newConn(), nil, rec.params)
	ctx, origin := rec.provider.Tracer("test").Start(t.Context(), "origin")
	headers := map[string]string{}
	c.Tracing().Inject(ctx, headers)
	d := &sdk.Delivery{Topic: "bills", Group: "g", ID: "1", Headers: headers}
	for _, op := range []driver.Outcome{driver.Ack, driver.Retry, driver.DeadLetter, driver.Return} {
		_, end := c.Tracing().StartSettle(ctx, op.String(), d)
		end(nil)
	}
	for _, op := range []string{"ack", "retry", "dead_letter", "return"} {
		s := rec.span(t, op+" bills")
		if s.SpanKind() != trace.SpanKindClient || !linked(s, origin.SpanContext()) {
			t.Errorf("%s: kind %v, links %v", op, s.SpanKind(), s.Links())
		}
		wantAttrs(t, s, map[string]string{
			"messaging.operation.name": op, "messaging.operation.type": "settle", "messaging.consumer.group.name": "g", "messaging.message.id": "1",
		})
	}
	rec1 := newTraced(t)
	_, alone := client(t, newConn(), nil, rec1.params).Tracing().StartSettle(t.Context(), "retry", d)
	alone(nil)
	if got := rec1.span(t, "retry bills").Parent().TraceID(); got != origin.SpanContext().TraceID() {
		t.Errorf("a settlement outside of any span is in trace %s, want that of its message", got)
	}
	rec2 := newTraced(t)
	c2 := client(t, newConn(), nil, rec2.params)
	_, end := c2.Tracing().StartSettle(t.Context(), "ack", d, d, &sdk.Delivery{Topic: "bills"})
	end(driver.Errorf(driver.LaneLost, "settle", "gone"))
	s := rec2.span(t, "ack bills")
	wantAttrs(t, s, map[string]string{"messaging.batch.message_count": "3", "messaging.message.id": "-", "error.type": "lane_lost"})
	if len(s.Links()) != 2 {
		t.Errorf("links %v", s.Links())
	}
	if ctx, end := c2.Tracing().StartSettle(t.Context(), "ack"); ctx == nil || len(rec2.Ended()) != 1 {
		end(nil)
		t.Error("a settlement of nothing made a span")
	}
}

func TestTxSpans(t *testing.T) {
	t.Parallel()
	rec := newTraced(t)
	c := client(t, newConn(), nil, rec.params)
	x := sdk.TxSpan{ID: "1", Topic: "bills", Group: "g", Headers: map[string]string{}}
	_, end := c.Tracing().StartTx(t.Context(), sdk.TxPrepare, x)
	end(nil)
	prepare := rec.span(t, "prepare bills")
	for op, kind := range map[sdk.TxOp]trace.SpanKind{
		sdk.TxCommit: trace.SpanKindClient, sdk.TxRollback: trace.SpanKindClient, sdk.TxCheck: trace.SpanKindConsumer, sdk.TxLocal: trace.SpanKindInternal,
	} {
		_, end := c.Tracing().StartTx(t.Context(), op, x)
		end(nil)
		if s := rec.span(t, string(op)+" bills"); s.SpanKind() != kind || !linked(s, prepare.SpanContext()) {
			t.Errorf("%s: kind %v, links %v", op, s.SpanKind(), s.Links())
		}
	}
	if prepare.SpanKind() != trace.SpanKindProducer || len(prepare.Links()) != 0 || x.Headers["traceparent"] == "" {
		t.Errorf("prepare: kind %v, links %v, headers %v", prepare.SpanKind(), prepare.Links(), x.Headers)
	}
	wantAttrs(t, prepare, map[string]string{"messaging.operation.type": "send", "sluice.message.type": "transaction", "messaging.message.id": "1"})
	wantAttrs(t, rec.span(t, "commit bills"), map[string]string{"messaging.operation.type": "settle"})
	wantAttrs(t, rec.span(t, "check bills"), map[string]string{"messaging.operation.type": "process"})
	wantAttrs(t, rec.span(t, "local bills"), map[string]string{"messaging.operation.type": "-", "messaging.destination.name": "bills"})
}

func TestWithoutProvidersContextPassesThrough(t *testing.T) {
	t.Parallel()
	conn := newConn()
	p := client(t, conn, nil).Producer()
	if _, err := p.Send(t.Context(), "bills", 1); err != nil || conn.messages()[0].Properties["traceparent"] != "" {
		t.Errorf("%v, %v", err, conn.messages()[0].Properties)
	}
	remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: 1, Remote: true})
	if _, err := p.Send(trace.ContextWithSpanContext(t.Context(), remote), "bills", 1); err != nil {
		t.Fatal(err)
	}
	if got := conn.messages()[1].Properties["traceparent"]; !strings.Contains(got, remote.TraceID().String()) {
		t.Errorf("traceparent %q", got)
	}
}
