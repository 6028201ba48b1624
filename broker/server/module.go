package server

import (
	"context"
	"log/slog"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/embedded"
)

// Module puts a [*Server] for the application's [*embedded.Broker] into an fx
// application, beside [embedded.Module]. It takes a [Config] and a
// [*slog.Logger] from the graph if they are there. It listens from the start of
// the application on, after the store is open, and closes before the store,
// also if nothing else uses the server.
var Module = fx.Module("sluice-server", //nolint:gochecknoglobals // the way fx modules are handed out
	fx.Provide(provide),
	fx.Invoke(func(*Server) {}),
)

type params struct {
	fx.In
	Lifecycle fx.Lifecycle
	Broker    *embedded.Broker
	Config    Config       `optional:"true"`
	Logger    *slog.Logger `optional:"true"`
}

// provide makes the server of an application. It is usable from its start on.
func provide(p params) (*Server, error) {
	cfg := p.Config
	if cfg.Logger == nil {
		cfg.Logger = p.Logger
	}
	s, err := prepareServer(p.Broker, cfg)
	if err != nil {
		return nil, err
	}
	p.Lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error { return s.open() },
		OnStop:  s.Close,
	})
	return s, nil
}
