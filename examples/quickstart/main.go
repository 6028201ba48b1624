// Quickstart shows Sluice in one process, without any server: a broker in a temporary folder,
// a producer, a transaction, a listener that pays once: go run ./examples/quickstart
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/fx"
	_ "modernc.org/sqlite"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/memstore"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/tx"
	"github.com/sluicemq/sluice/tx/marker"
)

type bill struct{ ID string }

// redPackets pays one red packet for each settled bill.
type redPackets struct {
	_    listener.On    `topic:"bill-settled" group:"red-packet"`
	_    listener.Retry `attempts:"5" backoff:"200ms"`
	_    idempotency.By `key:"ID" ttl:"1h"`
	paid chan string
}

// OnMessage returns nil to acknowledge; any other error is retried as said above.
func (r *redPackets) OnMessage(_ context.Context, m *sdk.Message[bill]) error {
	if m.Payload.ID == "B-2" && m.Attempt == 1 {
		say("handler", "B-2: the wallet is down (attempt 1), again in 200ms")
		return errors.New("the wallet is down")
	}
	time.Sleep(200 * time.Millisecond) // the wallet takes its time
	say("handler", "%s: red packet paid (attempt %d)", m.Payload.ID, m.Attempt)
	r.paid <- m.Payload.ID
	return nil
}

func options(dir string, db *sql.DB, paid chan string) fx.Option {
	return fx.Options(fx.NopLogger, fx.Supply(db, embedded.Config{Dir: filepath.Join(dir, "broker"), CheckAfter: 500 * time.Millisecond}),
		embedded.Module, memstore.Module, marker.Module, fx.Provide(marker.SQLite), sdk.Module, listener.Module,
		listener.Provide[*redPackets](func() *redPackets { return &redPackets{paid: paid} }),
		tx.Provide[bill](tx.Topic("bill-settled"), tx.Group("bills"), tx.Interrupt(crash)))
}

func main() {
	dir, err := os.MkdirTemp("", "quickstart-")
	defer func() { _ = os.RemoveAll(dir) }()
	db, openErr := sql.Open("sqlite", filepath.Join(dir, "bills.db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	check(errors.Join(err, openErr))
	paid := make(chan string, 16)
	var producer *sdk.Producer
	var bills *tx.Sender[bill]
	var listeners *listener.Container
	var once *idempotency.Decorator
	app := fx.New(options(dir, db, paid), fx.Populate(&producer, &bills, &listeners, &once), sdk.Start())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	send := func(id string) error { _, err := producer.Send(ctx, "bill-settled", bill{id}); return err }
	until := func(f func() bool) {
		for ; !f(); time.Sleep(time.Millisecond) {
			check(ctx.Err())
		}
	}
	wait := func(n int) { until(func() bool { return len(paid) == n }) }
	check(app.Start(ctx))
	say("producer", "B-1, B-2, B-3 are settled")
	check(errors.Join(send("B-1"), send("B-2"), send("B-3")))
	wait(3)
	say("producer", "B-1 is sent once more, as after a lost answer")
	check(send("B-1"))
	until(func() bool { return once.Stats().Duplicates == 1 })
	say("sluice", "B-1: a duplicate, skipped")
	res, err := bills.Send(ctx, bill{"B-4"}, func(context.Context, *sql.Tx) error { return errors.New("no cover") })
	say("bills", "B-4: no message, its transaction failed (%s: %v)", res.Outcome, errors.Unwrap(err))
	res, _ = bills.Send(ctx, bill{"B-5"}, func(context.Context, *sql.Tx) error { return nil }, sdk.ID("B-5"))
	say("bills", "B-5: committed in the database, but the sender dies before it tells the broker (%s)", res.Outcome)
	wait(4)
	say("sluice", "B-5: the broker asked back and the marker row answered")
	check(listeners.Pause(ctx, listener.All(), listener.HoldLanes))
	say("operator", "pause; B-6 is settled and waits")
	check(send("B-6"))
	time.Sleep(300 * time.Millisecond)
	say("operator", "resume; %d paid meanwhile", len(paid)-4)
	check(listeners.Resume(ctx, listener.All()))
	wait(5)
	check(send("B-7"))
	until(func() bool { return listeners.States()[0].InFlight == 1 })
	say("operator", "stop, while B-7 is in its handler")
	check(errors.Join(app.Stop(ctx), db.Close()))
	say("sluice", "drained: B-7 was finished, %d of 6 red packets are paid, each once", len(paid))
}

// crash leaves behind what a sender leaves that dies after the local commit of B-5.
func crash(_ context.Context, at tx.Step, id string) error {
	if id == "B-5" && at == tx.AfterLocal {
		return tx.ErrAbandon
	}
	return nil
}

func say(who, format string, args ...any) {
	fmt.Printf("%-8s | "+format+"\n", append([]any{who}, args...)...)
}

func check(err error) {
	if err != nil {
		log.Fatalln("quickstart:", err)
	}
}
