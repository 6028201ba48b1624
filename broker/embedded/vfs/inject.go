package vfs

import (
	"io"
	"sync"
)

// OpKind is a kind of operation on an [FS] or a [File].
type OpKind uint8

// The kinds of operations that [Inject] sees. OpSync is SyncData too; what is
// written through a [Mapping] is not seen.
const (
	OpCreate OpKind = iota + 1
	OpOpen
	OpRename
	OpRemove
	OpList
	OpMkdir
	OpSyncDir
	OpLock
	OpSize
	OpRead
	OpWrite
	OpSync
	OpTruncate
	OpAllocate
	OpClose
	OpMap
)

// String is the name of the operation in lower case.
func (k OpKind) String() string {
	names := [...]string{
		"unknown", "create", "open", "rename", "remove", "list", "mkdir", "sync dir", "lock",
		"size", "read", "write", "sync", "truncate", "allocate", "close", "map",
	}
	if int(k) < len(names) {
		return names[k]
	}
	return names[0]
}

// Changes reports whether the operation changes what a disk holds, or makes it
// durable.
func (k OpKind) Changes() bool {
	switch k {
	case OpCreate, OpRename, OpRemove, OpMkdir, OpSyncDir, OpWrite, OpSync, OpTruncate, OpAllocate:
		return true
	default:
		return false
	}
}

// Op is one operation that is about to happen.
type Op struct {
	Kind OpKind
	// Name is the file or directory; for a rename the new name.
	Name string
	// Offset and Len describe reads and writes; Len is also the size of
	// truncate and allocate.
	Offset, Len int64
	// Data says of an OpSync that it is SyncData.
	Data bool
	// N counts the operations on this FS and its files from 1.
	N int
}

// ShortWrite is answered for an [OpWrite] and lets the first N bytes through before
// the write fails with Err.
type ShortWrite struct { //nolint:errname // it is an instruction to the injector first
	N   int
	Err error
}

// Error is the text of Err.
func (e *ShortWrite) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *ShortWrite) Unwrap() error { return e.Err }

// Inject puts f before every operation of fsys and of the files opened through
// the result. An error of f is answered in place of the operation. For a failed
// [OpSync] on a file of [Mem], what was to be synced is lost as real kernels
// lose it: it reads as before until a crash, and no later Sync writes it. A
// failed close of a file or lock closes it all the same.
//
// f is called by one goroutine at a time.
func Inject(fsys FS, f func(op Op) error) FS { return &injector{fs: fsys, f: f} }

type injector struct {
	fs FS
	mu sync.Mutex
	n  int
	f  func(Op) error
}

func (i *injector) check(op Op) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.n++
	op.N = i.n
	return i.f(op)
}

func (i *injector) open(kind OpKind, name string, open func(string) (File, error)) (File, error) {
	if err := i.check(Op{Kind: kind, Name: name}); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &injectedFile{File: f, i: i, name: name}, nil
}

func (i *injector) Create(name string) (File, error) { return i.open(OpCreate, name, i.fs.Create) }

func (i *injector) OpenReadWrite(name string) (File, error) {
	return i.open(OpOpen, name, i.fs.OpenReadWrite)
}

func (i *injector) OpenRead(name string) (File, error) { return i.open(OpOpen, name, i.fs.OpenRead) }

func (i *injector) Rename(oldName, newName string) error {
	if err := i.check(Op{Kind: OpRename, Name: newName}); err != nil {
		return err
	}
	return i.fs.Rename(oldName, newName)
}

func (i *injector) Remove(name string) error {
	if err := i.check(Op{Kind: OpRemove, Name: name}); err != nil {
		return err
	}
	return i.fs.Remove(name)
}

func (i *injector) List(dir string) ([]string, error) {
	if err := i.check(Op{Kind: OpList, Name: dir}); err != nil {
		return nil, err
	}
	return i.fs.List(dir)
}

func (i *injector) MkdirAll(dir string) error {
	if err := i.check(Op{Kind: OpMkdir, Name: dir}); err != nil {
		return err
	}
	return i.fs.MkdirAll(dir)
}

func (i *injector) SyncDir(dir string) error {
	if err := i.check(Op{Kind: OpSyncDir, Name: dir}); err != nil {
		return err
	}
	return i.fs.SyncDir(dir)
}

func (i *injector) Lock(name string) (io.Closer, error) {
	if err := i.check(Op{Kind: OpLock, Name: name}); err != nil {
		return nil, err
	}
	c, err := i.fs.Lock(name)
	if err != nil {
		return nil, err
	}
	return &injectedCloser{Closer: c, i: i, name: name}, nil
}

func (i *injector) Size(name string) (int64, error) {
	if err := i.check(Op{Kind: OpSize, Name: name}); err != nil {
		return 0, err
	}
	return i.fs.Size(name)
}

func (i *injector) Close() error { return i.fs.Close() }

type injectedCloser struct {
	io.Closer
	i    *injector
	name string
}

func (c *injectedCloser) Close() error {
	err := c.i.check(Op{Kind: OpClose, Name: c.name})
	if cerr := c.Closer.Close(); err == nil {
		err = cerr
	}
	return err
}

type injectedFile struct {
	File
	i    *injector
	name string
}

func (f *injectedFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.i.check(Op{Kind: OpRead, Name: f.name, Offset: off, Len: int64(len(p))}); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *injectedFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.i.check(Op{Kind: OpWrite, Name: f.name, Offset: off, Len: int64(len(p))})
	if short, ok := err.(*ShortWrite); ok { //nolint:errorlint // only the injector's own answer, not one inside another
		n, werr := f.File.WriteAt(p[:max(0, min(short.N, len(p)))], off)
		if werr != nil {
			return n, werr
		}
		return n, short
	}
	if err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

// syncLoser is a file that can model a failed Sync.
type syncLoser interface{ loseUnsynced() }

func (f *injectedFile) Sync() error { return f.sync(f.File.Sync, false) }

func (f *injectedFile) SyncData() error { return f.sync(f.File.SyncData, true) }

func (f *injectedFile) sync(sync func() error, data bool) error {
	if err := f.i.check(Op{Kind: OpSync, Name: f.name, Data: data}); err != nil {
		f.loseUnsynced()
		return err
	}
	return sync()
}

// Map implements [Mapper] for files that can.
func (f *injectedFile) Map(size int64) (Mapping, error) {
	m, ok := f.File.(Mapper)
	if !ok {
		return nil, errMapped(f.name)
	}
	if err := f.i.check(Op{Kind: OpMap, Name: f.name, Len: size}); err != nil {
		return nil, err
	}
	return m.Map(size)
}

func (f *injectedFile) loseUnsynced() {
	if l, ok := f.File.(syncLoser); ok {
		l.loseUnsynced()
	}
}

func (f *injectedFile) Truncate(size int64) error {
	if err := f.i.check(Op{Kind: OpTruncate, Name: f.name, Len: size}); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *injectedFile) Size() (int64, error) {
	if err := f.i.check(Op{Kind: OpSize, Name: f.name}); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *injectedFile) Allocate(size int64) error {
	if err := f.i.check(Op{Kind: OpAllocate, Name: f.name, Len: size}); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

func (f *injectedFile) Close() error {
	err := f.i.check(Op{Kind: OpClose, Name: f.name})
	if cerr := f.File.Close(); err == nil {
		err = cerr
	}
	return err
}
