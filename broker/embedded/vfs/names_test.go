package vfs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

func TestFS_RenameReplaces(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		check(t, put(t, fsys, "new", "new", 0).Close())
		old := put(t, fsys, "old", "old", 0)
		check(t, fsys.Rename("new", "old"))
		if got := get(t, fsys, "old"); got != "new" {
			t.Errorf("got %q, want %q", got, "new")
		}
		if got := get(t, fsys, "new"); got != "-" {
			t.Errorf("the old name still has %q", got)
		}
		// Who has the replaced file open keeps it.
		b := make([]byte, 3)
		if _, err := old.ReadAt(b, 0); err != nil || string(b) != "old" {
			t.Errorf("the replaced file: got %q, %v; want %q", b, err, "old")
		}
		check(t, old.Close())
		check(t, fsys.Rename("old", "old"))
		if got := get(t, fsys, "old"); got != "new" {
			t.Errorf("renamed to itself: got %q, want %q", got, "new")
		}
		check(t, fsys.MkdirAll("dir"))
		if err := fsys.Rename("old", "dir"); err == nil {
			t.Error("a file replaced a directory, want an error")
		}
		if err := fsys.Rename("dir", "old"); err == nil {
			t.Error("a directory replaced a file, want an error")
		}
	})
}

// No operation reaches a name outside the root.
func TestFS_NamesStayInside(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		check(t, put(t, fsys, "in", "in", 0).Close())
		check(t, fsys.MkdirAll("a"))
		for _, name := range []string{"..", "../out", "a/../../out", "/", "/tmp", "/etc/passwd", ""} {
			file := func(f vfs.File, err error) error {
				if err == nil {
					_ = f.Close()
				}
				return err
			}
			for op, err := range map[string]error{
				"create":          file(fsys.Create(name)),
				"open read write": file(fsys.OpenReadWrite(name)),
				"open read":       file(fsys.OpenRead(name)),
				"rename from":     fsys.Rename(name, "x"),
				"rename to":       fsys.Rename("in", name),
				"remove":          fsys.Remove(name),
				"mkdir":           fsys.MkdirAll(name),
				"list":            second(fsys.List(name)),
				"sync dir":        fsys.SyncDir(name),
				"size":            second(fsys.Size(name)),
				"lock":            second(fsys.Lock(name)),
			} {
				if err == nil {
					t.Errorf("%s %q: got nil, want an error", op, name)
				}
			}
		}
		if names, err := fsys.List("."); err != nil || !slices.Equal(names, []string{"a", "in"}) {
			t.Errorf("got %q, %v; want what was there before", names, err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestFS_FileWhereADirectoryShouldBe(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		check(t, put(t, fsys, "f", "x", 0).Close())
		for op, err := range map[string]error{
			"create":   second(fsys.Create("f/x")),
			"open":     second(fsys.OpenRead("f/x")),
			"list":     second(fsys.List("f")),
			"mkdir":    fsys.MkdirAll("f/x"),
			"mkdir it": fsys.MkdirAll("f"),
			"sync dir": fsys.SyncDir("f/x"),
		} {
			if !errors.Is(err, vfs.ErrNotDirectory) {
				t.Errorf("%s: got %v, want %v", op, err, vfs.ErrNotDirectory)
			}
		}
		for op, err := range map[string]error{
			"create": second(fsys.Create("none/x")),
			"lock":   second(fsys.Lock("none/x")),
			"rename": fsys.Rename("f", "none/x"),
			"size":   second(fsys.Size("none")),
			"sync":   fsys.SyncDir("none"),
		} {
			if !vfs.IsNotExist(err) {
				t.Errorf("%s in a missing directory: got %v, want %v", op, err, fs.ErrNotExist)
			}
		}
	})
}

func TestFile_EmptyWriteAndNegativeOffset(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		f := put(t, fsys, "f", "abc", 0)
		if n, err := f.WriteAt(nil, 1000); n != 0 || err != nil {
			t.Errorf("an empty write: got %d, %v; want 0, nil", n, err)
		}
		if size, err := f.Size(); err != nil || size != 3 {
			t.Errorf("after an empty write: got size %d, %v; want 3", size, err)
		}
		_, rerr := f.ReadAt(make([]byte, 1), -1)
		_, werr := f.WriteAt([]byte("x"), -1)
		for op, err := range map[string]error{"read": rerr, "write": werr, "truncate": f.Truncate(-1)} {
			if err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%s at -1: got %v, want an error", op, err)
			}
		}
		check(t, f.Close())
		_, werr = f.WriteAt([]byte("x"), 0)
		for op, err := range map[string]error{"write": werr, "sync": f.Sync(), "truncate": f.Truncate(0), "allocate": f.Allocate(9), "size": second(f.Size()), "close": f.Close()} {
			if !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s after close: got %v, want %v", op, err, fs.ErrClosed)
			}
		}
		if got := get(t, fsys, "f"); got != "abc" {
			t.Errorf("got %q, want %q", got, "abc")
		}
	})
}

// Two openings of one directory in one process are two openers; the second one
// learns who the first one is.
func TestDir_LockNamesItsHolder(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	open := func() vfs.FS {
		d, err := vfs.Dir(path, vfs.MustExist)
		check(t, err)
		t.Cleanup(func() { check(t, d.Close()) })
		return d
	}
	one, two := open(), open()
	held, err := one.Lock("LOCK")
	check(t, err)
	_, err = two.Lock("LOCK")
	want := fmt.Sprintf("pid %d ", os.Getpid())
	if e, ok := errors.AsType[*vfs.LockedError](err); !ok || !strings.HasPrefix(e.Holder, want) || e.Name != filepath.Join(path, "LOCK") || !strings.Contains(err.Error(), e.Holder) {
		t.Errorf("got %v, want the lock held by %q", err, want)
	}
	check(t, held.Close())
	again, err := two.Lock("LOCK")
	if err != nil {
		t.Fatalf("after the first one closed: got %v, want nil", err)
	}
	check(t, again.Close())
}

func TestMem_LockOfAClone(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	held, err := m.Lock("LOCK")
	check(t, err)
	again, err := m.CrashClone(vfs.CrashOptions{}).Lock("LOCK")
	if err != nil {
		t.Fatalf("a power cut frees locks: got %v, want nil", err)
	}
	check(t, again.Close())
	if _, err := m.Lock("LOCK"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("the clone freed the lock of the original: got %v, want %v", err, vfs.ErrLocked)
	}
	check(t, held.Close())
}

// Links that lead out are refused for files and directories, whether they are
// relative or absolute.
func TestDir_LinksOfEveryKind(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	check(t, os.Mkdir(filepath.Join(root, "out"), 0o700))
	check(t, os.WriteFile(filepath.Join(root, "out", "secret"), []byte("x"), 0o600))
	path := filepath.Join(root, "store")
	d, err := vfs.Dir(path, vfs.CreateMissing)
	check(t, err)
	t.Cleanup(func() { check(t, d.Close()) })
	for name, to := range map[string]string{"rel": "../out", "abs": filepath.Join(root, "out")} {
		check(t, os.Symlink(to, filepath.Join(path, name)))
		for op, err := range map[string]error{
			"open":     second(d.OpenRead(name + "/secret")),
			"write":    second(d.OpenReadWrite(name + "/secret")),
			"create":   second(d.Create(name + "/new")),
			"list":     second(d.List(name)),
			"remove":   d.Remove(name + "/secret"),
			"mkdir":    d.MkdirAll(name + "/new"),
			"sync dir": d.SyncDir(name),
			"size":     second(d.Size(name + "/secret")),
			"lock":     second(d.Lock(name + "/LOCK")),
		} {
			if err == nil {
				t.Errorf("%s through %s: got nil, want an error", op, name)
			}
		}
	}
	left, err := os.ReadDir(filepath.Join(root, "out"))
	if err != nil || len(left) != 1 {
		t.Errorf("outside: got %v, %v; want only the secret", left, err)
	}
}

// A Mem is a map from names to contents.
func TestMem_IsAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m, model, n := vfs.NewMem(), map[string]string{}, 0
		name := rapid.SampledFrom([]string{"a", "b", "c", "d/a", "d/b"})
		if err := m.MkdirAll("d"); err != nil {
			rt.Fatal(err)
		}
		same := func(what string, got, want error) {
			if !errors.Is(got, want) || (got == nil) != (want == nil) {
				rt.Fatalf("%s: got %v, want %v", what, got, want)
			}
		}
		missing := func(name string) error {
			if _, ok := model[name]; !ok {
				return fs.ErrNotExist
			}
			return nil
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				to, want := name.Draw(rt, "name"), error(nil)
				if missing(to) == nil {
					want = fs.ErrExist
				}
				f, err := m.Create(to)
				if same("create "+to, err, want); err != nil {
					return
				}
				n++
				model[to] = fmt.Sprint(n)
				if _, err := f.WriteAt([]byte(model[to]), 0); err != nil {
					rt.Fatal(err)
				}
				same("close", f.Close(), nil)
			},
			"rename": func(rt *rapid.T) {
				from, to := name.Draw(rt, "from"), name.Draw(rt, "to")
				same("rename "+from+" to "+to, m.Rename(from, to), missing(from))
				if text, ok := model[from]; ok {
					delete(model, from)
					model[to] = text
				}
			},
			"remove": func(rt *rapid.T) {
				which := name.Draw(rt, "name")
				same("remove "+which, m.Remove(which), missing(which))
				delete(model, which)
			},
			"": func(rt *rapid.T) {
				want := map[string]string{}
				for _, dir := range []string{"", "d/"} {
					names, err := m.List(path.Clean(dir))
					if err != nil || !slices.IsSorted(names) {
						rt.Fatalf("list: got %q, %v; want them sorted", names, err)
					}
					for _, name := range names {
						if name != "d" {
							want[dir+name] = get(t, m, dir+name)
						}
					}
				}
				if !maps.Equal(want, model) {
					rt.Fatalf("got %q, want %q", want, model)
				}
			},
		})
	})
}

// The race detector looks on while everything happens at once.
func TestMem_Concurrent(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	f := put(t, m, "f", "x", 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			own := fmt.Sprint("own", i)
			for j := range 50 {
				_, werr := f.WriteAt(make([]byte, 700), int64(100*j))
				g, cerr := m.Create(own)
				if err := errors.Join(werr, cerr, f.Sync(), m.SyncDir(".")); err != nil {
					t.Error(err)
					return
				}
				c := m.CrashClone(vfs.CrashOptions{Keep: 0.5})
				if _, err := c.Size(own); err != nil {
					t.Errorf("a synced name is gone after a crash: got %v", err)
				}
				if err := errors.Join(g.Close(), m.Rename(own, own+"x"), m.Remove(own+"x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	check(t, f.Close())
}
