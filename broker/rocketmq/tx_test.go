package rocketmq_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// checkBack asks a member of a producer group about the half message that was
// stored last, for the n-th time.
func (c *cluster) checkBack(group string, q rocketmq.Queue, n int) {
	var req *remoting.Command
	var member *peer
	c.with(func() {
		p := c.brokers[q.Broker]
		s := p.logs[q][len(p.logs[q])-1]
		s.Properties = string(message.AppendProperty([]byte(s.Properties), message.TransactionCheckTimes, itoa(n)))
		body, err := s.AppendTo(nil)
		if err != nil {
			c.t.Fatal(err)
		}
		req = &remoting.Command{Code: remoting.ReqCheckTransactionState, Body: body}
		remoting.CheckTransaction{
			TranStateTableOffset: s.QueueOffset, CommitLogOffset: s.PhysicalOffset, BrokerName: q.Broker, Topic: q.Topic,
		}.AppendTo(&req.Fields)
		for _, m := range p.members["producers of "+group] {
			member = m
		}
	})
	if member == nil {
		c.t.Fatalf("nobody answers for group %s", group)
	}
	member.ask(req)
}

// A check-back that panics decides nothing, and the same goroutine answers the
// next one.
func TestChecks_Panic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		tx := conn.Extensions().Tx
		h, err := tx.Prepare(t.Context(), "pg", &driver.Message{Topic: "t", ID: "half", Body: []byte("m")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		var asked []int
		go func() {
			done <- tx.Checks(ctx, "pg", 1, func(_ context.Context, got driver.Half, d *driver.Delivery, check int) driver.Decision {
				if asked = append(asked, check); check < 3 {
					panic("no decision")
				}
				if got.TxID != h.TxID || string(got.Handle) != string(h.Handle) || string(d.Body) != "m" {
					t.Errorf("asked about %+v, want %+v", got, h)
				}
				return driver.Commit
			})
		}()
		time.Sleep(time.Second)
		for n := range 3 {
			c.checkBack("pg", rocketmq.Queue{Topic: "t", Broker: "a"}, n+1)
			synctest.Wait()
			c.with(func() {
				if want := max(n-1, 0); len(a.ends) != want || len(asked) != n+1 {
					t.Errorf("after check %d the broker has heard %d decisions, want %d; checks were %v", n+1, len(a.ends), want, asked)
				}
			})
		}
		c.with(func() {
			if len(a.ends) == 1 && (a.ends[0].Decision != remoting.DecisionCommit || !a.ends[0].FromCheck || a.ends[0].MsgID != "half") {
				t.Errorf("the decision is %+v", a.ends[0])
			}
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
