package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
)

// Mem is a file system in memory. It never runs out of space, and a large
// allocation costs nothing until it is written.
//
// It remembers what was made durable, at the price of a second copy of what
// was written since the last Sync.
type Mem struct {
	// instant is held for reading by every change and for writing by
	// CrashClone, so that a clone is one instant of all files together.
	// Lock order: instant, names, memData.mu.
	instant sync.RWMutex
	names   sync.Mutex // guards the tree of directories and locks
	root    *memNode
	locks   map[string]bool
}

// NewMem returns an empty file system. A Mem outlives its Close: whoever opens
// it again finds what was there.
func NewMem() *Mem { return &Mem{root: newMemDir(), locks: map[string]bool{}} }

// memNode is a file if data is set, else a directory.
type memNode struct {
	data *memData

	entries map[string]*memNode
	durable map[string]*memNode
	pending []dirChange // since the last SyncDir, in order
}

// dirChange is one change of a directory that is not durable yet: node
// disappears under from, or appears under to, or both at once.
type dirChange struct {
	node     *memNode
	from, to string
}

func newMemDir() *memNode {
	return &memNode{entries: map[string]*memNode{}, durable: map[string]*memNode{}}
}

func (c dirChange) apply(entries map[string]*memNode) {
	if c.from != "" && entries[c.from] == c.node {
		delete(entries, c.from)
	}
	if c.to != "" {
		entries[c.to] = c.node
	}
}

func (n *memNode) change(c dirChange) {
	c.apply(n.entries)
	n.pending = append(n.pending, c)
}

// find answers the node of name; m.names is held.
func (m *Mem) find(name string) (*memNode, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	n := m.root
	if name == "." {
		return n, nil
	}
	for rest := name; rest != ""; {
		var first string
		first, rest = cutPath(rest)
		if n.data != nil {
			return nil, ErrNotDirectory
		}
		next, ok := n.entries[first]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = next
	}
	return n, nil
}

func cutPath(name string) (first, rest string) {
	for i := range len(name) {
		if name[i] == '/' {
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}

// dirOf answers the directory that holds name, which need not exist.
func (m *Mem) dirOf(name string) (*memNode, string, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, "", fs.ErrInvalid
	}
	dir, err := m.find(path.Dir(name))
	if err == nil && dir.data != nil {
		err = ErrNotDirectory
	}
	return dir, path.Base(name), err
}

func memError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s in memory: %w", op, name, err)
}

// mutate runs f with the tree of directories locked for a change.
func (m *Mem) mutate(op, name string, f func() error) error {
	m.instant.RLock()
	defer m.instant.RUnlock()
	m.names.Lock()
	defer m.names.Unlock()
	return memError(op, name, f())
}

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) {
	var n *memNode
	err := m.mutate("create", name, func() error {
		dir, base, err := m.dirOf(name)
		if err != nil {
			return err
		}
		if dir.entries[base] != nil {
			return fs.ErrExist
		}
		n = &memNode{data: &memData{}}
		dir.change(dirChange{node: n, to: base})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &memFile{m: m, d: n.data, name: name}, nil
}

func (m *Mem) open(name string, readOnly bool) (File, error) {
	m.names.Lock()
	defer m.names.Unlock()
	n, err := m.find(name)
	if err == nil && n.data == nil {
		err = errors.New("is a directory, not a file")
	}
	if err != nil {
		return nil, memError("open", name, err)
	}
	return &memFile{m: m, d: n.data, name: name, readOnly: readOnly}, nil
}

// OpenReadWrite implements [FS].
func (m *Mem) OpenReadWrite(name string) (File, error) { return m.open(name, false) }

// OpenRead implements [FS].
func (m *Mem) OpenRead(name string) (File, error) { return m.open(name, true) }

// Rename implements [FS].
func (m *Mem) Rename(oldName, newName string) error {
	return m.mutate("rename to "+newName, oldName, func() error {
		from, fromBase, err := m.dirOf(oldName)
		if err != nil {
			return err
		}
		to, toBase, err := m.dirOf(newName)
		if err != nil {
			return err
		}
		n := from.entries[fromBase]
		if n == nil {
			return fs.ErrNotExist
		}
		if old := to.entries[toBase]; old != nil && (old.data == nil) != (n.data == nil) {
			return fs.ErrExist
		}
		if from == to {
			from.change(dirChange{node: n, from: fromBase, to: toBase})
			return nil
		}
		from.change(dirChange{node: n, from: fromBase})
		to.change(dirChange{node: n, to: toBase})
		return nil
	})
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	return m.mutate("remove", name, func() error {
		dir, base, err := m.dirOf(name)
		if err != nil {
			return err
		}
		n := dir.entries[base]
		switch {
		case n == nil:
			return fs.ErrNotExist
		case len(n.entries) > 0:
			return errors.New("directory is not empty")
		}
		dir.change(dirChange{node: n, from: base})
		return nil
	})
}

// List implements [FS].
func (m *Mem) List(dir string) ([]string, error) {
	m.names.Lock()
	defer m.names.Unlock()
	n, err := m.find(dir)
	if err == nil && n.data != nil {
		err = ErrNotDirectory
	}
	if err != nil {
		return nil, memError("list", dir, err)
	}
	return slices.Sorted(maps.Keys(n.entries)), nil
}

// MkdirAll implements [FS].
func (m *Mem) MkdirAll(dir string) error {
	return m.mutate("create directory", dir, func() error {
		if !fs.ValidPath(dir) {
			return fs.ErrInvalid
		}
		n := m.root
		for rest := dir; rest != "" && rest != "."; {
			var first string
			first, rest = cutPath(rest)
			next := n.entries[first]
			if next == nil {
				next = newMemDir()
				n.change(dirChange{node: next, to: first})
			}
			if next.data != nil {
				return ErrNotDirectory
			}
			n = next
		}
		return nil
	})
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(dir string) error {
	return m.mutate("sync directory", dir, func() error {
		n, err := m.find(dir)
		if err == nil && n.data != nil {
			err = ErrNotDirectory
		}
		if err != nil {
			return err
		}
		n.durable, n.pending = maps.Clone(n.entries), nil
		return nil
	})
}

// Size implements [FS].
func (m *Mem) Size(name string) (int64, error) {
	f, err := m.open(name, true)
	if err != nil {
		return 0, err
	}
	return f.Size()
}

// Close implements [FS]; it does nothing.
func (m *Mem) Close() error { return nil }

// Lock implements [FS]. A [Mem.CrashClone] holds no locks.
func (m *Mem) Lock(name string) (io.Closer, error) {
	_, err := m.open(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = m.Create(name); errors.Is(err, fs.ErrExist) {
			_, err = m.open(name, false)
		}
	}
	if err != nil {
		return nil, err
	}
	m.names.Lock()
	held := m.locks[name]
	m.locks[name] = true
	m.names.Unlock()
	if held {
		return nil, &LockedError{Name: name, Holder: "this process, in memory"}
	}
	return &memLock{m: m, name: name}, nil
}

type memLock struct {
	m    *Mem
	name string
	done atomic.Bool
}

func (l *memLock) Close() error {
	if l.done.Swap(true) {
		return memError("unlock", l.name, fs.ErrClosed)
	}
	l.m.names.Lock()
	defer l.m.names.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// memFile is one opening of a memData.
type memFile struct {
	m        *Mem
	d        *memData
	name     string
	readOnly bool
	closed   atomic.Bool
}

func (f *memFile) usable(op string, write bool) error {
	if f.closed.Load() {
		return memError(op, f.name, fs.ErrClosed)
	}
	if write && f.readOnly {
		return memError(op, f.name, ErrReadOnly)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.usable("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, memError("read", f.name, fs.ErrInvalid)
	}
	return f.d.read(p, off)
}

// change runs one change of the data as part of an instant.
func (f *memFile) change(op string, apply func(d *memData)) error {
	if err := f.usable(op, true); err != nil {
		return err
	}
	f.m.instant.RLock()
	defer f.m.instant.RUnlock()
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	apply(f.d)
	return nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, memError("write", f.name, fs.ErrInvalid)
	}
	if err := f.change("write", func(d *memData) { d.write(p, off) }); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *memFile) Sync() error {
	if f.readOnly { // as a real kernel, which syncs what others wrote
		return f.usable("sync", false)
	}
	return f.change("sync", (*memData).sync)
}

// SyncData is Sync: what a Mem keeps about a file is needed to read it.
func (f *memFile) SyncData() error { return f.Sync() }

func (f *memFile) loseUnsynced() { _ = f.change("sync", (*memData).lose) } // a closed file has nothing to lose

func (f *memFile) Truncate(size int64) error {
	if size < 0 {
		return memError("truncate", f.name, fs.ErrInvalid)
	}
	return f.change("truncate", func(d *memData) { d.truncate(size) })
}

func (f *memFile) Allocate(size int64) error {
	return f.change("allocate", func(d *memData) { d.size = max(d.size, size) })
}

func (f *memFile) Size() (int64, error) {
	if err := f.usable("stat", false); err != nil {
		return 0, err
	}
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	return f.d.size, nil
}

func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return memError("close", f.name, fs.ErrClosed)
	}
	return nil
}
