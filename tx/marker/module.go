package marker

import (
	"context"
	"database/sql"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/tx"
)

var _ tx.Local = (*Table)(nil)

type moduleParams struct {
	fx.In

	Lifecycle fx.Lifecycle
	DB        *sql.DB
	Dialect   Dialect
	Config    Config `optional:"true"`
}

// Module provides a [*Table], also as the [tx.Local] of the application, on the
// *sql.DB and the [Dialect] of the graph, and creates the table when the
// application starts. A process with several databases makes its tables with
// [New] and hands them to the senders with [tx.WithLocal].
var Module = fx.Module("tx.marker", fx.Provide(func(p moduleParams) (*Table, tx.Local, error) {
	t, err := New(p.DB, p.Dialect, p.Config)
	if err != nil {
		return nil, nil, err
	}
	p.Lifecycle.Append(fx.Hook{OnStart: func(ctx context.Context) error { return t.Create(ctx) }})
	return t, t, nil
}))
