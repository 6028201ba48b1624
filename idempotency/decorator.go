package idempotency

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/internal/lease"
	"github.com/sluicemq/sluice/sdk"
)

// Settings are those of a [Decorator], for all its listeners. The zero value is
// usable; under fx supply one to change it.
type Settings struct {
	// BusyCap bounds how long a duplicate of a message that is being handled
	// waits before it is looked at again. Defaults to 10s.
	BusyCap time.Duration
	// HoldAfter is how many claims of a listener may fail in a row before the
	// listener stops fetching. Defaults to 3.
	HoldAfter int
	// HoldMin and HoldMax bound the time between two tries while the store
	// does not answer; it doubles from one to the other. Default to 500ms and
	// 30s.
	HoldMin, HoldMax time.Duration
	// CompleteTries and CompleteBudget bound the tries to mark work done; the
	// message is acknowledged in any case. Default to 5 and 3s.
	CompleteTries  int
	CompleteBudget time.Duration
}

func (s Settings) validate() (Settings, error) {
	var errs []error
	for _, v := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"BusyCap", &s.BusyCap, 10 * time.Second},
		{"HoldMin", &s.HoldMin, 500 * time.Millisecond},
		{"HoldMax", &s.HoldMax, 30 * time.Second},
		{"CompleteBudget", &s.CompleteBudget, 3 * time.Second},
	} {
		switch {
		case *v.value < 0:
			errs = append(errs, fmt.Errorf("idempotency settings: %s %v must not be negative", v.name, *v.value))
		case *v.value == 0:
			*v.value = v.def
		}
	}
	for _, v := range []struct {
		name  string
		value *int
		def   int
	}{{"HoldAfter", &s.HoldAfter, 3}, {"CompleteTries", &s.CompleteTries, 5}} {
		switch {
		case *v.value < 0:
			errs = append(errs, fmt.Errorf("idempotency settings: %s %d must not be negative", v.name, *v.value))
		case *v.value == 0:
			*v.value = v.def
		}
	}
	if s.HoldMax < s.HoldMin {
		errs = append(errs, fmt.Errorf("idempotency settings: HoldMax %v is shorter than HoldMin %v", s.HoldMax, s.HoldMin))
	}
	return s, errors.Join(errs...)
}

// Params are what [New] needs.
type Params struct {
	fx.In

	Store Store
	// Settings default to their zero value.
	Settings Settings `optional:"true"`
	// Logger defaults to none.
	Logger *slog.Logger `optional:"true"`
	// MeterProvider defaults to none.
	MeterProvider metric.MeterProvider `optional:"true"`
}

// Decorator makes handlers idempotent. It is safe for concurrent use.
type Decorator struct {
	store       Store
	settings    Settings
	log         *slog.Logger
	instruments instruments
	counters    counters
	// renewer is for handlers whose ctx brings none.
	renewer *lease.Renewer
}

// New returns a decorator. It starts nothing; Close it after use.
func New(p Params) (*Decorator, error) {
	if p.Store == nil {
		return nil, errors.New("idempotency: there is no store; use redisstore or memstore")
	}
	settings, err := p.Settings.validate()
	if err != nil {
		return nil, err
	}
	d := &Decorator{store: p.Store, settings: settings, log: p.Logger}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.instruments, err = newInstruments(p.MeterProvider); err != nil {
		return nil, fmt.Errorf("idempotency: make metric instruments: %w", err)
	}
	d.renewer = lease.NewRenewer(d.log)
	return d, nil
}

// Close ends the renewal of leases and waits for it. Handlers that still run
// lose theirs.
func (d *Decorator) Close() { d.renewer.Close() }

// Interceptor wraps the handlers of all listeners that carry [Annotation].
func (d *Decorator) Interceptor() sdk.Interceptor {
	return sdk.Interceptor{
		Name: Annotation, Order: sdk.OrderIdempotency, Annotations: []string{Annotation},
		Consume: func(info sdk.ListenerInfo, next sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
			switch c := info.Annotations[Annotation].(type) {
			case nil:
				return next, nil
			case Config:
				return d.Wrap(info, c, next)
			default:
				return nil, fmt.Errorf("annotation %q holds %T, not %T", Annotation, c, Config{})
			}
		},
	}
}

// Wrap makes one handler idempotent. It refuses a config that does not fit the
// listener, such as a ttl below its retry horizon.
func (d *Decorator) Wrap(info sdk.ListenerInfo, c Config, next sdk.ConsumeFunc) (sdk.ConsumeFunc, error) {
	c, err := c.resolve(info)
	if err != nil {
		return nil, err
	}
	g := &guard{
		d: d, config: c, group: info.Group, next: next, log: info.Logger,
		listener: attribute.String("sluice.listener", info.Name),
	}
	if g.log == nil {
		g.log = d.log.With(slog.String("listener", info.Name))
	}
	return g.consume, nil
}

// outage follows the failures of the store as one listener sees them.
type outage struct {
	mu       sync.Mutex
	failures int           // in a row
	delay    time.Duration // of the present step
	raise    time.Time     // when a failure makes the next step
}

// failed takes in a failure and says how many there were in a row and how long
// to wait. Many handlers fail together, so the delay grows with time, not with
// their number.
func (o *outage) failed(s Settings) (failures int, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.failures++
	switch {
	case o.delay == 0:
		o.delay = s.HoldMin
		o.raise = now.Add(o.delay)
	case !now.Before(o.raise):
		o.delay = min(2*o.delay, s.HoldMax)
		o.raise = now.Add(o.delay)
	}
	return o.failures, spread(o.delay)
}

// answered takes in an answer and says how many failures it ends.
func (o *outage) answered() (failures int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	failures = o.failures
	o.failures, o.delay = 0, 0
	return failures
}

// spread adds up to a tenth, so that what failed together does not come back
// together.
func spread(d time.Duration) time.Duration {
	return d + time.Duration(rand.Float64()*0.1*float64(d))
}
