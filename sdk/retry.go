package sdk

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk/config"
)

// RetryOption changes one call of [Client.Retry].
type RetryOption func(*retryPolicy)

type retryPolicy struct {
	timeout   time.Duration // 0: only ctx bounds it
	attempts  int           // 0: no limit
	backoff   config.Range
	maybeDone bool // repeat although the work may have been done
}

// RetryTimeout bounds all tries and waits together; 0 leaves that to the
// context. Defaults to sluice.send.timeout.
func RetryTimeout(d time.Duration) RetryOption { return func(p *retryPolicy) { p.timeout = d } }

// RetryAttempts bounds the number of tries; 0 is no bound. Defaults to
// sluice.send.attempts.
func RetryAttempts(n int) RetryOption { return func(p *retryPolicy) { p.attempts = n } }

// RetryBackoff sets the first and the longest wait. Defaults to
// sluice.send.backoff.
func RetryBackoff(from, to time.Duration) RetryOption {
	return func(p *retryPolicy) { p.backoff = config.Range{From: from, To: to} }
}

// RetryMaybeDone says whether to repeat what the broker may have done already;
// right for operations that change nothing the second time. Defaults to
// sluice.send.maybe-done.
func RetryMaybeDone(repeat bool) RetryOption { return func(p *retryPolicy) { p.maybeDone = repeat } }

func (c *Client) policy() retryPolicy {
	s := c.settings
	return retryPolicy{
		timeout: s.SendTimeout, attempts: s.SendAttempts,
		backoff: s.SendBackoff, maybeDone: !s.SendFailMaybeDone,
	}
}

// Retry is the one place where the framework repeats a call to a broker. It
// repeats f while its error is retryable, waits between the tries, longer each
// time and at least as long as the broker asks, and gives up when the next try
// would begin after the deadline. The error is an [*Error] for op; its MaybeDone
// is true if any of the tries may have been carried out. f gets a context with
// the overall deadline.
func (c *Client) Retry(ctx context.Context, op string, f func(ctx context.Context) error, opts ...RetryOption) error {
	p := c.policy()
	for _, o := range opts {
		o(&p)
	}
	if e := p.run(ctx, op, f); e != nil {
		return e
	}
	return nil
}

func (p retryPolicy) run(ctx context.Context, op string, f func(ctx context.Context) error) *Error {
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.timeout, noSuccessError(p.timeout))
		defer cancel()
	}
	if ctx.Err() != nil {
		return asError(op, driver.FromContext(ctx, "", false))
	}
	var wait *backoff.ExponentialBackOff // most calls succeed at once
	maybe := false
	for n := 1; ; n++ {
		err := f(ctx)
		if err == nil {
			return nil
		}
		e := asError(op, err)
		again := e.Retryable && (p.maybeDone || !e.MaybeDone) && (p.attempts == 0 || n < p.attempts) && ctx.Err() == nil
		maybe = maybe || e.MaybeDone
		e.MaybeDone, e.Attempts = maybe, n
		if !again {
			return e
		}
		if wait == nil {
			wait = newBackoff(p.backoff)
		}
		d := max(wait.NextBackOff(), e.RetryAfter)
		if end, ok := ctx.Deadline(); ok && !time.Now().Add(d).Before(end) {
			return e
		}
		if !sleep(ctx, d) {
			e.Code, e.Retryable = driver.FromContext(ctx, "", false).Code, false
			e.Err = fmt.Errorf("%w while waiting to repeat: %w", context.Cause(ctx), e.Err)
			return e
		}
	}
}

// noSuccessError is the cause of a context that ends with the overall deadline.
type noSuccessError time.Duration

func (d noSuccessError) Error() string {
	return fmt.Sprintf("no success within %v: %v", time.Duration(d), context.DeadlineExceeded)
}

func (noSuccessError) Unwrap() error { return context.DeadlineExceeded }

func newBackoff(r config.Range) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(r.From),
		backoff.WithMaxInterval(r.To),
		backoff.WithMultiplier(2),
		backoff.WithMaxElapsedTime(0), // the deadline and the attempts decide, not the library
	)
}

// sleep waits for d; it is false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
