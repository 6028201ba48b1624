package embedded

import (
	"errors"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Causes that stand behind a [driver.Error].
var (
	// errClosed: the broker, Conn or lane was closed.
	errClosed = errors.New("closed")
	// errLaneLost: the lane belongs to somebody else now, or to nobody.
	errLaneLost = errors.New("the lane was given away")
	// errNoEntry: the index has no entry where one should be.
	errNoEntry = errors.New("the index has no entry for a message")
	// errReached ends a scan of the log; it is no failure.
	errReached = errors.New("the position is reached")
)

// ErrBusy: more is waiting to be written than may wait. It is the cause of a
// [driver.ResourceExhausted] that passes with the next writes; a full disk is
// another one.
var ErrBusy = errors.New("too many writes are waiting")

// wayOut is what an operator can do about damaged messages.
const wayOut = "`sluice log verify DIR` names all that is damaged; Config.OnCorruption: Quarantine " +
	"(sluice serve -on-corruption quarantine) goes on without it"

// busyAfter is the advice to who met ErrBusy: about one group commit.
const busyAfter = 10 * time.Millisecond

func closedError(op string) *driver.Error {
	return &driver.Error{Code: driver.Closed, Op: op, Err: errClosed}
}

func laneLost(op string) *driver.Error {
	return &driver.Error{Code: driver.LaneLost, Op: op, Err: errLaneLost}
}

// writeError is why a frame was not stored: a template without Op.
func writeError(err error, maybeDone bool) *driver.Error {
	switch {
	case errors.Is(err, commitlog.ErrTooLarge):
		return &driver.Error{Code: driver.InvalidArgument, Err: err}
	case errors.Is(err, commitlog.ErrFull):
		return &driver.Error{Code: driver.ResourceExhausted, Retryable: true, RetryAfter: time.Second, Err: err}
	default:
		// The store takes no writes until it is opened again, so repeating the
		// call on this broker is pointless.
		return &driver.Error{Code: driver.Unavailable, MaybeDone: maybeDone, Err: err}
	}
}

// withOp fills in what was being done.
func withOp(e *driver.Error, op string) *driver.Error {
	if e == nil {
		return nil
	}
	c := *e
	c.Op = op
	return &c
}

// asError turns a template into an error for op; nil stays a nil error.
func asError(e *driver.Error, op string) error {
	if e == nil {
		return nil
	}
	return withOp(e, op)
}

// damaged reports whether err says that what was stored at a position has changed,
// and not that the position is wrong.
func damaged(err error) bool {
	d, ok := errors.AsType[*commitlog.CorruptError](err)
	return ok && d.Frame
}

// readError is why a stored frame cannot be read.
func readError(err error, op string) *driver.Error {
	code := driver.Unavailable
	switch {
	case errors.Is(err, segindex.ErrDamaged):
		return driver.Errorf(driver.Corrupt, op, "%w; the log is whole: close the store and open it again, and the index is made anew", err)
	case errors.Is(err, commitlog.ErrCorrupt):
		return driver.Errorf(driver.Corrupt, op, "%w; %s", err, wayOut)
	case errors.Is(err, commitlog.ErrClosed), errors.Is(err, segindex.ErrClosed):
		return closedError(op)
	case errors.Is(err, commitlog.ErrRange):
		code = driver.NotFound
	}
	return &driver.Error{Code: code, Op: op, Retryable: code == driver.Unavailable, Err: err}
}

// openError says why the store at path cannot be opened, and what to do.
func openError(path string, err error) *driver.Error {
	op := "open store " + path
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return driver.Errorf(driver.FailedPrecondition, op, "%w; stop the other one, or use a directory of its own", err)
	case errors.Is(err, vfs.ErrReadOnly):
		return driver.Errorf(driver.PermissionDenied, op, "%w; make the directory writable for this user", err)
	case errors.Is(err, vfs.ErrNotDirectory):
		return driver.Errorf(driver.FailedPrecondition, op, "%w; name a directory, or one that does not exist yet", err)
	case errors.Is(err, commitlog.ErrNoManifest):
		return driver.Errorf(driver.FailedPrecondition, op, "%w; nothing was changed: restore the files MANIFEST-* from a copy", err)
	case errors.Is(err, commitlog.ErrNotAStore):
		return driver.Errorf(driver.FailedPrecondition, op, "%w; name the directory of a store, or an empty one", err)
	case errors.Is(err, commitlog.ErrCorrupt):
		return driver.Errorf(driver.Corrupt, op, "%w; nothing was changed: restore the directory from a copy; or %s", err, wayOut)
	case errors.Is(err, commitlog.ErrVersion):
		return driver.Errorf(driver.FailedPrecondition, op, "%w; use the version of this program that wrote it, or a newer one", err)
	case errors.Is(err, vfs.ErrNoSpace), errors.Is(err, commitlog.ErrFull):
		e := driver.Errorf(driver.ResourceExhausted, op, "%w; make room", err)
		e.Retryable = true
		return e
	default:
		e := driver.Errorf(driver.Unavailable, op, "%w", err)
		e.Retryable = true
		return e
	}
}
