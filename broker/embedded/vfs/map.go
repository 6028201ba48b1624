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
// time; Populate and Release may run beside writes and beside each other.
type Mapping interface {
	// Bytes is the memory; it is gone after Close.
	Bytes() []byte
	// Populate makes the pages that hold the bytes from from to to present and
	// writable, so that the first write to each does not wait for the file
	// system. To the file they count as written: the next sync writes them,
	// and takes from each the right to be written without a fault. What lies
	// outside of the mapping is passed over. Without support the error matches
	// [errors.ErrUnsupported]; want of space for a page matches [ErrNoSpace].
	Populate(from, to int64) error
	// Release lets go of the pages that lie whole between from and to. The file
	// keeps what was written to them, and an access makes them present again.
	// A sync interrupts every processor of the process for each written page
	// that is present; after Release only once for all.
	Release(from, to int64)
	// Close ends the mapping. The file keeps what was written; it is not
	// synced.
	Close() error
}

// errMapped is what Map answers where there is nothing to map.
func errMapped(name string) error {
	return fmt.Errorf("map %s into memory: %w", name, errors.ErrUnsupported)
}
