package vfs_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

func put(t testing.TB, fsys vfs.FS, name, text string, off int64) vfs.File {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	if vfs.IsNotExist(err) {
		f, err = fsys.Create(name)
	}
	check(t, err)
	_, err = f.WriteAt([]byte(text), off)
	check(t, err)
	return f
}

// get answers the content of a file, "-" if there is none.
func get(t testing.TB, fsys vfs.FS, name string) string {
	t.Helper()
	f, err := fsys.OpenRead(name)
	if vfs.IsNotExist(err) {
		return "-"
	}
	check(t, err)
	size, err := f.Size()
	check(t, err)
	b := make([]byte, size)
	if n, _ := f.ReadAt(b, 0); n != int(size) {
		t.Fatalf("%s: read %d of %d", name, n, size)
	}
	return string(b)
}

func TestCrashClone_LosesWhatWasNotSynced(t *testing.T) {
	t.Parallel()
	none := vfs.CrashOptions{}
	m := vfs.NewMem()
	f := put(t, m, "f", "one", 0)
	if got := get(t, m.CrashClone(none), "f"); got != "-" {
		t.Errorf("the name was not synced, but %q is there", got)
	}
	check(t, f.Sync())
	if got := get(t, m.CrashClone(none), "f"); got != "-" {
		t.Errorf("fsync of the file made its name durable: %q", got)
	}
	check(t, m.SyncDir("."))
	if got := get(t, m.CrashClone(none), "f"); got != "one" {
		t.Errorf("all was synced, got %q", got)
	}
	put(t, m, "f", "twofold", 0)
	c := m.CrashClone(none)
	if got := get(t, c, "f"); got != "one" {
		t.Errorf("unsynced bytes survived: %q", got)
	}
	if got := get(t, m.CrashClone(vfs.CrashOptions{Keep: 1}), "f"); got != "twofold" {
		t.Errorf("keep all: %q", got)
	}
	if get(t, m, "f") != "twofold" {
		t.Error("the original was changed")
	}
	put(t, c, "f", "x", 0)
	if got := get(t, m.CrashClone(none), "f"); got != "one" {
		t.Errorf("the clone shares with the original: %q", got)
	}

	check(t, m.Rename("f", "g"))
	if c := m.CrashClone(none); get(t, c, "f") != "one" || get(t, c, "g") != "-" {
		t.Error("an unsynced rename survived")
	}
	check(t, m.SyncDir("."))
	if c := m.CrashClone(none); get(t, c, "f") != "-" || get(t, c, "g") != "one" {
		t.Error("a synced rename was lost")
	}
	check(t, m.Remove("g"))
	if get(t, m.CrashClone(none), "g") != "one" {
		t.Error("an unsynced removal survived")
	}
	check(t, m.MkdirAll("d"))
	put(t, m, "d/x", "y", 0)
	check(t, m.SyncDir("d"))
	if _, err := m.CrashClone(none).List("d"); !vfs.IsNotExist(err) {
		t.Errorf("the parent was not synced: %v", err)
	}
	check(t, m.SyncDir("."))
	if names, err := m.CrashClone(none).List("d"); err != nil || !slices.Equal(names, []string{"x"}) {
		t.Errorf("%v, %v", names, err)
	}
}

func TestCrashClone_TruncateAndAllocate(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := put(t, m, "f", "0123456789", 0)
	check(t, f.Sync())
	check(t, m.SyncDir("."))
	check(t, f.Truncate(4))
	if got := get(t, m.CrashClone(vfs.CrashOptions{}), "f"); got != "0123456789" {
		t.Errorf("an unsynced truncate survived: %q", got)
	}
	check(t, f.Allocate(8))
	check(t, f.Sync())
	if got := get(t, m.CrashClone(vfs.CrashOptions{}), "f"); got != "0123\x00\x00\x00\x00" {
		t.Errorf("truncate and allocate: %q", got)
	}
	// Beyond the first pieces, and freed again.
	put(t, m, "f", "far", 1<<20)
	check(t, f.Sync())
	check(t, f.Truncate(8))
	check(t, f.Sync())
	if got := get(t, m.CrashClone(vfs.CrashOptions{}), "f"); got != "0123\x00\x00\x00\x00" {
		t.Errorf("freed: %d bytes", len(got))
	}
}

func TestCrashClone_TearsSectors(t *testing.T) {
	t.Parallel()
	const sectors = 200
	m := vfs.NewMem()
	f := put(t, m, "f", string(bytes.Repeat([]byte("o"), sectors*512)), 0)
	check(t, f.Sync())
	check(t, m.SyncDir("."))
	put(t, m, "f", string(bytes.Repeat([]byte("n"), sectors*512)), 0)
	got := get(t, m.CrashClone(vfs.CrashOptions{Keep: 0.5, Rand: rand.New(rand.NewPCG(3, 3))}), "f")
	kept := 0
	for i := range sectors {
		s := got[i*512 : (i+1)*512]
		switch s[0] {
		case 'n':
			kept++
		case 'o':
		default:
			t.Fatalf("sector %d begins with %q", i, s[0])
		}
		if s != string(bytes.Repeat([]byte{s[0]}, 512)) {
			t.Fatalf("sector %d is torn inside", i)
		}
	}
	if kept < sectors/4 || kept > sectors*3/4 {
		t.Errorf("%d of %d sectors survived", kept, sectors)
	}
	again := get(t, m.CrashClone(vfs.CrashOptions{Keep: 0.5, Rand: rand.New(rand.NewPCG(3, 3))}), "f")
	if again != got {
		t.Error("the same seed gave another clone")
	}
}

func TestCrashClone_StaleBytes(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := put(t, m, "f", string(bytes.Repeat([]byte("old"), 4000)), 0)
	check(t, f.Sync())
	check(t, m.SyncDir("."))
	put(t, m, "f", string(bytes.Repeat([]byte("new"), 4000)), 12000)
	stale := 0
	for seed := range uint64(50) {
		got := get(t, m.CrashClone(vfs.CrashOptions{Keep: 0.5, Stale: 1, Rand: rand.New(rand.NewPCG(seed, 1))}), "f")
		if len(got) > 12000 && bytes.ContainsAny([]byte(got[12288:]), "ld") {
			stale++
		}
	}
	if stale == 0 {
		t.Error("no stale bytes in 50 crashes")
	}
}

// fsyncgate: after a failed sync the page cache lies, and another sync does
// not help; writing again does.
func TestInject_FailedSyncLosesPages(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	boom, on := errors.New("boom"), false
	fsys := vfs.Inject(vfs.Inject(m, func(vfs.Op) error { return nil }), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && on {
			return boom
		}
		return nil
	})
	f := put(t, fsys, "f", "aaaa", 0)
	check(t, f.Sync())
	check(t, fsys.SyncDir("."))
	put(t, fsys, "f", "bbbb", 0)
	on = true
	if err := f.Sync(); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	on = false
	check(t, f.Sync())
	if got := get(t, m, "f"); got != "bbbb" {
		t.Errorf("the page cache shows %q", got)
	}
	for _, keep := range []float64{0, 1} {
		if got := get(t, m.CrashClone(vfs.CrashOptions{Keep: keep}), "f"); got != "aaaa" {
			t.Errorf("keep %v: the medium has %q", keep, got)
		}
	}
	put(t, fsys, "f", "bbbb", 0)
	check(t, f.Sync())
	if got := get(t, m.CrashClone(vfs.CrashOptions{}), "f"); got != "bbbb" {
		t.Errorf("written again: %q", got)
	}
}

func TestInject_CountsAndFails(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	run := func(fsys vfs.FS) error {
		if err := fsys.MkdirAll("d"); err != nil {
			return err
		}
		l, err := fsys.Lock("LOCK")
		if err != nil {
			return err
		}
		f, err := fsys.Create("d/f")
		if err != nil {
			return errors.Join(err, l.Close())
		}
		_, err = f.WriteAt([]byte("abc"), 0)
		if err == nil {
			err = errors.Join(f.Allocate(10), f.Truncate(5), f.Sync())
		}
		if err == nil {
			_, err = f.Size()
		}
		if err == nil {
			_, err = f.ReadAt(make([]byte, 2), 0)
		}
		if err = errors.Join(err, f.Close(), l.Close()); err != nil {
			return err
		}
		if err = errors.Join(fsys.Rename("d/f", "d/g"), fsys.SyncDir("d")); err != nil {
			return err
		}
		if _, err = fsys.Size("d/g"); err == nil {
			_, err = fsys.List("d")
		}
		if err != nil {
			return err
		}
		if f, err = fsys.OpenRead("d/g"); err != nil {
			return err
		}
		return errors.Join(f.Close(), fsys.Remove("d/g"))
	}
	kinds := map[vfs.OpKind]bool{}
	n := 1
	for hit := true; hit; n++ {
		hit = false
		err := run(vfs.Inject(vfs.NewMem(), func(op vfs.Op) error {
			kinds[op.Kind] = true
			if op.N == n {
				hit = true
				return boom
			}
			return nil
		}))
		if hit != errors.Is(err, boom) {
			t.Fatalf("call %d: hit %v, got %v", n, hit, err)
		}
	}
	for k := vfs.OpCreate; k <= vfs.OpClose; k++ {
		if !kinds[k] || k.String() == "unknown" {
			t.Errorf("%v was never seen", k)
		}
	}
	if vfs.OpRead.Changes() || !vfs.OpSyncDir.Changes() {
		t.Error("Changes is wrong")
	}
}

func TestInject_ShortWrite(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	fsys := vfs.Inject(m, func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			return &vfs.ShortWrite{N: 2, Err: vfs.ErrNoSpace}
		}
		return nil
	})
	f, err := fsys.Create("f")
	check(t, err)
	if n, err := f.WriteAt([]byte("abc"), 0); n != 2 || !vfs.IsNoSpace(err) {
		t.Errorf("%d, %v", n, err)
	}
	if got := get(t, m, "f"); got != "ab" {
		t.Errorf("got %q", got)
	}
}
