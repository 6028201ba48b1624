package commitlog

import (
	"errors"
	"fmt"
)

// Errors that callers branch on; what is returned wraps or matches them.
var (
	// ErrFailed: a sync or a write failed in a way that leaves open what is
	// durable. It is final: only closing and opening again, which recovers,
	// ends it. Reads below Synced go on.
	ErrFailed = errors.New("the log has failed and must be opened again")
	// ErrCorrupt: durable bytes have changed. It is the target of [*CorruptError].
	ErrCorrupt = errors.New("corrupt")
	// ErrNotAStore: the directory holds something else. Nothing was touched.
	ErrNotAStore = errors.New("not a message store")
	// ErrNoManifest: it was a store, whose manifests are gone. Nothing was
	// touched. It matches ErrNotAStore.
	ErrNoManifest = fmt.Errorf("%w that can be opened: its manifests are missing", ErrNotAStore)
	// ErrFull: there is no space. What was to be written is not in the log,
	// and the same call may succeed later.
	ErrFull = errors.New("no space left for the log")
	// ErrTooLarge: the payload is larger than Options.MaxFrame.
	ErrTooLarge = errors.New("payload is too large")
	// ErrRange: the position lies before Start, or not all of the frame is
	// flushed (after a failure: synced).
	ErrRange = errors.New("position outside the log")
	// ErrClosed: the log is closed.
	ErrClosed = errors.New("the log is closed")
	// ErrVersion: the store was written by a newer program.
	ErrVersion = errors.New("unknown store format")
)

// CorruptError says where durable bytes have changed. It matches [ErrCorrupt].
type CorruptError struct {
	// Segment is the name of the file.
	Segment string
	// Offset is where the bad bytes begin in that file, and Length how many
	// there are before something readable follows or the file ends.
	Offset, Length int64
	// Reason is what was expected there.
	Reason string
	// Frame: a frame began there once, so something is lost. Else it may be that
	// who named the position was wrong.
	Frame bool
}

// Error names file, place and reason.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is corrupt at offset %d for %d bytes: %s", e.Segment, e.Offset, e.Length, e.Reason)
}

// Is reports whether target is [ErrCorrupt].
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// syncError marks an error that came from a sync, whatever its number.
type syncError struct{ err error }

func (e *syncError) Error() string { return e.err.Error() }
func (e *syncError) Unwrap() error { return e.err }

func asSync(err error) error {
	if err == nil {
		return nil
	}
	return &syncError{err}
}

// failure is kept in an atomic pointer.
type failure struct{ err error }
