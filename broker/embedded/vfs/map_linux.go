package vfs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// madvPopulateWrite is MADV_POPULATE_WRITE of Linux 5.14, which package
// syscall does not name.
const madvPopulateWrite = 23

// mapping is memory that is shared with a file.
type mapping struct {
	b    []byte
	name string
}

// Map implements [Mapper].
func (f *osFile) Map(size int64) (Mapping, error) {
	have, err := f.Size()
	switch {
	case err != nil:
		return nil, err
	case size <= 0 || size > have || int64(int(size)) != size:
		return nil, f.wrap("map", fmt.Errorf("%d bytes of %d: %w", size, have, syscall.EINVAL))
	}
	conn, err := f.f.SyscallConn()
	if err != nil {
		return nil, f.wrap("map", err)
	}
	var b []byte
	var callErr error
	err = conn.Control(func(fd uintptr) {
		b, callErr = syscall.Mmap(int(fd), 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	})
	if errors.Is(callErr, syscall.ENODEV) || errors.Is(callErr, syscall.ENOSYS) { // file systems without shared mappings
		return nil, errMapped(f.name)
	}
	if err = errors.Join(err, callErr); err != nil {
		return nil, f.wrap("map", err)
	}
	return &mapping{b: b, name: f.name}, nil
}

func (m *mapping) Bytes() []byte { return m.b }

func (m *mapping) Populate(from, to int64) error {
	from &^= int64(os.Getpagesize() - 1)
	to = min(to, int64(len(m.b)))
	if from < 0 || from >= to {
		return nil
	}
	for {
		err := syscall.Madvise(m.b[from:to], madvPopulateWrite)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN):
			continue
		case errors.Is(err, syscall.EINVAL):
			return fmt.Errorf("populate %s: %w: %w", m.name, errors.ErrUnsupported, err)
		case errors.Is(err, syscall.EFAULT): // the page would have been a SIGBUS
			return fmt.Errorf("populate %s: %w: %w", m.name, ErrNoSpace, err)
		default:
			return fmt.Errorf("populate %s: %w", m.name, err)
		}
	}
}

func (m *mapping) Release(from, to int64) {
	page := int64(os.Getpagesize())
	from = (from + page - 1) &^ (page - 1)
	to = min(to, int64(len(m.b))) &^ (page - 1)
	if from < 0 || from >= to {
		return
	}
	// In memory that is shared with a file MADV_DONTNEED loses nothing; where it
	// is refused, as for locked memory, the pages stay.
	_ = syscall.Madvise(m.b[from:to], syscall.MADV_DONTNEED)
}

func (m *mapping) Close() error {
	b := m.b
	m.b = nil
	if b == nil {
		return nil
	}
	if err := syscall.Munmap(b); err != nil {
		return fmt.Errorf("unmap %s: %w", m.name, err)
	}
	return nil
}
