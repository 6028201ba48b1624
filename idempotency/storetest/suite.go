package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/idempotency"
)

// Harness says how to test a store.
type Harness struct {
	// New returns a store that holds none of the keys that this test uses. It
	// is called once per test, in the bubble if there is one; what it must
	// clean up it registers with t.Cleanup.
	New func(t testing.TB) idempotency.Store
	// Bubble: the clock of the store is package time, so that the tests run in
	// a testing/synctest bubble. Otherwise they wait in real time.
	Bubble bool
	// Unit is the lease that the tests use. It is far longer than a call takes.
	// Defaults to 10s in a bubble, else to 300ms.
	Unit time.Duration
}

// env is what a test works with.
type env struct {
	t     *testing.T
	s     idempotency.Store
	k     idempotency.Key
	unit  time.Duration
	real  bool
	long  time.Duration // outlasts the test
	slack time.Duration // a call may take this long
}

// Run runs every test of the suite as a subtest of t.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) {
			if h.Bubble {
				synctest.Test(t, func(t *testing.T) { c.run(h.env(t)) })
				return
			}
			t.Parallel()
			c.run(h.env(t))
		})
	}
	t.Run("Model_RandomHistories", func(t *testing.T) {
		t.Parallel()
		model(t, h)
	})
}

func (h Harness) env(t *testing.T) *env {
	e := &env{t: t, s: h.New(t), real: !h.Bubble, unit: h.Unit}
	switch {
	case e.unit != 0:
	case h.Bubble:
		e.unit = 10 * time.Second
	default:
		e.unit = 300 * time.Millisecond
	}
	e.slack = 5 * time.Millisecond
	if e.real {
		e.slack = e.unit * 2 / 3
	}
	e.long = 1000 * e.unit
	e.k = idempotency.NewKey("storetest", t.Name(), fmt.Sprint(time.Now().UnixNano()), "k")
	return e
}

var suite = []struct {
	name string
	run  func(e *env)
}{
	{"Begin_AbsentIsAcquired", beginAbsent},
	{"Begin_LostReplyIsRepeated", beginRepeated},
	{"Begin_OtherOwnerIsBusy", beginBusy},
	{"Begin_BusyChangesNothing", beginBusyChangesNothing},
	{"Begin_DoneIsDone", beginDone},
	{"Begin_KeysAreIndependent", keysIndependent},
	{"Begin_HundredClaimantsOneWinner", hundredClaimants},
	{"Begin_TakeoverAfterExpiryHasHigherFence", takeover},
	{"Begin_RepeatDoesNotRestartTheLease", repeatKeepsLease},
	{"Renew_OutlivesTheLease", renewOutlives},
	{"Renew_ComparesOwnerAndFence", renewCompares},
	{"Renew_AfterExpiryIsRefused", renewExpired},
	{"Renew_DoneIsRefused", renewDone},
	{"Complete_Mine", completeMine},
	{"Complete_IsAJoin", completeJoin},
	{"Complete_RepeatAnswersTheSame", completeRepeated},
	{"Complete_AfterTakeoverEndsTheOther", completeEndsOther},
	{"Complete_TTLEnds", completeTTL},
	{"Complete_NeverShortens", completeNeverShortens},
	{"Abort_FreesTheKey", abortFrees},
	{"Abort_ByOthersDoesNothing", abortCompares},
	{"Abort_DoneStaysDone", abortDone},
	{"Abort_IsRepeatable", abortRepeated},
	{"Fence_OutlivesTheRecord", fenceOutlives},
	{"Fence_GrowsOverAborts", fenceGrows},
	{"Context_EndedIsAnError", contextEnded},
	{"Concurrent_OneOwnerAtATime", oneOwnerAtATime},
}

func (e *env) begin(owner string, lease time.Duration) idempotency.Claim {
	e.t.Helper()
	c, err := e.s.Begin(e.t.Context(), e.k, owner, lease, e.long)
	if err != nil {
		e.t.Fatalf("Begin(%s): %v", owner, err)
	}
	return c
}

// acquire is begin that must succeed.
func (e *env) acquire(owner string, lease time.Duration) uint64 {
	e.t.Helper()
	c := e.begin(owner, lease)
	if c.State != idempotency.Acquired {
		e.t.Fatalf("Begin(%s): got %v, want acquired", owner, c.State)
	}
	return c.Fence
}

func (e *env) wantState(owner string, want idempotency.State) idempotency.Claim {
	e.t.Helper()
	c := e.begin(owner, e.long)
	if c.State != want {
		e.t.Fatalf("Begin(%s): got %v, want %v", owner, c.State, want)
	}
	return c
}

func (e *env) wantRenew(owner string, fence uint64, lease time.Duration, want bool) {
	e.t.Helper()
	got, err := e.s.Renew(e.t.Context(), e.k, owner, fence, lease)
	if err != nil || got != want {
		e.t.Fatalf("Renew(%s, %d): got %v, %v, want %v", owner, fence, got, err, want)
	}
}

func (e *env) wantComplete(owner string, fence uint64, ttl time.Duration, want idempotency.Completion) {
	e.t.Helper()
	got, err := e.s.Complete(e.t.Context(), e.k, owner, fence, ttl)
	if err != nil || got != want {
		e.t.Fatalf("Complete(%s, %d): got %v, %v, want %v", owner, fence, got, err, want)
	}
}

func (e *env) wantAbort(owner string, fence uint64, want bool) {
	e.t.Helper()
	got, err := e.s.Abort(e.t.Context(), e.k, owner, fence)
	if err != nil || got != want {
		e.t.Fatalf("Abort(%s, %d): got %v, %v, want %v", owner, fence, got, err, want)
	}
}

func (e *env) pass(d time.Duration) { time.Sleep(d) }

func beginAbsent(e *env) {
	c := e.begin("a", e.unit)
	if c.State != idempotency.Acquired || c.Fence == 0 || c.Remaining > e.unit || c.Remaining < e.unit-e.slack {
		e.t.Fatalf("got %+v, want acquired, a fence and about %v", c, e.unit)
	}
}

func beginRepeated(e *env) {
	fence := e.acquire("a", e.long)
	if again := e.acquire("a", e.long); again != fence {
		e.t.Fatalf("the repeated call got fence %d, want %d again", again, fence)
	}
	e.wantComplete("a", fence, e.long, idempotency.Mine)
}

func beginBusy(e *env) {
	fence := e.acquire("a", e.long)
	c := e.wantState("b", idempotency.Busy)
	if c.Fence != fence || c.Remaining <= e.long-10*e.unit || c.Remaining > e.long {
		e.t.Fatalf("got %+v, want the fence %d and the remaining lease of the owner", c, fence)
	}
}

func beginBusyChangesNothing(e *env) {
	fence := e.acquire("a", 3*e.unit)
	e.wantState("b", idempotency.Busy)
	e.wantState("c", idempotency.Busy)
	e.wantRenew("a", fence, e.unit, true)
	e.pass(2 * e.unit)
	e.acquire("b", e.unit) // the questions of b and c did not renew the lease of a
}

func beginDone(e *env) {
	fence := e.acquire("a", e.unit)
	e.wantComplete("a", fence, e.long, idempotency.Mine)
	for _, owner := range []string{"a", "b"} {
		c := e.wantState(owner, idempotency.Done)
		if c.Fence != fence || c.Remaining > e.long || c.Remaining < e.long-10*e.unit {
			e.t.Fatalf("got %+v, want fence %d and about %v", c, fence, e.long)
		}
	}
}

func keysIndependent(e *env) {
	e.acquire("a", e.long)
	first := e.k
	e.k = idempotency.NewKey("storetest", e.t.Name(), "other", string(first))
	fence := e.acquire("b", e.long)
	e.wantComplete("b", fence, e.long, idempotency.Mine)
	e.k = first
	e.wantState("c", idempotency.Busy)
}

func hundredClaimants(e *env) {
	const n = 100
	claims := make([]idempotency.Claim, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { claims[i], errs[i] = e.s.Begin(e.t.Context(), e.k, fmt.Sprint("owner ", i), e.long, e.long) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		e.t.Fatal(err)
	}
	var won int
	for _, c := range claims {
		switch c.State {
		case idempotency.Acquired:
			won++
		case idempotency.Busy:
		default:
			e.t.Fatalf("got %+v", c)
		}
	}
	if won != 1 {
		e.t.Fatalf("%d of %d claimants got the key, want 1", won, n)
	}
}

func takeover(e *env) {
	first := e.acquire("a", e.unit)
	e.pass(e.unit + e.slack)
	second := e.acquire("b", e.long)
	if second <= first {
		e.t.Fatalf("fence %d after %d, want a higher one", second, first)
	}
	if c := e.wantState("a", idempotency.Busy); c.Fence != second {
		e.t.Fatalf("got fence %d, want that of the new owner, %d", c.Fence, second)
	}
}

func repeatKeepsLease(e *env) {
	e.acquire("a", 3*e.unit)
	e.pass(2 * e.unit)
	if c := e.begin("a", 3*e.unit); c.State != idempotency.Acquired || c.Remaining > e.unit {
		e.t.Fatalf("got %+v, want acquired with at most %v left", c, e.unit)
	}
	e.pass(e.unit + e.slack)
	e.acquire("b", e.unit)
}

func renewOutlives(e *env) {
	fence := e.acquire("a", 3*e.unit)
	for range 6 {
		e.pass(e.unit)
		e.wantRenew("a", fence, 3*e.unit, true)
	}
	e.wantState("b", idempotency.Busy)
	e.wantComplete("a", fence, e.long, idempotency.Mine)
}

func renewCompares(e *env) {
	e.wantRenew("a", 1, e.unit, false)
	fence := e.acquire("a", e.unit)
	e.wantRenew("b", fence, e.long, false)
	e.wantRenew("a", fence+1, e.long, false)
	e.wantRenew("a", fence-1, e.long, false)
	e.pass(e.unit + e.slack)
	e.acquire("b", e.long) // none of them made the lease longer
}

func renewExpired(e *env) {
	fence := e.acquire("a", e.unit)
	e.pass(e.unit + e.slack)
	e.wantRenew("a", fence, e.long, false)
	e.acquire("b", e.long)
	e.wantRenew("a", fence, e.long, false)
}

func renewDone(e *env) {
	fence := e.acquire("a", e.long)
	e.wantComplete("a", fence, e.unit, idempotency.Mine)
	e.wantRenew("a", fence, e.long, false)
	e.pass(e.unit + e.slack)
	e.acquire("b", e.unit) // the refused renewal did not make the ttl longer
}
