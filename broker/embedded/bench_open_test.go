package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// BenchmarkOpen_Rescan opens a store of 256 MiB whose index and checkpoints are
// gone, so that everything is read and made anew.
func BenchmarkOpen_Rescan(b *testing.B) {
	dir := b.TempDir()
	cfg := embedded.Config{Sync: embedded.SyncNever}
	broker, err := embedded.Open(dir, cfg)
	if err != nil {
		b.Fatal(err)
	}
	conn := broker.Connect("bench")
	ms := make([]*driver.Message, 256)
	for i := range ms {
		ms[i] = &driver.Message{Topic: "bench", Body: make([]byte, benchBody)}
	}
	const size = 256 << 20
	for sent := 0; sent < size; sent += len(ms) * benchBody {
		for _, r := range conn.Send(b.Context(), driver.SendRequest{Messages: ms}) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
	}
	if err := broker.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for _, pattern := range []string{"STATE-*", "*.idx"} {
			names, _ := filepath.Glob(filepath.Join(dir, pattern))
			for _, name := range names {
				if err := os.Remove(name); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.StartTimer()
		broker, err := embedded.Open(dir, cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = broker.Close(context.WithoutCancel(b.Context()))
		b.StartTimer()
	}
}
