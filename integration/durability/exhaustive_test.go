package durability_test

import (
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// TestExhaustive runs every workload of up to three operations, or four for a
// release, and cuts the power in front of every change of the disk, in every way
// to survive that makes a difference; then again in front of every change of
// the recovery.
//
// It catches a small file that is written in place, a directory that is not
// synced, an answer before the sync, and a recovery that cannot be repeated.
func TestExhaustive(t *testing.T) {
	t.Parallel()
	if replaying() {
		t.Skip("SEED is for random tests")
	}
	loads := workloads(pick(2, 3, 4))
	var count, twice atomic.Int64
	inParallel(t, len(loads), func(t *testing.T, n int) {
		c := crasher{t: t, ops: loads[n], seed: maphash.MakeSeed(), sampled: n%sampling() == 0 || len(loads[n]) < 2}
		c.run()
		count.Add(int64(c.count))
		twice.Add(int64(c.twice))
	})
	t.Logf("%d workloads, %d crashes, %d second crashes during recovery", len(loads), count.Load(), twice.Load())
}

// sampling: one of so many workloads of full length gets the second crash.
func sampling() int { return pick(10, 5, 1) }

// workloads are all sequences of up to n operations, shortest first.
func workloads(n int) [][]world.Op {
	alphabet := []world.Op{
		{Kind: world.Send, X: 2},
		{Kind: world.Batch, N: 1, X: 3},
		{Kind: world.Prepare},
		{Kind: world.Commit},
		{Kind: world.Ack, N: 1},
		{Kind: world.Create, Topic: 1},
		{Kind: world.Roll},
		{Kind: world.Keep, X: 5},
	}
	out := [][]world.Op{nil}
	for from := 0; n > 0; n-- {
		to := len(out)
		for _, prefix := range out[from:to] {
			for _, o := range alphabet {
				ops := append(prefix[:len(prefix):len(prefix)], o)
				if o.Kind == world.Ack {
					ops = append(ops, world.Op{Kind: world.Leave})
				}
				if o.Kind != world.Commit || has(prefix, world.Prepare) {
					out = append(out, ops)
				}
			}
		}
		from = to
	}
	return out
}

func has(ops []world.Op, k world.Kind) bool {
	for _, o := range ops {
		if o.Kind == k {
			return true
		}
	}
	return false
}

// crasher crashes one workload everywhere.
type crasher struct {
	t            *testing.T
	ops          []world.Op
	seed         maphash.Seed
	sampled      bool
	count, twice int
}

// run goes through the crash points. What comes before the first operation is
// the same for all, and tested with none.
func (c *crasher) run() {
	first := 1
	if len(c.ops) > 0 {
		w := c.world(0, 0, world.Survival{})
		w.Open()
		first = w.Disk().Changes() + 1
		w.End()
	}
	for cut := first; c.cut(cut); cut++ {
	}
}

func (c *crasher) world(cut, again int, mode world.Survival) *world.World {
	w := world.New(c.t, world.Config())
	w.About = func() string {
		var b strings.Builder
		fmt.Fprintf(&b, "power cut in front of change %d, %s survives", cut, mode.Name)
		if again > 0 {
			fmt.Fprintf(&b, ", then in front of change %d of the recovery", again)
		}
		for _, o := range c.ops {
			fmt.Fprintf(&b, "; %s", o)
		}
		return b.String()
	}
	return w
}

// life runs the workload until the power goes in front of change cut.
func (c *crasher) life(w *world.World, cut int, mode world.Survival) {
	w.Disk().CutAt(cut, mode, world.Rand(uint64(cut), 1))
	if !w.Open() {
		return
	}
	for _, o := range c.ops {
		if !w.Alive() {
			break
		}
		w.Do(o)
	}
	w.Observe()
}

// cut crashes in front of change n in every way. It reports false behind the
// last change.
func (c *crasher) cut(n int) (more bool) {
	seen := map[uint64]bool{}
	for i, mode := range world.Survivals() {
		w := c.world(n, 0, mode)
		c.life(w, n, mode)
		_, hit := w.Disk().Dead()
		rng := world.Rand(uint64(n), uint64(i))
		left := w.Crash(mode, rng)
		if sum := world.Sum(c.seed, left); !seen[sum] || i == 0 {
			seen[sum] = true
			c.count++
			recovery := c.recover(w)
			if c.sampled {
				for again := 1; again <= recovery; again++ {
					c.second(n, again, mode)
				}
			}
		}
		w.End()
		more = hit
	}
	return more
}

// recover opens and verifies, and answers how many changes opening made.
func (c *crasher) recover(w *world.World) int {
	w.Open()
	changes := w.Disk().Changes()
	w.VerifyOn()
	return changes
}

// second crashes once more during recovery.
func (c *crasher) second(cut, again int, mode world.Survival) {
	w := c.world(cut, again, mode)
	defer w.End()
	c.life(w, cut, mode)
	rng := world.Rand(uint64(cut), uint64(again))
	w.Crash(mode, rng)
	w.Disk().CutAt(again, mode, rng)
	w.Open()
	w.Crash(mode, rng)
	c.twice++
	c.recover(w)
}
