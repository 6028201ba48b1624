package limit_test

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/integration/bench/internal/limit"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPublishers runs each for a moment: they store something and leave nothing.
func TestPublishers(t *testing.T) {
	for name, open := range map[string]func(dir string) (measure.Publisher, error){
		"mapping":   func(dir string) (measure.Publisher, error) { return limit.NewMapping(dir) },
		"writes":    func(dir string) (measure.Publisher, error) { return limit.NewWrites(dir) },
		"fdatasync": func(dir string) (measure.Publisher, error) { return limit.NewFdatasync(dir) },
		"group":     func(dir string) (measure.Publisher, error) { return limit.NewGroup(dir) },
		"loopback":  func(string) (measure.Publisher, error) { return limit.NewLoopback(4) },
	} {
		t.Run(name, func(t *testing.T) {
			p, err := open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			workers := 4
			if name == "fdatasync" {
				workers = 1
			}
			r, err := measure.Loop{Workers: workers, For: 20 * time.Millisecond}.Run(p.Publish)
			if err := errors.Join(err, p.Close()); err != nil || r.Messages == 0 {
				t.Errorf("%d messages, %v", r.Messages, err)
			}
		})
	}
}

func TestPipelines(t *testing.T) {
	for name, open := range map[string]func(dir string, f *measure.Flow) (measure.Pipeline, error){
		"in process":    func(dir string, f *measure.Flow) (measure.Pipeline, error) { return limit.NewPipeline(dir, f) },
		"relay":         func(dir string, f *measure.Flow) (measure.Pipeline, error) { return limit.NewRelay(dir, 2, f, false) },
		"relay waiting": func(dir string, f *measure.Flow) (measure.Pipeline, error) { return limit.NewRelay(dir, 2, f, true) },
	} {
		t.Run(name, func(t *testing.T) {
			f := measure.NewFlow(2, 100, 0, 0, 50*time.Millisecond)
			p, err := open(t.TempDir(), f)
			if err != nil {
				t.Fatal(err)
			}
			r, err := f.Run(p)
			if err := errors.Join(err, p.Close()); err != nil || r.Messages == 0 || r.Latency.Count() == 0 {
				t.Errorf("%d messages, %d latencies, %v", r.Messages, r.Latency.Count(), err)
			}
		})
	}
}

func TestBulk(t *testing.T) {
	const messages = 70_000 // more than a segment
	if f, err := limit.Sustained(t.TempDir(), messages); err != nil || f["rate"] <= 0 {
		t.Errorf("sustained: %v, %v", f, err)
	}
	if f, err := limit.Scan(t.TempDir(), 1000); err != nil || f["s_per_gib"] <= 0 {
		t.Errorf("scan: %v, %v", f, err)
	}
}
