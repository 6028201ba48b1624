package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/server"
)

// brokerElsewhere starts the bundled broker as somebody else's, as sluice serve
// does, and answers its URL.
func brokerElsewhere(t *testing.T) string {
	t.Helper()
	b, err := embedded.Open(filepath.Join(t.TempDir(), "store"), embedded.Config{
		CheckAfter: 500 * time.Millisecond, CheckEvery: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(b, server.Config{Listen: "127.0.0.1:0", AutoCreate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return "rocketmq://" + s.Addr().String()
}

// The same services by TCP, on the bundled broker of somebody else, with chaos.
func TestRun_BrokerElsewhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	r := runHere(t.Context(), strings.NewReader(sample(200, 12, 1500)), "-bills", "-", "-dir", dir, "-json",
		"-chaos", "0.1", "-seed", "7", "-broker", brokerElsewhere(t), "-set", "sluice.send.timeout=20s") // a busy disk
	if got := r.wantInOrder(t, 200); got.CheckedBack == 0 || got.DuplicatesSuppressed == 0 {
		t.Errorf("the chaos has not met anything: %+v", got)
	}
}

// An address that is none is refused with the form of one.
func TestRun_BrokerWrong(t *testing.T) {
	t.Parallel()
	r := runHere(t.Context(), strings.NewReader(sample(5, 2, 300)), "-bills", "-", "-broker", "rocketmq://127.0.0.1:9876?x=1")
	if r.status != exitFailed || !strings.Contains(r.stderr, "rocketmq://host:port") {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
}
