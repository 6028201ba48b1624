package kfake_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/peer/kfake"
)

func TestWindow(t *testing.T) {
	p, err := kfake.NewWindow(t.TempDir(), 2, 8)
	if err != nil {
		t.Fatal(err)
	}
	r, err := measure.Loop{Workers: 2, For: 50 * time.Millisecond}.Run(p.Publish)
	if err := errors.Join(err, p.Close()); err != nil || r.Messages == 0 || r.Messages%8 != 0 {
		t.Errorf("%d messages, %v", r.Messages, err)
	}
}

func TestPipeline(t *testing.T) {
	for name, wait := range map[string]bool{"waiting": true, "not waiting": false} {
		t.Run(name, func(t *testing.T) {
			f := measure.NewFlow(2, 100, 0, 0, 100*time.Millisecond)
			p, err := kfake.NewPipeline(t.TempDir(), f, wait)
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
