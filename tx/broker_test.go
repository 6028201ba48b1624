package tx_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

// broker is half messages and nothing else, with faults on command. It is a
// driver, its only connection and the transactor of that.
type broker struct {
	noHalves bool
	faults   map[string][]error // by operation, taken from the front; nil: no fault

	mu        sync.Mutex
	halves    map[string]*half
	order     []string
	wake      chan struct{}
	prepares  int
	resolves  int
	leaveOnce error // ends the first Checks
}

type half struct {
	handle   driver.Half
	message  driver.Delivery
	decision driver.Decision
	checks   int
}

func newBroker() *broker {
	return &broker{halves: map[string]*half{}, faults: map[string][]error{}, wake: make(chan struct{}, 1)}
}

func (b *broker) Scheme() string                                           { return "halves" }
func (b *broker) Open(context.Context, driver.Config) (driver.Conn, error) { return b, nil }
func (b *broker) Capabilities() driver.Capabilities                        { return driver.Capabilities{System: "halves"} }
func (b *broker) Health(context.Context) error                             { return nil }
func (b *broker) Close(context.Context) error                              { return nil }

func (b *broker) Extensions() driver.Extensions {
	if b.noHalves {
		return driver.Extensions{}
	}
	return driver.Extensions{Tx: b}
}

func (b *broker) Send(_ context.Context, r driver.SendRequest) []driver.SendResult {
	return make([]driver.SendResult, len(r.Messages))
}

func (b *broker) Subscribe(context.Context, driver.SubscribeSpec, driver.LaneEvents) (driver.Subscription, error) {
	return nil, driver.Errorf(driver.Unsupported, "subscribe", "no subscriptions here")
}

func (b *broker) fault(op string) error {
	if f := b.faults[op]; len(f) > 0 {
		b.faults[op] = f[1:]
		return f[0]
	}
	return nil
}

func (b *broker) Prepare(_ context.Context, group string, m *driver.Message) (driver.Half, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prepares++
	err := b.fault("prepare")
	if e, ok := errors.AsType[*driver.Error](err); err != nil && (!ok || !e.MaybeDone) {
		return driver.Half{}, err
	}
	h := b.halves[m.ID]
	if h == nil {
		h = &half{
			handle:  driver.Half{TxID: m.ID, Group: group, Handle: []byte(m.ID)},
			message: driver.Delivery{Message: *m, Attempt: 1},
		}
		b.halves[m.ID], b.order = h, append(b.order, m.ID)
	}
	return h.handle, err
}

func (b *broker) Resolve(_ context.Context, x driver.Half, d driver.Decision) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.resolves++
	if err := b.fault("resolve"); err != nil {
		return err
	}
	h := b.halves[x.TxID]
	switch {
	case h == nil:
		return driver.Errorf(driver.NotFound, "resolve", "no half message %s", x.TxID)
	case h.decision != driver.Undecided && h.decision != d:
		return driver.Errorf(driver.FailedPrecondition, "resolve", "already %v", h.decision)
	}
	h.decision = d
	return nil
}

func (b *broker) Parked(context.Context, int) ([]driver.ParkedHalf, error) { return nil, nil }

// Checks asks for every undecided half whenever it is woken, and every second.
func (b *broker) Checks(ctx context.Context, group string, parallel int, f driver.CheckFunc) error {
	b.mu.Lock()
	if err := b.leaveOnce; err != nil {
		b.leaveOnce = nil
		b.mu.Unlock()
		return err
	}
	b.mu.Unlock()
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		case <-tick.C:
		}
		for _, h := range b.undecided(group) {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				b.mu.Lock()
				h.checks++
				n, d := h.checks, h.message
				b.mu.Unlock()
				answer := f(ctx, h.handle, &d, n)
				b.mu.Lock()
				defer b.mu.Unlock()
				if h.decision == driver.Undecided {
					h.decision = answer
				}
			})
		}
	}
}

func (b *broker) undecided(group string) []*half {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []*half
	for _, id := range b.order {
		if h := b.halves[id]; h.decision == driver.Undecided && h.handle.Group == group {
			out = append(out, h)
		}
	}
	return out
}

// state returns the decision and the number of checks of a half message.
func (b *broker) state(id string) (driver.Decision, int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.halves[id]
	if h == nil {
		return 0, 0, false
	}
	return h.decision, h.checks, true
}

func newClient(t *testing.T, b *broker, tune ...func(*sdk.ClientParams)) *sdk.Client {
	t.Helper()
	p := sdk.ClientParams{Drivers: []driver.Driver{b}}
	for _, f := range tune {
		f(&p)
	}
	c, err := sdk.NewClient(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}
