package durability_test

import (
	"testing"
	"testing/synctest"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// TestSchedules runs random operations, cuts the power in front of a random
// change of the disk, lets some of what was not synced survive, opens the store
// again, and compares it with all that was promised.
//
// It catches an answer before the sync, a file whose directory entry was not
// synced, and a message that can be seen before it is durable.
func TestSchedules(t *testing.T) {
	t.Parallel()
	forSeeds(t, cases(t, "DURABILITY_SCHEDULES", 1000, 10_000, 1_000_000), func(t *testing.T, seed uint64) {
		runSchedule(t, world.Generate(seed))
	})
}

func runSchedule(t *testing.T, s world.Schedule) {
	if replaying() {
		t.Log(s)
	}
	w := world.New(t, world.Config())
	w.About = s.String
	for i, l := range s.Lives {
		rng := world.Rand(s.Seed, uint64(i)+2)
		if l.CutAt > 0 {
			w.Disk().CutAt(l.CutAt, l.Mode, rng)
		}
		if w.Open() {
			w.Verify()
			for _, o := range l.Ops {
				if !w.Alive() {
					break
				}
				w.Do(o)
			}
			w.Observe()
			if l.Clean && w.Alive() {
				w.Close()
			}
		}
		if _, dead := w.Disk().Dead(); dead || !l.Clean {
			w.Crash(l.Mode, rng)
		} else {
			w.Replug()
		}
	}
	if w.Open() {
		w.VerifyAll()
	}
	w.End()
	if replaying() {
		w.LogTrace()
	}
	synctest.Wait()
}
