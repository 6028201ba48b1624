package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

type bill struct {
	ID string `json:"bill_id"`
}

// wallet is what the service depends on.
type wallet struct {
	up atomic.Bool
}

// Ping reports whether the wallet answers.
func (w *wallet) Ping(context.Context) error {
	if !w.up.Load() {
		return errors.New("the wallet does not answer")
	}
	return nil
}

// instance is one process of the service: an fx application of its own.
type instance struct {
	name      string
	app       *fx.App
	wallet    *wallet
	listeners *listener.Container
	producer  *sdk.Producer

	handled, twice, running, most atomic.Int64
	seen                          *sync.Map // bill ids, shared by the instances
}

// start builds and starts an instance; opts are what differs between the two.
func start(ctx context.Context, d driver.Driver, name string, seen *sync.Map, walletUp bool, opts ...listener.Option) (*instance, error) {
	i := &instance{name: name, wallet: &wallet{}, seen: seen}
	i.wallet.up.Store(walletUp)
	i.app = fx.New(i.options(d, opts...), fx.Populate(&i.listeners, &i.producer), sdk.Start())
	return i, i.app.Start(ctx)
}

// options are the application of an instance, but for its start.
func (i *instance) options(d driver.Driver, opts ...listener.Option) fx.Option {
	opts = append([]listener.Option{listener.Name("red-packet"), listener.Topic("bill-settled"), listener.Group("red-packet")}, opts...)
	return fx.Options(fx.NopLogger,
		fx.Supply(fx.Annotate(d, fx.As(new(driver.Driver)), fx.ResultTags(`group:"`+driver.Group+`"`)), i.wallet),
		sdk.Module, listener.Module,
		listener.Provide[listener.Func[bill]](func(w *wallet) listener.Func[bill] { return i.payOut }, opts...),
		listener.Gate("wallet", func(ctx context.Context, w *wallet) error { return w.Ping(ctx) }))
}

// payOut is the handler.
func (i *instance) payOut(_ context.Context, m *sdk.Message[bill]) error {
	if n := i.running.Add(1); n > i.most.Load() {
		i.most.Store(n) // exact enough: it is asked for while one handler runs at a time
	}
	defer i.running.Add(-1)
	time.Sleep(5 * time.Millisecond) // the wallet takes its time
	if _, again := i.seen.LoadOrStore(m.Payload.ID, i.name); again {
		i.twice.Add(1)
	}
	i.handled.Add(1)
	return nil
}
