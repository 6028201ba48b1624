package embedded_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

var oneQueue = embedded.Config{Queues: 1} //nolint:gochecknoglobals // a constant

func spec(group, topic string) driver.SubscribeSpec {
	return driver.SubscribeSpec{Group: group, Topic: topic}
}

// One message that is not settled must not bring the settled ones behind it
// back: not over a hand-over, not over a clean restart.
func TestPosition_KeepsWhatIsSettledBehindAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.sendN("t", 100)
		c := k.join(k.conn, spec("g", "t"))
		ds := c.fetch("t/0", 100)
		c.settle("t/0", driver.Ack, 0, append(slices.Clone(ds[:7]), ds[8:]...)...)
		c.close()
		c = k.join(k.b.Connect("other"), spec("g", "t"))
		again := c.fetch("t/0", 1)
		if string(again[0].Body) != "m7" {
			t.Errorf("after a hand-over: got %q, want m7", again[0].Body)
		}
		c.none("t/0", "everything else was settled")
		k.reopen()
		c = k.join(k.conn, spec("g", "t"))
		again = c.fetch("t/0", 1)
		if string(again[0].Body) != "m7" {
			t.Errorf("after a restart: got %q, want m7", again[0].Body)
		}
		c.none("t/0", "everything else was settled")
		c.settle("t/0", driver.Ack, 0, again...)
		c.close()
		k.crash() // Close has made the position durable
		k.join(k.conn, spec("g", "t")).none("t/0", "everything was settled")
	})
}

// A position is durable at most a second after it changed, without any close.
func TestPosition_DurableWithinASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.sendN("t", 3)
		c := k.join(k.conn, spec("g", "t"))
		c.settle("t/0", driver.Ack, 0, c.fetch("t/0", 2)...)
		time.Sleep(time.Second)
		k.crash()
		c = k.join(k.conn, spec("g", "t"))
		if got := bodies(c.fetch("t/0", 1)); got[0] != "m2" {
			t.Errorf("a second after the settlement, and a crash: got %q, want m2", got)
		}
		c.none("t/0", "the rest was settled")
	})
}

// Where a new group begins is decided once, not again after a crash.
func TestPosition_FromLatestSurvivesCrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.sendN("t", 3)
		s := spec("g", "t")
		s.From = driver.Position{Kind: driver.Latest}
		k.join(k.conn, s)
		k.send(&driver.Message{Topic: "t", Body: []byte("after")})
		k.crash()
		c := k.join(k.conn, s)
		if got := bodies(c.fetch("t/0", 1)); got[0] != "after" {
			t.Errorf("got %q, want the message that came after the group had joined", got)
		}
	})
}

func TestFetch_IsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		var ms []*driver.Message
		for range 1000 {
			ms = append(ms, &driver.Message{Topic: "t"})
		}
		for range 5 {
			k.send(ms...)
		}
		c := k.join(k.conn, spec("g", "t"))
		ds := c.fetch("t/0", 4096)
		c.none("t/0", "4096 are in flight")
		time.AfterFunc(100*time.Millisecond, func() { c.settle("t/0", driver.Ack, 0, ds[17]) })
		start := time.Now()
		c.fetch("t/0", 1)
		if took := time.Since(start); took != 100*time.Millisecond {
			t.Errorf("Fetch went on %v after a settlement that came after 100ms", took)
		}
	})
}

// Sixteen failed attempts over hours, as listeners have them by default.
func TestRetry_Ladder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.send(&driver.Message{Topic: "t", Keys: []string{"bill-7"}, Body: []byte("m")})
		c := k.join(k.conn, spec("g", "t"))
		const retry = "%RETRY%g/0"
		got := c.fetch("t/0", 1)[0]
		lane, delay := "t/0", 10*time.Second
		for attempt := 2; attempt <= 17; attempt++ {
			failed := time.Now()
			c.settle(lane, driver.Retry, delay, got)
			if attempt == 9 { // a crash during the wait changes nothing
				time.Sleep(time.Second) // until the settlement is durable
				k.crash()
				c = k.join(k.conn, spec("g", "t"))
			}
			got, lane = c.fetch(retry, 1)[0], retry
			if took := time.Since(failed); took < delay || took > delay+time.Millisecond {
				t.Errorf("attempt %d came after %v, want %v", attempt, took, delay)
			}
			if got.Attempt != attempt || got.Topic != "t" || got.Keys[0] != "bill-7" {
				t.Fatalf("got attempt %d of %+v, want %d", got.Attempt, got.Message, attempt)
			}
			delay = min(2*delay, 2*time.Hour)
		}
		c.settle(retry, driver.DeadLetter, 0, got)
		dead := k.join(k.conn, spec("reader", driver.DeadLetterTopic("g"))).fetch("%DLQ%g/0", 1)[0]
		if dead.Properties[driver.DeadTopic] != "t" || dead.Properties[driver.DeadGroup] != "g" || dead.Attempt != 1 {
			t.Errorf("dead letter: %+v", dead)
		}
	})
}

func TestRetry_StackTooLongIsLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.send(&driver.Message{Topic: "t", Properties: map[string]string{"mine": "kept"}})
		c := k.join(k.conn, spec("g", "t"))
		d := c.fetch("t/0", 1)[0]
		k.must("dead-letter", c.lane("t/0").Settle(t.Context(), []driver.Settlement{{
			Delivery: d, Outcome: driver.DeadLetter,
			Properties: map[string]string{driver.DeadReason: "exhausted", driver.DeadStack: fmt.Sprintf("%040000d", 1)},
		}}))
		dead := k.join(k.conn, spec("reader", driver.DeadLetterTopic("g"))).fetch("%DLQ%g/0", 1)[0]
		if p := dead.Properties; p["mine"] != "kept" || p[driver.DeadReason] != "exhausted" || p[driver.DeadStack] != "" {
			t.Errorf("got properties %.200v", p)
		}
	})
}

// On lanes without stored redeliveries, attempts and delays are kept in memory.
func TestRetry_InPlace(t *testing.T) {
	t.Parallel()
	for what, s := range map[string]driver.SubscribeSpec{
		"ordered":   {Group: "g", Topic: "t", Ordered: true},
		"broadcast": {Group: "g", Topic: "t", Broadcast: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newKit(t, oneQueue)
				k.sendN("t", 2)
				c := k.join(k.conn, s)
				d := c.fetch("t/0", 1)
				c.settle("t/0", driver.Retry, 5*time.Second, d...)
				start := time.Now()
				next := c.fetch("t/0", 1)[0]
				switch {
				case s.Ordered && (string(next.Body) != "m0" || next.Attempt != 2 || time.Since(start) != 5*time.Second):
					t.Errorf("got %q, attempt %d after %v; want m0, attempt 2 after 5s", next.Body, next.Attempt, time.Since(start))
				case s.Broadcast && (string(next.Body) != "m1" || next.Attempt != 1):
					t.Errorf("got %q, attempt %d; want m1, which does not wait", next.Body, next.Attempt)
				case s.Broadcast:
					if again := c.fetch("t/0", 1)[0]; again.Attempt != 2 || time.Since(start) != 5*time.Second {
						t.Errorf("got %q, attempt %d after %v; want m0, attempt 2 after 5s", again.Body, again.Attempt, time.Since(start))
					}
				}
			})
		})
	}
}

// A lane goes to nobody who is about to be closed too.
func TestBrokerClose_HandsNothingOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 4})
		k.sendN("t", 1)
		var cs []*consumer
		for i := range 3 {
			cs = append(cs, k.join(k.b.Connect(fmt.Sprint("c", i)), spec("g", "t")))
		}
		synctest.Wait()
		assigned := 0
		for _, c := range cs {
			assigned += len(c.owned())
			c.hold = func(ctx context.Context, _ driver.Lane) {
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
		}
		if assigned != 5 {
			t.Errorf("%d lanes are owned, want 4 queues and the retry lane", assigned)
		}
		start := time.Now()
		k.must("close", k.b.Close(t.Context()))
		if took := time.Since(start); took != time.Second {
			t.Errorf("Close took %v; every lane needs one second, all at once", took)
		}
	})
	for range 20 { // members that need no time
		synctest.Test(t, func(t *testing.T) {
			k := newKit(t, embedded.Config{Queues: 4})
			var cs []*consumer
			for i := range 8 {
				cs = append(cs, k.join(k.b.Connect(fmt.Sprint("c", i)), spec("g", "t")))
			}
			synctest.Wait()
			given := func() (n int) {
				for _, c := range cs {
					c.mu.Lock()
					n += c.given
					c.mu.Unlock()
				}
				return n
			}
			before := given()
			k.must("close", k.b.Close(t.Context()))
			if after := given(); after != before {
				t.Errorf("%d lanes were given away while the broker closed", after-before)
			}
		})
	}
}

// What waited in the retry topic belongs to the topic that was deleted.
func TestDeleteTopic_RedeliveriesGoWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, oneQueue)
		k.sendN("t", 2)
		c := k.join(k.conn, spec("g", "t"))
		c.settle("t/0", driver.Retry, 0, c.fetch("t/0", 2)...)
		topics := k.conn.Extensions().Topics
		wantCode(t, "delete a topic in use", topics.DeleteTopic(t.Context(), "t"), driver.FailedPrecondition)
		c.close()
		k.must("delete", topics.DeleteTopic(t.Context(), "t"))
		for range 2 {
			c = k.join(k.conn, spec("g", "t"))
			c.none("%RETRY%g/0", "the topic is a new one")
			c.none("t/0", "the topic is a new one")
			k.crash()
		}
	})
}

func TestQueueChoice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{Queues: 4})
		var turn []int
		for range 8 {
			turn = append(turn, k.send(&driver.Message{Topic: "t"})[0].Queue)
		}
		if !slices.Equal(turn, []int{0, 1, 2, 3, 0, 1, 2, 3}) {
			t.Errorf("round robin: got %v", turn)
		}
		// Java: "TagA".hashCode() % 4 == 3, and |"create".hashCode() % 4| == 2.
		for key, want := range map[string]int{"TagA": 2598919 % 4, "create": 1352294148 % 4} {
			if got := k.send(&driver.Message{Topic: "t", OrderingKey: key})[0].Queue; got != want {
				t.Errorf("key %s: got queue %d, want %d", key, got, want)
			}
		}
	})
}

func TestNoAutoCreate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, embedded.Config{NoAutoCreate: true})
		r := k.conn.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}})
		wantCode(t, "send to a topic that does not exist", r[0].Err, driver.NotFound)
		_, err := k.conn.Subscribe(t.Context(), spec("g", "t"), &consumer{})
		wantCode(t, "subscribe to it", err, driver.NotFound)
		_, err = k.conn.Extensions().Tx.Prepare(t.Context(), "p", &driver.Message{Topic: "t"})
		wantCode(t, "prepare for it", err, driver.NotFound)
		k.must("create", k.conn.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: "t", Queues: 1}))
		k.send(&driver.Message{Topic: "t"})
		c := k.join(k.conn, spec("g", "t"))
		c.settle("t/0", driver.DeadLetter, 0, c.fetch("t/0", 1)...) // its own topics are made all the same
	})
}
