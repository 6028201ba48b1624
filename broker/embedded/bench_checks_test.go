package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// BenchmarkCheckSweep asks for a hundred thousand half messages that are due at
// the same time, as after a restart; all stay undecided.
func BenchmarkCheckSweep(b *testing.B) {
	const n = 100_000
	k := &kit{TB: b, fs: vfs.NewMem(), cfg: embedded.Config{
		Queues: 1, Sync: embedded.SyncNever, CheckAfter: time.Nanosecond, CheckEvery: time.Hour,
	}}
	k.open()
	b.Cleanup(func() { _ = k.b.Close(context.WithoutCancel(b.Context())) })
	prepareMany(k, n)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		k.reopen()
		ctx, cancel := context.WithCancel(b.Context())
		var asked atomic.Int64
		b.StartTimer()
		err := k.conn.Extensions().Tx.Checks(ctx, "p", 64, func(context.Context, driver.Half, *driver.Delivery, int) driver.Decision {
			if asked.Add(1) == n {
				cancel()
			}
			return driver.Undecided
		})
		k.must("Checks", err)
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/n, "ns/check")
}

// prepareMany stores n half messages of group p.
func prepareMany(k *kit, n int) {
	k.Helper()
	const senders = 64
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := s; i < n; i += senders {
				m := &driver.Message{Topic: "t", ID: fmt.Sprint("tx-", i), Body: make([]byte, 256)}
				if _, err := k.conn.Extensions().Tx.Prepare(k.Context(), "p", m); err != nil {
					k.Errorf("prepare: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}
