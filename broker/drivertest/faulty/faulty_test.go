package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest"
	"github.com/sluicemq/sluice/broker/drivertest/faulty"
	"github.com/sluicemq/sluice/broker/drivertest/internal/reference"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDriver_Transparent: without a fault the wrapper changes nothing.
func TestDriver_Transparent(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, drivertest.Harness{
		Virtual: true,
		Open: func(testing.TB) drivertest.Broker {
			b := reference.New(reference.Config{CheckMax: 3})
			return drivertest.Broker{
				Connect: drivertest.Connector(faulty.Driver(b, faulty.New())), Close: b.Close,
				CrashAndReopen: func(testing.TB) { b.Crash() }, Reopen: func(testing.TB) {},
			}
		},
		Limits: drivertest.Limits{CheckMax: 3, CheckGap: 31 * time.Second, MachineRuns: 20},
	}).RequireComplete(t)
}

// bundle is a broker, a faulty client and a member.
type bundle struct {
	t      *testing.T
	broker *reference.Broker
	faults *faulty.Faults
	driver driver.Driver
	conn   driver.Conn
	events *events
	sub    driver.Subscription
}

// events collects lanes.
type events struct {
	mu       sync.Mutex
	assigned []driver.Lane
	lost     []driver.Lane
}

func (e *events) Assigned(l driver.Lane) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.assigned = append(e.assigned, l)
}

func (e *events) Revoked(context.Context, driver.Lane) {}

func (e *events) Lost(l driver.Lane) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost = append(e.lost, l)
}

func (e *events) counts() (assigned, lost int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.assigned), len(e.lost)
}

// last is the newest incarnation of the fresh lane.
func (e *events) last() driver.Lane {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range slices.Backward(e.assigned) {
		if !l.Info().Retry {
			return l
		}
	}
	return nil
}

// run calls f in a bubble with a topic of one queue and one member.
func run(t *testing.T, f func(b *bundle)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bundle{t: t, broker: reference.New(reference.Config{}), faults: faulty.New(), events: &events{}}
		b.driver = faulty.Driver(b.broker, b.faults)
		b.conn = b.open()
		if err := b.conn.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: "topic", Queues: 1}); err != nil {
			t.Fatal(err)
		}
		var err error
		b.sub, err = b.conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: "group", Topic: "topic", Ordered: true}, b.events)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f(b)
		_ = b.conn.Close(t.Context())
		_ = b.broker.Close(t.Context())
	})
}

func (b *bundle) open() driver.Conn {
	b.t.Helper()
	c, err := b.driver.Open(b.t.Context(), driver.Config{ClientID: "client"})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bundle) send(body string) driver.SendResult {
	return b.conn.Send(b.t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "topic", Body: []byte(body)}}})[0]
}

func (b *bundle) must(what string, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

func (b *bundle) code(what string, err error, want driver.Code, maybeDone bool) {
	b.t.Helper()
	de, ok := errors.AsType[*driver.Error](err)
	if !ok || de.Code != want || de.MaybeDone != maybeDone {
		b.t.Errorf("%s: got %v, want code %v, MaybeDone %v", what, err, want, maybeDone)
	}
}

// fetch returns what comes within three fake seconds.
func (b *bundle) fetch(l driver.Lane) (got []string, ds []*driver.Delivery) {
	b.t.Helper()
	for range 3 {
		more, err := l.Fetch(b.t.Context(), 16)
		b.must("fetch", err)
		for _, d := range more {
			got = append(got, string(d.Body))
		}
		ds = append(ds, more...)
	}
	return got, ds
}

func (b *bundle) want(got []string, want ...string) {
	b.t.Helper()
	if !slices.Equal(got, want) {
		b.t.Errorf("delivered %q, want %q", got, want)
	}
}

func TestSend_RequestDropped(t *testing.T) {
	run(t, func(b *bundle) {
		b.faults.Add(faulty.Fault{Op: faulty.Send})
		b.code("a dropped request", b.send("a").Err, driver.Timeout, true)
		b.must("the next send", b.send("b").Err)
		got, _ := b.fetch(b.events.last())
		b.want(got, "b")
	})
}

func TestSend_AnswerDropped(t *testing.T) {
	run(t, func(b *bundle) {
		b.faults.Add(faulty.Fault{Op: faulty.Send, Answer: true})
		r := b.send("a")
		b.code("a dropped answer", r.Err, driver.Timeout, true)
		if r.Status != driver.NotStored || r.ID == "" {
			b.t.Errorf("result of a dropped answer: got %+v, want not_stored with an id", r)
		}
		got, _ := b.fetch(b.events.last())
		b.want(got, "a")
	})
}

func TestSend_Duplicated(t *testing.T) {
	run(t, func(b *bundle) {
		b.must("duplicate", b.faults.Duplicate(faulty.Send, 1))
		id := b.send("a").ID
		b.send("b")
		got, ds := b.fetch(b.events.last())
		b.want(got, "a", "a", "b")
		if ds[0].ID != id || ds[1].ID != id {
			b.t.Errorf("ids of the copies: %q and %q, want %q", ds[0].ID, ds[1].ID, id)
		}
		if err := b.faults.Duplicate(faulty.Seek, 1); err == nil {
			b.t.Error("duplicate seek: got no error")
		}
	})
}

func TestFetch_Duplicated(t *testing.T) {
	run(t, func(b *bundle) {
		b.must("duplicate", b.faults.Duplicate(faulty.Fetch, 1))
		b.send("a")
		b.send("b")
		l := b.events.last()
		got, ds := b.fetch(l)
		b.want(got, "a", "b", "a")
		for _, d := range ds { // settling the copy is settling twice
			b.must("settle", l.Settle(b.t.Context(), []driver.Settlement{{Delivery: d, Outcome: driver.Ack}}))
		}
		got, _ = b.fetch(l)
		b.want(got)
	})
}

func TestFault_FromTimesMatchAndClear(t *testing.T) {
	run(t, func(b *bundle) {
		full := &driver.Error{Code: driver.ResourceExhausted, Retryable: true, RetryAfter: time.Second}
		b.faults.Add(faulty.Fault{Op: faulty.Send, From: 2, Times: 2, Err: full})
		b.faults.Add(faulty.Fault{Op: faulty.Send, Times: -1, Match: func(name string) bool { return name != "topic" }})
		var codes []driver.Code
		for range 5 {
			codes = append(codes, driver.CodeOf(b.send("a").Err))
		}
		want := []driver.Code{driver.Unknown, driver.ResourceExhausted, driver.ResourceExhausted, driver.Unknown, driver.Unknown}
		if !slices.Equal(codes, want) {
			b.t.Errorf("codes of five sends: got %v, want %v", codes, want)
		}
		if n := b.faults.Calls(faulty.Send); n != 5 {
			b.t.Errorf("Calls(Send) = %d, want 5", n)
		}
		undo := b.faults.Add(faulty.Fault{Op: faulty.Health, Times: -1, Err: full})
		b.code("health", b.conn.Health(b.t.Context()), driver.ResourceExhausted, false)
		undo()
		b.must("health after the fault was cleared", b.conn.Health(b.t.Context()))
		b.faults.Add(faulty.Fault{Op: faulty.Health, Times: -1})
		b.faults.Clear()
		b.must("health after Clear", b.conn.Health(b.t.Context()))
	})
}

func TestFault_DelayAndBlock(t *testing.T) {
	run(t, func(b *bundle) {
		b.faults.Add(faulty.Fault{Op: faulty.Send, Delay: time.Hour})
		start := time.Now()
		b.must("a slow send", b.send("a").Err)
		if took := time.Since(start); took != time.Hour {
			b.t.Errorf("a send with a delay of 1h took %v", took)
		}
		open := make(chan struct{})
		b.faults.Add(faulty.Fault{Op: faulty.Send, Block: open})
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
		defer cancel()
		rs := b.conn.Send(ctx, driver.SendRequest{Messages: []*driver.Message{{Topic: "topic", Body: []byte("b")}}})
		b.code("a blocked send", rs[0].Err, driver.Timeout, true)
		b.faults.Add(faulty.Fault{Op: faulty.Send, Block: open})
		go func() { time.Sleep(time.Minute); close(open) }()
		b.must("a send that is let go", b.send("c").Err)
		got, _ := b.fetch(b.events.last())
		b.want(got, "a", "c")
	})
}

func TestFetch_AnswerDropped(t *testing.T) {
	run(t, func(b *bundle) {
		b.send("a")
		b.faults.Add(faulty.Fault{Op: faulty.Fetch, Answer: true})
		l := b.events.last()
		_, err := l.Fetch(b.t.Context(), 1)
		b.code("a fetch whose answer is lost", err, driver.Timeout, true)
		got, ds := b.fetch(l)
		b.want(got, "a")
		if ds[0].Attempt != 1 {
			b.t.Errorf("attempt %d, want 1", ds[0].Attempt)
		}
	})
}

func TestSettle_AnswerDropped(t *testing.T) {
	run(t, func(b *bundle) {
		b.send("a")
		l := b.events.last()
		_, ds := b.fetch(l)
		ack := []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}}
		b.faults.Add(faulty.Fault{Op: faulty.Settle, Answer: true})
		b.code("a settlement whose answer is lost", l.Settle(b.t.Context(), ack), driver.Timeout, true)
		b.must("the settlement again", l.Settle(b.t.Context(), ack))
	})
}

func TestLoseLanes_Regain(t *testing.T) {
	run(t, func(b *bundle) {
		b.send("a")
		old := b.events.last()
		_, ds := b.fetch(old)
		if n := b.faults.LoseLanes(b.t.Context(), nil, true); n != 1 {
			b.t.Fatalf("lost %d lanes, want 1", n)
		}
		if assigned, lost := b.events.counts(); assigned != 2 || lost != 1 {
			b.t.Errorf("got %d Assigned and %d Lost, want 2 and 1", assigned, lost)
		}
		b.code("settle on the lost lane", old.Settle(b.t.Context(), []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}}), driver.LaneLost, false)
		_, err := old.Fetch(b.t.Context(), 1)
		b.code("fetch from the lost lane", err, driver.LaneLost, false)
		b.code("seek on the lost lane", old.Seek(b.t.Context(), driver.Position{}), driver.LaneLost, false)
		b.code("extend on the lost lane", old.Extend(b.t.Context(), ds), driver.LaneLost, false)
		got, again := b.fetch(b.events.last())
		b.want(got, "a")
		if again[0].Attempt != 1 {
			b.t.Errorf("attempt %d after a lost lane, want 1", again[0].Attempt)
		}
	})
}

func TestLoseLanes_UnblocksFetch(t *testing.T) {
	run(t, func(b *bundle) {
		l := b.events.last()
		done := make(chan error)
		go func() {
			_, err := l.Fetch(b.t.Context(), 1)
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		if n := b.faults.LoseLanes(b.t.Context(), func(name string) bool { return name == l.Name() }, false); n != 1 {
			b.t.Fatalf("lost %d lanes, want 1", n)
		}
		b.code("the waiting fetch", <-done, driver.LaneLost, false)
		if took := time.Since(start); took > 0 {
			b.t.Errorf("the waiting fetch went on for %v", took)
		}
		if n := b.faults.LoseLanes(b.t.Context(), nil, false); n != 0 {
			b.t.Errorf("lost %d lanes a second time", n)
		}
	})
}

func TestKill(t *testing.T) {
	run(t, func(b *bundle) {
		b.send("a")
		l := b.events.last()
		b.fetch(l)
		b.faults.Add(faulty.Fault{Op: faulty.Health, Block: make(chan struct{})})
		blocked := make(chan error, 2)
		go func() { blocked <- b.conn.Health(b.t.Context()) }()
		tx := b.conn.Extensions().Tx
		go func() {
			blocked <- tx.Checks(b.t.Context(), "producers", 1, func(context.Context, driver.Half, *driver.Delivery, int) driver.Decision { return driver.Undecided })
		}()
		synctest.Wait()
		b.faults.Kill(b.t.Context())
		for range 2 {
			b.code("a call that was waiting", <-blocked, driver.Unavailable, true)
		}
		if _, lost := b.events.counts(); lost != 1 {
			b.t.Errorf("%d lanes were lost, want 1", lost)
		}
		b.code("send after the cut", b.send("b").Err, driver.Unavailable, false)
		_, err := l.Fetch(b.t.Context(), 1)
		b.code("fetch after the cut", err, driver.LaneLost, false)
		if _, err := tx.Parked(b.t.Context(), 1); driver.CodeOf(err) != driver.Unavailable {
			b.t.Errorf("parked after the cut: got %v", err)
		}
		// A new connection finds what was not settled.
		b.conn = b.open()
		ev := &events{}
		_, err = b.conn.Subscribe(b.t.Context(), driver.SubscribeSpec{Group: "group", Topic: "topic", Ordered: true}, ev)
		b.must("subscribe again", err)
		synctest.Wait()
		got, _ := b.fetch(ev.last())
		b.want(got, "a")
	})
}

func TestExtensions_EveryCallCanFail(t *testing.T) {
	run(t, func(b *bundle) {
		ctx, x := b.t.Context(), b.conn.Extensions()
		half, err := x.Tx.Prepare(ctx, "producers", &driver.Message{Topic: "topic", Body: []byte("h")})
		b.must("prepare", err)
		never := func(context.Context, driver.Half, *driver.Delivery, int) driver.Decision { return driver.Undecided }
		for op, call := range map[faulty.Op]func() error{
			faulty.Prepare:      func() error { _, err := x.Tx.Prepare(ctx, "producers", &driver.Message{Topic: "topic"}); return err },
			faulty.Resolve:      func() error { return x.Tx.Resolve(ctx, half, driver.Commit) },
			faulty.Checks:       func() error { return x.Tx.Checks(ctx, "producers", 1, never) },
			faulty.Parked:       func() error { _, err := x.Tx.Parked(ctx, 1); return err },
			faulty.CreateTopic:  func() error { return x.Topics.CreateTopic(ctx, driver.TopicInfo{Name: "t", Queues: 1}) },
			faulty.DeleteTopic:  func() error { return x.Topics.DeleteTopic(ctx, "t") },
			faulty.Topics:       func() error { _, err := x.Topics.Topics(ctx); return err },
			faulty.Groups:       func() error { _, err := x.Groups.Groups(ctx); return err },
			faulty.Lag:          func() error { _, err := x.Groups.Lag(ctx, "group"); return err },
			faulty.ResetOffsets: func() error { return x.Groups.ResetOffsets(ctx, "group", "topic", driver.Position{}) },
			faulty.ByID:         func() error { _, err := x.Query.ByID(ctx, "topic", "id"); return err },
			faulty.ByKey:        func() error { _, err := x.Query.ByKey(ctx, "topic", "k", driver.TimeRange{}, 1); return err },
			faulty.Browse:       func() error { _, err := x.Query.Browse(ctx, "topic", 0, 0, 1); return err },
			faulty.Request:      func() error { _, err := x.Requests.Request(ctx, &driver.Message{Topic: "topic"}); return err },
			faulty.Reply:        func() error { return x.Requests.Reply(ctx, &driver.Delivery{}, &driver.Message{}) },
			faulty.Recall:       func() error { return x.Recall.Recall(ctx, "topic", "handle") },
			faulty.Health:       func() error { return b.conn.Health(ctx) },
			faulty.Subscribe: func() error {
				_, err := b.conn.Subscribe(ctx, driver.SubscribeSpec{Group: "other", Topic: "topic"}, &events{})
				return err
			},
			faulty.Open: func() error { _, err := b.driver.Open(ctx, driver.Config{ClientID: "x"}); return err },
			faulty.Seek: func() error { return b.events.last().Seek(ctx, driver.Position{}) },
			faulty.Extend: func() error {
				return b.events.last().Extend(ctx, nil)
			},
		} {
			want := &driver.Error{Code: driver.Corrupt}
			b.faults.Add(faulty.Fault{Op: op, Err: want})
			b.code(op.String(), call(), driver.Corrupt, false)
		}
		b.faults.Add(faulty.Fault{Op: faulty.Open, Answer: true}) // must not leak the client that was opened
		if _, err := b.driver.Open(ctx, driver.Config{ClientID: "x"}); driver.CodeOf(err) != driver.Timeout {
			b.t.Errorf("open whose answer is lost: got %v", err)
		}
		b.faults.Add(faulty.Fault{Op: faulty.Subscribe, Answer: true})
		if _, err := b.conn.Subscribe(ctx, driver.SubscribeSpec{Group: "third", Topic: "topic"}, &events{}); driver.CodeOf(err) != driver.Timeout {
			b.t.Errorf("subscribe whose answer is lost: got %v", err)
		}
		b.faults.Add(faulty.Fault{Op: faulty.Close})
		b.code("close", b.conn.Close(ctx), driver.Timeout, true)
		b.must("close again", b.conn.Close(ctx))
	})
}

func TestConn_NilExtensionsStayNil(t *testing.T) {
	t.Parallel()
	x := faulty.Conn(bare{}, faulty.New()).Extensions()
	if x != (driver.Extensions{}) {
		t.Errorf("extensions of a driver without any: got %+v", x)
	}
}

// bare is a Conn without extensions.
type bare struct{ driver.Conn }

func (bare) Extensions() driver.Extensions { return driver.Extensions{} }

func TestFaults_Concurrent(t *testing.T) {
	run(t, func(b *bundle) {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for i := range 4 {
			wg.Go(func() {
				for j := range 50 {
					b.send(fmt.Sprint(i, " ", j))
				}
			})
		}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if ds, err := b.events.last().Fetch(b.t.Context(), 8); err == nil {
					for _, d := range ds {
						_ = b.events.last().Settle(b.t.Context(), []driver.Settlement{{Delivery: d, Outcome: driver.Ack}})
					}
				}
			}
		})
		for range 20 {
			b.faults.Add(faulty.Fault{Op: faulty.Fetch, Answer: true})
			_ = b.faults.Duplicate(faulty.Fetch, 3)
			b.faults.LoseLanes(b.t.Context(), nil, true)
			time.Sleep(2 * time.Millisecond)
		}
		b.faults.Clear()
		close(stop)
		wg.Wait()
	})
}

// A retry after a lost answer stores the message twice: what MaybeDone is for.
func Example() {
	broker := reference.New(reference.Config{}) // any driver
	faults := faulty.New()
	ctx := context.Background()
	conn, _ := faulty.Driver(broker, faults).Open(ctx, driver.Config{ClientID: "till-1"})

	faults.Add(faulty.Fault{Op: faulty.Send, Answer: true})
	for range 2 {
		r := conn.Send(ctx, driver.SendRequest{Messages: []*driver.Message{{Topic: "bills", ID: "bill-1", Body: []byte("42")}}})[0]
		fmt.Println(r.Status, r.Err)
	}
	_ = conn.Close(ctx)
	// Output:
	// not_stored send bills: context deadline exceeded (the broker may have done it)
	// stored <nil>
}
