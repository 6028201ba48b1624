package sdktest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/idempotency/memstore"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// patience bounds every wait of a kit; in a bubble it is virtual, so that even
// a full retry ladder of hours passes.
const patience = 30 * time.Second

// Kit is a running application. Its methods are safe for concurrent use; those
// that wait fail the test when they have waited for too long.
type Kit struct {
	t         testing.TB
	app       *fx.App
	producer  *sdk.Producer
	client    *sdk.Client
	container *listener.Container
	broker    *embedded.Broker
	journal   *journal
	patience  time.Duration
	stop      sync.Once
}

// Options of a kit besides those of fx.
type patienceOption struct {
	fx.Option

	d time.Duration
}

// Patience bounds each wait of the kit. Defaults to 30s; in a synctest bubble a
// longer one costs nothing.
func Patience(d time.Duration) fx.Option { return patienceOption{Option: fx.Options(), d: d} }

// New starts an application made of opts, the bundled broker in memory, the
// idempotency store in memory, sdk.Module, listener.Module and sdk.Start(). opts
// must not list those again. It returns when every listener that starts by
// itself runs; gates are those of opts and are checked against what opts provide.
// The application stops with the test.
func New(t testing.TB, opts ...fx.Option) *Kit {
	t.Helper()
	k := &Kit{t: t, patience: patience, journal: newJournal()}
	for _, o := range opts {
		if p, ok := o.(patienceOption); ok {
			k.patience = p.d
		}
	}
	k.app = fx.New(k.options(opts, fx.Populate(&k.producer, &k.client, &k.container, &k.broker))...)
	if err := k.app.Err(); err != nil {
		t.Fatalf("build the application: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), k.patience)
	defer cancel()
	t.Cleanup(k.Stop)
	if err := k.app.Start(ctx); err != nil {
		t.Fatalf("start the application: %v", err)
	}
	k.until("every listener runs that starts by itself", k.started)
	return k
}

func (k *Kit) options(opts []fx.Option, more ...fx.Option) []fx.Option {
	all := []fx.Option{
		fx.NopLogger, embedded.Module, memstore.Module, sdk.Module, listener.Module,
		sdk.AsInterceptor(k.journal.interceptor()),
	}
	all = append(append(all, opts...), more...)
	return append(all, sdk.Start())
}

// ValidateApp checks the graph of an application with the parts that [New] adds,
// as fx.ValidateApp does, and builds its listeners, without starting anything:
// markers, options, configuration and merged subscriptions are all checked.
func ValidateApp(t testing.TB, opts ...fx.Option) {
	t.Helper()
	if err := Validate(opts...); err != nil {
		t.Fatalf("build the application: %v", err)
	}
}

// Validate is [ValidateApp] that answers the error.
func Validate(opts ...fx.Option) error {
	k := &Kit{journal: newJournal()}
	all := k.options(opts)
	if err := fx.ValidateApp(all...); err != nil {
		return err
	}
	return fx.New(all...).Err()
}

// started reports whether nothing is on its way any more.
func (k *Kit) started() error {
	for _, s := range k.container.States() {
		switch {
		case s.State == listener.StateRunning:
		case s.State == listener.StatePaused && s.Verified:
			// waits for an operator: resume:"manual"
		default:
			return fmt.Errorf("listener %s is %v %s", s.Name, s.State, s.Reason)
		}
	}
	return nil
}

// pollEvery is the first and longestPoll the last pause between two looks at
// what has no event of its own. The pause grows, so that hours of virtual time
// cost thousands of looks and not millions.
const (
	pollEvery   = time.Millisecond
	longestPoll = time.Second
)

// until looks at f until it answers nil: whenever a handler has ended, and now
// and then, because states and dead letters change without one.
func (k *Kit) until(what string, f func() error) {
	k.t.Helper()
	over := time.NewTimer(k.patience)
	defer over.Stop()
	for pause := pollEvery; ; pause = min(2*pause, longestPoll) {
		changed := k.journal.changed()
		err := f()
		if err == nil {
			return
		}
		look := time.NewTimer(pause)
		select {
		case <-changed:
		case <-look.C:
		case <-over.C:
			k.t.Fatalf("after %v, still waiting until %s: %v", k.patience, what, err)
		}
		look.Stop()
	}
}

// Stop drains and stops the application; a second call does nothing. It is
// called when the test ends, and must be called by hand inside a bubble.
func (k *Kit) Stop() {
	k.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(k.t.Context()), k.patience)
		defer cancel()
		if err := k.app.Stop(ctx); err != nil {
			k.t.Errorf("stop the application: %v", err)
		}
	})
}

// Producer sends messages.
func (k *Kit) Producer() *sdk.Producer { return k.producer }

// Client is the client of the application.
func (k *Kit) Client() *sdk.Client { return k.client }

// Container pauses, resumes and inspects the listeners.
func (k *Kit) Container() *listener.Container { return k.container }

// Broker is the broker in memory.
func (k *Kit) Broker() *embedded.Broker { return k.broker }

// Send sends one message and fails the test if it is not stored.
func (k *Kit) Send(topic string, payload any, opts ...sdk.MessageOption) sdk.SendResult {
	k.t.Helper()
	res, err := k.producer.Send(k.t.Context(), topic, payload, opts...)
	if err != nil {
		k.t.Fatalf("send to %s: %v", topic, err)
	}
	return res
}

// Await waits until the named listener has handled n messages without an error
// and returns them in the order in which they were finished. A duplicate that
// idempotency skipped counts, because it is acknowledged.
func (k *Kit) Await(name string, n int) []*sdk.Delivery {
	k.t.Helper()
	if _, ok := k.container.State(name); !ok {
		k.t.Fatalf("there is no listener %q; there are %s", name, strings.Join(k.container.Names(), ", "))
	}
	var done []*sdk.Delivery
	k.until(fmt.Sprintf("listener %s has handled %d messages", name, n), func() error {
		if done = k.journal.handled(name); len(done) < n {
			return fmt.Errorf("it has handled %d", len(done))
		}
		return nil
	})
	return done
}

// Attempts tells how many times any listener has begun to handle the message
// with this unique id.
func (k *Kit) Attempts(id string) int { return k.journal.begun(id) }

// DeadLetters returns the dead letters of a group, oldest first.
func (k *Kit) DeadLetters(group string) []*driver.Delivery {
	k.t.Helper()
	conn, err := k.client.Conn(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	var out []*driver.Delivery
	for {
		page, err := conn.Extensions().Query.Browse(k.t.Context(), driver.DeadLetterTopic(group), 0, int64(len(out)), 256)
		if driver.CodeOf(err) == driver.NotFound {
			return out // the group has never given up a message
		}
		if err != nil {
			k.t.Fatalf("read the dead letters of %s: %v", group, err)
		}
		if len(page) == 0 {
			return out
		}
		out = append(out, page...)
	}
}

// AwaitDeadLetters waits until the group has given up n messages.
func (k *Kit) AwaitDeadLetters(group string, n int) []*driver.Delivery {
	k.t.Helper()
	var out []*driver.Delivery
	k.until(fmt.Sprintf("group %s has %d dead letters", group, n), func() error {
		if out = k.DeadLetters(group); len(out) < n {
			return fmt.Errorf("it has %d", len(out))
		}
		return nil
	})
	return out
}

// journal sees every delivery from outside of all other interceptors.
type journal struct {
	mu       sync.Mutex
	attempts map[string]int
	done     map[string][]*sdk.Delivery
	wake     chan struct{} // closed and replaced when a handler has ended
}

func newJournal() *journal {
	return &journal{attempts: map[string]int{}, done: map[string][]*sdk.Delivery{}, wake: make(chan struct{})}
}

func (j *journal) interceptor() sdk.Interceptor {
	return sdk.Interceptor{
		Name: "sdktest", Order: sdk.OrderTracing - 1,
		Consume: func(info sdk.ListenerInfo, next sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
			return func(ctx context.Context, d *sdk.Delivery) error {
				j.mu.Lock()
				j.attempts[d.ID]++
				j.mu.Unlock()
				err := next(ctx, d)
				j.ended(info.Name, d, err)
				return err
			}, nil
		},
	}
}

func (j *journal) ended(name string, d *sdk.Delivery, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		j.done[name] = append(j.done[name], d)
	}
	close(j.wake)
	j.wake = make(chan struct{})
}

// changed is closed when the next handler has ended.
func (j *journal) changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.wake
}

func (j *journal) handled(name string) []*sdk.Delivery {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.done[name])
}

func (j *journal) begun(id string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.attempts[id]
}
