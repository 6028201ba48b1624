package main

import (
	"context"
	"sync"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// ledger appends the movements of each account, in the order of the account,
// and watches whether it is given them in that order: see [countInversions].
type ledger struct {
	_ listener.On      `topic:"bill-settled" group:"ledger" name:"ledger"`
	_ listener.Orderly `workers:"16" by:"key" exhausted:"block"`
	_ listener.Retry   `attempts:"16" backoff:"50ms..1s"`

	book  *book
	chaos chaos

	mu   sync.Mutex
	busy map[string]int // handlers by account
}

func newLedger(b *book, c chaos) *ledger { return &ledger{book: b, chaos: c, busy: map[string]int{}} }

// OnMessage appends one movement.
func (l *ledger) OnMessage(ctx context.Context, m *sdk.Message[billSettled]) error {
	s := m.Payload
	defer l.leave(s.Account)
	if l.enter(s.Account) > 1 {
		if err := l.book.Overlapped(ctx, s); err != nil {
			return err
		}
	}
	if err := l.chaos.handle("ledger", s.BillID, m.Attempt); err != nil {
		return err
	}
	return l.book.Append(ctx, s, m.Lane, m.Offset)
}

// enter answers how many handlers are with the account now.
func (l *ledger) enter(account string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[account]++
	return l.busy[account]
}

func (l *ledger) leave(account string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[account]--; l.busy[account] == 0 {
		delete(l.busy, account)
	}
}

// ledgerModule is the service that keeps the book.
func ledgerModule() fx.Option {
	return fx.Module("ledger",
		fx.Provide(fx.Private, func(lc fx.Lifecycle, d *databases) (*book, error) {
			db, err := d.Own(lc, "ledger", ledgerSchema)
			return &book{db: db}, err
		}),
		listener.Provide[*ledger](newLedger),
	)
}
