package tx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/tx"
	"github.com/sluicemq/sluice/tx/marker"
)

type paid struct{ Bill string }

// A message that is visible exactly if its local transaction commits, without fx.
func ExampleSender() {
	ctx := context.Background()
	dir, _ := os.MkdirTemp("", "tx-example-")
	defer func() { _ = os.RemoveAll(dir) }()
	db, _ := sql.Open("sqlite", filepath.Join(dir, "bills.db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	defer func() { _ = db.Close() }()
	table, _ := marker.New(db, marker.SQLite(), marker.Config{})
	_ = table.Create(ctx)
	_, _ = db.ExecContext(ctx, `CREATE TABLE bills (id TEXT)`)

	broker, _ := embedded.Open("", embedded.Config{})
	defer func() { _ = broker.Close(ctx) }()
	client, _ := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{broker.Driver()}})
	defer func() { _ = client.Close(ctx) }()

	sender, err := tx.NewSender[paid](tx.Params{Client: client, Local: table}, tx.Topic("bill-paid"), tx.Group("bills"))
	if err != nil {
		fmt.Println(err)
		return
	}
	checks, _ := tx.NewChecks(client, sender) // answers for senders that died
	_ = checks.Start(ctx)
	defer func() { _ = checks.Stop(ctx) }()

	res, err := sender.Send(ctx, paid{"B-1"}, func(ctx context.Context, t *sql.Tx) error {
		_, err := t.ExecContext(ctx, `INSERT INTO bills VALUES ('B-1')`)
		return err
	})
	fmt.Println(res.Outcome, err)

	noCover := errors.New("no cover")
	res, err = sender.Send(ctx, paid{"B-2"}, func(context.Context, *sql.Tx) error { return noCover })
	fmt.Println(res.Outcome, errors.Is(err, noCover))
	// Output:
	// committed <nil>
	// rolled_back true
}
