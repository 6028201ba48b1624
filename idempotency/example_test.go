package idempotency_test

import (
	"context"
	"fmt"

	"github.com/sluicemq/sluice/idempotency"
	"github.com/sluicemq/sluice/idempotency/memstore"
	"github.com/sluicemq/sluice/sdk"
)

// A decorator works without fx, too: here around a plain function.
func Example() {
	d, err := idempotency.New(idempotency.Params{Store: memstore.New(memstore.Options{})})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()

	pay := func(ctx context.Context, m *sdk.Delivery) error {
		if err := idempotency.Check(ctx); err != nil { // right before the effect
			return err
		}
		fence, _ := idempotency.Fence(ctx)
		fmt.Printf("paid %s under fence %d\n", m.Body, fence)
		return nil
	}
	info := sdk.ListenerInfo{Name: "red-packet", Group: "red-packet"}
	handle, err := d.Wrap(info, idempotency.Config{Key: "bill_id"}, pay)
	if err != nil {
		fmt.Println(err)
		return
	}
	bill := &sdk.Delivery{Topic: "bill-settled", ID: "1", Body: []byte(`{"bill_id":"b-1"}`)}
	for range 3 { // the broker delivers it three times
		fmt.Println("acknowledge:", handle(context.Background(), bill) == nil)
	}
	fmt.Println("duplicates:", d.Stats().Duplicates)
	// Output:
	// paid {"bill_id":"b-1"} under fence 1
	// acknowledge: true
	// acknowledge: true
	// acknowledge: true
	// duplicates: 2
}
