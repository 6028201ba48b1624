package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// everyFS runs f on each implementation.
func everyFS(t *testing.T, f func(t *testing.T, fsys vfs.FS)) {
	t.Parallel()
	pass := func(vfs.Op) error { return nil }
	for name, open := range map[string]func(t *testing.T) vfs.FS{
		"dir":           realDir,
		"mem":           func(*testing.T) vfs.FS { return vfs.NewMem() },
		"injected mem":  func(*testing.T) vfs.FS { return vfs.Inject(vfs.NewMem(), pass) },
		"injected dir":  func(t *testing.T) vfs.FS { return vfs.Inject(realDir(t), pass) },
		"clone of mem":  func(*testing.T) vfs.FS { return vfs.NewMem().CrashClone(vfs.CrashOptions{}) },
		"double inject": func(*testing.T) vfs.FS { return vfs.Inject(vfs.Inject(vfs.NewMem(), pass), pass) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, open(t))
		})
	}
}

func realDir(t *testing.T) vfs.FS {
	t.Helper()
	d, err := vfs.Dir(filepath.Join(t.TempDir(), "root"), vfs.CreateMissing)
	check(t, err)
	t.Cleanup(func() { check(t, d.Close()) })
	return d
}

func TestFS_Names(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		check(t, fsys.MkdirAll("a/b"))
		check(t, fsys.MkdirAll("a/b"))
		f, err := fsys.Create("a/b/one")
		check(t, err)
		check(t, f.Close())
		if _, err := fsys.Create("a/b/one"); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create twice: %v", err)
		}
		if _, err := fsys.OpenRead("a/b/two"); !vfs.IsNotExist(err) {
			t.Errorf("open what is missing: %v", err)
		}
		if _, err := fsys.OpenReadWrite("a/b"); err == nil {
			t.Error("a directory was opened as a file")
		}
		check(t, fsys.Rename("a/b/one", "a/two"))
		if names, err := fsys.List("a"); err != nil || !slices.Equal(names, []string{"b", "two"}) {
			t.Errorf("list: %v, %v", names, err)
		}
		if _, err := fsys.List("none"); !vfs.IsNotExist(err) {
			t.Errorf("list what is missing: %v", err)
		}
		if err := fsys.Rename("none", "some"); !vfs.IsNotExist(err) {
			t.Errorf("rename what is missing: %v", err)
		}
		if err := fsys.MkdirAll("a/two/three"); err == nil {
			t.Error("a directory inside a file")
		}
		if err := fsys.Remove("a"); err == nil {
			t.Error("a full directory was removed")
		}
		for _, dir := range []string{".", "a", "a/b"} {
			check(t, fsys.SyncDir(dir))
		}
		check(t, fsys.Remove("a/two"))
		check(t, fsys.Remove("a/b"))
		if err := fsys.Remove("a/b"); !vfs.IsNotExist(err) {
			t.Errorf("remove twice: %v", err)
		}
		for _, name := range []string{"../x", "/etc/passwd", "a/../../x"} {
			if _, err := fsys.Create(name); err == nil {
				t.Errorf("%s left the root", name)
			}
		}
	})
}

func TestFile_Content(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		f, err := fsys.Create("f")
		check(t, err)
		_, err = f.WriteAt([]byte("hello"), 100000)
		check(t, err)
		b := make([]byte, 7)
		if n, err := f.ReadAt(b, 99999); n != 6 || !errors.Is(err, io.EOF) || string(b[:n]) != "\x00hello" {
			t.Errorf("read over the end: %d %q %v", n, b[:n], err)
		}
		if n, err := f.ReadAt(b, 100005); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read at the end: %d %v", n, err)
		}
		check(t, f.Truncate(100002))
		check(t, f.Allocate(100000)) // smaller: nothing happens
		check(t, f.Allocate(200000))
		if size, err := f.Size(); err != nil || size != 200000 {
			t.Errorf("size %d, %v", size, err)
		}
		if size, err := fsys.Size("f"); err != nil || size != 200000 {
			t.Errorf("size by name %d, %v", size, err)
		}
		if _, err := f.ReadAt(b, 100000); err != nil || string(b) != "he\x00\x00\x00\x00\x00" {
			t.Errorf("what was cut off came back: %q %v", b, err)
		}
		check(t, f.Sync())
		r, err := fsys.OpenRead("f")
		check(t, err)
		if _, err := r.WriteAt(b, 0); err == nil {
			t.Error("wrote through a read-only file")
		}
		check(t, r.Close())
		check(t, f.Close())
		if _, err := f.ReadAt(b, 0); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	})
}

func TestLock(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys vfs.FS) {
		held, err := fsys.Lock("LOCK")
		check(t, err)
		_, err = fsys.Lock("LOCK")
		if e, ok := errors.AsType[*vfs.LockedError](err); !ok || !errors.Is(err, vfs.ErrLocked) || e.Holder == "" {
			t.Fatalf("second opener: %v", err)
		}
		check(t, held.Close())
		if err := held.Close(); err == nil {
			t.Error("closed twice")
		}
		if _, err := fsys.Size("LOCK"); err != nil {
			t.Errorf("the lock file is gone: %v", err)
		}
		var wg sync.WaitGroup
		wins := make(chan io.Closer, 50)
		for range 50 {
			wg.Go(func() {
				if c, err := fsys.Lock("LOCK"); err == nil {
					wins <- c
				} else if !errors.Is(err, vfs.ErrLocked) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(wins) != 1 {
			t.Fatalf("%d openers hold the lock", len(wins))
		}
		check(t, (<-wins).Close())
	})
}

// Both implementations answer a random history alike.
func TestFS_MemIsLikeDir(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir, err := vfs.Dir(filepath.Join(root, fmt.Sprint(n)), vfs.CreateMissing)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = dir.Close() }()
		both := []vfs.FS{dir, vfs.NewMem()}
		var files [2]vfs.File
		for i, fsys := range both {
			if files[i], err = fsys.Create("f"); err != nil {
				rt.Fatal(err)
			}
			defer func() { _ = files[i].Close() }()
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				off, b := rapid.Int64Range(0, 40000).Draw(rt, "off"), bytes.Repeat([]byte{byte(rapid.IntRange(1, 255).Draw(rt, "byte"))}, rapid.IntRange(0, 20000).Draw(rt, "len"))
				for _, f := range files {
					if _, err := f.WriteAt(b, off); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"truncate": func(rt *rapid.T) {
				size := rapid.Int64Range(0, 60000).Draw(rt, "size")
				for _, f := range files {
					if err := f.Truncate(size); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"allocate": func(rt *rapid.T) {
				size := rapid.Int64Range(0, 60000).Draw(rt, "size")
				for _, f := range files {
					if err := f.Allocate(size); err != nil {
						rt.Fatal(err)
					}
				}
			},
			"sync": func(rt *rapid.T) {
				if err := files[1].Sync(); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				var all [2][]byte
				for i, f := range files {
					size, err := f.Size()
					if err != nil {
						rt.Fatal(err)
					}
					all[i] = make([]byte, size)
					if n, err := f.ReadAt(all[i], 0); n != int(size) {
						rt.Fatalf("read %d of %d: %v", n, size, err)
					}
				}
				if !bytes.Equal(all[0], all[1]) {
					rt.Fatalf("contents differ: %d and %d bytes", len(all[0]), len(all[1]))
				}
			},
		})
	})
}

func TestDir_ClearErrors(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	file := filepath.Join(root, "file")
	check(t, os.WriteFile(file, nil, 0o600))
	for path, want := range map[string]error{
		file:                         vfs.ErrNotDirectory,
		filepath.Join(file, "below"): vfs.ErrNotDirectory,
	} {
		if _, err := vfs.Dir(path, vfs.CreateMissing); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := vfs.Dir(filepath.Join(root, "missing"), vfs.MustExist); !vfs.IsNotExist(err) {
		t.Errorf("missing: %v", err)
	}
	if _, err := vfs.Dir("", vfs.CreateMissing); err == nil {
		t.Error("an empty path was taken")
	}
	made := filepath.Join(root, "x", "y", "z")
	d, err := vfs.Dir(made, vfs.CreateMissing)
	check(t, err)
	check(t, d.Close())
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDir_ReadOnly(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere; the error is tested through classify in an internal test")
	}
	path := t.TempDir()
	check(t, os.Chmod(path, 0o500))
	d, err := vfs.Dir(path, vfs.CreateMissing)
	check(t, err)
	t.Cleanup(func() { _ = d.Close() })
	if _, err := d.Lock("LOCK"); !errors.Is(err, vfs.ErrReadOnly) {
		t.Errorf("lock: %v", err)
	}
}

func TestDir_SymbolicLinksDoNotLeaveIt(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	secret := filepath.Join(root, "secret")
	check(t, os.WriteFile(secret, []byte("x"), 0o600))
	path := filepath.Join(root, "store")
	d, err := vfs.Dir(path, vfs.CreateMissing)
	check(t, err)
	t.Cleanup(func() { _ = d.Close() })
	check(t, os.Symlink("../secret", filepath.Join(path, "link")))
	if _, err := d.OpenRead("link"); err == nil {
		t.Error("a link led out of the directory")
	}
}

func TestDir_AllocateReservesBlocks(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere zeros are written")
	}
	d := realDir(t)
	f, err := d.Create("f")
	check(t, err)
	check(t, f.Allocate(1<<20))
	check(t, f.Sync())
	check(t, f.Close())
}
