package durability_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/vfs"

	"github.com/sluicemq/sluice/integration/durability/internal/world"
)

// fault is one way for a call to fail.
type fault struct {
	name string
	err  error
	// short lets half of a write through first.
	short  bool
	sticky bool
	// crash cuts the power right after the operation in which the call failed;
	// else the run goes on, and the program is started again at its end.
	crash bool
}

func faults() []fault {
	var out []fault
	for _, f := range []fault{
		{name: "EIO", err: syscall.EIO},
		{name: "ENOSPC", err: syscall.ENOSPC},
		{name: "EINTR", err: syscall.EINTR},
		{name: "short write", err: vfs.ErrNoSpace, short: true},
	} {
		for i := range 4 {
			f.sticky, f.crash = i&1 > 0, i&2 > 0
			out = append(out, f)
		}
	}
	return out
}

func (f fault) String() string {
	s := f.name
	if f.sticky {
		s += ", for good"
	}
	if f.crash {
		s += ", then a power cut"
	}
	return s
}

// answer is what the failing call answers.
func (f fault) answer(op vfs.Op) error {
	if f.short && op.Kind == vfs.OpWrite {
		return &vfs.ShortWrite{N: int(op.Len) / 2, Err: f.err}
	}
	return f.err
}

// script does everything once, so that each kind of call is met.
func script() []world.Op {
	return []world.Op{
		{Kind: world.Send, X: 1},
		{Kind: world.Create, Topic: 1, N: 1},
		{Kind: world.Batch, N: 3, X: 2},
		{Kind: world.Prepare},
		{Kind: world.Ack, N: 1},
		{Kind: world.Delayed, X: 2},
		{Kind: world.Retry, N: 1},
		{Kind: world.Commit},
		{Kind: world.Leave},
		{Kind: world.Keep, X: 5},
		{Kind: world.Roll},
		{Kind: world.Prepare, X: 1},
		{Kind: world.Pass, X: 3},
		{Kind: world.Send, Topic: 1, X: 3},
		{Kind: world.Dead, N: 1},
		{Kind: world.Rollback, X: 1},
		{Kind: world.Pass, X: 1},
		{Kind: world.Reopen},
		{Kind: world.Send, X: 4},
		{Kind: world.Prepare, X: 2},
		{Kind: world.Return, N: 1, X: 1},
		{Kind: world.Delete, Topic: 1},
		{Kind: world.Batch, N: 2, X: 5},
		{Kind: world.Leave},
		{Kind: world.Keep, Topic: 2, X: 9},
		{Kind: world.Keep, X: 2},
		{Kind: world.Roll},
		{Kind: world.Forget, X: 3},
		{Kind: world.Ack, N: 2},
		{Kind: world.Query, X: 7},
		{Kind: world.Pass, X: 3},
		{Kind: world.Send, X: 6},
	}
}

// TestEveryCallFails lets the n-th call of the file system fail, for every n
// that a long script of operations comes to. Whatever was answered as stored
// survives, whatever was refused for certain never shows up, every error is
// typed, and the store opens again.
//
// It catches an error of a sync that is ignored, and an answer before the sync.
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	kinds := faults()
	step := pick(9, 3, 1)
	calls := 0
	bubble(t, func(t *testing.T) { calls = failCall(t, 0, fault{}) })
	inParallel(t, calls*len(kinds)/step, func(t *testing.T, i int) {
		failCall(t, 1+i*step/len(kinds), kinds[i*step%len(kinds)])
	})
	t.Logf("%d calls, each failed in %d ways, every %d. of these", calls, len(kinds), step)
}

// failCall runs the script with call n failing, and answers how many calls
// there were.
func failCall(t *testing.T, n int, f fault) (calls int) {
	w := world.New(t, world.Config())
	w.Lenient = true
	var mu sync.Mutex // the broker calls from goroutines of its own
	var what string
	failure := func() string {
		mu.Lock()
		defer mu.Unlock()
		return what
	}
	w.About = func() string { return fmt.Sprintf("call %d failed: %s (%v)", n, failure(), f) }
	w.Disk().Before = func(op vfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if calls == n || f.sticky && n > 0 && calls > n {
			if what == "" {
				what = fmt.Sprintf("%s %s", op.Kind, op.Name)
			}
			return f.answer(op)
		}
		return nil
	}
	if w.Open() {
		w.Verify()
	}
	for _, o := range script() {
		w.Do(o)
		if f.crash && failure() != "" {
			break
		}
	}
	if f.crash {
		w.Crash(world.Survival{Name: "nothing"}, nil)
	} else {
		w.Observe()
		if n%2 == 0 {
			w.Shut()
		}
		w.Replug()
	}
	w.Lenient = false
	if w.Open() {
		w.VerifyAll()
	}
	w.End()
	mu.Lock()
	defer mu.Unlock()
	return calls
}
