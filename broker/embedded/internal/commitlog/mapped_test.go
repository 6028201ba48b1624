package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// openWith opens the log with opts and answers what it replays.
func openWith(opts commitlog.Options) (*commitlog.Log, []record, commitlog.Recovery, error) {
	var got []record
	opts.MaxFrame, opts.Logger = 1<<20, slog.New(slog.DiscardHandler)
	l, rec, err := commitlog.Open(opts, func(f commitlog.Frame) error {
		got = append(got, record{f.Pos, f.Kind, string(f.Payload)})
		return nil
	})
	return l, got, rec, err
}

func mustOpenWith(t testing.TB, opts commitlog.Options) (*commitlog.Log, []record, commitlog.Recovery) {
	t.Helper()
	l, got, rec, err := openWith(opts)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, got, rec
}

func realDir(t testing.TB) (vfs.FS, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	dir, err := vfs.Dir(path, vfs.CreateMissing)
	check(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	return dir, path
}

func onlyMapped(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("files are written through memory on Linux only")
	}
}

// A store goes from one way of writing to the other and back, clean or not.
func TestMapped_ReopenInEitherWay(t *testing.T) {
	t.Parallel()
	dir, path := realDir(t)
	var want []record
	for round := range 8 {
		opts := commitlog.Options{FS: dir, SegmentBytes: 64 << 10, Mapped: round%2 == 0}
		l, got, rec := mustOpenWith(t, opts)
		same(t, fmt.Sprint("round ", round), got, want)
		if rec.TruncatedBytes != 0 || len(rec.Holes) != 0 {
			t.Fatalf("round %d: %+v", round, rec)
		}
		for i := range 30 {
			want = append(want, appendAll(t, l, round*1000+10*i, round*1000+10*i+10, 500*(i%7))...)
			if opts.Mapped && runtime.GOOS == "linux" && (l.Flushed() != l.NextPos() || l.Buffered() != 0) {
				t.Fatalf("flushed %d of %d", l.Flushed(), l.NextPos())
			}
			check(t, l.Flush())
			if i%10 == 5 {
				check(t, l.Sync())
				if l.Synced() != l.Flushed() {
					t.Fatalf("synced %d of %d", l.Synced(), l.Flushed())
				}
			}
		}
		// A frame larger than a segment has one of its own.
		want = append(want, mustAppend(t, l, 9, strings.Repeat("x", 200<<10)), mustAppend(t, l, 1, "behind it"))
		check(t, l.Flush())
		buf := make([]byte, 0, 1<<20)
		for _, w := range want {
			k, p, err := l.ReadSized(w.pos, len(w.payload), buf)
			if err != nil || k != w.kind || string(p) != w.payload {
				t.Fatalf("read %d: %v, %.40q, %v", w.pos, k, p, err)
			}
		}
		check(t, l.Close())
		if names, err := filepath.Glob(filepath.Join(path, "*.tmp")); err != nil || len(names) > 0 {
			t.Fatalf("left %v, %v", names, err)
		}
	}
}

func TestMapped_ReadersTrimAndSyncsBesideTheWriter(t *testing.T) {
	t.Parallel()
	dir, _ := realDir(t)
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: dir, SegmentBytes: 16 << 10, Mapped: true})
	const total = 4000
	var trimmed atomic.Int64
	syncs := make(chan func() error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range syncs {
			if err := s(); err != nil {
				t.Error(err)
			}
		}
	})
	for r := range 2 {
		wg.Go(func() {
			pos, buf := int64(0), []byte(nil)
			for i := 0; i < total; {
				if pos >= l.Flushed() {
					runtime.Gosched()
					continue
				}
				k, p, err := l.Read(pos, buf)
				if errors.Is(err, commitlog.ErrRange) && pos < trimmed.Load() {
					return
				}
				if err != nil || k != commitlog.Kind(i%7) || string(p) != value(i, 60) {
					t.Errorf("reader %d, frame %d at %d: %v %q %v", r, i, pos, k, p, err)
					return
				}
				pos += commitlog.FrameSize(len(p))
				buf = p
				i++
			}
		})
	}
	for i := 0; i < total; i += 10 {
		appendAll(t, l, i, i+10, 60)
		switch {
		case i%500 == 490:
			_, s := l.SyncTo()
			syncs <- s
		case i == total*3/4:
			trimmed.Store(l.Flushed() / 4)
			check(t, l.TrimBefore(l.Flushed()/4))
		case i%900 == 0:
			check(t, l.Checkpoint())
		}
	}
	close(syncs)
	wg.Wait()
	check(t, l.Sync())
	if l.Synced() != l.NextPos() {
		t.Fatalf("synced %d of %d", l.Synced(), l.NextPos())
	}
	check(t, l.Close())
}

// A sync of a segment that is larger than what is made present at a time takes
// pages away from writer and readers, and nothing of what is in them.
func TestMapped_SyncsOfALargeSegment(t *testing.T) {
	t.Parallel()
	onlyMapped(t)
	dir, _ := realDir(t)
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: dir, SegmentBytes: 24 << 20, Mapped: true})
	var all []record
	for i := 0; i < 800; i += 50 {
		all = append(all, appendAll(t, l, i, i+50, 50_000)...)
		if i%100 == 0 {
			check(t, l.Sync())
		}
		want := all[i/2]
		k, p, err := l.Read(want.pos, nil)
		if err != nil || k != want.kind || string(p) != want.payload {
			t.Fatalf("frame %d: kind %d, %d bytes, %v", i/2, k, len(p), err)
		}
	}
	check(t, l.Close())
	_, got, _ := mustOpenWith(t, commitlog.Options{FS: dir, SegmentBytes: 24 << 20})
	if !slices.Equal(got, all) {
		t.Fatalf("%d frames were written, %d are there, and not the same", len(all), len(got))
	}
}

// Full segments become durable, and the manifest says so, without a Sync.
func TestMapped_FullSegmentsAreSyncedBehind(t *testing.T) {
	t.Parallel()
	onlyMapped(t)
	dir, _ := realDir(t)
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: dir, SegmentBytes: 16 << 10, Mapped: true})
	for i := 0; len(l.Segments()) < 24; i++ {
		appendAll(t, l, i, i+1, 900)
		// At most eight full segments wait for the disk.
		if segs := l.Segments(); len(segs) > 10 && l.Synced() < segs[len(segs)-10].Base {
			t.Fatalf("%d segments, and only %d is durable", len(segs), l.Synced())
		}
	}
	for full := l.Segments()[23].Base; l.Synced() < full; { // and none for long
		time.Sleep(10 * time.Millisecond)
	}
}

// Nothing is called durable before the name of its segment is.
func TestMapped_NamesAreSyncedFirst(t *testing.T) {
	t.Parallel()
	onlyMapped(t)
	dir, _ := realDir(t)
	var mu sync.Mutex
	renamed, durable := "", ""
	fsys := vfs.Inject(dir, func(op vfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op.Kind == vfs.OpRename && strings.HasSuffix(op.Name, ".log"):
			renamed = op.Name
		case op.Kind == vfs.OpSyncDir:
			durable = renamed
		}
		return nil
	})
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: fsys, SegmentBytes: 64 << 10, Mapped: true})
	for i := 0; i < 300; i += 30 {
		appendAll(t, l, i, i+30, 900)
		check(t, l.Sync())
		mu.Lock()
		if segs := l.Segments(); durable != segs[len(segs)-1].Name {
			t.Errorf("synced %d, but of the segments only those to %s have a name", l.Synced(), durable)
		}
		mu.Unlock()
	}
}

func TestMapped_FullDiskIsTemporary(t *testing.T) {
	t.Parallel()
	onlyMapped(t)
	dir, _ := realDir(t)
	var full atomic.Bool
	fsys := vfs.Inject(dir, func(op vfs.Op) error {
		if full.Load() && (op.Kind == vfs.OpAllocate || op.Kind == vfs.OpCreate) {
			return syscall.ENOSPC
		}
		return nil
	})
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: fsys, SegmentBytes: 8 << 10, Mapped: true})
	var want []record
	for round := range 3 {
		want = append(want, appendAll(t, l, round*100, round*100+20, 900)...)
		full.Store(true)
		for i := round*100 + 20; ; i++ {
			next := l.NextPos()
			pos, _, err := l.Append(commitlog.Kind(i%7), []byte(value(i, 900)))
			if err == nil {
				want = append(want, record{pos, commitlog.Kind(i % 7), value(i, 900)})
				continue
			}
			if !errors.Is(err, commitlog.ErrFull) || errors.Is(err, commitlog.ErrFailed) || l.NextPos() != next {
				t.Fatalf("got %v, next %d was %d", err, l.NextPos(), next)
			}
			break
		}
		if _, p, err := l.Read(want[0].pos, nil); err != nil || string(p) != want[0].payload {
			t.Fatalf("read on a full disk: %v", err)
		}
		full.Store(false)
	}
	check(t, l.Close())
	_, got, rec := mustOpenWith(t, commitlog.Options{FS: dir, SegmentBytes: 8 << 10, Mapped: true})
	if same(t, "after the disk was full", got, want); rec.TruncatedBytes != 0 {
		t.Fatalf("%+v", rec)
	}
}

// A failed sync behind the writer's back is as final as any other.
func TestMapped_SyncFailureIsFinal(t *testing.T) {
	t.Parallel()
	onlyMapped(t)
	dir, _ := realDir(t)
	var bad, after atomic.Int32
	fsys := vfs.Inject(dir, func(op vfs.Op) error {
		if !op.Data || bad.Load() == 0 {
			return nil
		}
		if bad.Load() == 2 {
			after.Add(1)
		}
		bad.Store(2)
		return syscall.EIO
	})
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: fsys, SegmentBytes: 8 << 10, Mapped: true})
	recs := appendAll(t, l, 0, 3, 900)
	check(t, l.Sync())
	durable := l.Synced()
	bad.Store(1)
	var err error
	for i := 3; err == nil && i < 1000; i++ {
		_, _, err = l.Append(1, []byte(value(i, 900)))
	}
	if !errors.Is(err, commitlog.ErrFailed) || !errors.Is(err, syscall.EIO) || l.Synced() != durable {
		t.Fatalf("got %v, synced %d of %d", err, l.Synced(), durable)
	}
	if err := l.Sync(); !errors.Is(err, commitlog.ErrFailed) {
		t.Fatal(err)
	}
	if _, p, err := l.Read(recs[2].pos, nil); err != nil || string(p) != recs[2].payload {
		t.Fatalf("read of the durable part: %v", err)
	}
	if err := l.Close(); !errors.Is(err, commitlog.ErrFailed) {
		t.Fatal(err)
	}
	if after.Load() != 0 {
		t.Fatalf("%d syncs after the failed one", after.Load())
	}
	_, got, _ := mustOpenWith(t, commitlog.Options{FS: dir, SegmentBytes: 8 << 10, Mapped: true})
	same(t, "restart", got[:3], recs)
}

// Memory that the file system takes away is a failed log, not the end of the
// process.
func TestMapped_FaultIsAFailure(t *testing.T) {
	t.Parallel()
	onlyMapped(t)
	dir, path := realDir(t)
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: dir, SegmentBytes: 1 << 20, Mapped: true})
	appendAll(t, l, 0, 3, 900)
	check(t, os.Truncate(filepath.Join(path, firstSegment), 4096))
	var err error
	for i := 0; err == nil && i < 2000; i++ {
		_, _, err = l.Append(1, []byte(value(i, 900)))
	}
	if !errors.Is(err, commitlog.ErrFailed) || l.Failed() == nil {
		t.Fatalf("got %v", err)
	}
	if err := l.Close(); !errors.Is(err, commitlog.ErrFailed) {
		t.Fatal(err)
	}
}

// Without support the log is written as usual.
func TestMapped_FallsBack(t *testing.T) {
	t.Parallel()
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: vfs.NewMem(), Mapped: true})
	appendAll(t, l, 0, 3, 900)
	if l.Flushed() != 0 {
		t.Fatalf("flushed %d", l.Flushed())
	}
	check(t, l.Flush())
	check(t, l.Close())
}

// toMem copies a directory.
func toMem(t testing.TB, path string) *vfs.Mem {
	t.Helper()
	m := vfs.NewMem()
	entries, err := os.ReadDir(path)
	check(t, err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(path, e.Name()))
		check(t, err)
		f, err := m.Create(e.Name())
		check(t, err)
		_, err = f.WriteAt(b, 0)
		check(t, errors.Join(err, f.Sync(), f.Close()))
	}
	check(t, m.SyncDir("."))
	return m
}

// R02 for the mapped way: a power cut leaves of the segments that were not
// synced any of their sectors. What was durable is there, in order, and what
// else comes back is a prefix of what was written.
func TestMapped_TornSegments(t *testing.T) {
	t.Parallel()
	onlyMapped(t)
	const segment, sector = 8 << 10, 512
	seeds := uint64(60)
	if raceEnabled || testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 3))
		dir, path := realDir(t)
		var stop atomic.Bool
		fsys := vfs.Inject(dir, func(op vfs.Op) error {
			if stop.Load() && op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		l, _, _, err := openWith(commitlog.Options{FS: fsys, SegmentBytes: segment, Mapped: true})
		check(t, err)
		want := appendAll(t, l, 0, rng.IntN(40), 900)
		check(t, l.Sync())
		if rng.IntN(2) == 0 {
			check(t, l.Checkpoint())
		}
		durable := len(want)
		// Nothing is synced from here on, but what is beside the frames.
		stop.Store(true)
		for i := range 30 {
			pos, _, err := l.Append(1, []byte(value(i, 900)))
			if err != nil {
				break
			}
			want = append(want, record{pos, 1, value(i, 900)})
		}
		segs, synced := l.Segments(), l.Synced()
		_ = l.Close()
		for _, s := range segs {
			if s.End <= synced {
				continue
			}
			b, err := os.ReadFile(filepath.Join(path, s.Name))
			check(t, err)
			for off := (max(synced, s.Base) - s.Base + sector - 1) / sector * sector; off < int64(len(b)); off += sector {
				if rng.IntN(10) == 0 {
					copy(b[off:off+sector], bytes.Repeat([]byte{byte(rng.IntN(2) * 0xA5)}, sector))
				}
			}
			check(t, os.WriteFile(filepath.Join(path, s.Name), b, 0o600))
			if s.Base > synced && rng.IntN(8) == 0 {
				check(t, os.Remove(filepath.Join(path, s.Name)))
			}
		}
		torn := toMem(t, path)
		l, got, rec, err := openWith(commitlog.Options{FS: dir, SegmentBytes: segment, Mapped: rng.IntN(2) == 0})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if len(got) < durable || len(got) > len(want) {
			t.Fatalf("seed %d: %d came back, %d were durable, %d written", seed, len(got), durable, len(want))
		}
		same(t, fmt.Sprint("seed ", seed), got, want[:len(got)])
		for cut := range 40 {
			// The power goes again while this is recovered.
			m := torn.CrashClone(vfs.CrashOptions{})
			w := &world{t: t, rng: rng, m: m, left: cut}
			_, _, _, _ = openWith(commitlog.Options{FS: vfs.Inject(m, w.fault), SegmentBytes: segment})
			m = m.CrashClone(vfs.CrashOptions{Keep: rng.Float64(), Stale: rng.Float64(), Rand: rng})
			_, again, _, err := openWith(commitlog.Options{FS: m, SegmentBytes: segment})
			if err != nil {
				t.Fatalf("seed %d, cut again at %d: %v", seed, cut, err)
			}
			same(t, fmt.Sprint("seed ", seed, " cut again at ", cut), again, got)
		}
		more := appendAll(t, l, 50, 80, 900)
		check(t, l.Close())
		_, again, rec2, err := openWith(commitlog.Options{FS: dir, SegmentBytes: segment})
		if err != nil || rec2.TruncatedBytes != 0 || rec.Epoch > rec2.Epoch {
			t.Fatalf("seed %d: %+v, %v", seed, rec2, err)
		}
		same(t, fmt.Sprint("seed ", seed, " again"), again, append(got, more...))
	}
}
