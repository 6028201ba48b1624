//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package vfs_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// A lock ends with its Close although a child that was forked meanwhile, and
// has not begun its program yet, still has the file open.
func TestLock_EndsBesideFork(t *testing.T) {
	dir := t.TempDir()
	fs, err := vfs.Dir(dir, vfs.CreateMissing)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fs.Close() }()
	l, err := fs.Lock("LOCK")
	if err != nil {
		t.Fatal(err)
	}
	twin := inherited(t, filepath.Join(dir, "LOCK"))
	defer func() { _ = syscall.Close(twin) }()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := fs.Lock("LOCK")
	if err != nil {
		t.Fatalf("the lock outlives its Close: %v", err)
	}
	_ = again.Close()
}

// inherited is what a child would have: the open file of this process that name
// is open as, once more.
func inherited(t *testing.T, name string) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("the open files of a process are not listed here: %v", err)
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || target != name {
			continue
		}
		fd := 0
		for _, c := range e.Name() {
			fd = fd*10 + int(c-'0')
		}
		twin, err := syscall.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		return twin
	}
	t.Fatalf("%s is not open", name)
	return -1
}
