package rocketmq

import (
	"context"
	"log/slog"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
)

// Module puts the driver into an fx application. It takes a [Config] and a
// [*slog.Logger] from the graph if they are there; the setting sluice.broker
// names the name servers. It connects when the application starts.
var Module = fx.Module("sluice-rocketmq", //nolint:gochecknoglobals // the way fx modules are handed out
	fx.Provide(fx.Annotate(provide, fx.ResultTags(`group:"`+driver.Group+`"`))),
)

type params struct {
	fx.In
	Config Config       `optional:"true"`
	Logger *slog.Logger `optional:"true"`
}

func provide(p params) driver.Driver {
	if p.Config.Logger == nil {
		p.Config.Logger = p.Logger
	}
	return New(p.Config)
}

// New answers the driver of the cluster behind cfg. It does not connect; what
// is wrong with cfg is said by Open.
func New(cfg Config) driver.Driver { return cluster{cfg} }

// cluster is the driver of one cluster.
type cluster struct{ cfg Config }

// Scheme is [Scheme].
func (cluster) Scheme() string { return Scheme }

// Open connects a client: it asks a name server and connects to nothing else.
func (d cluster) Open(ctx context.Context, c driver.Config) (driver.Conn, error) {
	op := "connect client " + c.ClientID
	cfg := d.cfg
	if c.Logger != nil {
		cfg.Logger = c.Logger
	}
	if c.URL != "" {
		addrs, err := parseURL(c.URL)
		if err != nil {
			return nil, invalid(op, err)
		}
		cfg.NameServers = addrs
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, invalid(op, err)
	}
	if ctx.Err() != nil {
		return nil, driver.FromContext(ctx, op, false)
	}
	conn := newConn(cfg, c.ClientID)
	version, failed := conn.reach(ctx, op)
	if failed == nil {
		failed = conn.meet(ctx)
	}
	if failed != nil {
		_ = conn.Close(ctx)
		return nil, failed
	}
	if cfg.Delay == driver.Levels || cfg.Delay == driver.NoDelay && old(version) {
		conn.levels = cfg.DelayLevels
	}
	return conn, nil
}
