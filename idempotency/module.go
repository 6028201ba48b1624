package idempotency

import (
	"context"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/sdk"
)

// Module provides a [*Decorator] over the [Store] in the graph and registers its
// interceptor. redisstore.Module and memstore.Module include it; list it
// yourself only beside a store of your own. From the graph it takes, if they are
// there, [Settings], a *slog.Logger and a metric.MeterProvider.
var Module = fx.Module("sluice.idempotency",
	fx.Provide(New),
	sdk.AsInterceptor(func(d *Decorator) sdk.Interceptor { return d.Interceptor() }),
	sdk.AsService(func(d *Decorator) sdk.Service {
		return sdk.Service{
			Name: "idempotency", Phase: sdk.PhaseConnect,
			Stop: func(context.Context) error {
				d.Close()
				return nil
			},
		}
	}),
)
