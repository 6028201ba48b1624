package listener

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/sluicemq/sluice/sdk"
)

// Handler handles the messages of one listener. OnMessage is called by many
// goroutines at a time unless the listener is [Orderly] or its concurrency is
// one. Its result settles the message:
//
//   - nil acknowledges it;
//   - [Defer] gives it back for later without spending an attempt;
//   - [Hold] does so and stops fetching for a while;
//   - [Reject] moves it to the dead letters of the group;
//   - any other error, a panic, and an error after the timeout are a failed
//     attempt, which is repeated by the [RetryPolicy].
//
// ctx ends with one of the causes [ErrHandlerTimeout], [ErrDraining] and
// [ErrLaneLost]. A handler that is interrupted by the last two and returns an
// error has not failed: the message comes again with the same attempt.
type Handler[T any] interface {
	OnMessage(ctx context.Context, m *sdk.Message[T]) error
}

// Func is a function as a [Handler].
type Func[T any] func(ctx context.Context, m *sdk.Message[T]) error

// OnMessage calls f.
func (f Func[T]) OnMessage(ctx context.Context, m *sdk.Message[T]) error { return f(ctx, m) }

// invoker decodes a delivery and calls the handler.
type invoker func(codecs *sdk.Codecs) sdk.ConsumeFunc

func invokerOf[T any](h Handler[T]) invoker {
	return func(codecs *sdk.Codecs) sdk.ConsumeFunc {
		return func(ctx context.Context, d *sdk.Delivery) error {
			m := &sdk.Message[T]{Delivery: d}
			if err := codecs.Decode(d.Body, d.ContentType, &m.Payload); err != nil {
				return &undecodable{err: err}
			}
			return h.OnMessage(ctx, m)
		}
	}
}

// stuckAfter is how long after its timeout a handler may take to notice before
// it is reported.
const stuckAfter = 10 * time.Second

// host is the innermost part of the chain: timeout and recovery. The handler
// has a goroutine of its own, so that runtime.Goexit ends that goroutine alone
// and the interceptors see an error like any other.
type host struct {
	call    sdk.ConsumeFunc
	timeout time.Duration
	stuck   func(d *sdk.Delivery, since time.Time)
}

func (h *host) consume(ctx context.Context, d *sdk.Delivery) error {
	if h.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.timeout, ErrHandlerTimeout)
		defer cancel()
	}
	done := make(chan error, 1)
	go h.run(ctx, d, done) // joined by the receive below, whatever the handler does
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = h.outwait(d, done)
	}
	if err != nil && errors.Is(context.Cause(ctx), ErrHandlerTimeout) {
		return &timeoutError{limit: h.timeout, cause: err}
	}
	return err
}

func (h *host) run(ctx context.Context, d *sdk.Delivery, done chan<- error) {
	err := ErrGoexit // stays if the call neither returns nor panics
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		done <- err
	}()
	err = h.call(ctx, d)
}

// outwait waits for a handler whose ctx has ended. It keeps its slot and its
// message, so that the message is not handled twice at a time.
func (h *host) outwait(d *sdk.Delivery, done <-chan error) error {
	timer := time.NewTimer(stuckAfter)
	defer timer.Stop()
	since := time.Now()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		h.stuck(d, since)
		return <-done
	}
}

// timeoutError is the failure of a handler that ended with an error after its
// time was up.
type timeoutError struct {
	limit time.Duration
	cause error
}

func (e *timeoutError) Error() string {
	return fmt.Sprintf("handler ran for longer than its timeout of %s: %s", e.limit, e.cause)
}

func (e *timeoutError) Unwrap() []error { return []error{ErrHandlerTimeout, e.cause} }

// ErrorType is the value of error.type on spans and metrics.
func (e *timeoutError) ErrorType() string { return "handler_timeout" }

// ErrorType is the value of error.type on spans and metrics.
func (e *PanicError) ErrorType() string { return "panic" }
