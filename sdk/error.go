package sdk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Code classifies an [Error]; it is the code of the broker seam.
type Code = driver.Code

// The codes; their meaning is documented in package driver.
const (
	Unknown            = driver.Unknown
	InvalidArgument    = driver.InvalidArgument
	NotFound           = driver.NotFound
	AlreadyExists      = driver.AlreadyExists
	Unauthenticated    = driver.Unauthenticated
	PermissionDenied   = driver.PermissionDenied
	ResourceExhausted  = driver.ResourceExhausted
	FailedPrecondition = driver.FailedPrecondition
	LaneLost           = driver.LaneLost
	Unsupported        = driver.Unsupported
	Unavailable        = driver.Unavailable
	Timeout            = driver.Timeout
	Canceled           = driver.Canceled
	Closed             = driver.Closed
	Corrupt            = driver.Corrupt
	Internal           = driver.Internal
)

// Error is what the operations of this package return. Find it with
// errors.AsType[*sdk.Error](err).
type Error struct {
	// Code says what kind of failure it was.
	Code Code
	// Op is what was being done, to what: "send to bill-settled".
	Op string
	// Retryable: the same call may succeed later.
	Retryable bool
	// MaybeDone: some try may have been carried out by the broker, so that a
	// repetition may duplicate.
	MaybeDone bool
	// RetryAfter is the broker's advice, or zero.
	RetryAfter time.Duration
	// Attempts is how many tries were made; 0 if the request was refused before
	// the first one.
	Attempts int
	// Err is the cause.
	Err error
}

const maybeDoneText = " (the broker may have done it)"

// Error returns "op: cause", with the number of tries if there were several and
// a remark if the work may have been done.
func (e *Error) Error() string {
	cause := strings.ReplaceAll(e.Code.String(), "_", " ")
	if e.Err != nil {
		cause = e.Err.Error()
	}
	cause = strings.TrimSuffix(cause, maybeDoneText)
	var b strings.Builder
	if e.Op != "" && !strings.HasPrefix(cause, e.Op+": ") {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(cause)
	// A cause that counts the same tries has said so already.
	if inner, ok := errors.AsType[*Error](e.Err); e.Attempts > 1 && (!ok || inner.Attempts != e.Attempts) {
		fmt.Fprintf(&b, " (after %d attempts)", e.Attempts)
	}
	if e.MaybeDone {
		b.WriteString(maybeDoneText)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first [*Error] or [*driver.Error] in err's
// tree, [Timeout] or [Canceled] for the end of a context, else [Unknown].
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.Is(err, context.Canceled):
		return Canceled
	default:
		return Unknown
	}
}

// errorf makes an error that no retry can help.
func errorf(code Code, op, format string, args ...any) *Error {
	return &Error{Code: code, Op: op, Err: fmt.Errorf(format, args...)}
}

// asError turns any error into an [*Error]; nil stays nil.
func asError(op string, err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{
			Code: e.Code, Op: op, Retryable: e.Retryable, MaybeDone: e.MaybeDone,
			RetryAfter: e.RetryAfter, Attempts: e.Attempts, Err: err,
		}
	}
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return &Error{
			Code: e.Code, Op: op, Retryable: e.Retryable, MaybeDone: e.MaybeDone,
			RetryAfter: e.RetryAfter, Err: err,
		}
	}
	code := CodeOf(err)
	return &Error{Code: code, Op: op, Retryable: code == Timeout, Err: err}
}
