package segindex

import (
	"errors"
	"fmt"
)

// Errors that callers branch on; what is returned wraps or matches them.
var (
	// ErrTrimmed: the offset lies before [Queue.Min], perhaps since a moment ago.
	ErrTrimmed = errors.New("the offset lies before the first one that is kept")
	// ErrDamaged: an index file is not what was written. It is the target of
	// [*DamagedError]. The log can replace it.
	ErrDamaged = errors.New("damaged index")
	// ErrMisuse: what was added to a part cannot be an index of a segment. The
	// part is never written.
	ErrMisuse = errors.New("not an index of a segment")
	// ErrClosed: the set is closed.
	ErrClosed = errors.New("the index is closed")
)

// DamagedError says which index file is damaged. It matches [ErrDamaged].
type DamagedError struct {
	// Name is the file.
	Name string
	// Base is where its segment begins.
	Base int64
	// Offset is where in the file something is wrong, in bytes.
	Offset int64
	// Reason says what.
	Reason string
}

// Error names file, place and reason.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("index %s is damaged at offset %d: %s", e.Name, e.Offset, e.Reason)
}

// Is reports whether target is [ErrDamaged].
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }
