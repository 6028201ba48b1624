package commitlog_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Group commit: syncs run beside a writer that appends, flushes, rolls and
// trims; what each has promised is there after a power cut.
func TestSyncTo_BesideTheWriter(t *testing.T) {
	t.Parallel()
	dir, _ := realDir(t)
	for _, fsys := range []vfs.FS{vfs.NewMem(), dir} {
		l, _, _ := mustOpen(t, fsys, 4096)
		type ticket struct {
			to   int64
			sync func() error
		}
		tickets := make(chan ticket, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			for k := range tickets {
				if err := k.sync(); err != nil || l.Synced() < k.to {
					t.Errorf("synced %d of %d: %v", l.Synced(), k.to, err)
				}
				if m, ok := fsys.(*vfs.Mem); ok {
					_, got, rec, err := open(m.CrashClone(vfs.CrashOptions{}), 4096)
					if err != nil || rec.End < k.to {
						t.Errorf("after a power cut: %d frames to %d, want %d: %v", len(got), rec.End, k.to, err)
					}
				}
			}
		})
		for i := 0; i < 600; i += 3 {
			appendAll(t, l, i, i+3, 100)
			check(t, l.Flush())
			to, s := l.SyncTo()
			if to != l.Flushed() {
				t.Fatalf("to %d, flushed %d", to, l.Flushed())
			}
			select {
			case tickets <- ticket{to, s}:
			default: // a sync runs; this one is never called
			}
			if i == 300 {
				check(t, l.TrimBefore(l.Flushed()/2))
			}
		}
		close(tickets)
		wg.Wait()
		check(t, l.Close())
	}
}

// What a Flush that ends a segment has synced costs a sync that comes late
// nothing; and no byte is synced twice.
func TestSyncTo_Superseded(t *testing.T) {
	t.Parallel()
	syncs := 0
	fsys := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
		if op.Data {
			syncs++
		}
		return nil
	})
	l, _, _ := mustOpen(t, fsys, 600)
	appendAll(t, l, 0, 2, 100)
	check(t, l.Flush())
	to, late := l.SyncTo()
	appendAll(t, l, 2, 6, 100) // ends the segment
	check(t, l.Flush())
	if syncs != 1 || l.Synced() < to {
		t.Fatalf("%d syncs, synced %d", syncs, l.Synced())
	}
	check(t, late())
	if syncs != 1 {
		t.Fatalf("%d syncs", syncs)
	}
	_, last := l.SyncTo()
	check(t, last())
	check(t, l.Sync())
	if syncs != 2 || l.Synced() != l.NextPos() {
		t.Fatalf("%d syncs, synced %d of %d", syncs, l.Synced(), l.NextPos())
	}
	appendAll(t, l, 6, 7, 10)
	check(t, l.Flush())
	_, closed := l.SyncTo()
	check(t, l.Close()) // which syncs
	check(t, closed())
}

// A sync that fails ends the log while its writer is busy; whoever comes after
// it does not sync again.
func TestSyncTo_FailureIsFinal(t *testing.T) {
	t.Parallel()
	var syncs atomic.Int32
	entered, fail := make(chan struct{}), make(chan struct{})
	fsys := vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
		if !op.Data || syncs.Add(1) < 2 {
			return nil
		}
		close(entered)
		<-fail
		return syscall.EIO
	})
	l, _, _ := mustOpen(t, fsys, 600)
	first := appendAll(t, l, 0, 1, 100)
	check(t, l.Flush())
	check(t, l.Sync())
	durable := l.Synced()
	appendAll(t, l, 1, 2, 100)
	check(t, l.Flush())
	_, s := l.SyncTo()
	_, late := l.SyncTo()
	done := make(chan error)
	go func() { done <- s() }()
	<-entered
	appendAll(t, l, 2, 6, 100) // its Flush must roll, and waits for the sync
	flushed := make(chan error)
	go func() { flushed <- l.Flush() }()
	close(fail)
	for _, err := range []error{<-done, <-flushed, late(), l.Sync(), l.Failed()} {
		if !errors.Is(err, commitlog.ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("got %v", err)
		}
	}
	if syncs.Load() != 2 || l.Synced() != durable {
		t.Fatalf("%d syncs, synced %d, want %d", syncs.Load(), l.Synced(), durable)
	}
	if _, p, err := l.Read(first[0].pos, nil); err != nil || string(p) != first[0].payload {
		t.Fatalf("read of the durable part: %v", err)
	}
}

func TestReadRaw(t *testing.T) {
	t.Parallel()
	l, _, _ := mustOpen(t, vfs.NewMem(), 1000)
	recs := appendAll(t, l, 0, 20, 100)
	check(t, l.Flush())
	segs := l.Segments()
	buf := make([]byte, 0, 4096)
	for _, s := range segs {
		b, err := l.ReadRaw(s.Base, int(s.End-s.Base), buf)
		check(t, err)
		for pos := s.Base; pos < s.End; {
			k, p, err := l.ParseFrame(pos, b[pos-s.Base:])
			r := recs[0]
			if err != nil || pos != r.pos || k != r.kind || string(p) != r.payload {
				t.Fatalf("at %d: %v %.40q, %v", pos, k, p, err)
			}
			pos += commitlog.FrameSize(len(p))
			recs = recs[1:]
		}
		for _, wrong := range []func() error{
			func() error { _, _, err := l.ParseFrame(s.Base+1, b); return err },
			func() error { _, _, err := l.ParseFrame(s.Base, b[:50]); return err },
			func() error { _, _, err := l.ParseFrame(s.Base, b[:3]); return err },
			func() error { b[60]++; _, _, err := l.ParseFrame(s.Base, b); return err },
		} {
			if err := wrong(); !errors.Is(err, commitlog.ErrCorrupt) {
				t.Fatalf("got %v", err)
			}
		}
	}
	for _, r := range [][2]int64{{-1, 5}, {0, segs[0].End + 1}, {l.Flushed(), 1}, {5, -1}, {segs[1].Base - 1, 2}} {
		if _, err := l.ReadRaw(r[0], int(r[1]), buf); !errors.Is(err, commitlog.ErrRange) {
			t.Fatalf("%v: %v", r, err)
		}
	}
}
