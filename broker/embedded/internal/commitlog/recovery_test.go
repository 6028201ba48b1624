package commitlog_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// patch changes bytes of a file behind the back of the log, durably.
func patch(t testing.TB, m *vfs.Mem, name string, change func(f vfs.File, size int64)) {
	t.Helper()
	f, err := m.OpenReadWrite(name)
	check(t, err)
	size, err := f.Size()
	check(t, err)
	change(f, size)
	check(t, f.Sync())
	check(t, f.Close())
}

func content(t testing.TB, m *vfs.Mem, name string) string {
	t.Helper()
	f, err := m.OpenRead(name)
	check(t, err)
	size, err := f.Size()
	check(t, err)
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// snapshot is everything in the root of m.
func snapshot(t testing.TB, m *vfs.Mem) map[string]string {
	t.Helper()
	names, err := m.List(".")
	check(t, err)
	all := map[string]string{}
	for _, n := range names {
		all[n] = content(t, m, n)
	}
	return all
}

const firstSegment = "00000000000000000000.log"

// R09: the last three frames are cut off at every byte, by a shorter file, by
// zeros and by garbage; what was whole stays.
func TestOpen_TornTailAtEveryByte(t *testing.T) {
	t.Parallel()
	base := vfs.NewMem()
	l, _, _ := mustOpen(t, base, 64<<10)
	recs := appendAll(t, l, 0, 5, 40)
	check(t, l.Flush())
	check(t, l.Sync())
	recs = append(recs, appendAll(t, l, 5, 8, 40)...)
	check(t, l.Flush())
	end := l.Flushed()
	whole := content(t, base, firstSegment)
	for _, how := range []string{"short", "zeros", "garbage"} {
		for cut := recs[5].pos; cut <= end; cut++ {
			m := base.CrashClone(vfs.CrashOptions{Keep: 1})
			patch(t, m, firstSegment, func(f vfs.File, size int64) {
				check(t, f.Truncate(cut))
				if how != "short" {
					check(t, f.Truncate(size))
				}
				if how == "garbage" {
					_, err := f.WriteAt([]byte(strings.Repeat("\xA5", int(end-cut+17))), cut)
					check(t, err)
				}
			})
			intact := cut
			by := map[string]byte{"zeros": 0, "garbage": 0xA5}[how]
			for how != "short" && intact < end && whole[intact] == by {
				intact++ // what comes there was there before
			}
			want := recs[:5]
			for _, r := range recs[5:] {
				if r.pos+commitlog.FrameSize(len(r.payload)) <= intact {
					want = append(want, r)
				}
			}
			wantEnd := want[len(want)-1].pos + commitlog.FrameSize(len(want[0].payload))
			l, got, rec, err := open(m, 64<<10)
			if err != nil {
				t.Fatalf("%s at %d: %v", how, cut, err)
			}
			same(t, fmt.Sprintf("%s at %d", how, cut), got, want)
			torn := how == "garbage" || wantEnd != intact
			if rec.End != wantEnd || (rec.TruncatedBytes > 0) != torn || rec.Epoch != 1+uint32(b2i(torn)) {
				t.Fatalf("%s at %d: %+v, want end %d, torn %v", how, cut, rec, wantEnd, torn)
			}
			next := mustAppend(t, l, 3, "after the cut")
			check(t, l.Flush())
			check(t, l.Sync())
			// A second crash finds the new frame and nothing of the old tail.
			_, got, rec = mustOpen(t, m.CrashClone(vfs.CrashOptions{}), 64<<10)
			same(t, "after the next crash", got, append(want[:len(want):len(want)], next))
			if rec.TruncatedBytes != 0 {
				t.Fatalf("the tail came back: %+v", rec)
			}
			check(t, l.Close())
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// M6: a bad frame in front of durable ones is corruption, and nothing is cut.
func TestOpen_CorruptMiddleIsNotATornTail(t *testing.T) {
	t.Parallel()
	for _, evidence := range []string{"later frame", "later segment", "checkpoint", "clean close"} {
		t.Run(evidence, func(t *testing.T) {
			t.Parallel()
			m := vfs.NewMem()
			segment := int64(64 << 10)
			if evidence == "later segment" {
				segment = 600
			}
			l, _, _ := mustOpen(t, m, segment)
			recs := appendAll(t, l, 0, 4, 40)
			check(t, l.Flush())
			check(t, l.Sync())
			switch evidence {
			case "later frame":
				appendAll(t, l, 4, 5, 40)
			case "later segment":
				appendAll(t, l, 4, 9, 40)
			case "checkpoint":
				check(t, l.Checkpoint())
			}
			check(t, l.Flush())
			if evidence == "clean close" {
				check(t, l.Close())
			}
			m = m.CrashClone(vfs.CrashOptions{Keep: 1})
			bad := recs[2]
			patch(t, m, firstSegment, func(f vfs.File, _ int64) {
				_, err := f.WriteAt([]byte{0xFF}, bad.pos+50)
				check(t, err)
			})
			before := snapshot(t, m)
			for range 2 {
				_, _, _, err := open(m, segment)
				e, ok := errors.AsType[*commitlog.CorruptError](err)
				if !ok || !errors.Is(err, commitlog.ErrCorrupt) || e.Segment != firstSegment || e.Offset != bad.pos || e.Length != commitlog.FrameSize(len(bad.payload)) {
					t.Fatalf("got %v", err)
				}
			}
			after := snapshot(t, m)
			for name, want := range before {
				if after[name] != want {
					t.Fatalf("open changed %s", name)
				}
			}
		})
	}
}

func TestOpen_MissingOrShortSegments(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		for _, how := range []string{"remove", "shorten"} {
			m := vfs.NewMem()
			l, _, _ := mustOpen(t, m, 600)
			appendAll(t, l, 0, 20, 40)
			check(t, l.Close())
			name := l.Segments()[i].Name
			if how == "remove" {
				check(t, m.Remove(name))
			} else {
				patch(t, m, name, func(f vfs.File, _ int64) { check(t, f.Truncate(100)) })
			}
			if _, _, _, err := open(m, 600); !errors.Is(err, commitlog.ErrCorrupt) {
				t.Fatalf("%s segment %d of %d: %v", how, i, len(l.Segments()), err)
			}
		}
	}
}

// R07: after a failed sync nothing is acknowledged any more, reads of the
// durable part go on, and a restart finds and repairs what the kernel lost.
func TestSync_FailureIsFinal(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			m := vfs.NewMem()
			bad, syncs := false, 0
			fsys := vfs.Inject(m, func(op vfs.Op) error {
				if op.Kind != vfs.OpSync || !bad {
					return nil
				}
				if syncs++; syncs == 1 {
					return errno
				}
				return nil // a second one would "succeed", as kernels do
			})
			l, _, _ := mustOpen(t, fsys, 64<<10)
			recs := appendAll(t, l, 0, 3, 40)
			check(t, l.Flush())
			check(t, l.Sync())
			durable := l.Synced()
			recs = append(recs, appendAll(t, l, 3, 6, 40)...)
			check(t, l.Flush())
			bad = true
			if err := l.Sync(); !errors.Is(err, commitlog.ErrFailed) || !errors.Is(err, errno) || errors.Is(err, commitlog.ErrFull) {
				t.Fatalf("got %v", err)
			}
			_, _, aerr := l.Append(1)
			for what, err := range map[string]error{
				"sync": l.Sync(), "flush": l.Flush(), "append": aerr, "checkpoint": l.Checkpoint(), "trim": l.TrimBefore(1), "failed": l.Failed(),
			} {
				if !errors.Is(err, commitlog.ErrFailed) {
					t.Fatalf("%s after the failure: %v", what, err)
				}
			}
			if l.Synced() != durable {
				t.Fatalf("synced went from %d to %d", durable, l.Synced())
			}
			for i, r := range recs {
				_, p, err := l.Read(r.pos, nil)
				if i < 3 && (err != nil || string(p) != r.payload) || i >= 3 && !errors.Is(err, commitlog.ErrRange) {
					t.Fatalf("read %d after the failure: %v", i, err)
				}
			}
			if err := l.Close(); !errors.Is(err, commitlog.ErrFailed) {
				t.Fatalf("close: %v", err)
			}
			if syncs != 1 {
				t.Fatalf("%d syncs after the failed one", syncs-1)
			}
			// The page cache shows what the medium does not have. Whatever a
			// restart serves must have been written again.
			_, got, rec := mustOpen(t, m, 64<<10)
			if same(t, "restart", got, recs); rec.RewrittenBytes == 0 {
				t.Fatalf("nothing was written again: %+v", rec)
			}
			_, got, _ = mustOpen(t, m.CrashClone(vfs.CrashOptions{}), 64<<10)
			same(t, "power cut after the restart", got, recs)
		})
	}
}

// A full disk refuses frames and nothing else, and needs no restart.
func TestFlush_FullDiskIsTemporary(t *testing.T) {
	t.Parallel()
	for _, partial := range []int{0, 1, 60, 1 << 20} {
		m := vfs.NewMem()
		full := false
		fsys := vfs.Inject(m, func(op vfs.Op) error {
			if full && op.Kind == vfs.OpWrite {
				return &vfs.ShortWrite{N: partial, Err: syscall.ENOSPC}
			}
			return nil
		})
		l, _, _ := mustOpen(t, fsys, 64<<10)
		var recs []record
		for round := range 3 {
			recs = append(recs, appendAll(t, l, round*10, round*10+3, 40)...)
			check(t, l.Flush())
			full = true
			appendAll(t, l, 900, 903, 40)
			if err := l.Flush(); !errors.Is(err, commitlog.ErrFull) || !errors.Is(err, syscall.ENOSPC) || errors.Is(err, commitlog.ErrFailed) {
				t.Fatalf("got %v", err)
			}
			if l.NextPos() != l.Flushed() || l.Buffered() != 0 {
				t.Fatalf("next %d, flushed %d", l.NextPos(), l.Flushed())
			}
			for _, r := range recs {
				if _, p, err := l.Read(r.pos, nil); err != nil || string(p) != r.payload {
					t.Fatalf("read on a full disk: %v", err)
				}
			}
			full = false
		}
		recs = append(recs, appendAll(t, l, 50, 53, 40)...)
		check(t, l.Flush())
		check(t, l.Sync())
		_, got, rec := mustOpen(t, m.CrashClone(vfs.CrashOptions{}), 64<<10)
		if same(t, "after the disk was full", got, recs); rec.TruncatedBytes != 0 {
			t.Fatalf("a refused frame came back: %+v", rec)
		}
	}
}

// R12, in one process and through the file system.
func TestOpen_SecondOpenerIsRefused(t *testing.T) {
	t.Parallel()
	dir, err := vfs.Dir(filepath.Join(t.TempDir(), "store"), vfs.CreateMissing)
	check(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	for _, fsys := range []vfs.FS{dir, vfs.NewMem()} {
		l, _, _ := mustOpen(t, fsys, 600)
		recs := appendAll(t, l, 0, 3, 40)
		if _, _, _, err := open(fsys, 600); !errors.Is(err, vfs.ErrLocked) {
			t.Fatalf("second opener: %v", err)
		}
		check(t, l.Close())
		_, got, _ := mustOpen(t, fsys, 600)
		same(t, "after the refusal", got, recs)
	}
}

func TestOpen_NotAStore(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{
		"one file":              {"notes.txt"},
		"a foreign database":    {"CURRENT", "MANIFEST-000001", "LOCK"},
		"segments only":         {firstSegment},
		"a lock and something":  {"LOCK", "x"},
		"CURRENT without all":   {"CURRENT"},
		"something temporary":   {"data.tmp"},
		"a number with one off": {"0000000000000000000.log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := vfs.NewMem()
			for _, f := range files {
				_, err := m.Create(f)
				check(t, err)
				patch(t, m, f, func(f vfs.File, _ int64) { _, _ = f.WriteAt([]byte("precious"), 0) })
			}
			before := snapshot(t, m)
			if _, _, _, err := open(m, 600); !errors.Is(err, commitlog.ErrNotAStore) {
				t.Fatalf("got %v", err)
			}
			if after := snapshot(t, m); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Fatalf("it was touched: %v", after)
			}
		})
	}
}

func TestOpen_IgnoresOtherFilesOfAStore(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	check(t, m.MkdirAll("lost+found"))
	l, _, _ := mustOpen(t, m, 600)
	check(t, l.Close())
	check(t, m.MkdirAll("state"))
	_, err := m.Create("README")
	check(t, err)
	_, err = m.Create("CURRENT.tmp") // what a crash leaves
	check(t, err)
	mustOpen(t, m, 600)
	names, err := m.List(".")
	check(t, err)
	if s := strings.Join(names, " "); !strings.Contains(s, "README") || !strings.Contains(s, "state") || strings.Contains(s, "tmp") {
		t.Fatal(names)
	}
}

// One bad manifest costs nothing, two cost the start.
func TestOpen_FallsBackToTheOlderManifest(t *testing.T) {
	t.Parallel()
	for _, victims := range []int{1, 2} {
		m := vfs.NewMem()
		l, _, _ := mustOpen(t, m, 600)
		recs := appendAll(t, l, 0, 20, 40)
		check(t, l.Flush())
		check(t, l.TrimBefore(recs[10].pos))
		check(t, l.Close())
		names, err := m.List(".")
		check(t, err)
		var manifests []string
		for _, n := range names {
			if strings.HasPrefix(n, "MANIFEST-") {
				manifests = append(manifests, n)
			}
		}
		if len(manifests) != 2 {
			t.Fatalf("%v, want two generations", names)
		}
		for _, n := range manifests[2-victims:] {
			patch(t, m, n, func(f vfs.File, _ int64) { _, _ = f.WriteAt([]byte{0xEE}, 45) })
		}
		l, got, rec, err := open(m, 600)
		if victims == 2 {
			if !errors.Is(err, commitlog.ErrCorrupt) {
				t.Fatalf("no manifest left: %v", err)
			}
			continue
		}
		check(t, err)
		if !rec.ManifestFallback || rec.Start != l.Start() {
			t.Fatalf("%+v", rec)
		}
		same(t, "fallback", got, recs[len(recs)-len(got):])
		check(t, l.Close())
		_, got2, rec := mustOpen(t, m, 600)
		if same(t, "after the fallback", got2, got); rec.ManifestFallback {
			t.Fatalf("still falling back: %+v", rec)
		}
		if _, err := m.Size(manifests[1]); err != nil {
			t.Fatalf("the unreadable manifest was deleted: %v", err)
		}
	}
}

// Segments that were put under the manifest of another store are not cut off
// as if they were a torn tail.
func TestOpen_ForeignSegment(t *testing.T) {
	t.Parallel()
	stores := [2]*vfs.Mem{vfs.NewMem(), vfs.NewMem()}
	for i, m := range stores {
		l, _, _ := mustOpen(t, m, 64<<10)
		if i == 0 {
			appendAll(t, l, 0, 5, 40)
			check(t, l.Flush())
		}
		check(t, l.Close())
	}
	f, err := stores[1].Create(firstSegment)
	check(t, err)
	_, err = f.WriteAt([]byte(content(t, stores[0], firstSegment)), 0)
	check(t, err)
	if _, _, _, err := open(stores[1], 64<<10); !errors.Is(err, commitlog.ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
}

func TestOpen_NewerFormat(t *testing.T) {
	t.Parallel()
	if _, err := commitlog.DecodeManifest(commitlog.NewerManifest()); !errors.Is(err, commitlog.ErrVersion) {
		t.Fatalf("got %v", err)
	}
}

func TestOpen_RealDirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "store")
	dir, err := vfs.Dir(path, vfs.CreateMissing)
	check(t, err)
	t.Cleanup(func() { _ = dir.Close() })
	l, _, _ := mustOpen(t, dir, 8<<10)
	recs := appendAll(t, l, 0, 200, 200)
	check(t, l.Flush())
	check(t, l.Sync())
	check(t, l.TrimBefore(recs[100].pos))
	start := l.Start()
	recs = append(recs, appendAll(t, l, 200, 300, 200)...)
	check(t, l.Close())
	_, got, rec := mustOpen(t, dir, 8<<10)
	if same(t, "real directory", got, recs[len(recs)-len(got):]); rec.Start != start || got[0].pos != start {
		t.Fatalf("%+v", rec)
	}
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, _ := d.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
		return nil
	})
	check(t, err)
	if holder, err := os.ReadFile(filepath.Join(path, "LOCK")); err != nil || !strings.HasPrefix(string(holder), fmt.Sprintf("pid %d boot ", os.Getpid())) {
		t.Fatalf("lock holds %q, %v", holder, err)
	}
}

// The bytes of formats that are on disks out there. A change here needs a new
// version and a reader for the old one.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	const frame = "534c4631 05 26 00000007 0102030405060708 0000000000001234 0000000000001000 00000005 68656c6c6f" + " 34707518"
	if got := hex.EncodeToString(commitlog.GoldenFrame()); got != strings.ReplaceAll(frame, " ", "") {
		t.Errorf("frame\n got %s\nwant %s", got, frame)
	}
	const man = "534c4d46 0002 0001 0000008a 00000007 0102030405060708 0000000000000009 0000000000000100 0000000000001234" +
		" 17979cfe362a0000 17979cfe362a0001 0000000000800000 00000002" +
		" 0000000000000300 0000000000000400 0000000000000200 0006 726f7474656e 0000000000001000 0000000000001100 0000000000001000 0000" +
		" 69f738b5"
	if got := hex.EncodeToString(commitlog.GoldenManifest()); got != strings.ReplaceAll(man, " ", "") {
		t.Errorf("manifest\n got %s\nwant %s", got, man)
	}
	if again, err := commitlog.DecodeManifest(commitlog.GoldenManifest()); err != nil || string(again) != string(commitlog.GoldenManifest()) {
		t.Errorf("manifest: decoded and encoded again it is %x, %v", again, err)
	}
	// Version 1 had no holes. What is read of it is written as version 2.
	const one, two = "534c4d46 0001 0001 00000050 00000007 0102030405060708 0000000000000009 0000000000000100 0000000000001234" +
		" 17979cfe362a0000 17979cfe362a0001 0000000000800000 00000000 fa03647f",
		"534c4d46 0002 0001 00000050 00000007 0102030405060708 0000000000000009 0000000000000100 0000000000001234" +
			" 17979cfe362a0000 17979cfe362a0001 0000000000800000 00000000 d49e4ea4"
	old, err := hex.DecodeString(strings.ReplaceAll(one, " ", ""))
	check(t, err)
	if got, err := commitlog.DecodeManifest(old); err != nil || hex.EncodeToString(got) != strings.ReplaceAll(two, " ", "") {
		t.Errorf("manifest of version 1\n got %x, %v\nwant %s", got, err, two)
	}
	const current = "MANIFEST-00000000000000000009 f26d4629\n"
	if got := commitlog.GoldenCurrent(); got != current {
		t.Errorf("current\n got %q\nwant %q", got, current)
	}
}

// Whatever is in a segment: no panic, and no frame that was not written. The
// log goes on, and a second open finds the same.
func FuzzOpen(f *testing.F) {
	m := vfs.NewMem()
	l, _, _, err := open(m, 600)
	if err != nil {
		f.Fatal(err)
	}
	recs := appendAll(f, l, 0, 12, 20)
	check(f, l.Flush())
	crashed := m.CrashClone(vfs.CrashOptions{Keep: 1})
	segs := l.Segments()
	whole := content(f, m, segs[1].Name)
	check(f, l.Close())
	closed := m.CrashClone(vfs.CrashOptions{})
	for which := range uint8(8) {
		f.Add([]byte(whole), 0, which)
		f.Add([]byte(whole[:200]), 40, which)
		f.Add([]byte("SLF1SLF1SLF1"), 3, which)
		f.Add([]byte{}, 100, which)
	}
	f.Fuzz(func(t *testing.T, b []byte, at int, which uint8) {
		m := crashed
		if which&1 != 0 {
			m = closed
		}
		m = m.CrashClone(vfs.CrashOptions{})
		written := map[record]bool{}
		for _, r := range recs {
			written[r] = true
		}
		patch(t, m, segs[int(which>>2)%len(segs)].Name, func(f vfs.File, size int64) {
			if at < 0 || at > int(size) {
				at = 0
			}
			if len(b) == 0 {
				check(t, f.Truncate(int64(at)))
				return
			}
			_, _ = f.WriteAt(b, int64(at))
		})
		if _, err := commitlog.Inspect(m, commitlog.Visitor{}); err != nil {
			t.Fatal(err)
		}
		opts := commitlog.Options{FS: m, SegmentBytes: 600}
		if which&2 != 0 {
			opts.OnCorruption = commitlog.Quarantine
		}
		l, got, rec, err := openWith(opts)
		if err != nil {
			if !errors.Is(err, commitlog.ErrCorrupt) || opts.OnCorruption == commitlog.Quarantine {
				t.Fatal(err)
			}
			return
		}
		if len(got) != rec.Frames || rec.End != l.Synced() {
			t.Fatalf("%+v for %d frames", rec, len(got))
		}
		for _, r := range got {
			if !written[r] {
				t.Fatalf("nobody wrote %v", r)
			}
		}
		got = append(got, mustAppend(t, l, 1, "behind it"))
		check(t, l.Close())
		_, again, rec2 := mustOpen(t, m, 600)
		if same(t, "again", again, got); len(rec2.New) != 0 {
			t.Fatalf("%+v", rec2)
		}
	})
}

// A clean close says that nothing follows; the next open must take that back.
func TestOpen_TornTailBehindACleanClose(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l, _, _ := mustOpen(t, m, 64<<10)
	want := appendAll(t, l, 0, 3, 40)
	check(t, l.Close())
	l, _, _ = mustOpen(t, m, 64<<10)
	torn := appendAll(t, l, 3, 5, 40)
	check(t, l.Flush())
	m = m.CrashClone(vfs.CrashOptions{Keep: 1})
	patch(t, m, firstSegment, func(f vfs.File, _ int64) { // the later frame came through, the earlier did not
		_, _ = f.WriteAt(make([]byte, torn[1].pos-torn[0].pos), torn[0].pos)
	})
	_, got, rec := mustOpen(t, m, 64<<10)
	if same(t, "replay", got, want); rec.TruncatedBytes == 0 || rec.Clean {
		t.Fatalf("%+v", rec)
	}
}
