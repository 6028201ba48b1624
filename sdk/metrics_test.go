package sdk_test

import (
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

type measured struct {
	reader   *sdkmetric.ManualReader
	provider *sdkmetric.MeterProvider
}

func newMeasured(t *testing.T) measured {
	r := sdkmetric.NewManualReader()
	m := measured{r, sdkmetric.NewMeterProvider(sdkmetric.WithReader(r))}
	t.Cleanup(func() { _ = m.provider.Shutdown(context.Background()) })
	return m
}

func (m measured) params(p *sdk.ClientParams) { p.MeterProvider = m.provider }

// points flattens everything collected into "name{a=b,…}" with a count.
func (m measured) points(t *testing.T) (counts map[string]int64, units map[string]string, bounds map[string][]float64) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := m.reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	counts, units, bounds = map[string]int64{}, map[string]string{}, map[string][]float64{}
	name := func(metric string, set attribute.Set) string {
		var words []string
		for _, kv := range set.ToSlice() {
			words = append(words, string(kv.Key)+"="+kv.Value.String())
		}
		sort.Strings(words)
		return metric + "{" + strings.Join(words, ",") + "}"
	}
	for _, scope := range rm.ScopeMetrics {
		for _, x := range scope.Metrics {
			units[x.Name] = x.Unit
			switch data := x.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					counts[name(x.Name, p.Attributes)] += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					counts[name(x.Name, p.Attributes)] += int64(p.Count)
					bounds[x.Name] = p.Bounds
				}
			}
		}
	}
	return counts, units, bounds
}

func wantCounts(t *testing.T, got, want map[string]int64) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %d, want %d", k, got[k], v)
		}
	}
	if t.Failed() {
		for k, v := range got {
			t.Logf("have %s = %d", k, v)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	conn := newConn()
	conn.answer = func(_ context.Context, n int, req driver.SendRequest) []driver.SendResult {
		switch {
		case req.Messages[0].Topic == "bad":
			return refuse(req, *driver.Errorf(driver.PermissionDenied, "", "no"))
		case n == 1:
			return refuse(req, driver.Error{Code: driver.Timeout, Retryable: true, MaybeDone: true})
		}
		return nil
	}
	c := client(t, conn, nil, m.params)
	p := c.Producer()
	if _, err := p.Send(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SendBatch(t.Context(), []sdk.Outgoing{sdk.NewMessage("a", 1), sdk.NewMessage("b", 1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(t.Context(), "bad", 1); err == nil {
		t.Fatal("no error")
	}
	if err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	handlerErr := errors.New("x")
	chain, err := c.ConsumeChain(sdk.ListenerInfo{Group: "g"}, func(context.Context, *sdk.Delivery) error { return handlerErr })
	if err != nil {
		t.Fatal(err)
	}
	d := &sdk.Delivery{Topic: "a", Group: "g"}
	_ = chain(t.Context(), d)
	handlerErr = nil
	_ = chain(t.Context(), d)
	_, end := c.Tracing().StartSettle(t.Context(), "retry", d)
	end(nil)
	_, end = c.Tracing().StartTx(t.Context(), sdk.TxCommit, sdk.TxSpan{Topic: "a", Group: "g"})
	end(nil)

	counts, units, bounds := m.points(t)
	const send = "messaging.operation.name=send,messaging.operation.type=send,messaging.system=fake}"
	const process = "messaging.operation.name=process,messaging.system=fake}"
	wantCounts(t, counts, map[string]int64{
		"messaging.client.sent.messages{messaging.destination.name=a,messaging.operation.name=send,messaging.system=fake}":                                                                        3,
		"messaging.client.sent.messages{messaging.destination.name=b,messaging.operation.name=send,messaging.system=fake}":                                                                        1,
		"messaging.client.sent.messages{error.type=permission_denied,messaging.destination.name=bad,messaging.operation.name=send,messaging.system=fake}":                                         1,
		"messaging.client.operation.duration{messaging.destination.name=a," + send:                                                                                                                2,
		"messaging.client.operation.duration{" + send:                                                                                                                                             1,
		"messaging.client.operation.duration{error.type=permission_denied,messaging.destination.name=bad," + send:                                                                                 1,
		"messaging.client.operation.duration{messaging.consumer.group.name=g,messaging.destination.name=a,messaging.operation.name=retry,messaging.operation.type=settle,messaging.system=fake}":  1,
		"messaging.client.operation.duration{messaging.consumer.group.name=g,messaging.destination.name=a,messaging.operation.name=commit,messaging.operation.type=settle,messaging.system=fake}": 1,
		"messaging.client.consumed.messages{messaging.consumer.group.name=g,messaging.destination.name=a," + process:                                                                              1,
		"messaging.client.consumed.messages{error.type=handler_error,messaging.consumer.group.name=g,messaging.destination.name=a," + process:                                                     1,
		"messaging.process.duration{messaging.consumer.group.name=g,messaging.destination.name=a," + process:                                                                                      1,
		"sluice.send.retries{messaging.destination.name=a}":                                                                                                                                       1,
		"sluice.send.maybe_done{messaging.destination.name=a}":                                                                                                                                    1,
		"sluice.async.pending{}": 0,
	})
	for name, unit := range map[string]string{
		"messaging.process.duration": "s", "messaging.client.operation.duration": "s", "messaging.client.sent.messages": "{message}",
		"sluice.send.retries": "{attempt}", "sluice.send.maybe_done": "{message}", "sluice.async.pending": "{message}",
	} {
		if units[name] != unit {
			t.Errorf("unit of %s is %q, want %q", name, units[name], unit)
		}
	}
	want := []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
	for _, name := range []string{"messaging.process.duration", "messaging.client.operation.duration"} {
		if !slices.Equal(bounds[name], want) {
			t.Errorf("buckets of %s are %v", name, bounds[name])
		}
	}
}

func TestDroppedMetric(t *testing.T) {
	t.Parallel()
	m := newMeasured(t)
	conn, open := gated()
	p := client(t, conn, map[string]string{"sluice.async.buffer": "1", "sluice.async.full": "drop"}, m.params).Producer()
	for range 3 {
		if err := p.SendAsync(t.Context(), sdk.NewMessage("a", 1), nil); err != nil {
			t.Fatal(err)
		}
	}
	counts, _, _ := m.points(t)
	wantCounts(t, counts, map[string]int64{"sluice.async.dropped{messaging.destination.name=a}": 2, "sluice.async.pending{}": 1})
	close(open)
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}
