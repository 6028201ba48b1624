package listener

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/internal/lease"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// ContainerParams are what [NewContainer] needs; fx fills them in, and without
// fx they are written as a literal.
type ContainerParams struct {
	fx.In

	// Client is required.
	Client *sdk.Client
	// Config holds the section listeners and the values of placeholders.
	// Defaults to no settings.
	Config *config.Config `optional:"true"`
	// Registrations of [Provide] or [Register], in any order.
	Registrations []Registration `group:"listener.registrations"`
	// Gates of [Gate] or [NewGate], in any order.
	Gates []GateSpec `group:"listener.gates"`
	// Logger defaults to that of the client.
	Logger *slog.Logger `optional:"true"`
}

// Container holds the listeners of an application: it starts and stops them
// with the application, and operators control them through it. Its methods are
// safe for concurrent use.
type Container struct {
	client  *sdk.Client
	log     *slog.Logger
	renewer *lease.Renewer
	units   []*unit // by name, disabled ones included
	pumps   []*pump // by group and topic
	byName  map[string]*pump
	events  broadcaster

	mu       sync.Mutex
	started  bool
	stopping bool
}

// NewContainer resolves the settings of every listener and checks them against
// each other; the error lists every problem with the listener's type. It starts
// nothing and needs no broker.
func NewContainer(params ContainerParams) (*Container, error) {
	if params.Client == nil {
		return nil, errors.New("listener: ContainerParams.Client is missing")
	}
	c := &Container{client: params.Client, log: params.Logger, byName: map[string]*pump{}}
	if c.log == nil {
		c.log = params.Client.Logger()
	}
	cfg := params.Config
	if cfg == nil {
		var err error
		if cfg, err = config.New(); err != nil {
			return nil, err
		}
	}
	c.renewer = lease.NewRenewer(c.log)
	if err := c.plan(cfg, params.Registrations, params.Gates); err != nil {
		return nil, err
	}
	return c, nil
}

// Service starts and stops the listeners with the application.
func (c *Container) Service() sdk.Service {
	return sdk.Service{Name: "listeners", Phase: sdk.PhaseListeners, Start: c.Start, Stop: c.Stop}
}

// Start checks what the listeners need against what the broker offers, reports
// every gap at once, and joins the groups. Start-paused listeners do not join
// yet; their gates are asked in the background. If one listener fails, those
// that had started are stopped. Start works once.
func (c *Container) Start(ctx context.Context) error {
	c.mu.Lock()
	again := c.started || c.stopping
	c.started = true
	c.mu.Unlock()
	if again {
		return errors.New("start listeners: the container was started or stopped before")
	}
	if len(c.pumps) == 0 {
		return nil
	}
	conn, err := c.client.Conn(ctx)
	if err != nil {
		return fmt.Errorf("start listeners: %w", err)
	}
	if err := c.checkBroker(conn); err != nil {
		return err
	}
	c.log.LogAttrs(ctx, slog.LevelInfo, "listeners are starting", slog.Int("count", len(c.units)),
		slog.String("names", strings.Join(c.Names(), ", ")))
	err = eachPump(c.pumps, func(p *pump) error { return p.start(ctx, conn) })
	if err != nil {
		return errors.Join(fmt.Errorf("start listeners: %w", err), c.Stop(ctx))
	}
	return nil
}

// Stop drains every listener, in parallel: no more fetching, what was fetched
// and has not begun is given back, running handlers finish; shortly before the
// time is up those that remain are cancelled with [ErrDraining] and have not
// failed by it; then settlements are made durable and the groups are left. It
// returns 500 ms before the deadline of ctx, or with a quarter of the time left
// if that is less. Without a deadline it waits for the handlers. Stop may be
// called at any time and more than once.
func (c *Container) Stop(ctx context.Context) error {
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
	err := eachPump(c.pumps, func(p *pump) error { return p.drain(ctx) })
	c.renewer.Close()
	c.events.close()
	return err
}

// eachPump runs f for all, side by side; errors name the listeners.
func eachPump(pumps []*pump, f func(p *pump) error) error {
	errs := make([]error, len(pumps))
	var wg sync.WaitGroup
	for i, p := range pumps {
		wg.Go(func() {
			if err := f(p); err != nil {
				errs[i] = fmt.Errorf("listener %s: %w", strings.Join(p.names, ", "), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Names are the names of the listeners, sorted.
func (c *Container) Names() []string {
	names := make([]string, 0, len(c.units))
	for _, u := range c.units {
		names = append(names, u.name)
	}
	return names
}

// Settings are the effective settings of a listener and their sources; nil for
// an unknown name.
func (c *Container) Settings(name string) []Setting {
	for _, u := range c.units {
		if u.name == name {
			return slices.Clone(u.list)
		}
	}
	return nil
}

// Dump writes every setting of every listener with its source.
func (c *Container) Dump(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, u := range c.units {
		_, _ = fmt.Fprintf(tw, "%s\t%s\n", u.name, u.spec.Type)
		for _, s := range u.list {
			if s.Key == keyName || s.Value == "" && s.Source == "default" {
				continue
			}
			_, _ = fmt.Fprintf(tw, "  %s\t%s\t(%s)\n", s.Key, s.Value, s.Source)
		}
	}
	return tw.Flush() // also reports what a write before it met
}

// checkBroker compares every listener with the broker.
func (c *Container) checkBroker(conn driver.Conn) error {
	caps := conn.Capabilities()
	var errs []error
	for _, u := range c.units {
		if !u.enabled {
			continue
		}
		for _, err := range u.gaps(caps, c.log) {
			errs = append(errs, fmt.Errorf("listener %s (%s): %w", u.name, u.spec.Type, err))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("the broker %q cannot do what these listeners need:\n%w", caps.System, errors.Join(errs...))
	}
	return nil
}

// gaps lists what the listener needs and the broker lacks. Delays are rounded
// here where the user allowed it.
func (u *unit) gaps(caps driver.Capabilities, log *slog.Logger) []error {
	var errs []error
	need := func(has bool, what string) {
		if !has {
			errs = append(errs, fmt.Errorf("needs %s, the broker has none", what))
		}
	}
	need(!u.ordered || caps.Ordered, "ordered subscriptions")
	need(!u.broadcast || caps.Broadcast, "broadcast")
	need(len(u.filter.Tags) == 0 || caps.Tags, "tag filters")
	need(u.filter.SQL == "" || caps.SQL, "sql filters")
	if u.inPlace() || u.retry.Attempts == 1 {
		return errs
	}
	switch caps.RetryDelay {
	case driver.NoDelay:
		need(false, "delayed retries")
	case driver.Levels:
		p, err := u.retry.levels(caps.DelayLevels, u.emulate)
		if err != nil {
			errs = append(errs, err)
		} else if before, after := durations(u.retry.Delays), durations(p.Delays); before != after {
			log.Info("retry delays are rounded up to the levels of the broker", slog.String("listener", u.name),
				slog.String("from", before), slog.String("to", after))
		}
		u.retry = p
	default: // any delay
	}
	return errs
}
