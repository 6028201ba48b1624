package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/sdk/config"
)

// BillSettled is a payload of the examples.
type BillSettled struct {
	BillID string `json:"bill_id"`
}

func newExampleClient(conn *fakeConn) *sdk.Client {
	c, err := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{driverOf(conn)}})
	if err != nil {
		panic(err)
	}
	return c
}

// The application lists a broker module, sdk.Module, its own modules, and
// sdk.Start() last. Here the broker is a fake.
func ExampleStart() {
	conn := newConn()
	app := fx.New(fx.NopLogger,
		config.Map(map[string]string{"sluice.client-id": "billpay-1"}),
		fakeBroker(conn),
		sdk.Module,
		sdk.AsService(func(p *sdk.Producer) sdk.Service {
			return sdk.Service{Name: "greeter", Phase: sdk.PhaseListeners, Start: func(ctx context.Context) error {
				_, err := p.Send(ctx, "greetings", "hello")
				return err
			}}
		}),
		sdk.Start(sdk.StopBudget(30*time.Second)),
	)
	fmt.Println(app.Start(context.Background()), app.Stop(context.Background()))
	fmt.Printf("%s\n", conn.messages()[0].Body)
	// Output:
	// <nil> <nil>
	// "hello"
}

func ExampleProducer_Send() {
	client := newExampleClient(newConn())
	defer client.Close(context.Background())
	r, err := client.Producer().Send(context.Background(), "bill-settled", BillSettled{"B-1"},
		sdk.Tag("water"), sdk.Key("B-1"), sdk.OrderingKey("customer-7"), sdk.Delay(time.Minute))
	fmt.Println(r.Status, r.Lane, r.Attempts, err)
	// Output: stored bill-settled/0 1 <nil>
}

func ExampleProducer_SendAsync() {
	client := newExampleClient(newConn())
	done := func(r sdk.SendResult, err error) { fmt.Println(r.Status, r.Offset, err) }
	for _, id := range []string{"B-1", "B-2"} {
		m := sdk.NewMessage("bill-settled", BillSettled{id}, sdk.OrderingKey("customer-7"))
		if err := client.Producer().SendAsync(context.Background(), m, done); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(client.Close(context.Background())) // waits for both
	// Output:
	// stored 0 <nil>
	// stored 1 <nil>
	// <nil>
}

func ExampleProducer_SendBatch() {
	client := newExampleClient(newConn())
	defer client.Close(context.Background())
	results, err := client.Producer().SendBatch(context.Background(), []sdk.Outgoing{
		sdk.NewMessage("bill-settled", BillSettled{"B-1"}),
		sdk.NewMessage("bill settled", BillSettled{"B-2"}),
	})
	for _, r := range results {
		fmt.Println(r.Status)
	}
	fmt.Println(err)
	// Output:
	// stored
	// not_stored
	// send to bill settled: topic name "bill settled" holds ' '; it takes 1 to 127 characters of a-z A-Z 0-9 _ - % |
}

func ExampleError() {
	conn := newConn()
	conn.answer = func(_ context.Context, _ int, req driver.SendRequest) []driver.SendResult {
		return refuse(req, driver.Error{Code: driver.Unauthenticated, MaybeDone: true, Err: errors.New("session expired")})
	}
	client := newExampleClient(conn)
	defer client.Close(context.Background())
	_, err := client.Producer().Send(context.Background(), "bill-settled", BillSettled{"B-1"})
	if e, ok := errors.AsType[*sdk.Error](err); ok {
		fmt.Println(e.Code, e.Retryable, e.MaybeDone)
	}
	fmt.Println(err)
	// Output:
	// unauthenticated false true
	// send to bill-settled: session expired (the broker may have done it)
}

func ExampleAsInterceptor() {
	audit := func() sdk.Interceptor {
		return sdk.Interceptor{
			Name: "audit", Order: 150,
			Produce: func(next sdk.ProduceFunc) sdk.ProduceFunc {
				return func(ctx context.Context, ms []*sdk.Outgoing) ([]sdk.SendResult, error) {
					for _, m := range ms {
						m.Headers["sent-by"] = "billpay"
					}
					return next(ctx, ms)
				}
			},
		}
	}
	conn := newConn()
	var p *sdk.Producer
	app := fx.New(fx.NopLogger, fakeBroker(conn), sdk.Module, sdk.AsInterceptor(audit), fx.Populate(&p), sdk.Start())
	_, err := p.Send(context.Background(), "bill-settled", BillSettled{"B-1"})
	fmt.Println(app.Err(), err, conn.messages()[0].Properties["sent-by"])
	// Output: <nil> <nil> billpay
}

func ExampleClient_Retry() {
	client := newExampleClient(newConn())
	defer client.Close(context.Background())
	tries := 0
	err := client.Retry(context.Background(), "join group red-packet", func(context.Context) error {
		if tries++; tries < 3 {
			return &driver.Error{Code: driver.Unavailable, Retryable: true}
		}
		return nil
	}, sdk.RetryBackoff(time.Millisecond, time.Millisecond))
	fmt.Println(tries, err)
	// Output: 3 <nil>
}

func ExampleCodecs() {
	codecs, err := sdk.NewCodecs(sdk.CodecParams{})
	if err != nil {
		fmt.Println(err)
		return
	}
	body, contentType, err := codecs.Encode(BillSettled{"B-1"}, "")
	fmt.Printf("%s %s %v\n", body, contentType, err)
	var b BillSettled
	fmt.Println(codecs.Decode([]byte("{"), contentType, &b))
	// Output:
	// {"bill_id":"B-1"} application/json <nil>
	// decode application/json into sdk_test.BillSettled: unexpected end of JSON input
}
