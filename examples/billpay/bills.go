package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/tx"
)

const (
	// payers is how many bills are paid at a time.
	payers = 16
	// announceBatch is how many bills share one commit and one send at most.
	announceBatch = 64
	// closeAgain is when a request to close a bill is looked at again that came
	// before the bill was decided.
	closeAgain = 300 * time.Millisecond
)

// bills announces bills and pays them. Each payment is one local transaction
// with one half message, so the others hear of it if and only if it happened.
type bills struct {
	store    *billStore
	local    *localTx
	sender   *tx.Sender[billSettled]
	producer *sdk.Producer
	chaos    chaos
	tracer   trace.Tracer
	log      *slog.Logger

	left []bill // open bills of an earlier run; set by Start, used by Run
}

// billsParams is what the service takes from the graph.
type billsParams struct {
	fx.In

	Store    *billStore
	Local    *localTx
	Sender   *tx.Sender[billSettled]
	Producer *sdk.Producer
	Chaos    chaos
	Tracing  trace.TracerProvider
	Log      *slog.Logger
}

func newBills(p billsParams) *bills {
	return &bills{
		store: p.Store, local: p.Local, sender: p.Sender, producer: p.Producer, chaos: p.Chaos,
		tracer: p.Tracing.Tracer("billpay"), log: p.Log.With(slog.String("service", "bills")),
	}
}

// service starts before the check-backs do: what an earlier run left open is to
// be paid by another try, so its check-back must no longer end the bill.
func (b *bills) service() sdk.Service {
	return sdk.Service{Name: "bills", Phase: sdk.PhaseConnect + 50, Start: b.Start}
}

// Start takes over what an earlier run left open.
func (b *bills) Start(ctx context.Context) (err error) {
	b.left, err = b.store.Reopen(ctx)
	return err
}

// Run announces and pays what in yields until it is closed, after what an earlier run
// left open. reject hears of rows that were skipped. It returns when every
// payment it began is decided or left to its check-back; a ctx that ends stops
// it between two bills.
func (b *bills) Run(ctx context.Context, in <-chan item, reject func(error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	open := make(chan bill)
	var wg sync.WaitGroup
	for range payers {
		wg.Go(func() {
			for next := range open {
				if err := b.pay(ctx, &next); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := b.feed(ctx, in, reject, open)
	close(open)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// feed hands bills to the payers: first what an earlier run left, then the input.
func (b *bills) feed(ctx context.Context, in <-chan item, reject func(error), open chan<- bill) error {
	forgotten, err := b.store.Unreminded(ctx)
	if err != nil {
		return err
	}
	if err := b.remind(ctx, forgotten); err != nil {
		return err
	}
	if err := hand(ctx, b.left, open); err != nil {
		return err
	}
	for {
		batch, err := nextBatch(ctx, in, reject)
		if err != nil {
			return err
		}
		if batch == nil {
			return nil
		}
		if err := b.announce(ctx, batch, reject, open); err != nil {
			return err
		}
	}
}

// nextBatch waits for one item and takes what else is there already, so that
// bills that trickle in are not kept waiting for others. It answers nil at the end.
func nextBatch(ctx context.Context, in <-chan item, reject func(error)) ([]row, error) {
	batch := make([]row, 0, announceBatch)
	for len(batch) < announceBatch {
		var next item
		var more bool
		select {
		case next, more = <-in:
		default:
			if len(batch) > 0 {
				return batch, nil
			}
			select {
			case next, more = <-in:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		if !more {
			break
		}
		if _, skipped := errors.AsType[*rowError](next.err); skipped {
			reject(next.err)
			continue
		}
		if next.err != nil {
			return nil, next.err
		}
		batch = append(batch, next.row)
	}
	if len(batch) == 0 {
		return nil, nil
	}
	return batch, nil
}

// announce stores the bills, sends their reminders and hands them on.
func (b *bills) announce(ctx context.Context, rows []row, reject func(error), open chan<- bill) error {
	fresh, conflicts, err := b.store.Announce(ctx, rows, time.Now())
	if err != nil {
		return err
	}
	for _, c := range conflicts {
		reject(c)
	}
	if err := b.remind(ctx, fresh); err != nil {
		return err
	}
	return hand(ctx, fresh, open)
}

// remind sends the reminder of each bill, to be delivered when the bill is due.
// It takes note afterwards: a crash between the two sends it again.
func (b *bills) remind(ctx context.Context, due []bill) error {
	if len(due) == 0 {
		return nil
	}
	ms := make([]sdk.Outgoing, len(due))
	for i := range due {
		ms[i] = sdk.NewMessage(topicDue, billDue{BillID: due[i].BillID}, sdk.Key(due[i].BillID), sdk.DeliverAt(due[i].DueAt))
	}
	if _, err := b.producer.SendBatch(ctx, ms); err != nil {
		return fmt.Errorf("send %d reminders: %w", len(due), err)
	}
	return b.store.Reminded(ctx, due)
}

func hand(ctx context.Context, bs []bill, open chan<- bill) error {
	for _, next := range bs {
		select {
		case open <- next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// pay pays one bill. An error is one that must end the run; a payment that was
// rolled back, or whose end is for the check-back to say, is none.
func (b *bills) pay(ctx context.Context, next *bill) error {
	if ctx.Err() != nil {
		return nil // the bill stays announced for the next run
	}
	// From here on the payment is finished: half a payment costs a check-back.
	ctx, span := b.tracer.Start(context.WithoutCancel(ctx), "pay bill", trace.WithAttributes(
		attribute.String("bill.id", next.BillID), attribute.Int("bill.try", next.Try)))
	defer span.End()
	event := billSettled{BillID: next.BillID, Account: next.Account, Kind: next.Kind, AmountCents: next.AmountCents}
	options := []sdk.MessageOption{sdk.Tag(next.Kind), sdk.Key(next.BillID), sdk.OrderingKey(next.Account)}

	resend := b.chaos.resend(next.BillID)
	release := b.local.hold(next.txID())
	defer release()
	res, err := b.sender.Send(ctx, event, func(ctx context.Context, t *sql.Tx) error {
		if err := b.store.Pay(ctx, t, next, resend); err != nil {
			return err
		}
		if b.chaos.rollBack(next.BillID) {
			return fmt.Errorf("the local transaction of bill %s fails: %w", next.BillID, errChaos)
		}
		return nil
	}, append(options, sdk.ID(next.txID()))...)

	span.SetAttributes(attribute.String("bill.outcome", res.Outcome.String()))
	switch {
	case errors.Is(err, tx.ErrNotStored) || errors.Is(err, tx.ErrStopped):
		return err // nothing was tried; the bill stays announced for the next run
	case res.Outcome == tx.RolledBack:
		b.log.Debug("payment rolled back", slog.String("bill", next.BillID), slog.Any("error", err))
		return b.store.RollBack(ctx, next.txID())
	case res.Outcome == tx.Committed:
		if resend {
			return b.resend(ctx, event, options)
		}
		return nil
	case res.Outcome == tx.CommittedBrokerPending, res.Outcome == tx.Unknown:
		b.log.Debug("payment left to its check-back", slog.String("bill", next.BillID), slog.Any("error", err))
		return nil
	default:
		return fmt.Errorf("pay bill %s: %w", next.BillID, err)
	}
}

// resend announces a settled bill once more, as a producer does that did not
// hear that its first message was stored: same key, another message.
func (b *bills) resend(ctx context.Context, event billSettled, options []sdk.MessageOption) error {
	if _, err := b.producer.Send(ctx, topicSettled, event, options...); err != nil {
		return fmt.Errorf("send bill %s again: %w", event.BillID, err)
	}
	return nil
}

// closings closes unpaid bills when the closer asks for it.
type closings struct {
	_ listener.On    `topic:"bill-close" group:"bills" name:"bills"`
	_ listener.Retry `attempts:"16" backoff:"100ms..1s"`

	store *billStore
	chaos chaos
}

func newClosings(s *billStore, c chaos) *closings { return &closings{store: s, chaos: c} }

// OnMessage closes one bill, or comes back later if its payment is undecided.
func (c *closings) OnMessage(ctx context.Context, m *sdk.Message[closeBill]) error {
	id := m.Payload.BillID
	if err := c.chaos.handle("bills", id, m.Attempt); err != nil {
		return err
	}
	decided, err := c.store.Close(ctx, id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return listener.Reject(err)
	case err != nil:
		return err
	case !decided:
		return listener.Defer(closeAgain)
	default:
		return nil
	}
}

// billsModule is the service that announces, pays and closes bills.
func billsModule() fx.Option {
	return fx.Module("bills",
		fx.Provide(fx.Private, func(lc fx.Lifecycle, d *databases) (*billStore, error) {
			db, err := d.Own(lc, "bills", billSchema)
			return &billStore{db: db}, err
		}),
		fx.Provide(fx.Private, newLocalTx, func(l *localTx) tx.Local { return l }),
		tx.Provide[billSettled](tx.Topic(topicSettled), tx.Group("bills")),
		listener.Provide[*closings](newClosings),
		fx.Provide(newBills),
		sdk.AsService((*bills).service),
	)
}
