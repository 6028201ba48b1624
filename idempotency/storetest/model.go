package storetest

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/idempotency"
)

// step is one call of a random history, or time that passes. It is drawn before
// the history runs, since rapid draws outside of bubbles only.
type step struct {
	Kind     string
	Key      int
	Owner    string
	Duration int    // seconds
	Fence    uint64 // 0: the fence of the record
	Pass     int    // multiples of 713 ms
}

func drawStep(kinds []string) *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		s := step{
			Kind:     rapid.SampledFrom(kinds).Draw(t, "kind"),
			Key:      rapid.IntRange(0, 1).Draw(t, "key"),
			Owner:    rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "owner"),
			Duration: rapid.IntRange(1, 6).Draw(t, "duration"),
			Pass:     rapid.IntRange(1, 12).Draw(t, "pass"),
		}
		if rapid.IntRange(0, 3).Draw(t, "stale") == 0 {
			s.Fence = uint64(rapid.IntRange(1, 6).Draw(t, "fence"))
		}
		return s
	})
}

// model compares the store with the simplest thing that could be one over random
// histories of two keys and three owners. In real time no time passes in them:
// expiry has its own tests and would take too long here.
func model(t *testing.T, h Harness) {
	kinds := []string{"begin", "begin", "renew", "complete", "abort"}
	if h.Bubble {
		kinds = append(kinds, "time")
	}
	var shared *env
	if !h.Bubble {
		shared = h.env(t)
	}
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(drawStep(kinds), 1, 60).Draw(rt, "steps")
		run++
		var failure error
		if h.Bubble {
			synctest.Test(t, func(t *testing.T) { failure = play(h.env(t), run, steps) })
		} else {
			failure = play(shared, run, steps)
		}
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

// record is what a store must know of one key.
type record struct {
	key   idempotency.Key
	state idempotency.State // 0 absent, Busy processing, Done done
	owner string
	fence uint64
	how   idempotency.Completion
	until time.Time
	high  uint64 // the highest fence so far
}

func play(e *env, run int, steps []step) error {
	var records [2]record
	for i := range records {
		records[i].key = idempotency.NewKey("model", string(e.k), fmt.Sprint(run), fmt.Sprint(i))
	}
	for i, s := range steps {
		r := &records[s.Key]
		if r.state != 0 && !r.until.After(time.Now()) {
			r.state, r.owner = 0, ""
		}
		fence := s.Fence
		if fence == 0 {
			fence = r.fence
		}
		d := time.Duration(s.Duration) * time.Second
		if e.real {
			d *= 1000
		}
		var err error
		switch s.Kind {
		case "begin":
			err = r.begin(e, s.Owner, d)
		case "renew":
			err = r.renew(e, s.Owner, fence, d)
		case "complete":
			err = r.complete(e, s.Owner, fence, d)
		case "abort":
			err = r.abort(e, s.Owner, fence)
		default:
			// 713 is prime to 1000: nothing ends at the very moment of a call.
			time.Sleep(time.Duration(s.Pass) * 713 * time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("step %d of %+v: %w", i, steps[:i+1], err)
		}
	}
	return nil
}

func (r *record) held(owner string, fence uint64) bool {
	return r.state == idempotency.Busy && r.owner == owner && r.fence == fence
}

func (r *record) begin(e *env, owner string, lease time.Duration) error {
	got, err := e.s.Begin(e.t.Context(), r.key, owner, lease, e.long)
	if err != nil {
		return err
	}
	if r.state == 0 {
		if got.State != idempotency.Acquired || got.Fence <= r.high {
			return fmt.Errorf("begin of an absent key: got %+v, want acquired with a fence over %d", got, r.high)
		}
		r.state, r.owner, r.fence, r.high, r.until = idempotency.Busy, owner, got.Fence, got.Fence, time.Now().Add(lease)
		return nil
	}
	want := r.state
	if r.state == idempotency.Busy && r.owner == owner {
		want = idempotency.Acquired
	}
	left := time.Until(r.until)
	if off := got.Remaining - left; got.State != want || got.Fence != r.fence || !e.real && max(off, -off) > 2*time.Millisecond {
		return fmt.Errorf("begin: got %+v, want %v, fence %d, %v left", got, want, r.fence, left)
	}
	return nil
}

func (r *record) renew(e *env, owner string, fence uint64, lease time.Duration) error {
	want := r.held(owner, fence)
	if got, err := e.s.Renew(e.t.Context(), r.key, owner, fence, lease); err != nil || got != want {
		return fmt.Errorf("renew: got %v, %w, want %v", got, err, want)
	}
	if want {
		r.until = time.Now().Add(lease)
	}
	return nil
}

func (r *record) complete(e *env, owner string, fence uint64, ttl time.Duration) error {
	var want idempotency.Completion
	switch {
	case r.state == idempotency.Done && r.fence == fence:
		want = r.how
	case r.state == idempotency.Done:
		want = idempotency.Already
	case r.state == 0:
		want = idempotency.Expired
	case r.held(owner, fence):
		want = idempotency.Mine
	default:
		want = idempotency.TakenOver
	}
	if got, err := e.s.Complete(e.t.Context(), r.key, owner, fence, ttl); err != nil || got != want {
		return fmt.Errorf("complete: got %v, %w, want %v", got, err, want)
	}
	until := time.Now().Add(ttl)
	if r.state == idempotency.Done {
		if until.After(r.until) {
			r.until = until
		}
		return nil
	}
	r.state, r.owner, r.fence, r.how, r.until = idempotency.Done, "", fence, want, until
	return nil
}

func (r *record) abort(e *env, owner string, fence uint64) error {
	want := r.held(owner, fence)
	if got, err := e.s.Abort(e.t.Context(), r.key, owner, fence); err != nil || got != want {
		return fmt.Errorf("abort: got %v, %w, want %v", got, err, want)
	}
	if want {
		r.state, r.owner = 0, ""
	}
	return nil
}
