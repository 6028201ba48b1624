package embedded_test

import (
	"context"
	"fmt"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// printer prints what the lanes that it is given deliver.
type printer struct {
	ctx  context.Context
	done chan struct{}
}

func (p printer) Assigned(l driver.Lane) {
	go func() {
		for {
			ds, err := l.Fetch(p.ctx, 10)
			if err != nil {
				return // the lane was revoked
			}
			for _, d := range ds {
				fmt.Printf("%s: %s (attempt %d)\n", d.Topic, d.Body, d.Attempt)
				_ = l.Settle(p.ctx, []driver.Settlement{{Delivery: d, Outcome: driver.Ack}})
				close(p.done)
			}
		}
	}()
}

func (printer) Revoked(context.Context, driver.Lane) {}
func (printer) Lost(driver.Lane)                     {}

// A broker in memory, a message, a consumer: no fx, no sdk.
func Example() {
	ctx := context.Background()
	broker, err := embedded.Open("", embedded.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = broker.Close(ctx) }()
	client := broker.Connect("example")
	results := client.Send(ctx, driver.SendRequest{Messages: []*driver.Message{
		{Topic: "bill-settled", Tag: "water", Body: []byte("bill 7 is paid")},
	}})
	fmt.Println(results[0].Status)
	p := printer{ctx: ctx, done: make(chan struct{})}
	sub, err := client.Subscribe(ctx, driver.SubscribeSpec{Group: "red-packet", Topic: "bill-settled"}, p)
	if err != nil {
		fmt.Println(err)
		return
	}
	<-p.done
	_ = sub.Close(ctx)
	// Output:
	// stored
	// bill-settled: bill 7 is paid (attempt 1)
}
