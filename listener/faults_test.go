package listener_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/faulty"
	bundled "github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/memstore"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// faultyApp is a client and one listener on the bundled broker, whose
// connection breaks on command.
type faultyApp struct {
	faults *faulty.Faults
	client *sdk.Client
	stop   func()

	mu    sync.Mutex
	runs  map[string]int // handler runs by payload
	fails error          // what the handler answers on the first run of a payload
	block chan struct{}  // the handler waits for it, or for its ctx
	ended error          // cause of a ctx that ended while the handler waited
}

func newFaultyApp(t *testing.T, settings map[string]string, idempotent bool, opts ...listener.Option) *faultyApp {
	t.Helper()
	a := &faultyApp{faults: faulty.New(), runs: map[string]int{}}
	broker, err := bundled.Open("", bundled.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.New(config.FromMap(settings))
	if err != nil {
		t.Fatal(err)
	}
	params := sdk.ClientParams{Config: cfg, Drivers: []driver.Driver{faulty.Driver(broker.Driver(), a.faults)}}
	var closeDecorator func()
	opts = append([]listener.Option{
		listener.Name("pay"), listener.Topic("bills"), listener.Group("pay"), listener.Backoff("1s"), listener.Attempts(3),
	}, opts...)
	if idempotent {
		d, err := idempotency.New(idempotency.Params{Store: memstore.New(memstore.Options{})})
		if err != nil {
			t.Fatal(err)
		}
		closeDecorator = d.Close
		params.Interceptors = []sdk.Interceptor{d.Interceptor()}
		opts = append(opts, idempotency.Use(idempotency.Config{Key: "$key"}))
	}
	if a.client, err = sdk.NewClient(params); err != nil {
		t.Fatal(err)
	}
	reg, err := listener.Register(listener.Func[string](a.handle), opts...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := listener.NewContainer(listener.ContainerParams{Client: a.client, Registrations: []listener.Registration{reg}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	a.stop = func() {
		ctx := context.WithoutCancel(t.Context())
		a.faults.Clear()
		_ = c.Stop(ctx)
		_ = a.client.Close(ctx)
		_ = broker.Close(ctx)
		if closeDecorator != nil {
			closeDecorator()
		}
	}
	return a
}

func (a *faultyApp) handle(ctx context.Context, m *sdk.Message[string]) error {
	a.mu.Lock()
	a.runs[m.Payload]++
	first, block := a.runs[m.Payload] == 1, a.block
	a.mu.Unlock()
	if block != nil && first {
		select {
		case <-block:
		case <-ctx.Done():
			a.mu.Lock()
			defer a.mu.Unlock()
			a.ended = context.Cause(ctx)
			return a.ended
		}
	}
	if first {
		return a.fails
	}
	return nil
}

func (a *faultyApp) send(t *testing.T, payload string) (sdk.SendResult, error) {
	t.Helper()
	return a.client.Producer().Send(t.Context(), "bills", payload, sdk.Key(payload), sdk.ContentType("application/json"))
}

func (a *faultyApp) ran(payload string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.runs[payload]
}

func rest(d time.Duration) { time.Sleep(d); synctest.Wait() }

// A broker that is away for a moment costs a retry, not the message. Without
// retries the caller hears of it.
func TestFaults_SendIsRetried(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		attempts string
		stored   bool
	}{"three attempts": {"3", true}, "one attempt": {"1", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newFaultyApp(t, map[string]string{"sluice.send.attempts": c.attempts}, false)
				defer a.stop()
				a.faults.Add(faulty.Fault{Op: faulty.Send, Times: 2, Err: &driver.Error{Code: driver.Unavailable, Retryable: true}})
				res, err := a.send(t, "B-1")
				rest(time.Second)
				if (err == nil) != c.stored || (a.ran("B-1") == 1) != c.stored || err == nil && res.Attempts != 3 {
					t.Errorf("Send = %+v, %v; handled %d times", res, err, a.ran("B-1"))
				}
			})
		})
	}
}

// A lost answer makes a second copy with the same id. The caller is told that it
// may exist, and only idempotency keeps the handler from seeing it.
func TestFaults_LostAnswerIsADuplicateThatIdempotencyStops(t *testing.T) {
	t.Parallel()
	for name, idempotent := range map[string]bool{"with idempotency": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newFaultyApp(t, nil, idempotent)
				defer a.stop()
				a.faults.Add(faulty.Fault{Op: faulty.Send, Answer: true})
				res, err := a.send(t, "B-1")
				if err != nil || !res.MaybeDone || res.Attempts != 2 {
					t.Fatalf("Send = %+v, %v; want a second attempt and MaybeDone", res, err)
				}
				rest(time.Minute)
				want := 2
				if idempotent {
					want = 1
				}
				if n := a.ran("B-1"); n != want {
					t.Errorf("handled %d times, want %d", n, want)
				}
			})
		})
	}
}

// A broker that delivers twice while the handler runs: the second delivery waits
// and is then skipped, without an attempt being spent.
func TestFaults_DeliveredTwiceIsHandledOnce(t *testing.T) {
	t.Parallel()
	for name, idempotent := range map[string]bool{"with idempotency": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newFaultyApp(t, nil, idempotent)
				defer a.stop()
				if err := a.faults.Duplicate(faulty.Fetch, 1); err != nil {
					t.Fatal(err)
				}
				a.block = make(chan struct{})
				if _, err := a.send(t, "B-1"); err != nil {
					t.Fatal(err)
				}
				rest(5 * time.Second)
				close(a.block)
				rest(5 * time.Minute)
				want := 2
				if idempotent {
					want = 1
				}
				if n := a.ran("B-1"); n != want {
					t.Errorf("handled %d times, want %d", n, want)
				}
			})
		})
	}
}

// A settlement that the broker refuses for a moment is repeated: the failed
// attempt is not lost, and the message comes again after its delay.
func TestFaults_SettleIsRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newFaultyApp(t, nil, false)
		defer a.stop()
		a.fails = errors.New("the wallet is down")
		a.faults.Add(faulty.Fault{Op: faulty.Settle, Times: 3, Err: &driver.Error{Code: driver.Unavailable, Retryable: true}})
		if _, err := a.send(t, "B-1"); err != nil {
			t.Fatal(err)
		}
		rest(time.Minute)
		if n := a.ran("B-1"); n != 2 {
			t.Errorf("handled %d times, want 2", n)
		}
	})
}

// A lane that is lost ends its handlers with the cause, and the message is
// handled again by the next owner.
func TestFaults_LostLaneEndsTheHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newFaultyApp(t, nil, false)
		defer a.stop()
		a.block = make(chan struct{})
		if _, err := a.send(t, "B-1"); err != nil {
			t.Fatal(err)
		}
		rest(time.Second)
		if n := a.faults.LoseLanes(t.Context(), nil, true); n == 0 {
			t.Fatal("no lane was lost")
		}
		rest(time.Minute)
		a.mu.Lock()
		cause := a.ended
		a.mu.Unlock()
		if !errors.Is(cause, listener.ErrLaneLost) || a.ran("B-1") != 2 {
			t.Errorf("the handler ended with %v and ran %d times; want ErrLaneLost and 2", cause, a.ran("B-1"))
		}
	})
}

// A Fetch that fails is repeated after a while, for ever.
func TestFaults_FetchIsRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newFaultyApp(t, nil, false)
		defer a.stop()
		restore := a.faults.Add(faulty.Fault{Op: faulty.Fetch, Times: -1, Err: &driver.Error{Code: driver.Unavailable, Retryable: true}})
		rest(2 * time.Second) // the Fetch that waits already ends
		if _, err := a.send(t, "B-1"); err != nil {
			t.Fatal(err)
		}
		rest(time.Hour)
		if n := a.ran("B-1"); n != 0 {
			t.Fatalf("handled %d times though every Fetch fails", n)
		}
		restore()
		rest(time.Minute)
		if n := a.ran("B-1"); n != 1 {
			t.Errorf("handled %d times, want 1", n)
		}
	})
}
