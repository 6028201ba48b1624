package vfs

import (
	"errors"
	"fmt"
)

// Mapper is implemented by files that may be written through memory. Files of
// [Dir] are Mappers, those that [Inject] answers pass the call on.
type Mapper interface {
	// Map maps the first size bytes, which the file has, for reading and
	// writing. What is written to them is at once what ReadAt answers, and
	// survives the end of the process; [File.Sync] makes it durable as it does
	// with what WriteAt wrote. Where that is impossible the error matches
	// [errors.ErrUnsupported].
	Map(size int64) (Mapping, error)
}

// Mapping is a part of a file in memory. An access to it may be a fault that
// ends the program, if the file was made shorter, the disk behind it has no
// space or fails: who writes guards himself with
// [runtime/debug.SetPanicOnFault]. Its methods belong to one goroutine at a
// time; Populate may run beside writes.
type Mapping interface {
	// Bytes is the memory; it is gone after Close.
	Bytes() []byte
	// Populate makes the pages from offset from on present and writable, so
	// that the first write to each does not wait for the file system. It
	// changes nothing else. Without support the error matches
	// [errors.ErrUnsupported]; want of space for a page matches [ErrNoSpace].
	Populate(from int64) error
	// Close ends the mapping. The file keeps what was written; it is not
	// synced.
	Close() error
}

// errMapped is what Map answers where there is nothing to map.
func errMapped(name string) error {
	return fmt.Errorf("map %s into memory: %w", name, errors.ErrUnsupported)
}
