package durability_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// variant is one way to run the same operations, which nobody should notice.
type variant struct {
	name    string
	segment int64 // zero: the smallest
	sync    embedded.Sync
	reopen  bool
	split   bool
	dir     bool // on a real directory
	procs   int
}

func variants(seed uint64, procs int) []variant {
	out := []variant{
		{name: "always, small segments", sync: embedded.SyncAlways},
		{name: "always, large segments, reopened", sync: embedded.SyncAlways, segment: 16 << 20, reopen: true},
		{name: "every 1ms, batches split", sync: embedded.SyncEvery(1e6), split: true},
		{name: "never, reopened, batches split", sync: embedded.SyncNever, reopen: true, split: true},
	}
	if seed%20 == 0 {
		out = append(out,
			variant{name: "never, in a directory, reopened", sync: embedded.SyncNever, dir: true, reopen: true},
			variant{name: "always, in a directory", sync: embedded.SyncAlways, dir: true})
	}
	for i := range out {
		out[i].procs = procs
	}
	return out
}

// TestMetamorphic runs the same random operations over segment sizes, modes of
// sync, batches, numbers of processors, with and without reopening: each answer
// and all that can be seen at the end has to be the same.
//
// It catches an order that depends on timing, and state that a reopening loses.
func TestMetamorphic(t *testing.T) { // not in parallel: it changes GOMAXPROCS
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	from, to := seeds(t, cases(t, "DURABILITY_METAMORPHIC", 30, 100, 10_000))
	want := make([][]string, to-from)
	for _, procs := range []int{1, 2} {
		runtime.GOMAXPROCS(procs)
		outside(t, to-from, func(t *testing.T, i int) {
			seed := uint64(from + i)
			for _, v := range variants(seed, procs) {
				var got []string
				bubble(t, func(t *testing.T) { got = v.run(t, seed) })
				if want[i] == nil {
					want[i] = got
				}
				if diff := world.Diff(want[i], got); diff != "" {
					t.Errorf("SEED=%d: %q with %d processors answers other things than %q with 1:\n%s", seed, v.name, procs, variants(1, 1)[0].name, diff)
				}
			}
		})
	}
}

// run runs the operations of a seed and answers everything that was answered
// and everything that can be seen at the end.
func (v variant) run(t *testing.T, seed uint64) []string {
	cfg := world.Config()
	cfg.Sync = v.sync
	if v.segment > 0 {
		cfg.SegmentBytes = v.segment
	}
	w := world.New(t, cfg)
	defer w.End()
	if v.dir {
		w.Dir = t.TempDir()
	}
	w.Plain, w.Split = true, v.split
	w.About = func() string { return fmt.Sprintf("SEED=%d, %s", seed, v.name) }
	w.Open()
	w.Wait(0)
	for i, o := range world.Ops(world.Rand(seed, 7), 40) {
		if o.Kind == world.Reopen {
			continue // the variant says when
		}
		if v.reopen && i%7 == 3 {
			w.Shut()
			w.Open()
		}
		w.Do(o)
	}
	w.VerifyAll()
	s, err := world.Take(t.Context(), w.Conn())
	if err != nil {
		t.Fatalf("SEED=%d, %s: %v", seed, v.name, err)
	}
	kept, err := w.Kept()
	if err != nil {
		t.Fatalf("SEED=%d, %s: %v", seed, v.name, err)
	}
	w.Shut()
	return slices.Concat(w.Results(), s.WithoutTimes().Lines(), kept)
}
