package redisstore

import (
	"errors"
	"log/slog"

	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/sdk"
)

// Module provides a [*Store] as the store of the application, verifies it when
// the application starts, and includes idempotency.Module. It needs a
// redis.UniversalClient in the graph, and takes [Options] and a *slog.Logger
// from it, if they are there.
var Module = fx.Module("sluice.redisstore",
	fx.Provide(provide),
	sdk.AsService(func(s *Store) sdk.Service {
		return sdk.Service{Name: "idempotency store", Phase: sdk.PhaseConnect, Start: s.Verify, Stop: s.Close}
	}),
	idempotency.Module,
)

type params struct {
	fx.In

	Client  redis.UniversalClient `optional:"true"`
	Options Options               `optional:"true"`
	Logger  *slog.Logger          `optional:"true"`
}

func provide(p params) (*Store, idempotency.Store, error) {
	if p.Client == nil {
		return nil, nil, errors.New("redisstore.Module needs a redis.UniversalClient in the graph; add fx.Provide(func() redis.UniversalClient { return redis.NewUniversalClient(…) })")
	}
	if p.Options.Logger == nil {
		p.Options.Logger = p.Logger
	}
	s, err := New(p.Client, p.Options)
	return s, s, err
}
