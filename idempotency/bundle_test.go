package idempotency_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/memstore"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faulty is a store that can be made to fail before a transition (it does not
// happen) or after it (its reply is lost). Faults get the number of the call.
type faulty struct {
	idempotency.Store

	mu     sync.Mutex
	calls  map[string]int
	before map[string]func(ctx context.Context, n int) error
	after  map[string]func(ctx context.Context, n int) error
}

func newFaulty() *faulty {
	return &faulty{
		Store: memstore.New(memstore.Options{}), calls: map[string]int{},
		before: map[string]func(context.Context, int) error{}, after: map[string]func(context.Context, int) error{},
	}
}

func (f *faulty) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// set installs a fault while calls may be running; nil removes it.
func (f *faulty) set(op string, fault func(context.Context, int) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before[op] = fault
}

func call[T any](ctx context.Context, f *faulty, op string, transition func() (T, error)) (T, error) {
	f.mu.Lock()
	f.calls[op]++
	n, before, after := f.calls[op], f.before[op], f.after[op]
	f.mu.Unlock()
	var none T
	if before != nil {
		if err := before(ctx, n); err != nil {
			return none, &idempotency.StoreError{Op: op, Store: "faulty", Err: err}
		}
	}
	v, err := transition()
	if err == nil && after != nil {
		if err := after(ctx, n); err != nil {
			return none, &idempotency.StoreError{Op: op, Store: "faulty", Err: err}
		}
	}
	return v, err
}

func (f *faulty) Begin(ctx context.Context, k idempotency.Key, owner string, lease, fenceTTL time.Duration) (idempotency.Claim, error) {
	return call(ctx, f, "begin", func() (idempotency.Claim, error) { return f.Store.Begin(ctx, k, owner, lease, fenceTTL) })
}

func (f *faulty) Renew(ctx context.Context, k idempotency.Key, owner string, fence uint64, lease time.Duration) (bool, error) {
	return call(ctx, f, "renew", func() (bool, error) { return f.Store.Renew(ctx, k, owner, fence, lease) })
}

func (f *faulty) Complete(ctx context.Context, k idempotency.Key, owner string, fence uint64, ttl time.Duration) (idempotency.Completion, error) {
	return call(ctx, f, "complete", func() (idempotency.Completion, error) { return f.Store.Complete(ctx, k, owner, fence, ttl) })
}

func (f *faulty) Abort(ctx context.Context, k idempotency.Key, owner string, fence uint64) (bool, error) {
	return call(ctx, f, "abort", func() (bool, error) { return f.Store.Abort(ctx, k, owner, fence) })
}

// hang is a fault that answers when the caller gives up.
func hang(ctx context.Context, _ int) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

const ttl = 30 * time.Second // the default lease

// info is that of a listener with the default retries.
func info() sdk.ListenerInfo {
	return sdk.ListenerInfo{
		Name: "red-packet", Group: "red-packet", Topic: "bill-settled",
		MaxAttempts: 17, RetryHorizon: 4*time.Hour + 45*time.Minute + 40*time.Second,
	}
}

func bill(id string, attempt int) *sdk.Delivery {
	return &sdk.Delivery{
		Topic: "bill-settled", ID: "uniq-" + id, OffsetID: fmt.Sprint("copy-", attempt), Attempt: attempt, Group: "red-packet",
		Body: []byte(`{"bill_id":"` + id + `","amount":5}`),
	}
}

// process is a decorator as one process would have it.
func process(t testing.TB, s idempotency.Store) *idempotency.Decorator {
	t.Helper()
	d, err := idempotency.New(idempotency.Params{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func wrap(t testing.TB, d *idempotency.Decorator, c idempotency.Config, next sdk.ConsumeFunc) sdk.ConsumeFunc {
	t.Helper()
	if c.Key == "" && c.KeyFunc == nil {
		c.Key = "bill_id"
	}
	f, err := d.Wrap(info(), c, next)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantDefer(t testing.TB, err error) time.Duration {
	t.Helper()
	d, ok := listener.AsDefer(err)
	if !ok {
		t.Fatalf("got %v, want a deferral", err)
	}
	return d
}
