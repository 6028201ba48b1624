package listener

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrDraining is the cause of a handler's ctx that ended because the
	// listener is being stopped and the time for running handlers is up.
	ErrDraining = errors.New("listener is draining")
	// ErrLaneLost is the cause of a handler's ctx that ended because the message
	// belongs to another member of the group by now.
	ErrLaneLost = errors.New("lane lost to another member of the group")
	// ErrHandlerTimeout is the cause of a handler's ctx that ended because the
	// handler ran for longer than the timeout of its listener.
	ErrHandlerTimeout = errors.New("handler timeout")
	// ErrGoexit is the failure of a handler that called [runtime.Goexit], as
	// testing.T.FailNow does.
	ErrGoexit = errors.New("handler ended its goroutine with runtime.Goexit")
)

// PanicError is the failure of a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns "panic: value".
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value if it was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Reasons in the property DEAD_REASON of a dead letter.
const (
	ReasonRejected    = "rejected"    // the handler returned Reject
	ReasonExhausted   = "exhausted"   // every attempt failed
	ReasonUndecodable = "undecodable" // the body is not what the handler takes
)

type deferError struct {
	delay time.Duration
	cause error
}

func (e *deferError) Error() string {
	text := fmt.Sprintf("deferred for %s", e.delay)
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

func (e *deferError) Unwrap() error { return e.cause }

// Defer is returned by a handler that wants the message again after d, without
// spending an attempt. On an ordered listener what comes behind waits as well.
// A negative d counts as zero.
func Defer(d time.Duration) error { return &deferError{delay: max(d, 0)} }

// DeferCause is [Defer] with the reason, for logs and spans.
func DeferCause(d time.Duration, cause error) error {
	return &deferError{delay: max(d, 0), cause: cause}
}

// AsDefer reports whether err asks for another delivery without an attempt, and
// after what time.
func AsDefer(err error) (time.Duration, bool) {
	if e, ok := errors.AsType[*deferError](err); ok {
		return e.delay, true
	}
	return 0, false
}

type rejectError struct{ cause error }

func (e *rejectError) Error() string {
	if e.cause == nil {
		return "rejected"
	}
	return "rejected: " + e.cause.Error()
}

func (e *rejectError) Unwrap() error { return e.cause }

// Reject is returned by a handler for a message that no retry can help: it is
// moved to the dead letters of the group at once. A nil err is allowed.
func Reject(err error) error { return &rejectError{cause: err} }

// IsReject reports whether err asks for a dead letter at once.
func IsReject(err error) bool {
	_, ok := errors.AsType[*rejectError](err)
	return ok
}

type holdError struct {
	delay time.Duration
	cause error
}

func (e *holdError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("on hold for %s", e.delay)
	}
	return fmt.Sprintf("on hold for %s: %s", e.delay, e.cause)
}

func (e *holdError) Unwrap() error { return e.cause }

// Hold is returned by a handler that cannot work because something it depends
// on is down. The message is given back without an attempt, and its listener,
// with those that share the subscription, fetches nothing for d. What others
// run meanwhile is not touched. Doubling d from time to time is the business of
// the caller.
func Hold(d time.Duration, cause error) error { return &holdError{delay: max(d, 0), cause: cause} }

// AsHold reports whether err asks for a pause, and for how long.
func AsHold(err error) (time.Duration, bool) {
	if e, ok := errors.AsType[*holdError](err); ok {
		return e.delay, true
	}
	return 0, false
}

// undecodable marks the failure to decode a body, so that a DecodeError of the
// handler's own making is not taken for it.
type undecodable struct{ err error }

func (e *undecodable) Error() string { return e.err.Error() }
func (e *undecodable) Unwrap() error { return e.err }
