package sdk

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk/config"
)

// ClientParams are what [NewClient] needs; fx fills them in, and without fx they
// are written as a literal. The zero value of each field is usable.
type ClientParams struct {
	fx.In

	// Config holds the section sluice. Defaults to no settings.
	Config *config.Config `optional:"true"`
	// Known are keys of the section sluice that other modules read.
	Known []config.Known `group:"sluice.config.known"`
	// Drivers that the application holds; sluice.broker chooses among several.
	Drivers []driver.Driver `group:"sluice.drivers"`
	// Codecs for payloads. Defaults to the built-in ones.
	Codecs *Codecs `optional:"true"`
	// Interceptors in any order; tracing and metrics are added.
	Interceptors []Interceptor `group:"sluice.interceptors"`
	// Logger defaults to none.
	Logger *slog.Logger `optional:"true"`
	// TracerProvider defaults to none.
	TracerProvider trace.TracerProvider `optional:"true"`
	// MeterProvider defaults to none.
	MeterProvider metric.MeterProvider `optional:"true"`
	// Propagator defaults to W3C trace context and baggage.
	Propagator propagation.TextMapPropagator `optional:"true"`
}

// Client is one client identity of the application: one connection, opened on
// first use, one [Producer], the codecs and the interceptors. It is safe for
// concurrent use. NewClient starts nothing; after use it is to be closed, which
// [Start] does under fx.
type Client struct {
	settings     Settings
	id           string
	logger       *slog.Logger
	driver       driver.Driver // nil: the application holds none
	codecs       *Codecs
	interceptors []Interceptor
	tracing      *Tracing
	metrics      *metrics
	producer     *Producer

	root   context.Context //nolint:containedctx // the client's own; ends when Close gives up waiting
	cancel context.CancelCauseFunc

	rounded sync.Once // the rounding of delays is logged once

	mu       sync.Mutex
	conn     driver.Conn
	opening  chan struct{} // closed when the try under way has ended
	stopping bool          // Close was called
	closing  bool          // no connection is given out any more
	closed   chan struct{} // closed when Close has ended; err is set before
	err      error
}

// NewClient checks the settings, the interceptors and the choice of the driver
// and reports all problems together. It opens nothing.
func NewClient(p ClientParams) (*Client, error) {
	settings, settingsErr := LoadSettings(p.Config, p.Known...)
	c := &Client{settings: settings, logger: p.Logger, codecs: p.Codecs, closed: make(chan struct{})}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	errs := []error{settingsErr}
	var err error
	if c.driver, err = chooseDriver(p.Drivers, settings.Broker.Reveal()); err != nil {
		errs = append(errs, err)
	}
	if c.id = settings.ClientID; c.id == "" {
		c.id = newClientID()
	}
	if c.codecs == nil {
		c.codecs, err = NewCodecs(CodecParams{})
		errs = append(errs, err)
	}
	if c.metrics, err = newMetrics(p.MeterProvider, c.system); err != nil {
		errs = append(errs, fmt.Errorf("make metric instruments: %w", err))
	}
	c.tracing = newTracing(c, p.TracerProvider, p.Propagator)
	c.interceptors, err = sortInterceptors(append([]Interceptor{c.tracing.interceptor(), c.metrics.interceptor()}, p.Interceptors...))
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.root, c.cancel = context.WithCancelCause(context.Background()) //nolint:forbidigo // the client owns this root
	if c.producer, err = newProducer(c); err != nil {
		c.cancel(err)
		return nil, err
	}
	return c, nil
}

// newClientID is unique per process and client.
func newClientID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return host + "@" + strconv.Itoa(os.Getpid()) + "@" + hex.EncodeToString(b[:])
}

// chooseDriver takes the only driver, or the one whose scheme the address has.
func chooseDriver(drivers []driver.Driver, broker string) (driver.Driver, error) {
	byScheme := map[string]driver.Driver{}
	var schemes []string
	for _, d := range drivers {
		s := d.Scheme()
		if _, twice := byScheme[s]; twice {
			return nil, fmt.Errorf("two broker drivers have the scheme %q; list each broker module once", s)
		}
		byScheme[s] = d
		schemes = append(schemes, s)
	}
	slices.Sort(schemes)
	if len(schemes) == 0 {
		return nil, nil // an error only for who needs the connection
	}
	if broker == "" {
		if len(schemes) == 1 {
			return drivers[0], nil
		}
		return nil, fmt.Errorf("the application holds several broker drivers (%s); set sluice.broker to choose one, such as %s://address", strings.Join(schemes, ", "), schemes[0])
	}
	scheme, _, _ := strings.Cut(broker, ":")
	if d, ok := byScheme[strings.ToLower(scheme)]; ok {
		return d, nil
	}
	hint := ""
	if n, ok := config.Nearest(scheme, schemes); ok {
		hint = fmt.Sprintf(" (did you mean %q?)", n)
	}
	return nil, fmt.Errorf("sluice.broker has the scheme %q%s, but the broker drivers of the application are %s; the form is scheme://address", scheme, hint, strings.Join(schemes, ", "))
}

// ID is the identity of this client among the members of its groups.
func (c *Client) ID() string { return c.id }

// Settings are the settings in effect.
func (c *Client) Settings() Settings { return c.settings }

// Producer sends messages through this client.
func (c *Client) Producer() *Producer { return c.producer }

// Codecs are the codecs of the application.
func (c *Client) Codecs() *Codecs { return c.codecs }

// Tracing makes the spans of this client.
func (c *Client) Tracing() *Tracing { return c.tracing }

// Logger is the logger that was injected, or one that discards.
func (c *Client) Logger() *slog.Logger { return c.logger }

func (c *Client) interceptorNames() []string {
	names := make([]string, 0, len(c.interceptors))
	for _, x := range c.interceptors {
		names = append(names, x.Name)
	}
	return names
}

// Service is the connection as a [Service] of [PhaseConnect], for those who
// start services without [Module].
func (c *Client) Service() Service {
	return Service{
		Name:  "client",
		Phase: PhaseConnect,
		Start: func(ctx context.Context) error { _, err := c.Conn(ctx); return err },
		Stop:  c.Close,
	}
}
