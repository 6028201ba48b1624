package main

import (
	"context"
	"database/sql"
	"fmt"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

const closerSchema = `
CREATE TABLE IF NOT EXISTS paid(bill_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reminders(bill_id TEXT PRIMARY KEY, asked INTEGER NOT NULL) WITHOUT ROWID;
`

// closer takes the reminder of each bill when it comes due and asks for the
// bill to be closed if it has not heard of a payment. It asks, it does not
// decide: the news of a payment may still be on its way, and only the bills
// service knows.
type closer struct {
	_ listener.On    `topic:"bill-due" group:"closer" name:"closer"`
	_ listener.Retry `attempts:"16" backoff:"100ms..1s"`

	reminders *reminders
	producer  *sdk.Producer
	chaos     chaos
}

func newCloser(r *reminders, p *sdk.Producer, c chaos) *closer {
	return &closer{reminders: r, producer: p, chaos: c}
}

// OnMessage handles one reminder. It asks before it takes note, so that a crash
// between the two asks again: closing twice closes once.
func (c *closer) OnMessage(ctx context.Context, m *sdk.Message[billDue]) error {
	id := m.Payload.BillID
	if err := c.chaos.handle("closer", id, m.Attempt); err != nil {
		return err
	}
	paid, err := c.reminders.Paid(ctx, id)
	if err != nil {
		return err
	}
	if !paid {
		if _, err := c.producer.Send(ctx, topicClose, closeBill{BillID: id}, sdk.Key(id)); err != nil {
			return fmt.Errorf("ask to close bill %s: %w", id, err)
		}
	}
	return c.reminders.Done(ctx, id, !paid)
}

// payments remembers for the closer which bills were paid.
type payments struct {
	_ listener.On    `topic:"bill-settled" group:"closer-payments" name:"closer-payments"`
	_ listener.Retry `attempts:"16" backoff:"100ms..1s"`

	reminders *reminders
	chaos     chaos
}

func newPayments(r *reminders, c chaos) *payments { return &payments{reminders: r, chaos: c} }

// OnMessage remembers one payment.
func (p *payments) OnMessage(ctx context.Context, m *sdk.Message[billSettled]) error {
	if err := p.chaos.handle("closer-payments", m.Payload.BillID, m.Attempt); err != nil {
		return err
	}
	return p.reminders.SetPaid(ctx, m.Payload.BillID)
}

// reminders is the database of the closer service.
type reminders struct{ db *sql.DB }

// SetPaid remembers that the bill was paid.
func (r *reminders) SetPaid(ctx context.Context, billID string) error {
	if _, err := r.db.ExecContext(ctx, `INSERT INTO paid(bill_id) VALUES(?) ON CONFLICT DO NOTHING`, billID); err != nil {
		return fmt.Errorf("remember the payment of bill %s: %w", billID, err)
	}
	return nil
}

// Paid reports whether the service has heard of a payment.
func (r *reminders) Paid(ctx context.Context, billID string) (bool, error) {
	var paid bool
	if err := r.db.QueryRowContext(ctx, `SELECT EXISTS(SELECT 1 FROM paid WHERE bill_id = ?)`, billID).Scan(&paid); err != nil {
		return false, fmt.Errorf("look up the payment of bill %s: %w", billID, err)
	}
	return paid, nil
}

// Done notes that the reminder was handled, and whether closing was asked for.
func (r *reminders) Done(ctx context.Context, billID string, asked bool) error {
	if _, err := r.db.ExecContext(ctx, `INSERT INTO reminders(bill_id, asked) VALUES(?,?) ON CONFLICT DO NOTHING`, billID, asked); err != nil {
		return fmt.Errorf("note the reminder of bill %s: %w", billID, err)
	}
	return nil
}

// closerModule is the service that looks after unpaid bills.
func closerModule() fx.Option {
	return fx.Module("closer",
		fx.Provide(fx.Private, func(lc fx.Lifecycle, d *databases) (*reminders, error) {
			db, err := d.Own(lc, "closer", closerSchema)
			return &reminders{db: db}, err
		}),
		listener.Provide[*closer](newCloser),
		listener.Provide[*payments](newPayments),
	)
}
