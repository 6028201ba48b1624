package embedded_test

import (
	"context"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

const benchBody = 1 << 10

func benchConn(b *testing.B) driver.Conn {
	b.Helper()
	broker, err := embedded.Open("", embedded.Config{Queues: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = broker.Close(context.WithoutCancel(b.Context())) })
	return broker.Connect("bench")
}

// BenchmarkSend is one publisher, 1 KiB, in memory.
func BenchmarkSend(b *testing.B) {
	conn := benchConn(b)
	req := driver.SendRequest{Messages: []*driver.Message{{Topic: "bench", Body: make([]byte, benchBody)}}}
	b.SetBytes(benchBody)
	b.ReportAllocs()
	for b.Loop() {
		if r := conn.Send(b.Context(), req); r[0].Err != nil {
			b.Fatal(r[0].Err)
		}
	}
}

// BenchmarkSend_Parallel lets publishers share the writes.
func BenchmarkSend_Parallel(b *testing.B) {
	conn := benchConn(b)
	b.SetBytes(benchBody)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		req := driver.SendRequest{Messages: []*driver.Message{{Topic: "bench", Body: make([]byte, benchBody)}}}
		for pb.Next() {
			if r := conn.Send(b.Context(), req); r[0].Err != nil {
				b.Error(r[0].Err)
				return
			}
		}
	})
}
