package vfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// Errors that callers branch on. Errors of an [FS] wrap them and name the file;
// a missing file wraps [fs.ErrNotExist], an existing one [fs.ErrExist].
var (
	// ErrLocked: somebody holds the lock, perhaps this process. It is the
	// target of [*LockedError].
	ErrLocked = errors.New("locked by another opener")
	// ErrNotDirectory: a file stands where a directory should be.
	ErrNotDirectory = errors.New("not a directory")
	// ErrReadOnly: the directory or its file system cannot be written, or it
	// was opened with [ReadOnly].
	ErrReadOnly = errors.New("no permission to write, or read-only")
	// ErrNoSpace: the disk or the quota is full.
	ErrNoSpace = errors.New("no space left")
)

// FS is one directory tree. Names are relative to its root, separated by
// slashes, and may not leave it; "." is the root itself.
type FS interface {
	// Create makes a new file for reading and writing. A file of that name is
	// an error.
	Create(name string) (File, error)
	// OpenReadWrite opens an existing file.
	OpenReadWrite(name string) (File, error)
	// OpenRead opens an existing file whose writing methods fail.
	OpenRead(name string) (File, error)
	// Rename replaces newName atomically by oldName.
	Rename(oldName, newName string) error
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// List answers the base names in dir, sorted.
	List(dir string) ([]string, error)
	// MkdirAll makes dir and its parents; existing ones are no error.
	MkdirAll(dir string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// Lock holds an exclusive lock on name until the Closer is closed or the
	// process ends. It makes the file, writes who holds it into it and never
	// deletes it. If somebody holds it, also this process, the error is a
	// [*LockedError] and Lock does not wait.
	Lock(name string) (io.Closer, error)
	// Size answers the size of a file in bytes.
	Size(name string) (int64, error)
	// Close releases what the FS holds, not the files opened through it.
	Close() error
}

// File is an open file. Offsets and sizes are in bytes.
type File interface {
	io.ReaderAt
	// WriteAt writes all of p or answers how much it wrote and why not more.
	// It extends the file where needed; a gap reads as zeros.
	io.WriterAt
	// Sync makes content and size durable. After an error it is unknown what
	// is durable, and another Sync does not repair it: write the bytes again.
	Sync() error
	// SyncData is Sync without the metadata that is not needed to read the
	// bytes back, such as times. The size counts as needed.
	SyncData() error
	// Truncate sets the size; what it adds reads as zeros.
	Truncate(size int64) error
	// Size answers the current size.
	Size() (int64, error)
	// Allocate makes the file at least size bytes long and reserves the space,
	// so that writes below size do not fail for want of it on file systems
	// that can promise that. The new part reads as zeros.
	Allocate(size int64) error
	// Close releases the file; it implies no Sync.
	Close() error
}

// LockedError tells who holds a lock. It matches [ErrLocked].
type LockedError struct {
	// Name is the lock file.
	Name string
	// Holder is what the holder wrote into it, in one line; empty if unknown.
	Holder string
}

// Error names the lock and its holder.
func (e *LockedError) Error() string {
	s := "lock " + e.Name + ": " + ErrLocked.Error()
	if e.Holder != "" {
		s += " (" + e.Holder + ")"
	}
	return s
}

// Is reports whether target is [ErrLocked].
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// IsNoSpace reports whether err says that a disk, a quota or a limit on the
// size of files is exhausted: a condition that may pass.
func IsNoSpace(err error) bool {
	return errors.Is(err, ErrNoSpace) || errors.Is(err, io.ErrShortWrite) ||
		errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// IsNotExist reports whether err says that a file or directory is missing.
func IsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
