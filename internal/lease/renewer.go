package lease

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// parallelRenewals bounds the renewals that run at a time. It is far above what
// a backend that answers needs (a renewal takes about a millisecond), so that a
// backend that hangs does not hold up the leases of another one.
const parallelRenewals = 256

// Renewer keeps any number of leases. Its methods are safe for concurrent use.
type Renewer struct {
	log  *slog.Logger
	wake chan struct{} // one pending wake-up is enough: the loop looks at everything
	wg   sync.WaitGroup

	mu      sync.Mutex
	stop    context.CancelFunc // nil until the first Keep started the loop
	closed  bool
	due     queue
	waiting []*Kept // due for renewal, no slot free; in the order they became due
	running int
	failing bool // the last renewal failed; the log says so once
}

// NewRenewer returns a renewer that starts its goroutine with the first
// [Renewer.Keep] and ends it with [Renewer.Close]. A nil logger is silent.
func NewRenewer(logger *slog.Logger) *Renewer {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Renewer{log: logger, wake: make(chan struct{}, 1)}
}

// Kept is one lease in the care of a [Renewer].
type Kept struct {
	r     *Renewer
	lease Lease
	every time.Duration
	lost  func(cause error)

	// All below is guarded by r.mu.
	until  time.Time
	next   time.Time          // next renewal
	index  int                // in r.due, -1 when not there
	busy   bool               // a renewal runs or waits for a slot
	cancel context.CancelFunc // of the running renewal
	done   chan struct{}      // closed when the running renewal has returned
	over   bool               // stopped, lost or closed: no renewal starts any more
	failed error              // why the last renewal failed
}

// Keep renews l about every (give or take a tenth) until Stop, or calls lost
// once: when l says [ErrLost], or when the time is past until, the local
// deadline that renewals move. An every below one millisecond means a third of
// what is left until the deadline.
//
// lost runs in a goroutine of its own; it may call [Kept.Stop] but should do
// little more than cancel a context. On a closed Renewer it is called before
// Keep returns.
func (r *Renewer) Keep(l Lease, every time.Duration, until time.Time, lost func(cause error)) *Kept {
	now := time.Now()
	if every < time.Millisecond {
		every = max(until.Sub(now)/3, time.Millisecond)
	}
	k := &Kept{r: r, lease: l, every: every, lost: lost, until: until, index: -1}

	r.mu.Lock()
	if r.closed {
		k.over = true
		r.mu.Unlock()
		lost(fmt.Errorf("%w: %w", ErrLost, ErrClosed))
		return k
	}
	if r.stop == nil {
		ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // a root that owns a lifecycle
		r.stop = cancel
		r.wg.Go(func() { r.loop(ctx) })
	}
	k.plan(now, every)
	heap.Push(&r.due, k)
	r.mu.Unlock()
	r.poke()
	return k
}

// Stop ends the renewals of the lease. When it returns none is in flight and
// none starts any more. A lost that was decided before may still be on its way;
// none is decided afterwards. Stop may be called more than once.
func (k *Kept) Stop() {
	r := k.r
	r.mu.Lock()
	r.end(k)
	done := k.done
	r.mu.Unlock()
	if done != nil {
		<-done
	}
}

// Until returns the present local deadline.
func (k *Kept) Until() time.Time {
	k.r.mu.Lock()
	defer k.r.mu.Unlock()
	return k.until
}

// Held reports whether the lease is in force: neither stopped nor lost, and not
// past its local deadline, which it checks itself and so needs no scheduling.
func (k *Kept) Held() bool {
	k.r.mu.Lock()
	defer k.r.mu.Unlock()
	return !k.over && time.Now().Before(k.until)
}

// Close ends every lease that is still kept, tells its owner [ErrClosed], and
// returns when no goroutine is left. It may be called more than once.
func (r *Renewer) Close() {
	r.mu.Lock()
	r.closed = true
	for len(r.due) > 0 {
		r.lose(r.due[0], ErrClosed)
	}
	stop := r.stop
	r.mu.Unlock()
	if stop != nil {
		stop()
	}
	r.wg.Wait()
}

func (r *Renewer) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *Renewer) loop(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(r.step(ctx))
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// step does what is due and returns the time until the next thing is.
func (r *Renewer) step(ctx context.Context) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.due) > 0 && !r.due[0].dueAt().After(now) {
		k := r.due[0]
		if !k.until.After(now) {
			cause := k.failed
			if cause == nil {
				cause = errors.New("no renewal was answered before the local deadline")
			}
			r.lose(k, cause)
			continue
		}
		k.busy = true
		heap.Fix(&r.due, k.index)
		r.waiting = append(r.waiting, k)
	}
	r.admit(ctx)
	if len(r.due) == 0 {
		return time.Hour
	}
	return r.due[0].dueAt().Sub(now)
}

// admit starts waiting renewals while slots are free. r.mu is held.
func (r *Renewer) admit(ctx context.Context) {
	for len(r.waiting) > 0 && r.running < parallelRenewals && !r.closed {
		k := r.waiting[0]
		r.waiting[0] = nil
		r.waiting = r.waiting[1:]
		if k.over {
			continue
		}
		r.running++
		// Half of the period leaves time to try again twice within the lease.
		try, cancel := context.WithTimeout(ctx, min(max(k.every/2, time.Millisecond), time.Until(k.until)))
		k.cancel, k.done = cancel, make(chan struct{})
		done := k.done
		r.wg.Go(func() {
			defer close(done)
			defer cancel()
			until, err := k.renew(try)
			r.renewed(ctx, k, until, err)
		})
	}
}

func (k *Kept) renew(ctx context.Context) (until time.Time, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("lease renewal panicked: %v", p)
		}
	}()
	return k.lease.Renew(ctx)
}

// renewed takes in the outcome of a renewal and hands its slot on.
func (r *Renewer) renewed(ctx context.Context, k *Kept, until time.Time, err error) {
	now := time.Now()
	r.mu.Lock()
	r.running--
	k.busy, k.cancel = false, nil
	over, first := k.over, false
	switch {
	case over:
	case err == nil:
		k.until, k.failed, r.failing = until, nil, false
		k.plan(now, k.every)
		heap.Fix(&r.due, k.index)
	case errors.Is(err, ErrLost):
		r.lose(k, err)
	default:
		first, r.failing = !r.failing, true
		k.failed = err
		k.plan(now, k.every/4)
		heap.Fix(&r.due, k.index)
	}
	r.admit(ctx)
	r.mu.Unlock()
	r.poke()
	if first {
		r.log.LogAttrs(ctx, slog.LevelWarn, "lease renewal failed; it is tried again until the lease ends",
			slog.String("error", err.Error()))
	}
}

// plan sets the next renewal after about d, but no later than halfway to the
// deadline: a lease that was slow to come must not be renewed too late. The
// lower bound keeps a backend that fails at once from being asked without end
// while the deadline draws near.
func (k *Kept) plan(now time.Time, d time.Duration) {
	d += time.Duration((rand.Float64()*2 - 1) * 0.1 * float64(d))
	k.next = now.Add(max(min(d, k.until.Sub(now)/2), k.every/16))
}

// dueAt is when the scheduler must look at k again.
func (k *Kept) dueAt() time.Time {
	if k.busy || k.until.Before(k.next) {
		return k.until
	}
	return k.next
}

// end takes k out of care; the first call says true. r.mu is held.
func (r *Renewer) end(k *Kept) bool {
	if k.over {
		return false
	}
	k.over = true
	if k.index >= 0 {
		heap.Remove(&r.due, k.index)
	}
	if k.cancel != nil {
		k.cancel()
	}
	return true
}

// lose ends k and tells its owner why. r.mu is held.
func (r *Renewer) lose(k *Kept, cause error) {
	if !r.end(k) {
		return
	}
	if !errors.Is(cause, ErrLost) {
		cause = fmt.Errorf("%w: %w", ErrLost, cause)
	}
	r.wg.Go(func() { k.lost(cause) })
}

// queue is a heap of leases by the time they need attention.
type queue []*Kept

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].dueAt().Before(q[j].dueAt()) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	k, _ := x.(*Kept)
	k.index = len(*q)
	*q = append(*q, k)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	k := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	k.index = -1
	return k
}
