package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/idempotency"
)

func completeMine(e *env) {
	fence := e.acquire("a", e.long)
	e.wantComplete("a", fence, e.long, idempotency.Mine)
	e.wantState("b", idempotency.Done)
}

// completeJoin: done wins over whatever the record was.
func completeJoin(e *env) {
	fence := e.acquire("a", e.unit)
	e.pass(e.unit + e.slack)
	e.wantComplete("a", fence, e.long, idempotency.Expired)
	e.wantState("b", idempotency.Done)

	e.k = idempotency.NewKey("storetest", e.t.Name(), string(e.k), "taken over")
	fence = e.acquire("a", e.unit)
	e.pass(e.unit + e.slack)
	e.acquire("b", e.long)
	e.wantComplete("a", fence, e.long, idempotency.TakenOver)
	e.wantState("c", idempotency.Done)

	e.k = idempotency.NewKey("storetest", e.t.Name(), string(e.k), "already")
	fence = e.acquire("a", e.unit)
	e.pass(e.unit + e.slack)
	other := e.acquire("b", e.long)
	e.wantComplete("b", other, e.long, idempotency.Mine)
	e.wantComplete("a", fence, e.long, idempotency.Already)
	if c := e.wantState("c", idempotency.Done); c.Fence != other {
		e.t.Fatalf("done by fence %d, want %d, who was first", c.Fence, other)
	}
}

func completeRepeated(e *env) {
	fence := e.acquire("a", e.unit)
	e.wantComplete("a", fence, e.long, idempotency.Mine)
	e.wantComplete("a", fence, e.long, idempotency.Mine)

	e.k = idempotency.NewKey("storetest", e.t.Name(), string(e.k), "taken over")
	fence = e.acquire("a", e.unit)
	e.pass(e.unit + e.slack)
	other := e.acquire("b", e.long)
	e.wantComplete("a", fence, e.long, idempotency.TakenOver)
	e.wantComplete("a", fence, e.long, idempotency.TakenOver)
	e.wantComplete("b", other, e.long, idempotency.Already)
	e.wantComplete("b", other, e.long, idempotency.Already)
	e.wantComplete("a", fence, e.long, idempotency.TakenOver)
}

func completeEndsOther(e *env) {
	fence := e.acquire("a", e.unit)
	e.pass(e.unit + e.slack)
	other := e.acquire("b", e.long)
	e.wantComplete("a", fence, e.long, idempotency.TakenOver)
	e.wantRenew("b", other, e.long, false)
	e.wantAbort("b", other, false)
	e.wantState("c", idempotency.Done)
}

func completeTTL(e *env) {
	fence := e.acquire("a", e.unit)
	e.wantComplete("a", fence, 2*e.unit, idempotency.Mine)
	e.pass(e.unit)
	e.wantState("b", idempotency.Done)
	e.pass(e.unit + e.slack)
	e.wantState("b", idempotency.Acquired)
}

func completeNeverShortens(e *env) {
	fence := e.acquire("a", e.unit)
	e.wantComplete("a", fence, e.long, idempotency.Mine)
	e.wantComplete("a", fence, e.unit, idempotency.Mine)
	e.wantComplete("z", fence+7, e.unit, idempotency.Already)
	e.pass(e.unit + e.slack)
	e.wantState("b", idempotency.Done)
}

func abortFrees(e *env) {
	fence := e.acquire("a", e.long)
	e.wantAbort("a", fence, true)
	e.acquire("b", e.long)
}

func abortCompares(e *env) {
	e.wantAbort("a", 1, false)
	first := e.acquire("a", e.unit)
	e.wantAbort("b", first, false)
	e.wantAbort("a", first+1, false)
	e.pass(e.unit + e.slack)
	second := e.acquire("b", e.long)
	e.wantAbort("a", first, false) // the late abort must not free the key of b
	e.wantAbort("a", second, false)
	e.wantState("c", idempotency.Busy)
	e.wantComplete("b", second, e.long, idempotency.Mine)
}

func abortDone(e *env) {
	fence := e.acquire("a", e.long)
	e.wantComplete("a", fence, e.long, idempotency.Mine)
	e.wantAbort("a", fence, false)
	e.wantState("b", idempotency.Done)
}

func abortRepeated(e *env) {
	fence := e.acquire("a", e.long)
	e.wantAbort("a", fence, true)
	e.wantAbort("a", fence, false)
	e.wantState("b", idempotency.Acquired)
}

func fenceOutlives(e *env) {
	var last uint64
	for i := range 3 {
		owner := fmt.Sprint("owner ", i)
		fence := e.acquire(owner, e.unit)
		if fence <= last {
			e.t.Fatalf("fence %d after %d, want a higher one", fence, last)
		}
		last = fence
		e.wantComplete(owner, fence, e.unit, idempotency.Mine)
		e.pass(e.unit + e.slack) // the record is gone, the counter is not
	}
	// Also where the caller asked for a counter that is shorter than the lease.
	e.k = idempotency.NewKey("storetest", e.t.Name(), string(e.k), "short")
	c, err := e.s.Begin(e.t.Context(), e.k, "a", e.unit, time.Millisecond)
	if err != nil || c.State != idempotency.Acquired {
		e.t.Fatalf("Begin: %+v, %v", c, err)
	}
	e.pass(e.unit + e.slack/2)
	if next := e.acquire("b", e.unit); next <= c.Fence {
		e.t.Fatalf("fence %d after %d, want a higher one", next, c.Fence)
	}
}

func fenceGrows(e *env) {
	var last uint64
	for i := range 5 {
		owner := fmt.Sprint("owner ", i)
		fence := e.acquire(owner, e.long)
		if fence <= last {
			e.t.Fatalf("fence %d after %d, want a higher one", fence, last)
		}
		last = fence
		e.wantAbort(owner, fence, true)
	}
}

func contextEnded(e *env) {
	ctx, cancel := context.WithCancelCause(e.t.Context())
	reason := errors.New("the test ended it")
	cancel(reason)
	_, errBegin := e.s.Begin(ctx, e.k, "a", e.unit, e.long)
	_, errRenew := e.s.Renew(ctx, e.k, "a", 1, e.unit)
	_, errComplete := e.s.Complete(ctx, e.k, "a", 1, e.unit)
	_, errAbort := e.s.Abort(ctx, e.k, "a", 1)
	for _, err := range []error{errBegin, errRenew, errComplete, errAbort} {
		if _, ok := errors.AsType[*idempotency.StoreError](err); !ok {
			e.t.Errorf("got %v, want a *StoreError", err)
		}
		if !errors.Is(err, reason) && !errors.Is(err, context.Canceled) {
			e.t.Errorf("got %v, want the cause or context.Canceled in it", err)
		}
	}
}

// oneOwnerAtATime lets many owners compete, each giving the key back by abort or
// by letting it expire, and watches that no two of them hold it.
func oneOwnerAtATime(e *env) {
	const workers = 8
	rounds := 20
	if e.real {
		rounds = 8
	}
	var inside, acquired atomic.Int64
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				owner := fmt.Sprintf("worker %d round %d", w, r)
				c, err := e.s.Begin(e.t.Context(), e.k, owner, e.long, e.long)
				if err != nil {
					e.t.Errorf("Begin: %v", err)
					return
				}
				if c.State != idempotency.Acquired {
					e.pass(e.unit / 100)
					continue
				}
				if inside.Add(1) != 1 {
					e.t.Error("two owners at a time")
				}
				acquired.Add(1)
				mu.Lock()
				if seen[c.Fence] {
					e.t.Errorf("fence %d was given twice", c.Fence)
				}
				seen[c.Fence] = true
				mu.Unlock()
				e.pass(e.unit / 100)
				inside.Add(-1)
				if ok, err := e.s.Abort(e.t.Context(), e.k, owner, c.Fence); err != nil || !ok {
					e.t.Errorf("Abort: got %v, %v, want true", ok, err)
				}
			}
		})
	}
	wg.Wait()
	if acquired.Load() == 0 {
		e.t.Error("nobody ever got the key")
	}
}
