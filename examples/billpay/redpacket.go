package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// redPackets pays one red packet for each settled bill. The decorator keeps
// duplicates away as long as Redis remembers; the wallet needs no memory but
// its own. The lease is short because a run that continues after a kill -9 waits
// for the leases of the dead one.
type redPackets struct {
	_ listener.On          `topic:"bill-settled" group:"red-packet" name:"red-packet" concurrency:"16"`
	_ listener.Retry       `attempts:"16" backoff:"100ms..1s"`
	_ idempotency.By       `key:"bill_id" lease:"5s" namespace:"${billpay.namespace}"`
	_ listener.StartPaused `resume:"auto"`

	wallet *wallet
	chaos  chaos
}

func newRedPackets(w *wallet, c chaos) *redPackets { return &redPackets{wallet: w, chaos: c} }

// OnMessage returns nil to acknowledge; any other error is retried by the policy above.
func (r *redPackets) OnMessage(ctx context.Context, m *sdk.Message[billSettled]) error {
	s := m.Payload
	if err := r.chaos.handle("red-packet", s.BillID, m.Attempt); err != nil {
		return err
	}
	err := r.wallet.Credit(ctx, s.BillID, s.Account, packet(s.AmountCents))
	if errors.Is(err, errPaidBefore) {
		return r.wallet.Stopped(ctx, s.BillID)
	}
	return err
}

// tally writes the decorator's count of duplicates into the wallet's database,
// so that it survives a kill -9 to within its interval.
type tally struct {
	wallet *wallet
	stats  func() int64
	run    string
	log    *slog.Logger

	root context.Context // lives from Start to Stop
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// tallyEvery is also how many duplicates may go uncounted at a kill -9.
const tallyEvery = 100 * time.Millisecond

func newTally(w *wallet, d *idempotency.Decorator, log *slog.Logger) *tally {
	t := &tally{
		wallet: w, log: log,
		stats: func() int64 { return d.Stats().Duplicates },
		run:   time.Now().UTC().Format(time.RFC3339Nano),
	}
	t.root, t.stop = context.WithCancel(context.Background())
	return t
}

// Start begins to count.
func (t *tally) Start(context.Context) error {
	t.wg.Go(func() {
		tick := time.NewTicker(tallyEvery)
		defer tick.Stop()
		last := int64(0)
		for {
			select {
			case <-t.root.Done():
				return
			case <-tick.C:
			}
			if n := t.stats(); n != last {
				if err := t.wallet.Suppressed(t.root, t.run, n); err != nil {
					t.log.Warn("the count of duplicates was not saved", slog.Any("error", err))
					continue
				}
				last = n
			}
		}
	})
	return nil
}

// Stop ends it and writes the last count: every listener has drained by now.
func (t *tally) Stop(ctx context.Context) error {
	t.stop()
	t.wg.Wait()
	return t.wallet.Suppressed(ctx, t.run, t.stats())
}

// redpacketModule is the service that pays red packets.
func redpacketModule() fx.Option {
	return fx.Module("redpacket",
		fx.Provide(fx.Private, func(lc fx.Lifecycle, d *databases) (*wallet, error) {
			db, err := d.Own(lc, "redpacket", walletSchema)
			return &wallet{db: db}, err
		}),
		listener.Provide[*redPackets](newRedPackets),
		listener.Gate("wallet", func(ctx context.Context, w *wallet) error { return w.Ping(ctx) }, listener.For("red-packet")),
		// A red packet takes milliseconds, so its duplicate need not wait long.
		fx.Supply(idempotency.Settings{BusyCap: 200 * time.Millisecond}),
		fx.Provide(fx.Private, newTally),
		fx.Invoke(func(lc fx.Lifecycle, t *tally) { lc.Append(fx.Hook{OnStart: t.Start, OnStop: t.Stop}) }),
	)
}
