package redistest_test

import (
	"testing"
	"time"

	"github.com/sluicemq/sluice/internal/redistest"
)

func TestServer_SurvivesKillAndFreeze(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "appendonly", "yes", "appendfsync", "always")
	c := s.Client(t)
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := c.Get(t.Context(), "k").Err(); err == nil {
		t.Fatal("a killed server answered")
	}
	s.Restart(t)
	if got, err := c.Get(t.Context(), "k").Result(); got != "v" || err != nil {
		t.Fatalf("after a restart: got %q, %v, want v", got, err)
	}
	s.Freeze(t)
	start := time.Now()
	time.AfterFunc(200*time.Millisecond, func() { s.Thaw(t) })
	if err := c.Get(t.Context(), "k").Err(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 150*time.Millisecond {
		t.Fatalf("a frozen server answered after %v", d)
	}
}
