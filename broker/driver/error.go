package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Code classifies an [Error]. Its String form is the value of the OTel
// attribute error.type, so it is stable and of low cardinality.
type Code uint8

const (
	// Unknown: nothing better is known.
	Unknown Code = iota
	// InvalidArgument: the request itself is wrong; it is never worth repeating.
	InvalidArgument
	// NotFound: topic, group, message or half message does not exist.
	NotFound
	// AlreadyExists: what was to be created is there.
	AlreadyExists
	// Unauthenticated: credentials are missing or wrong.
	Unauthenticated
	// PermissionDenied: credentials are right, the right is missing.
	PermissionDenied
	// ResourceExhausted: full, throttled, over quota.
	ResourceExhausted
	// FailedPrecondition: the state of the broker contradicts the request.
	FailedPrecondition
	// LaneLost: the lane belongs to someone else now.
	LaneLost
	// Unsupported: the broker cannot do this; a check at start-up was missed.
	Unsupported
	// Unavailable: the broker, or this node of it, cannot be reached or is not ready.
	Unavailable
	// Timeout: no answer in time.
	Timeout
	// Canceled: the caller gave up.
	Canceled
	// Closed: the Conn, Subscription or Lane was closed.
	Closed
	// Corrupt: stored data failed its checksum.
	Corrupt
	// Internal: a bug on the other side of the seam.
	Internal
	// DataLoss: messages are gone for good; see [GapError].
	DataLoss
)

var codeNames = [...]string{
	Unknown: "unknown", InvalidArgument: "invalid_argument", NotFound: "not_found",
	AlreadyExists: "already_exists", Unauthenticated: "unauthenticated",
	PermissionDenied: "permission_denied", ResourceExhausted: "resource_exhausted",
	FailedPrecondition: "failed_precondition", LaneLost: "lane_lost", Unsupported: "unsupported",
	Unavailable: "unavailable", Timeout: "timeout", Canceled: "canceled", Closed: "closed",
	Corrupt: "corrupt", Internal: "internal", DataLoss: "data_loss",
}

// String returns the name of the code in lower case with underscores.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return codeNames[Unknown]
}

// Error is the one error type of the seam.
type Error struct {
	Code Code
	// Op is what was being done, to what: "send to bill-settled queue 3".
	Op string
	// Retryable: the same call may succeed later.
	Retryable bool
	// MaybeDone: the broker may have done it, so a retry may duplicate.
	MaybeDone bool
	// RetryAfter is the broker's own advice, else zero.
	RetryAfter time.Duration
	// Err is the cause, with the broker's own code inside.
	Err error
}

// Error returns "op: cause", and says so if the work may have been done.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	} else {
		b.WriteString(strings.ReplaceAll(e.Code.String(), "_", " "))
	}
	if e.MaybeDone {
		b.WriteString(" (the broker may have done it)")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [*Error] that is neither retryable nor maybe done. The format
// follows [fmt.Errorf], %w included.
func Errorf(code Code, op, format string, args ...any) *Error {
	return &Error{Code: code, Op: op, Err: fmt.Errorf(format, args...)}
}

// CodeOf returns the code of the first [*Error] in err's tree, else [Unknown].
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Unknown
}

// FromContext turns the end of ctx into an [*Error]: [Timeout] for a deadline,
// [Canceled] otherwise. The cause of ctx is kept.
func FromContext(ctx context.Context, op string, maybeDone bool) *Error {
	e := &Error{Code: Canceled, Op: op, MaybeDone: maybeDone, Err: context.Cause(ctx)}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e.Code, e.Retryable = Timeout, true
	}
	return e
}
