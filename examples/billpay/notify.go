package main

import (
	"context"
	"database/sql"
	"fmt"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

const notifySchema = `
CREATE TABLE IF NOT EXISTS notices(bill_id TEXT PRIMARY KEY, account TEXT NOT NULL) WITHOUT ROWID;
`

// notify tells the customers about settled bills. Every instance hears of every
// bill, as each of them would have its own customers on the line; a new
// instance begins with the first bill there is, and its table keeps what was
// said before from being said again.
type notify struct {
	_ listener.On        `topic:"bill-settled" group:"notify" name:"notify" from:"earliest"`
	_ listener.Broadcast ``
	_ listener.Retry     `attempts:"16" backoff:"100ms..1s"`

	notices *notices
	chaos   chaos
}

func newNotify(n *notices, c chaos) *notify { return &notify{notices: n, chaos: c} }

// OnMessage tells one customer.
func (n *notify) OnMessage(ctx context.Context, m *sdk.Message[billSettled]) error {
	if err := n.chaos.handle("notify", m.Payload.BillID, m.Attempt); err != nil {
		return err
	}
	return n.notices.Add(ctx, m.Payload)
}

// notices is the database of the notify service.
type notices struct{ db *sql.DB }

// hurry gives up one thing for speed: the last notices before a power cut. They
// are said again, because a new instance hears of every bill again.
func (n *notices) hurry(ctx context.Context) error {
	if _, err := n.db.ExecContext(ctx, `PRAGMA synchronous = NORMAL`); err != nil {
		return fmt.Errorf("hurry the notices: %w", err)
	}
	return nil
}

// Add notes that the customer was told about the bill; telling twice is no error.
func (n *notices) Add(ctx context.Context, s billSettled) error {
	if _, err := n.db.ExecContext(ctx, `INSERT INTO notices(bill_id, account) VALUES(?,?) ON CONFLICT DO NOTHING`,
		s.BillID, s.Account); err != nil {
		return fmt.Errorf("notify account %s of bill %s: %w", s.Account, s.BillID, err)
	}
	return nil
}

// notifyModule is the service that tells the customers.
func notifyModule() fx.Option {
	return fx.Module("notify",
		fx.Provide(fx.Private, func(lc fx.Lifecycle, d *databases) (*notices, error) {
			db, err := d.Own(lc, "notify", notifySchema)
			n := &notices{db: db}
			lc.Append(fx.Hook{OnStart: n.hurry})
			return n, err
		}),
		listener.Provide[*notify](newNotify),
	)
}
