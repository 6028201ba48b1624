package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Mode says what [Dir] does about a missing directory.
type Mode uint8

const (
	// CreateMissing makes the directory and its parents, with mode 0700.
	CreateMissing Mode = iota
	// MustExist refuses a missing directory with an error that wraps
	// [fs.ErrNotExist].
	MustExist
	// ReadOnly is MustExist, and nothing is ever written: OpenRead, List and
	// Size work, all other operations answer [ErrReadOnly], Lock too.
	ReadOnly
)

const (
	dirPerm  fs.FileMode = 0o700
	filePerm fs.FileMode = 0o600
)

// dirFS is the real file system below one directory.
type dirFS struct {
	root     *os.Root
	path     string
	readOnly bool
}

// Dir opens the directory at path. Names cannot leave it, not by "..", nor by
// a symbolic link. A file at path is [ErrNotDirectory], a directory that may
// not be made is [ErrReadOnly]; whether an existing one can be written shows
// at the first operation that writes. The caller closes the FS.
func Dir(path string, mode Mode) (FS, error) {
	if path == "" {
		return nil, errors.New("open directory: the path is empty; name a directory")
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return nil, fmt.Errorf("open directory %s: %w", path, ErrNotDirectory)
	case errors.Is(err, fs.ErrNotExist) && mode == CreateMissing:
		if err := makeDirs(path); err != nil {
			return nil, fmt.Errorf("create directory %s: %w", path, classify(err))
		}
	case err != nil:
		return nil, fmt.Errorf("open directory %s: %w", path, classify(err))
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open directory %s: %w", path, classify(err))
	}
	return &dirFS{root: root, path: path, readOnly: mode == ReadOnly}, nil
}

// makeDirs makes the directory and syncs the parents of what it made: a store
// that is durable inside a directory that is not would vanish with it.
func makeDirs(path string) error {
	parent := path
	for {
		next := parentOf(parent)
		if _, err := os.Stat(next); err == nil || next == parent {
			parent = next
			break
		}
		parent = next
	}
	if err := os.MkdirAll(path, dirPerm); err != nil {
		return err
	}
	for p := parentOf(path); ; p = parentOf(p) {
		if err := syncDirPath(p); err != nil {
			return err
		}
		if p == parent {
			return nil
		}
	}
}

func parentOf(p string) string {
	p = strings.TrimRight(p, string(os.PathSeparator))
	if i := strings.LastIndexByte(p, os.PathSeparator); i > 0 {
		return p[:i]
	} else if i == 0 || p == "" {
		return string(os.PathSeparator)
	}
	return "."
}

func syncDirPath(p string) error {
	d, err := os.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writable refuses op on name in a directory that was opened to be read.
func (d *dirFS) writable(op, name string) error {
	if d.readOnly {
		return d.wrap(op, name, ErrReadOnly)
	}
	return nil
}

func (d *dirFS) wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, path.Join(d.path, name), classify(err))
}

func (d *dirFS) open(op, name string, flag int) (File, error) {
	if flag != os.O_RDONLY {
		if err := d.writable(op, name); err != nil {
			return nil, err
		}
	}
	f, err := d.root.OpenFile(name, flag, filePerm)
	if err != nil {
		return nil, d.wrap(op, name, err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("is a directory, not a file")
	}
	if err != nil {
		return nil, d.wrap(op, name, errors.Join(err, f.Close()))
	}
	return &osFile{f: f, name: path.Join(d.path, name)}, nil
}

func (d *dirFS) Create(name string) (File, error) {
	return d.open("create", name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d *dirFS) OpenReadWrite(name string) (File, error) { return d.open("open", name, os.O_RDWR) }

func (d *dirFS) OpenRead(name string) (File, error) { return d.open("open", name, os.O_RDONLY) }

func (d *dirFS) Rename(oldName, newName string) error {
	if err := d.writable("rename to "+newName, oldName); err != nil {
		return err
	}
	return d.wrap("rename to "+newName, oldName, d.root.Rename(oldName, newName))
}

func (d *dirFS) Remove(name string) error {
	if err := d.writable("remove", name); err != nil {
		return err
	}
	return d.wrap("remove", name, d.root.Remove(name))
}

func (d *dirFS) List(dir string) ([]string, error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, d.wrap("list", dir, err)
	}
	names, err := f.Readdirnames(-1)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, d.wrap("list", dir, err)
	}
	slices.Sort(names)
	return names, nil
}

func (d *dirFS) MkdirAll(dir string) error {
	if err := d.writable("create directory", dir); err != nil {
		return err
	}
	err := d.root.MkdirAll(dir, dirPerm)
	if errors.Is(err, fs.ErrExist) { // an existing directory is no error, so it is something else
		err = fmt.Errorf("%w: %w", ErrNotDirectory, err)
	}
	return d.wrap("create directory", dir, err)
}

func (d *dirFS) SyncDir(dir string) error {
	if err := d.writable("sync directory", dir); err != nil {
		return err
	}
	f, err := d.root.Open(dir)
	if err != nil {
		return d.wrap("sync directory", dir, err)
	}
	return d.wrap("sync directory", dir, errors.Join(f.Sync(), f.Close()))
}

func (d *dirFS) Size(name string) (int64, error) {
	info, err := d.root.Stat(name)
	if err != nil {
		return 0, d.wrap("stat", name, err)
	}
	return info.Size(), nil
}

func (d *dirFS) Close() error { return d.wrap("close", ".", d.root.Close()) }

func (d *dirFS) Lock(name string) (io.Closer, error) {
	if err := d.writable("lock", name); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, d.wrap("lock", name, err)
	}
	held, err := tryLock(f)
	switch {
	case err != nil:
		return nil, d.wrap("lock", name, errors.Join(err, f.Close()))
	case held:
		e := &LockedError{Name: path.Join(d.path, name), Holder: holderOf(f)}
		return nil, errors.Join(e, f.Close())
	}
	// Who holds it is a help for people, but a disk that cannot take this line
	// will not take messages either.
	line := []byte(holderLine())
	if err := errors.Join(f.Truncate(0), writeFull(f, line)); err != nil {
		return nil, d.wrap("write lock", name, errors.Join(err, f.Close()))
	}
	return heldLock{f}, nil
}

// heldLock is a lock that this process has.
type heldLock struct{ f *os.File }

// Close gives the lock back by itself before it closes the file: a child that
// is between fork and exec has the file, too, and would keep a lock that only
// ends with the last of them.
func (l heldLock) Close() error { return errors.Join(unlock(l.f), l.f.Close()) }

func writeFull(f *os.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	return err
}

func holderOf(f *os.File) string {
	b := make([]byte, 256)
	n, _ := f.ReadAt(b, 0) // a short file ends with io.EOF; no holder is an answer
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	return strings.ToValidUTF8(line, "?")
}

// holderLine says which process on which boot of which host holds a lock.
func holderLine() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = []byte("unknown")
	}
	return "pid " + strconv.Itoa(os.Getpid()) + " boot " + strings.TrimSpace(string(boot)) + " host " + host + "\n"
}

// classify adds the sentinel that callers branch on.
func classify(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w", ErrNotDirectory, err)
	}
	return err
}

// osFile is an open file of the real file system.
type osFile struct {
	f    *os.File
	name string
}

func (f *osFile) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%s %s: %w", op, f.name, classify(err))
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	return n, f.wrap("read", err)
}

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, f.wrap("write", err)
}

func (f *osFile) Sync() error { return f.wrap("sync", f.f.Sync()) }

func (f *osFile) SyncData() error { return f.wrap("sync", syncData(f.f)) }

func (f *osFile) Truncate(size int64) error { return f.wrap("truncate", f.f.Truncate(size)) }

func (f *osFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, f.wrap("stat", err)
	}
	return info.Size(), nil
}

func (f *osFile) Allocate(size int64) error {
	old, err := f.Size()
	if err != nil || old >= size {
		return err
	}
	err = allocate(f.f, old, size)
	if errors.Is(err, errors.ErrUnsupported) {
		err = writeZeros(f.f, old, size)
	}
	return f.wrap("allocate", err)
}

func (f *osFile) Close() error { return f.wrap("close", f.f.Close()) }

// writeZeros reserves space where the system has no call for it.
func writeZeros(f *os.File, from, to int64) error {
	zeros := make([]byte, min(to-from, 1<<20))
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		from += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}
