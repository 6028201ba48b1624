package processes

import (
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
)

// TestKill kills a working process again and again and checks everything that
// it ever said against everything that is there at the end. Some of the kills
// come before the process is ready, in the middle of its recovery.
func TestKill(t *testing.T) {
	t.Parallel()
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			killLoop(t, m.sync)
		})
	}
}

func killLoop(t *testing.T, sync embedded.Sync) {
	kills := count(t, "KILLS", 20, 200, 1000)
	r := seeded(t)
	args := workerArgs{store: store{Dir: storeDir(t), Sync: time.Duration(sync)}, Pace: pace(kills)}
	l := newLedger(t)
	began, early := time.Now(), 0
	for range kills {
		args.Seed, args.Next = r.Uint64(), l.next
		c := start(t, command{}, "worker", args)
		if r.IntN(8) == 0 {
			early++
			c.work(between(r, 5*time.Millisecond, 60*time.Millisecond), l.note)
		} else {
			c.await("ready", l.note)
			c.work(between(r, 20*time.Millisecond, 400*time.Millisecond), l.note)
		}
		c.crash(l.note)
		l.fault("kill -9")
	}
	took := time.Since(began)
	drain := start(t, command{}, "drain", args)
	drain.await("drained", l.note)
	drain.end()
	if err := l.check(); err != nil {
		t.Error(err)
	}
	sent, stored, delivered := l.h.Counts()
	t.Logf("%d kills, %d of them early, %v each; %d sent, %d answered, %d deliveries; %v for the last look",
		kills, early, (took / time.Duration(kills)).Round(time.Millisecond), sent, stored, delivered, (time.Since(began) - took).Round(time.Millisecond))
	if stored < kills*4 || delivered < stored {
		t.Errorf("the run has tried too little: %d values were stored, %d delivered", stored, delivered)
	}
}

// pace keeps the history of a long run in memory.
func pace(kills int) time.Duration {
	return time.Millisecond * time.Duration(1+kills/125)
}
