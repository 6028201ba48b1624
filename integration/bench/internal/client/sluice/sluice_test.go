package sluice_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/server"

	"github.com/sluicemq/sluice/integration/bench/internal/client/sluice"
	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// serve starts a server that makes topics and answers its address.
func serve(t *testing.T) string {
	t.Helper()
	b, err := embedded.Open("", embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(b, server.Config{Listen: "127.0.0.1:0", AutoCreate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(context.Background()), b.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String()
}

func TestSenderAndDrain(t *testing.T) {
	addr := serve(t)
	s, err := sluice.NewSender(addr, "sender", "batches", 2, 8)
	if err != nil {
		t.Fatal(err)
	}
	for worker := range 2 {
		if n, err := s.Publish(worker); n != 8 || err != nil {
			t.Fatalf("worker %d has sent %d messages, %v", worker, n, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if r, err := sluice.Drain(addr, "batches", 16, nil); err != nil || r.Messages != 16 || r.Spent.Elapsed <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestPipeline(t *testing.T) {
	addr := serve(t)
	for name, wait := range map[string]bool{"waiting": true, "gathering": false} {
		t.Run(name, func(t *testing.T) {
			f := measure.NewFlow(2, 100, 0, 0, 100*time.Millisecond)
			p, err := sluice.NewPipeline(addr, name, 2, f, wait)
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
