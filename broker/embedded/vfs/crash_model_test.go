package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

func seeded(keep float64, seed uint64) vfs.CrashOptions {
	return vfs.CrashOptions{Keep: keep, Rand: rand.New(rand.NewPCG(seed, seed))}
}

const (
	modelSector  = 512
	modelSectors = 40 // more than two of the pieces a file is kept in
)

// fileModel is one file: what readers see, and what the medium has.
type fileModel struct {
	now, medium     [modelSectors * modelSector]byte
	size, onMedium  int
	dirty, neverWas [modelSectors]bool // neverWas: a failed sync dropped it
}

// touch marks the sectors of from..to as changed.
func (f *fileModel) touch(from, to int) {
	for s := from / modelSector; s*modelSector < to; s++ {
		f.dirty[s], f.neverWas[s] = true, false
	}
}

func (f *fileModel) sync(fails bool) {
	for s, dirty := range f.dirty {
		at := s * modelSector
		switch {
		case dirty && fails:
			f.neverWas[s] = true
		case dirty:
			copy(f.medium[at:at+modelSector], f.now[at:])
		}
		f.dirty[s] = false
	}
	if !fails {
		f.onMedium = f.size
	}
}

// judge compares what a crash left with what it may leave.
func (f *fileModel) judge(got []byte, keep float64) error {
	switch {
	case len(got) != f.size && len(got) != f.onMedium,
		keep == 0 && len(got) != f.onMedium, keep == 1 && len(got) != f.size:
		return fmt.Errorf("got %d bytes, want %d if all was lost or %d if all was kept", len(got), f.onMedium, f.size)
	}
	for s := range modelSectors {
		from, to := s*modelSector, min((s+1)*modelSector, len(got))
		if from >= to {
			break
		}
		isOld, isNew := bytes.Equal(got[from:to], f.medium[from:to]), bytes.Equal(got[from:to], f.now[from:to])
		wantOld, wantNew := !f.dirty[s] || keep == 0, f.dirty[s] && keep == 1
		if !isOld && !isNew || wantOld && !isOld || wantNew && !isNew {
			return fmt.Errorf("sector %d: got old %v, new %v; want old %v, new %v (dropped by a failed sync: %v)", s, isOld, isNew, wantOld, wantNew, f.neverWas[s])
		}
	}
	return nil
}

// After any history, a power cut leaves each sector as it is on the medium or
// as it was written last, and never less than what was synced.
func TestCrashClone_ModelOfAFile(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	rapid.Check(t, func(rt *rapid.T) {
		fails := false
		m := vfs.NewMem()
		fsys := vfs.Inject(m, func(op vfs.Op) error {
			if fails && op.Kind == vfs.OpSync {
				return boom
			}
			return nil
		})
		f, err := fsys.Create("f")
		if err = errors.Join(err, m.SyncDir(".")); err != nil {
			rt.Fatal(err)
		}
		model := &fileModel{}
		sizes := rapid.OneOf(rapid.IntRange(0, len(model.now)), rapid.Map(rapid.IntRange(0, modelSectors), func(s int) int { return s * modelSector }))
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				from, to := sizes.Draw(rt, "from"), sizes.Draw(rt, "to")
				if from >= to {
					return
				}
				b := bytes.Repeat([]byte{rapid.Byte().Draw(rt, "byte")}, to-from)
				if _, err := f.WriteAt(b, int64(from)); err != nil {
					rt.Fatal(err)
				}
				copy(model.now[from:], b)
				model.touch(from, to)
				model.size = max(model.size, to)
			},
			"truncate": func(rt *rapid.T) {
				size := sizes.Draw(rt, "size")
				if err := f.Truncate(int64(size)); err != nil {
					rt.Fatal(err)
				}
				clear(model.now[size:])
				model.touch(size, len(model.now))
				model.size = size
			},
			"allocate": func(rt *rapid.T) {
				size := sizes.Draw(rt, "size")
				if err := f.Allocate(int64(size)); err != nil {
					rt.Fatal(err)
				}
				model.size = max(model.size, size)
			},
			"sync": func(rt *rapid.T) {
				if err := f.Sync(); err != nil {
					rt.Fatal(err)
				}
				model.sync(false)
			},
			"failed sync": func(rt *rapid.T) {
				fails = true
				if err := f.Sync(); !errors.Is(err, boom) {
					rt.Fatalf("got %v, want %v", err, boom)
				}
				fails = false
				model.sync(true)
			},
			"": func(rt *rapid.T) {
				if got := get(t, m, "f"); got != string(model.now[:model.size]) {
					rt.Fatalf("before a crash: got %d bytes that differ from the %d written", len(got), model.size)
				}
				seed := rapid.Uint64().Draw(rt, "seed")
				for _, keep := range []float64{0, 0.5, 1} {
					got := get(t, m.CrashClone(seeded(keep, seed)), "f")
					if err := model.judge([]byte(got), keep); err != nil {
						rt.Fatalf("keep %v: %v", keep, err)
					}
					if again := get(t, m.CrashClone(seeded(keep, seed)), "f"); again != got {
						rt.Fatalf("keep %v: the same seed gave another clone", keep)
					}
				}
			},
		})
	})
}

// After any history, names that were not changed since the last SyncDir are
// there after a power cut, with their synced content; the other ones have
// their old or a newer file, or none.
func TestCrashClone_ModelOfNames(t *testing.T) {
	t.Parallel()
	all := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(rt *rapid.T) {
		m, n := vfs.NewMem(), 0
		now, durable, changed := map[string]string{}, map[string]string{}, map[string]bool{}
		files := func(m *vfs.Mem) map[string]string {
			found := map[string]string{}
			for _, name := range all {
				if text := get(t, m, name); text != "-" {
					found[name] = text
				}
			}
			return found
		}
		name := rapid.SampledFrom(all)
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				to := name.Draw(rt, "name")
				if now[to] != "" {
					return
				}
				n++
				now[to], changed[to] = fmt.Sprint("file ", n), true
				f := put(t, m, to, now[to], 0)
				if err := errors.Join(f.Sync(), f.Close()); err != nil {
					rt.Fatal(err)
				}
			},
			"rename": func(rt *rapid.T) {
				from, to := name.Draw(rt, "from"), name.Draw(rt, "to")
				if now[from] == "" || from == to {
					return
				}
				if err := m.Rename(from, to); err != nil {
					rt.Fatal(err)
				}
				now[to], changed[from], changed[to] = now[from], true, true
				delete(now, from)
			},
			"remove": func(rt *rapid.T) {
				which := name.Draw(rt, "name")
				if now[which] == "" {
					return
				}
				if err := m.Remove(which); err != nil {
					rt.Fatal(err)
				}
				changed[which] = true
				delete(now, which)
			},
			"sync dir": func(rt *rapid.T) {
				if err := m.SyncDir("."); err != nil {
					rt.Fatal(err)
				}
				durable = maps.Clone(now)
				clear(changed)
			},
			"": func(rt *rapid.T) {
				if got := files(m.CrashClone(vfs.CrashOptions{})); !maps.Equal(got, durable) {
					rt.Fatalf("nothing is kept: got %q, want %q", got, durable)
				}
				if got := files(m.CrashClone(vfs.CrashOptions{Keep: 1})); !maps.Equal(got, now) {
					rt.Fatalf("all is kept: got %q, want %q", got, now)
				}
				seed := rapid.Uint64().Draw(rt, "seed")
				clone := m.CrashClone(seeded(0.5, seed))
				got := files(clone)
				for _, name := range all {
					if !changed[name] && got[name] != durable[name] {
						rt.Fatalf("%s was synced: got %q, want %q", name, got[name], durable[name])
					}
				}
				if again := files(m.CrashClone(seeded(0.5, seed))); !maps.Equal(again, got) {
					rt.Fatalf("the same seed: got %q, want %q", again, got)
				}
				// What a machine finds after a crash survives the next one.
				if twice := files(clone.CrashClone(vfs.CrashOptions{})); !maps.Equal(twice, got) {
					rt.Fatalf("a second crash: got %q, want %q", twice, got)
				}
			},
		})
	})
}

func TestInject_OnceAndSticky(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		fails func(n int) bool
		want  [5]bool
	}{
		"never":          {func(int) bool { return false }, [5]bool{}},
		"third once":     {func(n int) bool { return n == 3 }, [5]bool{2: true}},
		"third and then": {func(n int) bool { return n >= 3 }, [5]bool{2: true, 3: true, 4: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := vfs.NewMem()
			writes := 0
			f := put(t, vfs.Inject(m, func(op vfs.Op) error {
				if op.Kind != vfs.OpWrite || op.Offset == 100 {
					return nil
				}
				if writes++; c.fails(writes) {
					return boom
				}
				return nil
			}), "f", ".", 100)
			for i, want := range c.want {
				n, err := f.WriteAt([]byte("x"), int64(i))
				if errors.Is(err, boom) != want || (n == 0) != want {
					t.Errorf("write %d: got %d, %v; want failed %v", i+1, n, err, want)
				}
				if got := get(t, m, "f")[i] == 'x'; got == want {
					t.Errorf("write %d: got written %v, want %v", i+1, got, !want)
				}
			}
			check(t, f.Close())
		})
	}
}

// A close that is told to fail closes all the same: nothing leaks and the lock
// is free.
func TestInject_FailedCloseCloses(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	everyClose := func(op vfs.Op) error {
		if op.Kind == vfs.OpClose {
			return boom
		}
		return nil
	}
	for name, inner := range map[string]vfs.FS{"mem": vfs.NewMem(), "dir": realDir(t)} {
		fsys := vfs.Inject(inner, everyClose)
		held, err := fsys.Lock("LOCK")
		check(t, err)
		if err := held.Close(); !errors.Is(err, boom) {
			t.Errorf("%s: unlock: got %v, want %v", name, err, boom)
		}
		again, err := inner.Lock("LOCK")
		if err != nil {
			t.Fatalf("%s: lock after a failed close: got %v, want nil", name, err)
		}
		check(t, again.Close())
		f := put(t, fsys, "f", "x", 0)
		if err := f.Close(); !errors.Is(err, boom) {
			t.Errorf("%s: close: got %v, want %v", name, err, boom)
		}
		if _, err := f.WriteAt([]byte("y"), 0); err == nil {
			t.Errorf("%s: wrote to a closed file, want an error", name)
		}
	}
}

// How much of a short write arrives is cut to what there was to write.
func TestInject_ShortWriteBounds(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for n, want := range map[int]string{-1: "", 0: "", 1: "a", 3: "abc", 9: "abc"} {
		m := vfs.NewMem()
		f, err := vfs.Inject(m, func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite {
				return &vfs.ShortWrite{N: n, Err: boom}
			}
			return nil
		}).Create("f")
		check(t, err)
		if got, err := f.WriteAt([]byte("abc"), 0); got != len(want) || !errors.Is(err, boom) {
			t.Errorf("short write of %d: got %d, %v; want %d, %v", n, got, err, len(want), boom)
		}
		if got := get(t, m, "f"); got != want {
			t.Errorf("short write of %d: got %q, want %q", n, got, want)
		}
	}
}
