package listener_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// BillSettled is what the bill service publishes.
type BillSettled struct {
	ID     string `json:"id"`
	Amount int    `json:"amount"`
}

// Receipts prints a receipt for every settled bill.
type Receipts struct {
	_ listener.On    `topic:"${bills.topic:bill-settled}" group:"receipts" concurrency:"1"`
	_ listener.Retry `attempts:"3" backoff:"10ms..1s"`

	printed chan struct{}
}

func (r *Receipts) OnMessage(_ context.Context, m *sdk.Message[BillSettled]) error {
	if m.Attempt == 1 {
		return errors.New("the printer is warming up")
	}
	fmt.Printf("attempt %d: bill %s over %d\n", m.Attempt, m.Payload.ID, m.Payload.Amount)
	close(r.printed)
	return nil
}

// run starts an application, calls f, and stops it.
func run(f func(ctx context.Context), opts ...fx.Option) {
	app := fx.New(append([]fx.Option{fx.NopLogger, embedded.Module, sdk.Module, listener.Module}, append(opts, sdk.Start())...)...)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := app.Start(ctx); err != nil {
		log.Fatal(err)
	}
	f(ctx)
	if err := app.Stop(ctx); err != nil {
		log.Fatal(err)
	}
}

func Example() {
	var producer *sdk.Producer
	printed := make(chan struct{})
	run(func(ctx context.Context) {
		if _, err := producer.Send(ctx, "bill-settled", BillSettled{ID: "b1", Amount: 42}); err != nil {
			log.Fatal(err)
		}
		<-printed
	},
		listener.Provide[*Receipts](func() *Receipts { return &Receipts{printed: printed} }),
		fx.Populate(&producer),
	)
	// Output: attempt 2: bill b1 over 42
}

func ExampleContainer_Pause() {
	var c *listener.Container
	show := func() { s, _ := c.Status("audit"); fmt.Println(s.State, s.Mode) }
	run(func(ctx context.Context) {
		for _, mode := range []listener.Mode{listener.HoldLanes, listener.ReleaseLanes} {
			if err := c.Pause(ctx, listener.Named("audit"), mode); err != nil {
				log.Fatal(err)
			}
			show()
		}
		if err := c.Resume(ctx, listener.All()); err != nil {
			log.Fatal(err)
		}
		s, _ := c.State("audit")
		fmt.Println(s)
	},
		listener.Provide[listener.Func[BillSettled]](func() listener.Func[BillSettled] {
			return func(context.Context, *sdk.Message[BillSettled]) error { return nil }
		}, listener.Name("audit"), listener.Topic("bill-settled"), listener.Group("audit")),
		fx.Populate(&c),
	)
	// Output:
	// paused hold
	// paused release
	// running
}

func ExampleProvide_mistake() {
	type Typo struct {
		Receipts
		_ listener.On `topic:"bill-settled" gruop:"receipts"`
	}
	app := fx.New(fx.NopLogger, listener.Provide[*Typo](func() *Typo { return &Typo{} }))
	fmt.Println(app.Err())
	// Output: listener *listener_test.Typo: listener.On: unknown key "gruop" (did you mean "group"?)
}
