package embedded

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
)

// gate is a job that holds the writer until it is opened, so that what comes
// meanwhile becomes one batch.
type gate struct{ entered, open chan struct{} }

func (g *gate) stage(*writer) { close(g.entered); <-g.open }
func (g *gate) finish()       {}

// oneBatch runs every call in one batch, in their order, and answers their errors.
func oneBatch(t *testing.T, b *Broker, calls ...func() error) []error {
	t.Helper()
	e := b.attempt.engine
	g := &gate{make(chan struct{}), make(chan struct{})}
	var held sync.WaitGroup
	held.Go(func() { _ = e.w.do(context.Background(), nil, g, 0) })
	defer held.Wait()
	<-g.entered
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { errs[i] = call() })
		for waiting := 0; waiting <= i; { // until it is in line
			e.w.mu.Lock()
			waiting = len(e.w.pending)
			e.w.mu.Unlock()
		}
	}
	close(g.open)
	wg.Wait()
	return errs
}

func codes(errs []error) (out []driver.Code) {
	for _, err := range errs {
		out = append(out, driver.CodeOf(err))
	}
	return out
}

func memory(t *testing.T) (*Broker, driver.Conn) {
	t.Helper()
	b, err := Open("", Config{Queues: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return b, b.Connect("c")
}

// What a batch has staged counts for the rest of the batch, though it is not
// visible yet.
func TestWriter_OneBatch(t *testing.T) {
	t.Parallel()
	b, c := memory(t)
	ctx, ext := t.Context(), c.Extensions()
	var first, second driver.Half
	prepare := func(h *driver.Half) func() error {
		return func() (err error) {
			*h, err = ext.Tx.Prepare(ctx, "p", &driver.Message{Topic: "t", ID: "tx", Body: []byte("m")})
			return err
		}
	}
	if err := errors.Join(oneBatch(t, b, prepare(&first), prepare(&second))...); err != nil {
		t.Fatal(err)
	}
	if string(first.Handle) != string(second.Handle) {
		t.Error("the second Prepare made another half message")
	}
	resolve := func(d driver.Decision) func() error {
		return func() error { return ext.Tx.Resolve(ctx, first, d) }
	}
	got := codes(oneBatch(t, b, resolve(driver.Commit), resolve(driver.Rollback), resolve(driver.Commit)))
	if got[0] != driver.Unknown || got[1] != driver.FailedPrecondition || got[2] != driver.Unknown {
		t.Errorf("commit, rollback, commit: got %v", got)
	}
	create := func() error { return ext.Topics.CreateTopic(ctx, driver.TopicInfo{Name: "made", Queues: 2}) }
	remove := func() error { return ext.Topics.DeleteTopic(ctx, "made") }
	send := func() error {
		return c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{{Topic: "made", Queue: 1, QueueSet: true}}})[0].Err
	}
	got = codes(oneBatch(t, b, create, create, send, send, remove, remove, send))
	want := []driver.Code{driver.Unknown, driver.AlreadyExists, driver.Unknown, driver.Unknown, driver.Unknown, driver.NotFound, driver.InvalidArgument}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("call %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if ds, err := ext.Query.Browse(ctx, "t", 0, 0, 10); err != nil || len(ds) != 1 {
		t.Errorf("one half message was committed: got %d messages, %v", len(ds), err)
	}
}

// Who gives up before the writer came to it knows that nothing was done.
func TestWriter_GivesUpTruthfully(t *testing.T) {
	t.Parallel()
	b, c := memory(t)
	e := b.attempt.engine
	g := &gate{make(chan struct{}), make(chan struct{})}
	var held sync.WaitGroup
	held.Go(func() { _ = e.w.do(context.Background(), nil, g, 0) })
	defer held.Wait()
	<-g.entered
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan driver.SendResult)
	go func() {
		answer <- c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{{Topic: "t", ID: "gone"}}})[0]
	}()
	for waiting := 0; waiting == 0; {
		e.w.mu.Lock()
		waiting = len(e.w.pending)
		e.w.mu.Unlock()
	}
	cancel()
	r := <-answer
	if d, ok := errors.AsType[*driver.Error](r.Err); !ok || d.Code != driver.Canceled || d.MaybeDone || r.ID != "gone" {
		t.Errorf("got %+v; want Canceled, surely not done, with the id", r)
	}
	close(g.open)
	if r := c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}})[0]; r.Err != nil || r.Offset != 0 {
		t.Errorf("the next message: got offset %d, %v; want 0, the other was dropped", r.Offset, r.Err)
	}
}

// More than may wait is refused at once, and may come again.
func TestWriter_Busy(t *testing.T) {
	t.Parallel()
	b, c := memory(t)
	e := b.attempt.engine
	e.w.bytes.Add(pendingBytes + 1)
	send := func() error {
		return c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t"}}})[0].Err
	}
	if d, ok := errors.AsType[*driver.Error](send()); !ok || d.Code != driver.ResourceExhausted || !d.Retryable || d.MaybeDone || d.RetryAfter <= 0 {
		t.Errorf("got %v; want a retryable ResourceExhausted with advice", d)
	}
	e.w.bytes.Add(-pendingBytes - 1)
	if err := send(); err != nil {
		t.Error(err)
	}
}
