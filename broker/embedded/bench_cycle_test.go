package embedded_test

import (
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
)

// BenchmarkCycle is one message of 1 KiB after the other, in memory: sent,
// fetched, settled.
func BenchmarkCycle(b *testing.B) {
	conn := benchConn(b)
	k := &kit{TB: b, conn: conn}
	req := driver.SendRequest{Messages: []*driver.Message{{Topic: "bench", Body: make([]byte, benchBody)}}}
	c := k.join(conn, spec("g", "bench"))
	l := c.lane("bench/0")
	b.SetBytes(benchBody)
	b.ReportAllocs()
	for b.Loop() {
		if r := conn.Send(b.Context(), req); r[0].Err != nil {
			b.Fatal(r[0].Err)
		}
		ds, err := l.Fetch(b.Context(), 1)
		if err != nil || len(ds) != 1 {
			b.Fatalf("fetch: %d deliveries, %v", len(ds), err)
		}
		if err := l.Settle(b.Context(), []driver.Settlement{{Delivery: ds[0], Outcome: driver.Ack}}); err != nil {
			b.Fatal(err)
		}
	}
}
