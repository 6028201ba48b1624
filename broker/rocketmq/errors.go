package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// RefusedError is the answer of a broker or name server that did not do what it
// was asked; it is the cause inside a [driver.Error].
type RefusedError struct {
	// Code is the response code, one of the Res… of package remoting.
	Code int
	// Remark is the text that came with it.
	Remark string
	// Addr is who answered.
	Addr string
}

// Error returns the code, who answered, and the remark.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s answered code %d: %s", e.Addr, e.Code, e.Remark)
}

// errAttempt is why a request ended that took longer than Config.Timeout.
var errAttempt = errors.New("no answer in time")

// busyFor is when a busy broker is worth another request; RocketMQ's brokers
// reject what has waited for 200 ms in their queue.
const busyFor = 200 * time.Millisecond

// refused makes the error of a response with code other than success.
func refused(op, addr string, a *remoting.Command) *driver.Error {
	e := &driver.Error{Op: op, Err: &RefusedError{Code: a.Code, Remark: strings.TrimSpace(a.Remark), Addr: addr}}
	switch a.Code {
	case remoting.ResSystemBusy, remoting.ResFlowControl:
		e.Code, e.Retryable, e.RetryAfter = driver.ResourceExhausted, true, busyFor
	case remoting.ResServiceNotAvailable, remoting.ResGoAway, remoting.ResNotLeaderForQueue, remoting.ResPollingFull:
		e.Code, e.Retryable = driver.Unavailable, true
	case remoting.ResFlushDiskTimeout, remoting.ResSlaveNotAvailable, remoting.ResFlushSlaveTimeout:
		// It is stored, and not as safe as it should be; who gets an error for it
		// cannot tell its user more.
		e.Code, e.Retryable, e.MaybeDone = driver.Unavailable, true, true
	case remoting.ResUnsupported, remoting.ResVersionNotSupported:
		e.Code = driver.Unsupported
	case remoting.ResMessageIllegal, remoting.ResInvalidParameter, remoting.ResSubscriptionParseFailed:
		e.Code = driver.InvalidArgument
	case remoting.ResNoPermission, remoting.ResPolicyNotExist:
		e.Code = driver.PermissionDenied
	case remoting.ResUserNotExist:
		e.Code = driver.Unauthenticated
	case remoting.ResTopicNotExist:
		// Another broker may have the topic, and a new one is soon known.
		e.Code, e.Retryable = driver.NotFound, true
	case remoting.ResQueryNotFound, remoting.ResNoMessage, remoting.ResGroupNotExist, remoting.ResBrokerNotExist, remoting.ResConsumerNotOnline:
		e.Code = driver.NotFound
	case remoting.ResTopicExistAlready:
		e.Code = driver.AlreadyExists
	case remoting.ResSubscriptionNotExist, remoting.ResSubscriptionNotLatest, remoting.ResFilterDataNotExist,
		remoting.ResFilterDataNotLatest, remoting.ResIllegalOperation, remoting.ResTransactionFailed:
		e.Code, e.Retryable = driver.FailedPrecondition, true
	case remoting.ResSystemError:
		e.Code, e.Retryable = driver.Unavailable, true
		if strings.Contains(a.Remark, "AclException") { // what release 4 says of a key or a right
			e.Code, e.Retryable = driver.PermissionDenied, false
		}
	default:
		// A system error is any failure without a code of its own; Apache's
		// producers try another broker then.
		e.Code, e.Retryable = driver.Unavailable, true
	}
	return e
}

// isRefusal reports whether a broker or name server has answered, and refused.
func isRefusal(err *driver.Error) bool {
	_, ok := errors.AsType[*RefusedError](err)
	return ok
}

// asError is err as an error that is nil where err is.
func asError(err *driver.Error) error {
	if err == nil {
		return nil
	}
	return err
}

// unanswered makes the error of a request that got no answer. Asked is the ctx
// of the caller, which tells its end from that of the request. Changes: the
// request would have changed something.
func unanswered(asked context.Context, op string, err error, changes bool) *driver.Error {
	maybe := changes
	request, ok := errors.AsType[*rpc.Error](err)
	if ok {
		maybe = changes && request.MaybeDone
	}
	if asked.Err() != nil {
		e := driver.FromContext(asked, op, maybe)
		switch {
		case !ok:
		case errors.Is(err, e.Err):
			e.Err = err // which says whose answer was waited for
		default:
			e.Err = fmt.Errorf("%w: %w", e.Err, err)
		}
		return e
	}
	e := &driver.Error{Code: driver.Unavailable, Op: op, Retryable: true, MaybeDone: maybe, Err: err}
	switch {
	case errors.Is(err, errAttempt), errors.Is(err, rpc.ErrNoAnswer), errors.Is(err, context.DeadlineExceeded):
		e.Code = driver.Timeout
	case errors.Is(err, rpc.ErrClosed), errors.Is(err, errClosed):
		e.Code, e.Retryable = driver.Closed, false
	}
	return e
}

// errClosed is the cause inside every [driver.Closed] error of a connection.
var errClosed = errors.New("the client is closed")

func closed(op string) *driver.Error {
	return &driver.Error{Code: driver.Closed, Op: op, Err: errClosed}
}

// asDriver answers err as a [*driver.Error] with op, if it has none.
func asDriver(err error, op string) *driver.Error {
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return driver.Errorf(driver.Internal, op, "%w", err)
	}
	if e.Op == op {
		return e
	}
	out := *e
	if out.Op != "" && out.Op != op {
		out.Err = err
	}
	out.Op = op
	return &out
}
