package rocketmq_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// query answers the messages with a key or a unique id, or the one at an offset.
// c.mu is held.
func (p *pair) query(req *remoting.Command) *remoting.Command {
	a := &remoting.Command{Code: remoting.ResQueryNotFound}
	at, offsetErr := remoting.DecodeViewMessage(req.Fields)
	x, keyErr := remoting.DecodeQueryMessage(req.Fields)
	if keyErr != nil && offsetErr != nil {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: keyErr.Error()}
	}
	for _, log := range p.logs {
		for _, s := range log {
			props := message.ParseProperties(s.Properties)
			keys := append(message.SplitKeys(props[message.Keys]), props[message.UniqKey])
			if offsetErr == nil && s.PhysicalOffset == at.Offset || keyErr == nil && slices.Contains(keys, x.Key) {
				a.Code = remoting.ResSuccess
				a.Body, _ = s.AppendTo(a.Body)
			}
		}
	}
	return a
}

// A query asks every broker at once. What the others have is answered beside the
// error of one that does not answer; nothing is not found while it may have it.
func TestQuery_BrokerAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]string{"first": "a", "second": "b"} {
		for what, to := range map[string]state{"down": down, "silent": silent} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { testQueryBrokerAway(t, away, to) })
			})
		}
	}
}

func testQueryBrokerAway(t *testing.T, away string, to state) {
	c, conn := twoMasters(t, rocketmq.Config{})
	ids, offsets := map[string]string{}, map[string]string{}
	for range 2 {
		r := sendOne(t.Context(), conn, &driver.Message{Topic: "t", Keys: []string{"k"}})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		broker := r.Lane[len("t/") : len("t/")+1]
		ids[broker], offsets[broker] = r.ID, r.OffsetID
	}
	x := conn.Extensions().Query
	if ds, err := x.ByKey(t.Context(), "t", "k", driver.TimeRange{}, 10); len(ds) != 2 || err != nil {
		t.Fatalf("found %d: %v", len(ds), err)
	}
	other := map[string]string{"a": "b", "b": "a"}[away]
	c.brokers[away].master.set(to)
	unknown := driver.Unavailable
	if to == silent {
		unknown = driver.Timeout
	}
	within := func(what string, ask func(ctx context.Context)) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		ask(ctx)
		if ctx.Err() != nil {
			t.Errorf("%s took more than its time", what)
		}
	}
	within("by key", func(ctx context.Context) {
		ds, err := x.ByKey(ctx, "t", "k", driver.TimeRange{}, 10)
		if len(ds) != 1 || ds[0].ID != ids[other] || driver.CodeOf(err) != unknown {
			t.Errorf("by key there are %d: %v", len(ds), err)
		}
	})
	for what, id := range map[string]string{"by id": ids[other], "by offset id": offsets[other]} {
		within(what, func(ctx context.Context) {
			if d, err := x.ByID(ctx, "t", id); err != nil || d.ID != ids[other] {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	within("missing", func(ctx context.Context) {
		if _, err := x.ByID(ctx, "t", ids[away]); driver.CodeOf(err) != unknown {
			t.Errorf("a message of the broker that is away: %v", err)
		}
	})
}
