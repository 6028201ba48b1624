package rocketmq_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// statuses are what a broker says of a message that it has stored.
var statuses = map[int]driver.SendStatus{
	remoting.ResSuccess: driver.Stored, remoting.ResFlushDiskTimeout: driver.StoredUnflushed,
	remoting.ResFlushSlaveTimeout: driver.StoredUnreplicated, remoting.ResSlaveNotAvailable: driver.StoredNoReplica,
}

// says makes brokers answer sends with codes, one after the other whoever is
// asked; a code below zero is no answer. What they were asked comes back, by
// the names of the brokers.
func (c *cluster) says(codes ...int) func() []string {
	var asked []string
	c.with(func() {
		for _, p := range c.brokers {
			p.onSend = func(h remoting.SendMessage, _ int) *remoting.Command {
				c.mu.Lock()
				defer c.mu.Unlock()
				asked = append(asked, h.BrokerName)
				if len(asked) > len(codes) {
					return nil
				}
				code := codes[len(asked)-1]
				if code < 0 {
					p.master.set(silent)
				}
				a := &remoting.Command{Code: code}
				id := message.OffsetID(netip.MustParseAddrPort(p.master.addr), int64(len(asked)))
				remoting.SendResult{MsgID: id, QueueOffset: int64(10 * len(asked))}.AppendTo(&a.Fields)
				return a
			}
		}
	})
	return func() (names []string) {
		c.with(func() { names = append(names, asked...) })
		return names
	}
}

// What a broker says of its flush and its replicas is in the result, and nothing
// is sent twice for it.
func TestSend_Statuses(t *testing.T) {
	t.Parallel()
	for code, want := range statuses {
		synctest.Test(t, func(t *testing.T) {
			c, conn := twoMasters(t, rocketmq.Config{})
			asked := c.says(code, code, code)
			for n := range 2 {
				rs := conn.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}, {Topic: "t"}}[n:]})
				for i, r := range rs {
					if r.Err != nil || r.Status != want || r.MaybeDone || r.Offset != int64(10*(n+1)+i) {
						t.Errorf("code %d: message %d of %d has the result %+v", code, i, len(rs), r)
					}
				}
			}
			if n := len(asked()); n != 2 {
				t.Errorf("code %d: %d requests were sent for 2", code, n)
			}
		})
	}
}

// No transaction begins with a half message that is stored less safely than it
// should be; the next try goes to another broker.
func TestPrepare_Statuses(t *testing.T) {
	t.Parallel()
	for code, want := range statuses {
		synctest.Test(t, func(t *testing.T) {
			c, conn := twoMasters(t, rocketmq.Config{})
			asked := c.says(code, remoting.ResSuccess)
			m := &driver.Message{Topic: "t", ID: "first"}
			h, err := conn.Extensions().Tx.Prepare(t.Context(), "pg", m)
			if want == driver.Stored {
				if err != nil || h.TxID != "first" {
					t.Errorf("code %d: %+v, %v", code, h, err)
				}
				return
			}
			var e *driver.Error
			if !errors.As(err, &e) || e.Code != driver.Unavailable || !e.Retryable || !e.MaybeDone || !strings.Contains(err.Error(), want.String()) {
				t.Errorf("code %d: %v", code, err)
			}
			if _, err := conn.Extensions().Tx.Prepare(t.Context(), "pg", m); err != nil {
				t.Errorf("code %d: the next try: %v", code, err)
			}
			if names := asked(); len(names) != 2 || names[0] == names[1] {
				t.Errorf("code %d: half messages went to %q", code, names)
			}
		})
	}
}

// By option a message that is not stored as it should be goes to another broker
// as well. The better result counts, and says that there may be two.
func TestSend_AnotherBroker(t *testing.T) {
	t.Parallel()
	const weak, busy, silence = remoting.ResFlushSlaveTimeout, remoting.ResSystemBusy, -1
	for name, x := range map[string]struct {
		cfg    rocketmq.Config
		codes  []int
		many   bool
		change func(*driver.Message)
		asked  int
		offset int64
		status driver.SendStatus
		twice  bool
	}{
		"stored": {codes: []int{remoting.ResSuccess}, asked: 1, offset: 10, status: driver.Stored},
		"better": {codes: []int{weak, remoting.ResSuccess}, asked: 2, offset: 20, status: driver.Stored, twice: true},
		"many":   {codes: []int{weak, remoting.ResSuccess}, many: true, asked: 2, offset: 20, status: driver.Stored, twice: true},
		"alone": {
			cfg: rocketmq.Config{NoGathering: true}, codes: []int{weak, remoting.ResSuccess}, asked: 2, offset: 20, status: driver.Stored, twice: true,
		},
		"no better": {codes: []int{weak, remoting.ResSlaveNotAvailable}, asked: 2, offset: 10, status: driver.StoredUnreplicated, twice: true},
		"refused":   {codes: []int{weak, busy}, asked: 2, offset: 10, status: driver.StoredUnreplicated},
		"silent":    {codes: []int{weak, silence}, asked: 2, offset: 10, status: driver.StoredUnreplicated, twice: true},
		"a queue": {
			codes: []int{weak}, change: func(m *driver.Message) { m.QueueSet = true }, asked: 1, offset: 10, status: driver.StoredUnreplicated,
		},
		"an order": {
			codes: []int{weak}, change: func(m *driver.Message) { m.OrderingKey = "k" }, asked: 1, offset: 10, status: driver.StoredUnreplicated,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x.cfg.RetryAnotherBroker = true
				c, conn := twoMasters(t, x.cfg)
				asked := c.says(x.codes...)
				ms := []*driver.Message{{Topic: "t", ID: "first", Body: []byte("m")}}
				if x.change != nil {
					x.change(ms[0])
				}
				if x.many {
					ms = append(ms, &driver.Message{Topic: "t", ID: "second", Body: []byte("m")})
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				for i, r := range conn.Send(ctx, driver.SendRequest{Messages: ms}) {
					if r.Err != nil || r.Status != x.status || r.MaybeDone != x.twice || r.ID != ms[i].ID || r.Offset != x.offset+int64(i) {
						t.Errorf("message %d has the result %+v", i, r)
					}
					if names := asked(); r.Lane != "t/"+names[x.offset/10-1]+"/0" {
						t.Errorf("message %d is on %s, asked were %q", i, r.Lane, names)
					}
				}
				names := asked()
				if len(names) != x.asked || x.asked == 2 && names[0] == names[1] {
					t.Errorf("asked were %q", names)
				}
				if ctx.Err() != nil {
					t.Error("it took all of its time")
				}
			})
		})
	}
}

// With one broker there is no other one, and one-way sends hear of nothing.
func TestSend_NoOtherBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a")
		c.topic("t", 2)
		conn := c.open(rocketmq.Config{RetryAnotherBroker: true}, "client")
		defer func() { _ = conn.Close(context.Background()) }()
		asked := c.says(remoting.ResFlushDiskTimeout, remoting.ResFlushDiskTimeout)
		if r := sendOne(t.Context(), conn, &driver.Message{Topic: "t"}); r.Status != driver.StoredUnflushed || r.MaybeDone {
			t.Errorf("got %+v", r)
		}
		r := conn.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}, NoAck: true})[0]
		synctest.Wait()
		if n := len(asked()); n != 2 || r.Status != driver.Unconfirmed || r.MaybeDone {
			t.Errorf("%d requests, got %+v", n, r)
		}
	})
}

// Who has gathered is sent again together.
func TestSend_AnotherBrokerGathered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn := twoMasters(t, rocketmq.Config{RetryAnotherBroker: true, Linger: time.Millisecond})
		c.with(func() {
			c.brokers["a"].onSend = func(remoting.SendMessage, int) *remoting.Command {
				return &remoting.Command{Code: remoting.ResFlushSlaveTimeout, Fields: ok("msgId", "", "queueId", "0", "queueOffset", "0").Fields}
			}
		})
		var wg sync.WaitGroup
		results := make([]driver.SendResult, 20)
		for i := range results {
			wg.Go(func() {
				results[i] = sendOne(t.Context(), conn, &driver.Message{Topic: "t", ID: itoa(i), Body: []byte("m")})
			})
		}
		wg.Wait()
		twice := 0
		for i, r := range results {
			if r.Err != nil || r.Status != driver.Stored || r.Lane != "t/b/0" || r.ID != itoa(i) {
				t.Errorf("message %d has the result %+v", i, r)
			}
			if r.MaybeDone {
				twice++
			}
		}
		if n := len(c.brokers["b"].sent()); twice != 10 || n != 2 {
			t.Errorf("%d messages went to a first, b got %d requests", twice, n)
		}
	})
}
