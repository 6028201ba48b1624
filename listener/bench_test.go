package listener_test

import (
	"context"
	"sync"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	bundled "github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// BenchmarkPublishHandleSettle is the whole way of a 1 KiB message through the
// framework in one process: Send, the pump, a handler, the settlement. The
// broker keeps everything in memory. 64 senders wait for their answers; the
// time is that until the last message is handled.
func BenchmarkPublishHandleSettle(b *testing.B) {
	broker, err := bundled.Open("", bundled.Config{})
	if err != nil {
		b.Fatal(err)
	}
	client, err := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{broker.Driver()}})
	if err != nil {
		b.Fatal(err)
	}
	var handled sync.WaitGroup
	reg, err := listener.Register(listener.Func[[]byte](func(context.Context, *sdk.Message[[]byte]) error {
		handled.Done()
		return nil
	}), listener.Name("bench"), listener.Topic("bench"), listener.Group("bench"), listener.Concurrency(64))
	if err != nil {
		b.Fatal(err)
	}
	c, err := listener.NewContainer(listener.ContainerParams{Client: client, Registrations: []listener.Registration{reg}})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		ctx := context.WithoutCancel(b.Context())
		_ = c.Stop(ctx)
		_ = client.Close(ctx)
		_ = broker.Close(ctx)
	}()
	body := make([]byte, 1<<10)
	b.SetBytes(1 << 10)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			handled.Add(1)
			if _, err := client.Producer().Send(b.Context(), "bench", body); err != nil {
				b.Error(err)
				handled.Done()
				return
			}
		}
	})
	handled.Wait()
}
