package drivertest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/internal/reference"
)

// minimal is a driver that can do as little as the seam allows and says so.
type minimal struct{ driver.Conn }

func (minimal) Capabilities() driver.Capabilities { return driver.Capabilities{System: "minimal"} }
func (minimal) Extensions() driver.Extensions     { return driver.Extensions{} }

func unsupported(op string) error { return driver.Errorf(driver.Unsupported, op, "minimal") }

func (c minimal) Send(ctx context.Context, req driver.SendRequest) []driver.SendResult {
	out := make([]driver.SendResult, len(req.Messages))
	for i, m := range req.Messages {
		if req.NoAck || m.QueueSet || !m.DeliverAt.IsZero() {
			out[i] = driver.SendResult{ID: m.ID, Err: unsupported("send")}
			continue
		}
		out[i] = c.Conn.Send(ctx, driver.SendRequest{Messages: []*driver.Message{m}})[0]
	}
	return out
}

func (c minimal) Subscribe(ctx context.Context, s driver.SubscribeSpec, ev driver.LaneEvents) (driver.Subscription, error) {
	if s.Broadcast || s.Ordered || !s.Filter.All() {
		return nil, unsupported("subscribe")
	}
	return (&twisted{Conn: c.Conn, lane: func(l driver.Lane) driver.Lane {
		return &twistedLane{Lane: l, settle: func(ctx context.Context, ss []driver.Settlement) error {
			for _, s := range ss {
				if s.Delay > 0 {
					return unsupported("settle with a delay")
				}
			}
			return l.Settle(ctx, ss)
		}}
	}}).Subscribe(ctx, s, ev)
}

func minimalHarness() Harness {
	h := referenceHarness()
	h.Open = func(testing.TB) Broker {
		b := reference.New(reference.Config{})
		return Broker{
			Connect: func(_ context.Context, id string) (driver.Conn, error) { return minimal{b.Connect(id)}, nil },
			CreateTopic: func(ctx context.Context, name string, queues int) error {
				c := b.Connect("creator")
				err := c.Extensions().Topics.CreateTopic(ctx, driver.TopicInfo{Name: name, Queues: queues})
				return errors.Join(err, c.Close(ctx))
			},
			Close: b.Close,
		}
	}
	return h
}

// TestRun_Minimal: what a broker cannot do is skipped and checked to be
// refused, and nothing of that makes the run incomplete.
func TestRun_Minimal(t *testing.T) {
	t.Parallel()
	r := Run(t, minimalHarness())
	r.RequireComplete(t)
	skipped := 0
	for _, o := range r.Outcomes() {
		if o.Skipped {
			skipped++
		}
		if o.Skipped && (o.ByHarness || !strings.HasPrefix(o.Reason, "broker: no ")) {
			t.Errorf("%s/%s was skipped for the reason %q, want the broker's capabilities", o.Group, o.Name, o.Reason)
		}
	}
	if skipped < 40 {
		t.Errorf("%d tests were skipped for a minimal driver, want more", skipped)
	}
}

// TestReport_RequireComplete: a harness that cannot crash a durable broker
// leaves a gap, which is a failure for whoever asks.
func TestReport_RequireComplete(t *testing.T) {
	t.Parallel()
	r := &Report{offered: offers(driver.Capabilities{Durable: true}, driver.Extensions{}, Broker{})}
	run := func(c testCase) {
		t.Run(c.name, func(t *testing.T) {
			runCase(t, Harness{Open: func(testing.TB) Broker {
				b := reference.New(reference.Config{})
				return Broker{Connect: Connector(b), Close: b.Close}
			}}.withDefaults(), c, r)
		})
	}
	run(testCase{"durable", "crash", needDurable | needCrash, func(e *env) { e.Error("it cannot run") }})
	run(testCase{"filter", "tags", needTags, func(e *env) { e.Error("it cannot run") }})
	run(testCase{"send", "order", 0, func(*env) {}})
	probe := &recorder{TB: t}
	r.RequireComplete(probe)
	if len(probe.failures) != 1 || !strings.Contains(probe.failures[0], "durable/crash was skipped though the broker claims what it needs") {
		t.Errorf("RequireComplete: got failures %q, want one, about durable/crash", probe.failures)
	}
	table := r.String()
	for _, want := range []string{"durable           0      0       1  harness: no Broker.CrashAndReopen", "filter            0      0       1  broker: no Tags", "send              1      0       0"} {
		if !strings.Contains(table, want) {
			t.Errorf("table:\n%s\nwant a line %q", table, want)
		}
	}
}
