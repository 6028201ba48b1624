package embedded_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
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

// BenchmarkFlow is the whole way of a message at full speed, 1 KiB, with the
// operating system before the answer: eight publishers, a consumer a lane.
func BenchmarkFlow(b *testing.B) {
	broker, err := embedded.Open(b.TempDir(), embedded.Config{Sync: embedded.SyncNever})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = broker.Close(context.WithoutCancel(b.Context())) })
	conn := broker.Connect("bench")
	k := &kit{TB: b, conn: conn}
	c := k.join(conn, spec("g", "bench"))
	var handled sync.WaitGroup
	var settled atomic.Int64
	ctx, stop := context.WithCancel(b.Context())
	for i := range 4 {
		l := c.lane(fmt.Sprint("bench/", i))
		handled.Go(func() {
			for ctx.Err() == nil {
				ds, err := l.Fetch(ctx, 64)
				if err != nil {
					b.Error(err)
					return
				}
				ss := make([]driver.Settlement, len(ds))
				for i, d := range ds {
					ss[i] = driver.Settlement{Delivery: d, Outcome: driver.Ack}
				}
				if err := l.Settle(ctx, ss); err != nil {
					b.Error(err)
					return
				}
				settled.Add(int64(len(ds)))
			}
		})
	}
	b.SetBytes(benchBody)
	b.ReportAllocs()
	b.SetParallelism(4)
	var sent atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		req := driver.SendRequest{Messages: []*driver.Message{{Topic: "bench", Body: make([]byte, benchBody)}}}
		for pb.Next() {
			if r := conn.Send(ctx, req); r[0].Err != nil {
				b.Error(r[0].Err)
				return
			}
			sent.Add(1)
		}
	})
	for settled.Load() < sent.Load() {
		runtime.Gosched()
	}
	b.StopTimer()
	stop()
	handled.Wait()
}
