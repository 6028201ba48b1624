package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// What is written through memory is what ReadAt answers, and the other way
// round; where it is impossible the error says so.
func TestMapper(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		f, err := fsys.Create("f")
		check(t, err)
		defer func() { check(t, f.Close()) }()
		check(t, f.Allocate(100_000))
		mapper, ok := f.(vfs.Mapper)
		if !ok {
			return
		}
		m, err := mapper.Map(100_000)
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		check(t, err)
		if len(m.Bytes()) != 100_000 {
			t.Fatalf("%d bytes are mapped", len(m.Bytes()))
		}
		copy(m.Bytes()[99_990:], "hello")
		copy(m.Bytes()[8_190:], "early")
		at := []int64{-1, 0, 5_000, 8_192, 99_999, 100_000, 1 << 40}
		for _, from := range at {
			for _, to := range at {
				if err := m.Populate(from, to); err != nil && !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("populate from %d to %d: %v", from, to, err)
				}
				m.Release(from, to)
			}
		}
		if string(m.Bytes()[8_190:8_195]) != "early" {
			t.Errorf("%q is left of what was written", m.Bytes()[8_190:8_195])
		}
		b := make([]byte, 5)
		if _, err := f.ReadAt(b, 99_990); err != nil || string(b) != "hello" {
			t.Errorf("read %q, %v", b, err)
		}
		_, err = f.WriteAt([]byte("world"), 10)
		check(t, err)
		if string(m.Bytes()[10:15]) != "world" {
			t.Errorf("mapped %q", m.Bytes()[10:15])
		}
		check(t, f.SyncData())
		check(t, m.Close())
		check(t, m.Close())
		for _, size := range []int64{-1, 0, 100_001} {
			if _, err := mapper.Map(size); err == nil {
				t.Errorf("mapped %d bytes of 100000", size)
			}
		}
	})
}

func TestMapper_DirOnLinuxCan(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere files are not mapped")
	}
	f, err := realDir(t).Create("f")
	check(t, err)
	check(t, f.Allocate(4096))
	m, err := f.(vfs.Mapper).Map(4096)
	check(t, err)
	defer func() { check(t, m.Close()) }()
	check(t, f.Truncate(0))
	// A page that is gone is a fault that a guarded writer survives.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() == nil {
			t.Error("wrote behind the end of the file")
		}
		check(t, f.Close())
	}()
	m.Bytes()[0] = 1
}

func TestInject_MapAndSyncData(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	var seen []vfs.Op
	fsys := vfs.Inject(realDir(t), func(op vfs.Op) error {
		if op.Kind == vfs.OpMap || op.Kind == vfs.OpSync {
			seen = append(seen, op)
			return boom
		}
		return nil
	})
	f, err := fsys.Create("f")
	check(t, err)
	defer func() { check(t, f.Close()) }()
	check(t, f.Allocate(4096))
	if _, err := f.(vfs.Mapper).Map(4096); !errors.Is(err, boom) {
		t.Errorf("map: %v", err)
	}
	if err := errors.Join(f.Sync(), f.SyncData()); !errors.Is(err, boom) {
		t.Errorf("sync: %v", err)
	}
	if len(seen) != 3 || seen[0].Len != 4096 || seen[1].Data || !seen[2].Data || seen[0].Kind.String() != "map" || seen[0].Kind.Changes() {
		t.Errorf("saw %+v", seen)
	}
	// A failed SyncData of a file in memory loses as much as a failed Sync.
	m := vfs.NewMem()
	g := put(t, vfs.Inject(m, func(op vfs.Op) error {
		if op.Data {
			return boom
		}
		return nil
	}), "f", "x", 0)
	check(t, m.SyncDir("."))
	if err := g.SyncData(); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	check(t, g.Sync())
	if got := get(t, m.CrashClone(vfs.CrashOptions{Keep: 1}), "f"); got == "x" {
		t.Error("the bytes of a failed sync came back")
	}
}

func TestMem_SyncData(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := put(t, m, "f", "one", 0)
	check(t, f.SyncData())
	check(t, m.SyncDir("."))
	if got := get(t, m.CrashClone(vfs.CrashOptions{}), "f"); got != "one" {
		t.Errorf("got %q", got)
	}
}

// A sector that was written several times since the last Sync may come back as
// it was in between.
func TestCrashClone_BetweenTwoWrites(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := put(t, m, "f", "0000", 0)
	check(t, errors.Join(f.Sync(), m.SyncDir(".")))
	for _, text := range []string{"1", "12", "123"} {
		put(t, m, "f", text, 0)
	}
	put(t, m, "f", "9", 5000) // another sector, written once
	seen := map[string]bool{}
	for seed := range uint64(100) {
		opts := vfs.CrashOptions{Keep: 0.3, Stale: 0.5, Rand: rand.New(rand.NewPCG(seed, 1))}
		seen[get(t, m.CrashClone(opts), "f")[:4]] = true
	}
	if len(seen) != 3 || !seen["0000"] || !seen["1200"] || !seen["1230"] {
		t.Errorf("saw %v", seen)
	}
	if got := get(t, m.CrashClone(vfs.CrashOptions{Keep: 0.3}), "f")[:4]; got == "1200" {
		t.Error("a state in between came back that nobody asked for")
	}
	check(t, f.Sync())
	for seed := range uint64(20) {
		opts := vfs.CrashOptions{Stale: 1, Rand: rand.New(rand.NewPCG(seed, 1))}
		if got := get(t, m.CrashClone(opts), "f")[:4]; got != "1230" {
			t.Errorf("after a sync: %q", got)
		}
	}
}

func TestDir_ReadOnlyMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store")
	if _, err := vfs.Dir(path, vfs.ReadOnly); !vfs.IsNotExist(err) {
		t.Fatalf("a missing directory: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("it was made: %v", err)
	}
	w, err := vfs.Dir(path, vfs.CreateMissing)
	check(t, err)
	check(t, put(t, w, "f", "text", 0).Close())
	check(t, w.Close())
	d, err := vfs.Dir(path, vfs.ReadOnly)
	check(t, err)
	defer func() { check(t, d.Close()) }()
	for what, err := range map[string]error{
		"create": second(d.Create("g")), "open": second(d.OpenReadWrite("f")), "rename": d.Rename("f", "g"), "remove": d.Remove("f"),
		"mkdir": d.MkdirAll("d"), "sync": d.SyncDir("."), "lock": second(d.Lock("LOCK")),
	} {
		if !errors.Is(err, vfs.ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if names, err := d.List("."); err != nil || len(names) != 1 {
		t.Errorf("list: %v, %v", names, err)
	}
	if size, err := d.Size("f"); err != nil || size != 4 {
		t.Errorf("size: %d, %v", size, err)
	}
	f, err := d.OpenRead("f")
	check(t, err)
	b := make([]byte, 10)
	if n, err := f.ReadAt(b, 0); !errors.Is(err, io.EOF) || !bytes.Equal(b[:n], []byte("text")) {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("wrote")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("truncated")
	}
	check(t, f.Close())
}
