package listener_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// failFirst fails message id until its run number n.
func failFirst(r *record, id string, n int) func(context.Context, *sdk.Message[bill]) error {
	return func(_ context.Context, m *sdk.Message[bill]) error {
		r.add(fmt.Sprintf("%s %d", m.ID, m.Attempt))
		if m.ID == id && m.Attempt < n {
			return errors.New("not yet")
		}
		return nil
	}
}

func TestOrdered_RetriesInPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, failFirst(r, "m1", 3), listener.Ordered("queue", "block"), listener.Backoff("1s,5s")))
		b.send("t", "m1", "m2", "m3")
		time.Sleep(time.Minute)
		equal(t, "runs", r.get(), []string{"0s m1 1", "1s m1 2", "6s m1 3", "6s m2 1", "6s m3 1"})
		equal(t, "settlements", b.broker.settlements(), []string{"ack m1", "ack m2", "ack m3"})
	})
}

func TestOrdered_Exhausted(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]string{
		"deadletter": "0s m1 1,1s m1 2,1s m2 1|dead_letter m1,ack m2",
		"skip":       "0s m1 1,1s m1 2,1s m2 1|ack m1,ack m2",
		"block":      "0s m1 1,1s m1 2,2s m1 3,3s m1 4,3s m2 1|ack m1,ack m2",
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRecord()
				b := start(t, bundleOptions{}, on(t, failFirst(r, "m1", 4), listener.Ordered("queue", policy),
					listener.Attempts(2), listener.Backoff("1s")))
				events := b.c.Events(t.Context(), 10)
				b.send("t", "m1", "m2")
				time.Sleep(1500 * time.Millisecond)
				blocked := policy == "block"
				if s, _ := b.c.Status("l"); blocked != (len(s.Blocked) == 1) {
					t.Errorf("blocked lanes: %v", s.Blocked)
				}
				time.Sleep(time.Minute)
				got := strings.Join(r.get(), ",") + "|" + strings.Join(b.broker.settlements(), ",")
				if got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				if s, _ := b.c.Status("l"); len(s.Blocked) != 0 {
					t.Errorf("still blocked: %v", s.Blocked)
				}
				if policy == "deadletter" {
					return
				}
				kind := map[string]listener.EventKind{"block": listener.EventBlocked, "skip": listener.EventGivenUp}[policy]
				if e := <-events; e.Kind != kind {
					t.Errorf("event %+v", e)
				}
			})
		})
	}
}

func TestOrdered_BlockedLaneLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := newFake()
		broker.queues = 3
		var mu sync.Mutex
		done := map[int]int{}
		b := start(t, bundleOptions{broker: broker}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			mu.Lock()
			defer mu.Unlock()
			if m.ID == "bad" {
				return errors.New("never")
			}
			done[int(m.ID[0]-'0')]++
			return nil
		}, listener.Ordered("queue", "block"), listener.Concurrency(2)))
		b.broker.put("t", 0, driver.Message{ID: "bad", Body: []byte("{}")})
		for i := range 200 {
			q := i % 3
			b.broker.put("t", q, driver.Message{ID: fmt.Sprintf("%d-%d", q, i), Body: []byte("{}")})
		}
		time.Sleep(time.Hour)
		mu.Lock()
		defer mu.Unlock()
		if done[0] != 0 || done[1] != 67 || done[2] != 66 {
			t.Errorf("handled by queue: %v", done)
		}
	})
}

func TestOrdered_ByKeyKeepsTheOrderOfAKeyOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		var running, most atomic.Int32
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			time.Sleep(time.Second)
			r.add(m.ID)
			if m.ID == "a1" && m.Attempt == 1 {
				return errors.New("again")
			}
			return nil
		}, listener.Ordered("key", "block"), listener.Backoff("10s"), listener.Concurrency(2)))
		for _, id := range []string{"a1", "a2", "b1", "b2", "c1"} {
			b.broker.put("t", 0, driver.Message{ID: id, OrderingKey: id[:1], Body: []byte("{}")})
		}
		time.Sleep(time.Minute)
		last := map[byte]string{}
		for _, line := range r.get() {
			id := line[strings.LastIndexByte(line, ' ')+1:]
			if id < last[id[0]] {
				t.Errorf("%s after %s", id, last[id[0]])
			}
			last[id[0]] = id
		}
		// a waits for its retry at 11s; b and c are long done then.
		lines := r.get()
		if n := len(lines); n != 6 || lines[n-1] != "13s a2" || lines[n-2] != "12s a1" || most.Load() != 2 {
			t.Errorf("runs %q, at most %d at a time", lines, most.Load())
		}
	})
}

func TestOrdered_DeferWaitsInPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		first := true
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			r.add(fmt.Sprintf("%s %d", m.ID, m.Attempt))
			if first {
				first = false
				return listener.Defer(7 * time.Second)
			}
			return nil
		}, listener.Ordered("queue", "block")))
		b.send("t", "m1", "m2")
		time.Sleep(time.Minute)
		equal(t, "runs", r.get(), []string{"0s m1 1", "7s m1 1", "7s m2 1"})
	})
}

func TestOrdered_PauseKeepsOrderAndAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, failFirst(r, "m1", 4), listener.Ordered("queue", "block"), listener.Backoff("10s")))
		b.send("t", "m1", "m2", "m3")
		time.Sleep(15 * time.Second)
		if err := b.c.Pause(t.Context(), listener.All(), listener.HoldLanes); err != nil {
			t.Fatal(err)
		}
		equal(t, "settlements", b.broker.settlements(), []string{"return m1", "return m2", "return m3"})
		time.Sleep(time.Hour)
		if err := b.c.Resume(t.Context(), listener.All()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		equal(t, "runs", r.get(), []string{
			"0s m1 1", "10s m1 2", "1h0m15s m1 3", "1h0m25s m1 4", "1h0m25s m2 1", "1h0m25s m3 1",
		})
	})
}

func TestOrdered_HoldKeepsOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		n := 0
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			r.add(fmt.Sprintf("%s %d", m.ID, m.Attempt))
			if n++; n <= 2 {
				return listener.Hold(time.Minute, errors.New("db down"))
			}
			return nil
		}, listener.Ordered("queue", "block")))
		b.send("t", "m1", "m2", "m3", "m4")
		time.Sleep(10 * time.Minute)
		equal(t, "runs", r.get(), []string{"0s m1 1", "1m0s m1 1", "2m0s m1 1", "2m0s m2 1", "2m0s m3 1", "2m0s m4 1"})
	})
}

func TestOrdered_LostLaneNeverRunsTwiceAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		var running atomic.Int32
		b := start(t, bundleOptions{}, on(t, func(ctx context.Context, m *sdk.Message[bill]) error {
			if running.Add(1) > 1 {
				t.Error("two at a time")
			}
			defer running.Add(-1)
			r.add(m.ID)
			time.Sleep(20 * time.Second) // deaf
			if c := context.Cause(ctx); c != nil {
				r.add(c.Error())
			}
			return nil
		}, listener.Ordered("queue", "block")))
		b.send("t", "m1", "m2")
		time.Sleep(5 * time.Second)
		b.broker.lose("t/0")
		time.Sleep(2 * time.Minute)
		equal(t, "runs", r.get(), []string{"0s m1", "20s lane lost to another member of the group", "20s m1", "40s m2"})
		equal(t, "settlements", b.broker.settlements(), []string{"ack m1", "ack m2"})
	})
}

func TestOrdered_SlowReturnIsNotOvertaken(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]time.Duration{"by the next fetch": 0, "by a fetch that was under way": 500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				broker := newFake()
				broker.late = late
				broker.onSettle = func([]driver.Settlement) error { time.Sleep(time.Second); return nil }
				r := newRecord()
				first := true
				b := start(t, bundleOptions{broker: broker}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
					r.add(m.ID)
					if first {
						first = false
						time.Sleep(5 * time.Second)
						return listener.Hold(10*time.Millisecond, nil)
					}
					return nil
				}, listener.Ordered("queue", "block")))
				b.send("t", "m1")
				time.Sleep(time.Second)
				if late == 0 {
					b.send("t", "m2", "m3") // fetched, and given back before m1 is
				}
				time.Sleep(4100 * time.Millisecond)
				if late != 0 {
					b.send("t", "m2", "m3") // comes with the fetch that was told to stop
				}
				time.Sleep(time.Minute)
				var ids []string
				for _, line := range r.get() {
					ids = append(ids, line[strings.LastIndexByte(line, ' ')+1:])
				}
				equal(t, "runs", ids, []string{"m1", "m1", "m2", "m3"})
			})
		})
	}
}

func TestOrdered_FailureDuringAPauseCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecord()
		b := start(t, bundleOptions{}, on(t, func(_ context.Context, m *sdk.Message[bill]) error {
			r.add(fmt.Sprintf("%s %d", m.ID, m.Attempt))
			time.Sleep(5 * time.Second)
			return errors.New("no")
		}, listener.Ordered("queue", "deadletter"), listener.Attempts(2)))
		b.send("t", "m1")
		time.Sleep(time.Second)
		if err := b.c.Pause(t.Context(), listener.All(), listener.HoldLanes); err != nil {
			t.Fatal(err)
		}
		if err := b.c.Resume(t.Context(), listener.All()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		equal(t, "runs", r.get(), []string{"0s m1 1", "5s m1 2"})
		equal(t, "settlements", b.broker.settlements(), []string{"return m1", "dead_letter m1"})
	})
}
