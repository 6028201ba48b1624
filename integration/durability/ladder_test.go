package durability_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// TestPromiseLadder sends to one queue in each mode of sync and cuts the power:
// what is lost of what was acknowledged is nothing, or a suffix that is no older
// than the mode says. A kill of the program alone loses nothing in any mode.
//
// It catches a mode that syncs less than it promises, and one whose losses are
// not a suffix.
func TestPromiseLadder(t *testing.T) {
	t.Parallel()
	rungs := []struct {
		mode embedded.Sync
		// window is the age of the oldest message that may be lost in a power
		// cut; zero: none may be lost, negative: of any age.
		window time.Duration
	}{
		{embedded.SyncAlways, 0},
		{embedded.SyncEvery(50 * time.Millisecond), 50 * time.Millisecond},
		{embedded.SyncEvery(2 * time.Second), 2 * time.Second},
		{embedded.SyncNever, -1},
	}
	forSeeds(t, pick(200, 1000, 20_000), func(t *testing.T, seed uint64) {
		r := rungs[seed%uint64(len(rungs))]
		kill := seed/uint64(len(rungs))%4 == 0
		climb(t, seed, r.mode, r.window, kill)
	})
}

// climb sends until the power goes and looks at what is left.
func climb(t *testing.T, seed uint64, mode embedded.Sync, window time.Duration, kill bool) {
	rng := world.Rand(seed, 5)
	what := fmt.Sprintf("SEED=%d, sync %v, killed only: %v", seed, mode, kill)
	survivals := world.Survivals()
	survival := survivals[rng.IntN(len(survivals))]
	if kill {
		survival, window = world.Survival{Name: "everything", Keep: 1}, 0
	}
	cfg := world.Config()
	cfg.Sync, cfg.Queues = mode, 1
	w := world.New(t, cfg)
	if !kill {
		w.Disk().CutAt(20+rng.IntN(150), survival, rng)
	}
	if !w.Open() {
		return // before anything was promised
	}
	var acked []time.Time
	for i := range 20 + rng.IntN(60) {
		m := &driver.Message{Topic: "alpha", Body: make([]byte, rng.IntN(4)*rng.IntN(15_000)), ID: fmt.Sprintf("m-%d", i)}
		if r := w.Conn().Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{m}}); r[0].Err != nil {
			break
		}
		acked = append(acked, time.Now())
		if rng.IntN(3) == 0 {
			time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond)
		}
		if _, dead := w.Disk().Dead(); dead {
			break
		}
	}
	disk := w.Disk()
	w.Crash(survival, rng)
	w.Open()
	defer w.End()
	next := 0
	err := world.Each(context.Background(), w.Conn(), "alpha", 0, func(d *driver.Delivery) {
		if d.ID != fmt.Sprintf("m-%d", next) {
			t.Fatalf("%s: offset %d is %s, want m-%d: what is lost is no suffix", what, d.Offset, d.ID, next)
		}
		next++
	})
	if err != nil && (driver.CodeOf(err) != driver.NotFound || len(acked) > 0 && window == 0) {
		t.Fatalf("%s: %v", what, err)
	}
	if next >= len(acked) || window < 0 {
		return
	}
	if age := disk.When().Sub(acked[next]); age > window || window == 0 {
		t.Fatalf("%s: %d of %d were acknowledged and are lost, the oldest of them %v old", what, len(acked)-next, len(acked), age)
	}
}
