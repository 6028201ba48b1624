package memstore

import (
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/idempotency"
)

// Module provides a [*Store] as the store of the application and includes
// idempotency.Module. It takes [Options] from the graph, if they are there.
var Module = fx.Module("sluice.memstore",
	fx.Provide(provide),
	idempotency.Module,
)

type params struct {
	fx.In

	Options Options `optional:"true"`
}

func provide(p params) (*Store, idempotency.Store) {
	s := New(p.Options)
	return s, s
}
