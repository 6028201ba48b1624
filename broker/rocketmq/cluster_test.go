package rocketmq_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// twoPairs is a cluster of two name servers, two masters and their slaves, with
// a topic of two queues on each, a producer, and a consumer.
func twoPairs(t *testing.T) (*cluster, driver.Conn, *consumer) {
	c := newCluster(t, true, "a", "b")
	c.topic("t", 2)
	conn := c.open(rocketmq.Config{CommitEvery: time.Second}, "client")
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	m := newConsumer(t)
	m.join(conn, driver.SubscribeSpec{Group: "g", Topic: "t"})
	time.Sleep(time.Second)
	return c, conn, m
}

// sender sends as the framework does: again after an error that says that it
// helps, within three seconds for all attempts.
type sender struct {
	conn  driver.Conn
	acked []string
	maybe map[string]bool // some attempt may have been stored
	lost  []error         // messages that were given up
}

func (s *sender) send(n int) {
	body := fmt.Sprintf("m%03d", n)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	for {
		r := sendOne(ctx, s.conn, &driver.Message{ID: body, Topic: "t", Body: []byte(body)})
		if r.Err == nil {
			s.acked = append(s.acked, body)
			return
		}
		var e *driver.Error
		if errors.As(r.Err, &e) && e.MaybeDone {
			if s.maybe == nil {
				s.maybe = map[string]bool{}
			}
			s.maybe[body] = true
		}
		if e == nil || !e.Retryable || ctx.Err() != nil {
			s.lost = append(s.lost, r.Err)
			return
		}
		time.Sleep(max(50*time.Millisecond, e.RetryAfter))
	}
}

// check compares what was sent with what came: everything that was
// acknowledged, and twice only what an attempt may have stored.
func (s *sender) check(t *testing.T, m *consumer) {
	t.Helper()
	got := map[string]int{}
	for _, b := range m.bodies() {
		got[b]++
	}
	for _, b := range s.acked {
		if got[b] == 0 {
			t.Errorf("%s was acknowledged and did not come", b)
		}
	}
	for b, n := range got {
		if n > 1 && !s.maybe[b] {
			t.Errorf("%s came %d times, and no attempt of it was in doubt", b, n)
		}
	}
	if err := m.errors(); err != nil {
		t.Errorf("the consumer met %v", err)
	}
}

// A master dies while it is sent to: sends go on at the other one within their
// deadline, and what was acknowledged comes, once the broker is back.
func TestCluster_MasterDiesMidSend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn, m := twoPairs(t)
		s := &sender{conn: conn}
		a := c.brokers["a"]
		for n := range 100 {
			switch n {
			case 30: // it stores the next one and its answer is lost
				c.with(func() {
					a.onSend = func(remoting.SendMessage, int) *remoting.Command { a.master.set(down); return nil }
				})
			case 70:
				c.with(func() { a.onSend = nil })
				a.master.set(up)
			}
			s.send(n)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		if len(s.lost) > 0 || len(s.acked) != 100 {
			t.Errorf("%d messages of 100 are stored; given up: %v", len(s.acked), s.lost)
		}
		if len(s.maybe) == 0 {
			t.Error("no attempt was in doubt: the master did not die in mid send")
		}
		s.check(t, m)
	})
}

// A name server dies, then the other one: what runs goes on. With one of them
// back, new topics are found again.
func TestCluster_NameServersDie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn, m := twoPairs(t)
		s := &sender{conn: conn}
		c.topic("new1", 1)
		c.topic("new2", 1)
		c.names[0].set(down)
		s.send(0)
		if r := sendOne(t.Context(), conn, &driver.Message{Topic: "new1"}); r.Err != nil {
			t.Errorf("with one name server: %v", r.Err)
		}
		c.names[1].set(down)
		for n := 1; n < 20; n++ {
			s.send(n)
			time.Sleep(5 * time.Second)
		}
		if r := sendOne(t.Context(), conn, &driver.Message{Topic: "new2"}); driver.CodeOf(r.Err) != driver.Unavailable {
			t.Errorf("a topic that nobody knows, without name servers: %v", r.Err)
		}
		if err := conn.Health(t.Context()); driver.CodeOf(err) != driver.Unavailable {
			t.Errorf("health without name servers: %v", err)
		}
		c.names[0].set(up)
		if r := sendOne(t.Context(), conn, &driver.Message{Topic: "new2"}); r.Err != nil {
			t.Errorf("with a name server again: %v", r.Err)
		}
		time.Sleep(time.Second)
		if len(s.lost) > 0 {
			t.Errorf("given up: %v", s.lost)
		}
		s.check(t, m)
	})
}

// A name server that takes connections and says nothing costs time once, not
// every time.
func TestCluster_SilentNameServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn, _ := twoPairs(t)
		c.names[0].set(silent)
		c.names[1].set(up)
		for i, most := range []time.Duration{2 * time.Second, 0} {
			topic := fmt.Sprint("new", i)
			c.topic(topic, 1)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			r := sendOne(ctx, conn, &driver.Message{Topic: topic})
			cancel()
			if took := time.Since(began); r.Err != nil || took > most {
				t.Errorf("send to topic %d took %v: %v", i, took, r.Err)
			}
		}
	})
}

// A name server that does not know a topic has answered: what another one does
// not say takes that back neither, nor does waiting for it use up the time.
func TestCluster_SecondNameServerSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, _, conn := one(t)
		fill(t, conn, "t", 0, 1)
		c.names[1].set(silent)
		for i := range 3 {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			err := conn.Health(ctx)
			cancel()
			if took := time.Since(began); err != nil || took > time.Second {
				t.Errorf("health %d took %v: %v", i, took, err)
			}
		}
		if r := sendOne(t.Context(), conn, &driver.Message{Topic: "unknown"}); driver.CodeOf(r.Err) != driver.NotFound {
			t.Errorf("a topic that is not there: %v", r.Err)
		}
		c.topic("TBW102", 4)
		began := time.Now()
		r := sendOne(t.Context(), conn, &driver.Message{Topic: "made", Body: []byte("x")})
		if took := time.Since(began); r.Err != nil || took > time.Second {
			t.Errorf("a send that makes its topic took %v: %v", took, r.Err)
		}
	})
}

// A broker that is busy is said to be, worth another attempt after a pause, and
// has stored nothing; the next attempt goes elsewhere.
func TestCluster_Busy(t *testing.T) {
	t.Parallel()
	for _, code := range []int{remoting.ResSystemBusy, remoting.ResFlowControl} {
		synctest.Test(t, func(t *testing.T) {
			c, conn, _ := twoPairs(t)
			c.with(func() {
				c.brokers["a"].onSend = func(remoting.SendMessage, int) *remoting.Command {
					return &remoting.Command{Code: code, Remark: "[TIMEOUT_CLEAN_QUEUE]"}
				}
			})
			for range 4 {
				if r := sendOne(t.Context(), conn, &driver.Message{Topic: "t"}); r.Err != nil {
					var e *driver.Error
					if !errors.As(r.Err, &e) || e.Code != driver.ResourceExhausted || !e.Retryable || e.MaybeDone || e.RetryAfter == 0 {
						t.Errorf("a busy broker: %+v", r.Err)
					}
				}
			}
			s := &sender{conn: conn}
			began := time.Now()
			for n := range 10 {
				s.send(n)
			}
			if len(s.acked) != 10 || time.Since(began) > time.Second {
				t.Errorf("%d of 10 messages are stored after %v: %v", len(s.acked), time.Since(began), s.lost)
			}
			time.Sleep(time.Second)
			c.with(func() {
				if n := len(c.brokers["a"].sends); n != 0 {
					t.Errorf("the busy broker stored %d", n)
				}
			})
		})
	}
}

// A master dies and its slave lags: what the slave has comes from it, what it
// does not have comes when the master is back, each once and none is skipped.
func TestCluster_SlaveLags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, true, "a")
		c.topic("t", 2)
		a := c.brokers["a"]
		producer := c.open(rocketmq.Config{}, "producer")
		defer func() { _ = producer.Close(context.Background()) }()
		spec := driver.SubscribeSpec{Group: "g", Topic: "t"}
		early := c.open(rocketmq.Config{}, "early")
		before := newConsumer(t)
		before.join(early, spec)
		fill(t, producer, "t", 0, 10)
		time.Sleep(time.Second)
		if err := early.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		fill(t, producer, "t", 10, 30)
		a.master.set(down)
		c.with(func() { a.behind, a.deposed = 3, true })
		m := newConsumer(t)
		conn := c.open(rocketmq.Config{}, "client")
		defer func() { _ = conn.Close(context.Background()) }()
		m.join(conn, spec)
		time.Sleep(20 * time.Second)
		if got := append(before.bodies(), m.bodies()...); !slices.Equal(got, numbered(34)) {
			t.Errorf("while the slave was alone there came %q", got)
		}
		c.with(func() { a.deposed = false })
		a.master.set(up)
		time.Sleep(40 * time.Second) // the routes are renewed, or the slave catches up
		if got := append(before.bodies(), m.bodies()...); !slices.Equal(got, numbered(40)) {
			t.Errorf("with the master back there came %q", got)
		}
		c.with(func() {
			for q := range int32(2) {
				if at := a.offsets[offsetKey("g", "t", q)]; at != 20 {
					t.Errorf("the position on queue %d is %d, want 20", q, at)
				}
			}
		})
		if err := errors.Join(before.errors(), m.errors()); err != nil {
			t.Error(err)
		}
	})
}

// While there is no master the slave does not have the position of the group
// yet. It is asked with a pause, however it says so, nothing is skipped and
// nothing comes again.
func TestCluster_SlaveBehindThePosition(t *testing.T) {
	t.Parallel()
	for _, corrects := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, true, "a")
			c.topic("t", 1)
			a := c.brokers["a"]
			producer := c.open(rocketmq.Config{}, "producer")
			defer func() { _ = producer.Close(context.Background()) }()
			fill(t, producer, "t", 0, 12)
			a.master.set(down)
			c.with(func() {
				a.offsets[offsetKey("g", "t", 0)] = 10
				a.behind, a.deposed, a.corrects = 5, true, corrects
			})
			conn := c.open(rocketmq.Config{}, "client")
			defer func() { _ = conn.Close(context.Background()) }()
			m := newConsumer(t)
			m.join(conn, spec)
			time.Sleep(10 * time.Second)
			before := 0
			c.with(func() { before = a.pulls[false] })
			time.Sleep(10 * time.Second)
			c.with(func() {
				if n := a.pulls[false] - before; n < 2 || n > 12 {
					t.Errorf("corrects %v: %d pulls in ten seconds", corrects, n)
				}
				a.behind = 1
			})
			time.Sleep(2 * time.Second)
			if got := m.bodies(); !slices.Equal(got, []string{"m010"}) {
				t.Errorf("corrects %v: the slave caught up, and there came %q", corrects, got)
			}
			c.with(func() { a.deposed = false })
			a.master.set(up)
			time.Sleep(40 * time.Second)
			if got := m.bodies(); !slices.Equal(got, []string{"m010", "m011"}) {
				t.Errorf("corrects %v: with the master back there came %q", corrects, got)
			}
		})
	}
}

// Reads go where the master suggests, and back to it when the slave suggests
// that, as one does that has come to its end.
func TestCluster_ReadsWhereTheMasterSuggests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, true, "a")
		c.topic("t", 1)
		a := c.brokers["a"]
		conn := c.open(rocketmq.Config{Prefetch: 1}, "client")
		defer func() { _ = conn.Close(context.Background()) }()
		m := newConsumer(t)
		m.join(conn, spec)
		time.Sleep(time.Second)
		came, pulls := 0, map[bool]int{}
		more := func(what string, slave bool) {
			t.Helper()
			c.with(func() { pulls = maps.Clone(a.pulls) })
			fill(t, conn, "t", came, 5)
			came += 5
			time.Sleep(2 * time.Second)
			if got := m.bodies(); !slices.Equal(got, numbered(came)) {
				t.Errorf("%s: there came %q", what, got)
			}
			c.with(func() {
				if at, elsewhere := a.pulls[!slave]-pulls[!slave], a.pulls[slave]-pulls[slave]; at == 0 || elsewhere > 1 {
					t.Errorf("%s: %d pulls to the replica that was meant, %d to the other one", what, at, elsewhere)
				}
			})
		}
		more("at first", false)
		c.with(func() { a.suggest = 1 })
		fill(t, conn, "t", came, 1) // its answer suggests the slave
		came++
		time.Sleep(time.Second)
		more("the slave is suggested", true)
		c.with(func() { a.suggest = 0 })
		fill(t, conn, "t", came, 1)
		came++
		time.Sleep(time.Second)
		more("the master is suggested", false)
		c.with(func() { a.suggest, a.behind = 1, 3 })
		for range 3 { // the slave does not have what is behind each of them
			fill(t, conn, "t", came, 1)
			came++
			time.Sleep(time.Second)
			if got := m.bodies(); !slices.Equal(got, numbered(came)) {
				t.Errorf("the slave that is suggested lags: there came %q", got)
			}
		}
		fill(t, conn, "t", came, 5)
		came += 5
		time.Sleep(20 * time.Second) // a slave holds a pull at its end before it sends it back
		if got := m.bodies(); !slices.Equal(got, numbered(came)) {
			t.Errorf("the slave that is suggested lags: there came %q", got)
		}
	})
}

// A master is away for good as far as the routes know: its slave is read, and
// sends go to the other broker.
func TestCluster_SlaveAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn, m := twoPairs(t)
		a := c.brokers["a"]
		s := &sender{conn: conn}
		for n := range 20 {
			s.send(n)
		}
		a.master.set(down)
		c.with(func() { a.deposed = true })
		time.Sleep(31 * time.Second) // the routes are renewed
		before := len(c.brokers["b"].sent())
		began := time.Now()
		for n := 20; n < 40; n++ {
			s.send(n)
		}
		c.with(func() {
			if n := len(c.brokers["b"].sends) - before; n != 20 || time.Since(began) != 0 {
				t.Errorf("%d of 20 messages went to b at once, after %v", n, time.Since(began))
			}
		})
		time.Sleep(5 * time.Second)
		s.check(t, m)
		// A member that is new reads the slave from where the group is.
		next := newConsumer(t)
		other := c.open(rocketmq.Config{}, "next")
		defer func() { _ = other.Close(context.Background()) }()
		next.join(other, driver.SubscribeSpec{Group: "g", Topic: "t"})
		time.Sleep(40 * time.Second)
		if got := next.bodies(); len(got) != 0 {
			t.Errorf("a new member got %q again", got)
		}
	})
}

// A new group begins at the end while there is no master: where it began is
// stored when that is back, or a crash would skip what is not settled.
func TestCluster_FirstPositionAtASlave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, true, "a")
		c.topic("t", 1)
		a := c.brokers["a"]
		producer := c.open(rocketmq.Config{}, "producer")
		defer func() { _ = producer.Close(context.Background()) }()
		fill(t, producer, "t", 0, 2)
		a.master.set(down)
		c.with(func() { a.deposed = true })
		conn := c.open(rocketmq.Config{}, "client")
		hold := make(chan struct{})
		m := newConsumer(t)
		m.handle = func(driver.Lane, *driver.Delivery) driver.Settlement {
			<-hold
			return driver.Settlement{Outcome: driver.Return}
		}
		latest := spec
		latest.From = driver.Position{Kind: driver.Latest}
		m.join(conn, latest)
		time.Sleep(20 * time.Second)
		c.with(func() { a.deposed = false; clear(a.offsets) }) // a slave gets what its master has
		a.master.set(up)
		time.Sleep(40 * time.Second)
		fill(t, producer, "t", 2, 2)
		time.Sleep(10 * time.Second)
		c.with(func() {
			if at, ok := a.offsets[offsetKey("g", "t", 0)]; !ok || at != 2 {
				t.Errorf("the master has the position %d (%v), the group began at 2", at, ok)
			}
		})
		close(hold)
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What the broker has behind a lost connection is further than this member, as
// when its queue had another owner meanwhile: it is not put back. An operator who
// moves the group back afterwards does it.
func TestCluster_PositionIsNotPutBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		m := newConsumer(t)
		m.limit = 1
		hold := make(chan struct{})
		var over atomic.Bool
		m.handle = func(_ driver.Lane, d *driver.Delivery) driver.Settlement {
			if over.Load() {
				time.Sleep(time.Hour)
			} else if d.Offset >= 4 {
				<-hold
			}
			return driver.Settlement{Outcome: driver.Ack}
		}
		m.join(conn, spec)
		fill(t, conn, "t", 0, 10)
		time.Sleep(5 * time.Second)
		if at := c.position(); at != 4 {
			t.Errorf("the position is %d, want 4", at)
		}
		a.master.set(down)
		c.with(func() { a.offsets[offsetKey("g", "t", 0)] = 9 })
		a.master.set(up)
		time.Sleep(3 * time.Second)
		hold <- struct{}{}
		for range 30 {
			time.Sleep(time.Second)
			if at := c.position(); at != 9 {
				t.Errorf("the position is %d, somebody was at 9", at)
				break
			}
		}
		close(hold)
		time.Sleep(5 * time.Second)
		if at := c.position(); at != 10 {
			t.Errorf("the position is %d, all 10 are settled", at)
		}
		over.Store(true)
		a.master.set(down)
		a.master.set(up)
		time.Sleep(3 * time.Second)
		c.reset(2)
		time.Sleep(3 * time.Second)
		if at := c.position(); at != 2 {
			t.Errorf("the position is %d, the operator has said 2", at)
		}
	})
}

// The route of a topic shrinks and grows again: lanes go and come, sends go
// where there are queues, and no message is lost.
func TestCluster_RouteShrinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn, m := twoPairs(t)
		if got := m.names(); len(got) != 4 {
			t.Fatalf("the lanes are %q", got)
		}
		s := &sender{conn: conn}
		for n := range 8 {
			s.send(n)
		}
		time.Sleep(time.Second)
		c.topic("t", 2, "a")
		time.Sleep(35 * time.Second)
		if got := m.names(); !slices.Equal(got, []string{"t/a/0", "t/a/1"}) {
			t.Errorf("the lanes are %q, the topic is on a only", got)
		}
		stored := len(c.brokers["b"].sent())
		for n := 8; n < 16; n++ {
			s.send(n)
		}
		if n := len(c.brokers["b"].sent()) - stored; n != 0 {
			t.Errorf("%d messages went to a broker without the topic", n)
		}
		c.topic("t", 3)
		time.Sleep(35 * time.Second)
		if got := m.names(); len(got) != 6 {
			t.Errorf("the lanes are %q, the topic has three queues on each broker", got)
		}
		for n := 16; n < 28; n++ {
			s.send(n)
		}
		time.Sleep(time.Second)
		if len(s.acked) != 28 {
			t.Errorf("given up: %v", s.lost)
		}
		s.check(t, m)
	})
}

// A broker is stopped for ten seconds: deadlines hold, errors say what may have
// happened, nothing hangs, and all goes on behind it.
func TestCluster_SilentBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn, m := twoPairs(t)
		a := c.brokers["a"]
		s := &sender{conn: conn}
		for n := range 100 {
			switch n {
			case 20:
				a.master.set(silent)
			case 60:
				a.master.set(up)
			}
			began := time.Now()
			s.send(n)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("send %d took %v, its deadline is 3s", n, took)
			}
			time.Sleep(250 * time.Millisecond)
		}
		time.Sleep(40 * time.Second) // a pull that was on its way may take half a minute
		if len(s.acked) != 100 {
			t.Errorf("%d of 100 messages are stored: %v", len(s.acked), s.lost)
		}
		s.check(t, m)
	})
}

// A broker that says nothing costs the others neither their locks nor their
// positions: what is renewed and stored at one does not wait for another.
func TestCluster_SilentBrokerKeepsNothingFromOthers(t *testing.T) {
	t.Parallel()
	for _, ordered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, false, "a", "b", "c")
			c.topic("t", 4)
			conn := c.open(rocketmq.Config{CommitEvery: 5 * time.Second}, "client")
			defer func() { _ = conn.Close(context.Background()) }()
			m := newConsumer(t)
			m.join(conn, driver.SubscribeSpec{Group: "g", Topic: "t", Ordered: ordered})
			time.Sleep(6 * time.Second)
			for q := range 12 {
				if r := sendOne(t.Context(), conn, &driver.Message{Topic: "t", QueueSet: true, Queue: q, Body: []byte("x")}); r.Err != nil {
					t.Fatal(r.Err)
				}
			}
			c.brokers["a"].master.set(silent)
			c.brokers["b"].master.set(silent)
			well := c.brokers["c"]
			time.Sleep(9 * time.Second) // one period, and one request that gets no answer
			c.with(func() {
				for q := range int32(4) {
					if at := well.offsets[offsetKey("g", "t", q)]; at != 1 {
						t.Errorf("ordered %t: the position on queue %d of the broker that is well is %d after 9s, the period is 5s", ordered, q, at)
					}
				}
			})
			if longest := c.longestWithout(remoting.ReqLockBatch, well, 3*time.Minute); longest > 25*time.Second {
				t.Errorf("ordered %t: no lock was renewed at the broker that is well for %v, the period is 20s", ordered, longest)
			}
		})
	}
}

// longestWithout is the longest time for which a broker was not asked for
// something while d passed.
func (c *cluster) longestWithout(code int, p *pair, d time.Duration) (longest time.Duration) {
	last, at := -1, time.Now()
	for end := at.Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		c.with(func() {
			if n := p.calls[code]; n != last {
				last, at = n, time.Now()
			}
		})
		longest = max(longest, time.Since(at))
	}
	return longest
}

// Name servers that say nothing hold up neither heartbeats nor locks nor
// positions, however many topics there are to ask them for.
func TestCluster_SilentNameServersHoldUpNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		for i := range 50 {
			topic := fmt.Sprint("x", i)
			c.topic(topic, 1)
			fill(t, conn, topic, 0, 1)
		}
		m := newConsumer(t)
		ordered := spec
		ordered.Ordered = true
		m.join(conn, ordered)
		time.Sleep(25 * time.Second)
		for _, n := range c.names {
			n.set(silent)
		}
		for code, most := range map[int]time.Duration{remoting.ReqHeartbeat: 35 * time.Second, remoting.ReqLockBatch: 25 * time.Second} {
			if longest := c.longestWithout(code, a, 5*time.Minute); longest > most {
				t.Errorf("%s: none for %v", remoting.RequestName(code), longest)
			}
		}
		fill(t, conn, "t", 0, 3)
		time.Sleep(2 * time.Second)
		if at := c.position(); at != 3 {
			t.Errorf("2s after three messages were handled the position is %d, the period is 1s", at)
		}
	})
}

// Connections that are half open are noticed: requests by them end in time, and
// new ones are made, for sends and for pulls.
func TestCluster_HalfOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, conn, m := twoPairs(t)
		s := &sender{conn: conn}
		for n := range 4 {
			s.send(n)
		}
		time.Sleep(10 * time.Second) // positions are stored: what the brokers have not kept may come again
		c.brokers["a"].master.freeze()
		c.brokers["b"].master.freeze()
		for _, n := range c.names {
			n.freeze()
		}
		var first, last error
		var recovered time.Duration
		for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			r := sendOne(t.Context(), conn, &driver.Message{Topic: "t", Body: []byte("again"), QueueSet: true})
			if recovered = time.Since(began); r.Err == nil {
				break
			}
			if first == nil {
				first = r.Err
			}
			if last = r.Err; recovered > time.Minute {
				t.Fatalf("no send for a minute: %v", last)
			}
		}
		if driver.CodeOf(first) != driver.Timeout {
			t.Errorf("by a connection that is half open: %v", first)
		}
		if recovered > 15*time.Second {
			t.Errorf("a send came through after %v", recovered)
		}
		time.Sleep(45 * time.Second)
		for n := 4; n < 12; n++ {
			s.send(n)
		}
		time.Sleep(time.Second)
		s.check(t, m)
	})
}

// They are noticed as well by requests whose callers have less time than one
// may take, and by those that the client sends by itself.
func TestCluster_HalfOpenForCallersWithLittleTime(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{300 * time.Millisecond, 2 * time.Second, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			_, a, conn := one(t)
			fill(t, conn, "t", 0, 2)
			a.master.freeze()
			for began := time.Now(); ; {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				r := sendOne(ctx, conn, &driver.Message{Topic: "t", Body: []byte("x")})
				cancel()
				if r.Err == nil {
					break
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("with %v for each send there was none in %v: %v", d, took, r.Err)
					break
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		newConsumer(t).join(conn, spec)
		time.Sleep(10 * time.Second)
		a.master.freeze()
		before := c.dialed(a.master)
		time.Sleep(2 * time.Minute)
		if c.dialed(a.master) == before {
			t.Error("heartbeats, locks and positions of two minutes without an answer, and the connection is taken for good")
		}
	})
}

// A server that is slow, and does answer, keeps its connection, however little
// time its callers have; so does one that is only asked to wait.
func TestCluster_SlowIsNotHalfOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, a, conn := one(t)
		fill(t, conn, "t", 0, 1)
		sub := newConsumer(t).join(conn, spec)
		time.Sleep(5 * time.Second)
		c.with(func() {
			a.onSend = func(remoting.SendMessage, int) *remoting.Command {
				time.Sleep(50 * time.Millisecond)
				return nil
			}
		})
		before := c.dialed(a.master)
		for range 500 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_ = sendOne(ctx, conn, &driver.Message{Topic: "t", Body: []byte("x")})
			cancel()
		}
		for range 4 { // pulls that wait are given up
			if err := sub.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			sub = newConsumer(t).join(conn, spec)
			time.Sleep(4 * time.Second)
		}
		if n := c.dialed(a.master) - before; n > 0 {
			t.Errorf("%d new connections to a broker that answers", n)
		}
	})
}

// Who answers check-backs is known to every master, also to those of topics that
// it has no part in, and to one that comes later: a half message of a member that
// died may be anywhere.
func TestCluster_CheckersAreKnownEverywhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a", "b", "c")
		c.topic("t", 1, "a")
		c.topic("u", 1, "b")
		c.with(func() { c.brokers["c"].deposed = true })
		conn := c.open(rocketmq.Config{}, "replica")
		defer func() { _ = conn.Close(context.Background()) }()
		newConsumer(t).join(conn, driver.SubscribeSpec{Group: "g", Topic: "u"})
		time.Sleep(time.Second)
		known := func() (at []string) {
			c.with(func() {
				for _, b := range []string{"a", "b", "c"} {
					if len(c.brokers[b].living("producers of pg")) == 1 {
						at = append(at, b)
					}
				}
			})
			return at
		}
		ctx, cancel := context.WithCancel(t.Context())
		var checks sync.WaitGroup
		checks.Go(func() {
			_ = conn.Extensions().Tx.Checks(ctx, "pg", 1, func(context.Context, driver.Half, *driver.Delivery, int) driver.Decision { return driver.Commit })
		})
		time.Sleep(time.Second)
		if got := known(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("a second after it began the member is known to %q", got)
		}
		c.with(func() { c.brokers["c"].deposed = false })
		time.Sleep(35 * time.Second)
		if got := known(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("with another broker the member is known to %q", got)
		}
		for _, n := range c.names { // what is known counts, also when it cannot be asked for
			n.set(silent)
		}
		a := c.brokers["a"]
		if longest := c.longestWithout(remoting.ReqHeartbeat, a, 3*time.Minute); longest > 35*time.Second {
			t.Errorf("no heartbeat for %v", longest)
		}
		a.master.set(silent)
		cancel()
		checks.Wait()
		if got := known(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("a member that left, with one broker silent, is known to %q", got)
		}
	})
}

// Topics that are not there, and those that nothing is done with any more, are
// not asked for again and again. Who turns to one once more finds out where it is
// by then, and goes where it was while no name server answers.
func TestCluster_TopicsOutOfUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a", "b")
		asked := map[string]int{}
		for _, n := range c.names {
			inner := n.handle
			n.handle = func(p *peer, req *remoting.Command) *remoting.Command {
				c.with(func() { asked[req.Fields.Get("topic")]++ })
				return inner(p, req)
			}
		}
		for _, topic := range []string{"t", "used", "moves"} {
			c.topic(topic, 1, "a")
		}
		conn := c.open(rocketmq.Config{}, "client")
		defer func() { _ = conn.Close(context.Background()) }()
		newConsumer(t).join(conn, spec)
		for i := range 500 {
			_ = sendOne(t.Context(), conn, &driver.Message{Topic: fmt.Sprint("nobody", i), Body: []byte("x")})
		}
		fill(t, conn, "moves", 0, 1)
		for range 60 {
			fill(t, conn, "used", 0, 1)
			time.Sleep(10 * time.Second)
		}
		time.Sleep(5 * time.Second)
		c.with(func() { clear(asked) })
		time.Sleep(2 * time.Minute)
		c.with(func() {
			if asked["t"] != 4 || asked["used"] != 4 {
				t.Errorf("in two minutes a topic of a group was asked for %d times, one that is sent to %d times, the period is 30s", asked["t"], asked["used"])
			}
			for topic, n := range asked {
				if topic != "t" && topic != "used" && topic != driver.RetryTopic("g") {
					t.Errorf("topic %s, which is not used, was asked for %d times", topic, n)
				}
			}
		})
		c.topic("moves", 1, "b")
		fill(t, conn, "moves", 0, 1)
		if n := len(c.brokers["b"].sent()); n != 1 {
			t.Errorf("%d messages went to the broker that has the topic by now", n)
		}
		time.Sleep(10 * time.Minute)
		for _, n := range c.names {
			n.set(down)
		}
		if r := sendOne(t.Context(), conn, &driver.Message{Topic: "moves", Body: []byte("x")}); r.Err != nil {
			t.Errorf("a send to a topic out of use, while no name server is there: %v", r.Err)
		}
	})
}

// Close ends soon after its time, whatever the brokers say: the last positions,
// the locks and the farewell have a second together then, which is plenty with
// brokers that are well.
func TestCluster_CloseInTime(t *testing.T) {
	t.Parallel()
	for _, to := range []state{up, silent} {
		synctest.Test(t, func(t *testing.T) {
			c, a, _ := one(t)
			conn := c.open(rocketmq.Config{}, "other")
			m := newConsumer(t)
			m.join(conn, spec)
			time.Sleep(6 * time.Second)
			fill(t, conn, "t", 0, 3)
			time.Sleep(time.Second)
			a.master.set(to)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if to == up {
				cancel()
			}
			began := time.Now()
			err := conn.Close(ctx)
			if took := time.Since(began); took > 1200*time.Millisecond {
				t.Errorf("Close with 100ms took %v", took)
			}
			if to != up {
				if err == nil {
					t.Error("no error, and the last position is not stored")
				}
				return
			}
			c.with(func() {
				if at, n, ids := a.offsets[offsetKey("g", "t", 0)], len(a.locks), a.living("g"); at != 3 || n != 0 || len(ids) != 0 {
					t.Errorf("%v: the position is %d, there are %d locks and the members %q", err, at, n, ids)
				}
			})
		})
	}
}

// A member that leaves a broker that is busy with its heartbeat is gone all the
// same: one that stayed would keep queues from the others while its client lives.
func TestCluster_LeavesABusyBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a")
		c.topic("t", 2)
		conn := c.open(rocketmq.Config{HeartbeatEvery: 5 * time.Second}, "client")
		sub := newConsumer(t).join(conn, driver.SubscribeSpec{Group: "g", Topic: "t"})
		time.Sleep(time.Second)
		a := c.brokers["a"]
		c.mu.Lock()
		a.beats = 2 * time.Second
		before := a.calls[remoting.ReqHeartbeat]
		c.mu.Unlock()
		for beating := false; !beating; time.Sleep(100 * time.Millisecond) {
			c.mu.Lock()
			beating = a.calls[remoting.ReqHeartbeat] > before
			c.mu.Unlock()
		}
		if err := sub.Close(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Second)
		c.mu.Lock()
		members := a.living("g")
		c.mu.Unlock()
		if len(members) > 0 {
			t.Errorf("the member has left, and the broker has %q", members)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Members of a group come, leave and vanish every 200 ms for a minute. Nothing
// is lost; ordered lanes have one owner at a time; and it settles in seconds.
func TestCluster_RebalanceStorm(t *testing.T) {
	t.Parallel()
	seeds := 1
	if os.Getenv("SLUICE_LONG") != "" {
		seeds = 50
	}
	for _, ordered := range []bool{false, true} {
		for seed := range uint64(seeds) {
			synctest.Test(t, func(t *testing.T) { storm(t, ordered, seed) })
		}
	}
}

func storm(t *testing.T, ordered bool, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	c := newCluster(t, false, "a", "b")
	c.topic("t", 8)
	cfg := rocketmq.Config{RevokeTimeout: 2 * time.Second, CommitEvery: time.Second}
	producer := c.open(cfg, "producer")
	var mu sync.Mutex
	owners := map[string]int{}   // members at work on a lane
	last := map[string]int64{}   // highest offset that was handled, by lane
	missing := map[string]bool{} // messages that did not come yet
	var members []*member
	join := func(n int) {
		m := &member{consumer: newConsumer(t), conn: c.open(cfg, fmt.Sprintf("member-%d", n))}
		m.handle = func(l driver.Lane, d *driver.Delivery) driver.Settlement {
			mu.Lock()
			owners[l.Name()]++
			if owners[l.Name()] > 1 && ordered {
				t.Errorf("two members are at work on %s", l.Name())
			}
			if d.Offset > last[l.Name()]+1 && ordered {
				t.Errorf("on %s offset %d came behind %d", l.Name(), d.Offset, last[l.Name()])
			}
			last[l.Name()] = max(last[l.Name()], d.Offset)
			delete(missing, string(d.Body))
			mu.Unlock()
			time.Sleep(time.Duration(d.Offset%20) * time.Millisecond)
			mu.Lock()
			owners[l.Name()]--
			mu.Unlock()
			return driver.Settlement{Outcome: driver.Ack}
		}
		m.join(m.conn, driver.SubscribeSpec{Group: "g", Topic: "t", Ordered: ordered})
		members = append(members, m)
	}
	for l := range 8 {
		for _, b := range []string{"a", "b"} {
			last[fmt.Sprintf("t/%s/%d", b, l)] = -1
		}
	}
	join(0)
	sent := 0
	for step := 1; step <= 300; step++ {
		for range 2 {
			body := fmt.Sprintf("m%03d", sent)
			mu.Lock()
			missing[body] = true
			mu.Unlock()
			fill(t, producer, "t", sent, 1)
			sent++
		}
		switch i := rnd.IntN(max(len(members), 1)); {
		case len(members) < 2 || len(members) < 8 && rnd.IntN(2) == 0:
			join(step)
		case rnd.IntN(3) == 0: // it vanishes: nothing is settled or said in time
			gone, cancel := context.WithCancel(context.Background())
			cancel()
			_ = members[i].conn.Close(gone)
			members = slices.Delete(members, i, i+1)
		default:
			if err := members[i].conn.Close(context.Background()); err != nil {
				t.Errorf("close: %v", err)
			}
			members = slices.Delete(members, i, i+1)
		}
		time.Sleep(200 * time.Millisecond)
	}
	time.Sleep(5 * time.Second)
	owned := map[string]int{}
	for _, m := range members {
		for _, l := range m.names() {
			owned[l]++
		}
	}
	if len(owned) != 16 {
		t.Errorf("ordered %v, seed %d: 5s behind the storm %d of 16 lanes have an owner among %d members; locks: %v",
			ordered, seed, len(owned), len(members), c.held())
	}
	for l, n := range owned {
		if n != 1 {
			t.Errorf("%s has %d owners", l, n)
		}
	}
	time.Sleep(5 * time.Second)
	mu.Lock()
	if len(missing) > 0 {
		t.Errorf("%d of %d messages did not come", len(missing), sent)
	}
	mu.Unlock()
	for _, m := range members {
		_ = m.conn.Close(context.Background())
	}
	_ = producer.Close(context.Background())
	if left := c.members("g"); len(left) > 0 {
		t.Errorf("members are left: %s", strings.Join(left, ", "))
	}
}

// held are the locks that brokers keep.
func (c *cluster) held() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.brokers {
		for key, l := range p.locks {
			out = append(out, p.name+" "+key+" "+l.by)
		}
	}
	slices.Sort(out)
	return out
}

// member is a consumer with a client of its own.
type member struct {
	*consumer
	conn driver.Conn
}
