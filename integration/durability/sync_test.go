package durability_test

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/vfs"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// TestFailedSyncIsFinal lets the n-th sync fail, once, for every sync that a
// script of operations comes to, and loses what it was to write, as kernels do.
// From then on nothing is acknowledged and health is red, while all that was
// durable can be read; a new start brings everything back that was ever
// acknowledged, and makes durable what it shows.
//
// It catches an error of a sync that is ignored, a sync that is tried again
// until it succeeds, and a recovery that trusts the page cache.
func TestFailedSyncIsFinal(t *testing.T) {
	t.Parallel()
	syncs := 0
	bubble(t, func(t *testing.T) { syncs = failSync(t, 0, restart{}) })
	errs := []error{syscall.EIO, syscall.ENOSPC}
	ways := []restart{
		{name: "start again"},
		{name: "power cut, nothing survives", cut: true},
		{name: "power cut, everything survives", cut: true, mode: world.Survival{Keep: 1}},
	}
	inParallel(t, syncs*len(ways), func(t *testing.T, i int) {
		way := ways[i%len(ways)]
		way.err = errs[i/len(ways)%len(errs)]
		failSync(t, 1+i/len(ways), way)
	})
	t.Logf("%d syncs, each failed and followed by %d ways to start again", syncs, len(ways))
}

// restart is how a store that has failed is opened again.
type restart struct {
	name string
	err  error
	cut  bool
	mode world.Survival
}

// failSync runs the script with sync n failing, and answers how many there were.
func failSync(t *testing.T, n int, r restart) int {
	w := world.New(t, world.Config())
	w.Lenient = true
	f := &syncFault{n: n, err: r.err, opening: true}
	w.About = func() string { return fmt.Sprintf("sync %d failed: %s (%v), then: %s", n, f.failure(), r.err, r.name) }
	w.Disk().Before = f.before
	w.Open()
	for _, o := range script() {
		f.setOpening(o.Kind == world.Reopen)
		w.Do(o)
		if f.failure() != "" {
			break
		}
	}
	f.setOpening(false)
	if failed := f.failure(); failed != "" && w.Conn() != nil && !strings.Contains(failed, "(") {
		requireFailed(t, w, failed)
		w.Lenient = false
		w.VerifyRead()
		w.Lenient = true
	}
	if r.cut {
		w.Crash(r.mode, nil)
	} else {
		w.Replug()
	}
	w.Lenient = false
	w.Open()
	w.Verify()
	// What is shown now has to stay, whatever the page cache made of it.
	w.Crash(world.Survival{Name: "nothing"}, nil)
	w.Open()
	w.VerifyAll()
	w.End()
	return f.count()
}

// syncFault lets the n-th sync fail. The broker calls it from goroutines of its
// own.
type syncFault struct {
	n   int
	err error

	mu      sync.Mutex
	syncs   int
	failed  string // which one; what need not end the store has a remark in brackets
	opening bool
	derived bool // the last file that was made is not a part of the truth
}

func (f *syncFault) before(op vfs.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op.Kind == vfs.OpCreate || op.Kind == vfs.OpRename {
		f.derived = isDerived(op.Name)
	}
	if op.Kind != vfs.OpSync && op.Kind != vfs.OpSyncDir {
		return nil
	}
	if f.syncs++; f.syncs != f.n {
		return nil
	}
	f.failed = op.Kind.String() + " " + op.Name
	if f.derived {
		f.failed += " (derived)"
	}
	if f.opening {
		f.failed += " (while opening or closing)"
	}
	return f.err
}

func (f *syncFault) failure() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *syncFault) setOpening(is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opening = is
}

func (f *syncFault) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

// isDerived tells files that can be made anew from the log.
func isDerived(name string) bool {
	name = strings.TrimSuffix(path.Base(name), ".tmp")
	return strings.HasSuffix(name, ".idx") || strings.HasPrefix(name, "STATE-")
}

// requireFailed requires that the store takes nothing more.
func requireFailed(t *testing.T, w *world.World, failed string) {
	t.Helper()
	ctx := context.Background()
	if err := w.Conn().Health(ctx); driver.CodeOf(err) != driver.Unavailable {
		t.Fatalf("after a failed %s health says %v, want it to be unavailable", failed, err)
	}
	for range 5 {
		for _, o := range []world.Op{
			{Kind: world.Send},
			{Kind: world.Batch, N: 2},
			{Kind: world.Prepare},
			{Kind: world.Commit},
			{Kind: world.Create, Topic: 2, N: 4},
			{Kind: world.Dead, N: 1},
			{Kind: world.Delete, Topic: 1},
			{Kind: world.Pass, X: 3},
		} {
			stored := w.Acknowledged()
			w.Do(o)
			if now := w.Acknowledged(); now != stored {
				t.Fatalf("after a failed %s %q was acknowledged", failed, o)
			}
		}
	}
	if err := w.Conn().Health(ctx); driver.CodeOf(err) != driver.Unavailable {
		t.Fatalf("later health says %v", err)
	}
}
