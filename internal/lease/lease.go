package lease

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrLost is returned (wrapped or not) by [Lease.Renew] when the backend
	// says that the lease is not ours any more, and is in the tree of every
	// cause that is handed to a lost function.
	ErrLost = errors.New("lease lost")
	// ErrClosed is in the cause when a lease ends with its [Renewer].
	ErrClosed = errors.New("lease renewer closed")
)

// Lease is something held at a backend for a limited time.
type Lease interface {
	// Renew asks the backend for more time and returns the new local deadline:
	// [Deadline] of the time before the request was sent. An error that is
	// [ErrLost] ends the lease at once; after any other error the renewal is
	// tried again until the present deadline. Renew must return soon after ctx
	// ends. It is called by one goroutine at a time for each Keep.
	Renew(ctx context.Context) (until time.Time, err error)
}

// Func makes a [Lease] of a function.
type Func func(ctx context.Context) (until time.Time, err error)

// Renew calls f.
func (f Func) Renew(ctx context.Context) (time.Time, error) { return f(ctx) }

// Margin is what is taken off a lease for clock drift and scheduling: one
// hundredth of it and 50 ms.
func Margin(lease time.Duration) time.Duration { return lease/100 + 50*time.Millisecond }

// Deadline is the local deadline of a lease that was requested at sent. The
// backend starts to count later than that, so the local end comes first. Pass
// the time from before the request was sent, never that of the answer.
func Deadline(sent time.Time, lease time.Duration) time.Time {
	return sent.Add(lease - Margin(lease))
}

type contextKey struct{}

// With returns a ctx that carries r to whoever needs a renewer further in.
func With(ctx context.Context, r *Renewer) context.Context {
	return context.WithValue(ctx, contextKey{}, r)
}

// From returns the renewer of ctx, if it has one.
func From(ctx context.Context) (*Renewer, bool) {
	r, ok := ctx.Value(contextKey{}).(*Renewer)
	return r, ok && r != nil
}
