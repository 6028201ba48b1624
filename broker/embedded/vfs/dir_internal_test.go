package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	for errno, want := range map[error]error{
		syscall.ENOSPC: ErrNoSpace, syscall.EDQUOT: ErrNoSpace, syscall.EFBIG: ErrNoSpace,
		syscall.EROFS: ErrReadOnly, syscall.EACCES: ErrReadOnly, syscall.EPERM: ErrReadOnly,
		syscall.ENOTDIR: ErrNotDirectory,
	} {
		err := classify(&fs.PathError{Op: "open", Path: "x", Err: errno})
		if !errors.Is(err, want) || !errors.Is(err, errno) {
			t.Errorf("%v became %v, want %v", errno, err, want)
		}
	}
	if err := classify(syscall.EIO); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrReadOnly) || IsNoSpace(err) {
		t.Errorf("EIO became %v", err)
	}
	if !IsNoSpace(fmt.Errorf("write: %w", syscall.EDQUOT)) {
		t.Error("a full quota is no lack of space")
	}
}

// What systems without fallocate do.
func TestWriteZeros(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeZeros(f, 10, 3<<20+1); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 3<<20+1 {
		t.Fatalf("size %d, %v", info.Size(), err)
	}
}

func TestParentOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/a/b": "/a", "/a": "/", "/": "/", "a/b/": "a", "a": ".", ".": "."} {
		if got := parentOf(path); got != want {
			t.Errorf("parent of %s is %s, want %s", path, got, want)
		}
	}
}
