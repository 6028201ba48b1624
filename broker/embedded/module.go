package embedded

import (
	"context"
	"errors"
	"log/slog"

	"go.opentelemetry.io/otel/metric"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
)

// Module puts the bundled broker into an fx application: a [*Broker] and its
// [driver.Driver]. It takes a [Config], a [*slog.Logger] and a
// [metric.MeterProvider] from the graph if they are there. Without Config.Dir everything is in memory, which is said in
// one warning.
//
// The store opens when the application starts, or sooner if something uses the
// broker, and closes when the application stops, after everything that was
// constructed from it.
var Module = fx.Module("sluice-embedded", //nolint:gochecknoglobals // the way fx modules are handed out
	fx.Provide(
		provide,
		fx.Annotate((*Broker).Driver, fx.ResultTags(`group:"`+driver.Group+`"`)),
	),
)

type params struct {
	fx.In
	Lifecycle fx.Lifecycle
	Config    Config               `optional:"true"`
	Logger    *slog.Logger         `optional:"true"`
	Meters    metric.MeterProvider `optional:"true"`
}

// provide makes the broker of an application.
func provide(p params) (*Broker, error) {
	cfg := p.Config
	if cfg.Logger == nil {
		cfg.Logger = p.Logger
	}
	b, err := newBroker(cfg.Dir, cfg)
	if err != nil {
		return nil, err
	}
	unobserve, err := b.observe(p.Meters)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "make metrics of the embedded broker", "%w", err)
	}
	p.Lifecycle.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			if b.dir == "" && b.cfg.FS == nil {
				b.cfg.Logger.Warn("the broker keeps everything in memory and forgets it when the application stops; set Dir to keep it")
			}
			_, err := b.open(ctx)
			return err
		},
		OnStop: func(ctx context.Context) error { return errors.Join(unobserve(), b.Close(ctx)) },
	})
	return b, nil
}

// Driver is the driver of this broker, under the scheme "embedded". Its Open
// opens the store if nobody has before; it ignores the URL.
func (b *Broker) Driver() driver.Driver { return embedded{b} }

// embedded is the driver of one broker.
type embedded struct{ b *Broker }

// Scheme is "embedded".
func (embedded) Scheme() string { return "embedded" }

// Open connects a client; see [driver.Driver].
func (d embedded) Open(ctx context.Context, cfg driver.Config) (driver.Conn, error) {
	if ctx.Err() != nil {
		return nil, driver.FromContext(ctx, "connect client "+cfg.ClientID, false)
	}
	if _, err := d.b.open(ctx); err != nil {
		return nil, err
	}
	return d.b.Connect(cfg.ClientID), nil
}
