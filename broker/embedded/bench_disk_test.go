package embedded_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// BenchmarkDisk is what a service does with a store on disk, 1 KiB a message,
// in each durability mode: publishers that share the log, and the whole way of
// a message.
func BenchmarkDisk(b *testing.B) {
	for _, mode := range []embedded.Sync{embedded.SyncAlways, embedded.SyncNever} {
		open := func(b *testing.B) driver.Conn {
			b.Helper()
			broker, err := embedded.Open(b.TempDir(), embedded.Config{Queues: 1, Sync: mode})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = broker.Close(context.WithoutCancel(b.Context())) })
			return broker.Connect("bench")
		}
		for _, producers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("publish/%s/producers=%d", mode, producers), func(b *testing.B) {
				conn := open(b)
				b.SetBytes(benchBody)
				b.ReportAllocs()
				b.SetParallelism((producers + 1) / 2)
				b.RunParallel(func(pb *testing.PB) {
					req := driver.SendRequest{Messages: []*driver.Message{{Topic: "bench", Body: make([]byte, benchBody)}}}
					for pb.Next() {
						if r := conn.Send(b.Context(), req); r[0].Err != nil {
							b.Error(r[0].Err)
							return
						}
					}
				})
			})
		}
	}
}
