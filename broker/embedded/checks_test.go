package embedded

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
)

func TestCheckHeap_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var h checkHeap
		var all []check
		pos := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 50).Draw(t, "n") {
					k := check{dueMs: rapid.Int64Range(0, 30).Draw(t, "due"), pos: pos, count: int(pos)}
					pos++
					all = append(all, k)
					slices.SortFunc(all, func(a, b check) int { return cmp.Or(cmp.Compare(a.dueMs, b.dueMs), cmp.Compare(a.pos, b.pos)) })
					if first := h.push(k); first != (all[0] == k) {
						t.Fatalf("push of %+v says first is %v: %+v", k, first, all)
					}
				}
			},
			"take": func(t *rapid.T) {
				now, limit, n := rapid.Int64Range(-1, 31).Draw(t, "now"), rapid.IntRange(0, 60).Draw(t, "limit"), 0
				for n < min(limit, len(all)) && all[n].dueMs <= now {
					n++
				}
				if got := h.take(now, limit, nil); !slices.Equal(got, all[:n]) {
					t.Fatalf("got %+v, want %+v", got, all[:n])
				}
				all = slices.Clone(all[n:])
			},
			"": func(t *rapid.T) {
				if head, ok := h.head(); ok != (len(all) > 0) || ok && head != all[0] {
					t.Fatalf("head is %+v, %v of %+v", head, ok, all)
				}
			},
		})
	})
}

func TestCheckQueue_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q checkQueue
		var all []check
		next := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 700).Draw(t, "n") {
					next++
					q.push(check{pos: next})
					all = append(all, check{pos: next})
				}
			},
			"pushFront": func(*rapid.T) {
				next++
				q.pushFront(check{pos: next})
				all = append([]check{{pos: next}}, all...)
			},
			"pop": func(t *rapid.T) {
				for range min(len(all), rapid.IntRange(1, 900).Draw(t, "n")) {
					if got := q.pop(); got != all[0] {
						t.Fatalf("got %+v, want %+v", got, all[0])
					}
					all = all[1:]
				}
			},
			"keep": func(t *rapid.T) {
				n := rapid.Int64Range(1, 9).Draw(t, "n")
				q.keep(func(k check) bool { return k.pos%n == 0 })
				all = slices.DeleteFunc(all, func(k check) bool { return k.pos%n != 0 })
			},
			"": func(t *rapid.T) {
				if q.len() != len(all) || !slices.Equal(q.all[q.from:], all) {
					t.Fatalf("got %+v, want %+v", q.all[q.from:], all)
				}
				if cap(q.all) > smallQueue && cap(q.all) > 16*max(64, len(all)) && q.from == 0 {
					t.Fatalf("room for %d, holds %d", cap(q.all), len(all))
				}
			},
		})
	})
}

// checkKit is a broker in memory with half messages of group p.
type checkKit struct {
	*testing.T
	b    *Broker
	conn driver.Conn
}

func newCheckKit(t *testing.T, cfg Config) *checkKit {
	b, err := Open("", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	return &checkKit{T: t, b: b, conn: b.Connect("c")}
}

func (k *checkKit) prepare(n int) []driver.Half {
	k.Helper()
	var hs []driver.Half
	for range n {
		h, err := k.conn.Extensions().Tx.Prepare(k.Context(), "p", &driver.Message{Topic: "t"})
		if err != nil {
			k.Fatal(err)
		}
		hs = append(hs, h)
	}
	return hs
}

// member answers check-backs of group p with f, until leave is called.
func (k *checkKit) member(parallel int, f func(tx string) driver.Decision) (leave func()) {
	ctx, cancel := context.WithCancel(k.Context())
	done := make(chan error, 1)
	go func() {
		done <- k.conn.Extensions().Tx.Checks(ctx, "p", parallel, func(_ context.Context, h driver.Half, _ *driver.Delivery, _ int) driver.Decision {
			return f(h.TxID)
		})
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			k.Errorf("Checks: %v", err)
		}
	}
}

// Members that are idle are asked in turn.
func TestChecks_RoundRobin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newCheckKit(t, Config{Queues: 1})
		asked := ""
		for _, name := range []string{"a", "b", "c"} {
			defer k.member(5, func(string) driver.Decision {
				asked += name
				return driver.Rollback
			})()
			synctest.Wait()
		}
		for range 9 {
			k.prepare(1)
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		if asked != "abcabcabc" {
			t.Errorf("members were asked in the order %s", asked)
		}
	})
}

// A check that hangs holds up its own goroutine only; nobody is asked for more
// than it said at once, and for nothing twice.
func TestChecks_Parallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newCheckKit(t, Config{Queues: 1})
		const n = 3000
		k.prepare(n)
		time.Sleep(time.Minute)
		var mu sync.Mutex
		seen := map[string]int{}
		hang := make(chan struct{})
		for _, parallel := range []int{1, 3, 64} {
			var running, most atomic.Int32
			hung := false
			leave := k.member(parallel, func(tx string) driver.Decision {
				if now := running.Add(1); now > most.Load() {
					most.Store(now)
				}
				defer running.Add(-1)
				mu.Lock()
				seen[tx]++
				first := !hung
				hung = true
				mu.Unlock()
				if first {
					<-hang
				} else {
					time.Sleep(time.Millisecond)
				}
				return driver.Undecided
			})
			defer func() {
				leave()
				if got := int(most.Load()); got > parallel {
					t.Errorf("%d checks at once, want at most %d", got, parallel)
				}
			}()
		}
		time.Sleep(20 * time.Second) // before the second round
		mu.Lock()
		if len(seen) != n {
			t.Errorf("%d of %d were asked for, two of three members have room", len(seen), n)
		}
		for tx, times := range seen {
			if times > 1 {
				t.Errorf("%s was asked for %d times", tx, times)
			}
		}
		mu.Unlock()
		close(hang)
	})
}

// Half messages that are decided late, in a group that nobody answers for, do
// not stay in memory.
func TestChecks_PurgeWithoutMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newCheckKit(t, Config{Queues: 1})
		open := k.prepare(10)
		for range 20 {
			hs := k.prepare(500)
			time.Sleep(time.Minute)
			for _, h := range hs {
				if err := k.conn.Extensions().Tx.Resolve(t.Context(), h, driver.Rollback); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		c := k.b.attempt.engine.checks
		c.mu.Lock()
		n := c.groups["p"].ready.len()
		c.mu.Unlock()
		if n > 2*leastPurge {
			t.Errorf("%d checks are ready, %d half messages are open", n, len(open))
		}
		var asked []string
		defer k.member(1, func(tx string) driver.Decision {
			asked = append(asked, tx)
			return driver.Rollback
		})()
		synctest.Wait()
		var want []string
		for _, h := range open {
			want = append(want, h.TxID)
		}
		if !slices.Equal(asked, want) {
			t.Errorf("asked for %s, want %s", fmt.Sprint(asked), fmt.Sprint(want))
		}
	})
}
