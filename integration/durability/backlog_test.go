package durability_test

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
)

// TestBacklog stores many messages, opens the store again, and lets a consumer
// begin that was not there before: it gets every message once, in the order of
// each queue, and memory does not grow with what waits.
//
// It catches an index that is kept in memory, and a queue that is read from the
// wrong place after an opening.
func TestBacklog(t *testing.T) { // not in parallel: it measures memory
	if replaying() {
		t.Skip("SEED is for other tests")
	}
	n := cases(t, "DURABILITY_BACKLOG", 20_000, 100_000, 1_000_000)
	dir := t.TempDir()
	store(t, dir, n)
	before := liveHeap()
	b, err := embedded.Open(dir, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(context.Background())
	c := b.Connect("consumer")
	m := &member{}
	if _, err := c.Subscribe(t.Context(), driver.SubscribeSpec{Group: "cold", Topic: "bills"}, m); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var mu sync.Mutex
	seen, peak := make([]bool, n), uint64(0)
	done := make(chan struct{})
	total := 0
	var wg sync.WaitGroup
	for _, l := range waitLanes(t, m, 4) {
		wg.Go(func() {
			last := map[string]int{}
			drain(t, l, done, func(d *driver.Delivery) {
				mu.Lock()
				defer mu.Unlock()
				i, err := strconv.Atoi(string(d.Body[:8]))
				if err != nil || i >= n || seen[i] {
					t.Errorf("%.20q at %s/%d came twice, or was never sent", d.Body, l.Name(), d.Offset)
					return
				}
				if before, ok := last[d.OrderingKey]; ok && before > i {
					t.Errorf("%d came after %d in %s", i, before, l.Name())
				}
				seen[i], last[d.OrderingKey] = true, i
				if total++; total == n {
					close(done)
				}
				if total%(n/4) == 1 {
					peak = max(peak, liveHeap())
				}
			})
		})
	}
	wg.Wait()
	took := time.Since(began)
	if i := slices.Index(seen, false); i >= 0 {
		t.Errorf("%d of %d came; %d did not", total, n, i)
	}
	const most = 64 << 20
	grown := int64(peak) - int64(before)
	if grown > most {
		t.Errorf("the heap grew by %d MiB with %d messages waiting, want at most %d MiB", grown>>20, n, most>>20)
	}
	t.Logf("%d messages drained in %v, %.0f a second; heap %d KiB above that of an idle program", n, took.Round(time.Millisecond), float64(n)/took.Seconds(), grown>>10)
}

// store sends n numbered messages from two producers and closes the store.
func store(t *testing.T, dir string, n int) {
	t.Helper()
	b, err := embedded.Open(dir, embedded.Config{Queues: 4})
	if err != nil {
		t.Fatal(err)
	}
	c := b.Connect("producer")
	var wg sync.WaitGroup
	const batch = 500
	for p := range 2 {
		wg.Go(func() {
			padding := make([]byte, 200)
			for from := p * batch; from < n; from += 2 * batch {
				var ms []*driver.Message
				for i := from; i < min(from+batch, n); i++ {
					body := append([]byte(pad(i)), padding...)
					ms = append(ms, &driver.Message{Topic: "bills", Body: body, OrderingKey: strconv.Itoa(p) + "-" + strconv.Itoa(i%16)})
				}
				for _, r := range c.Send(t.Context(), driver.SendRequest{Messages: ms}) {
					if r.Err != nil {
						t.Errorf("send: %v", r.Err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// pad writes i with eight digits.
func pad(i int) string {
	s := strconv.Itoa(i)
	return "00000000"[:8-len(s)] + s
}

// waitLanes waits for the lanes of n queues.
func waitLanes(t *testing.T, m *member, n int) []driver.Lane {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		ls := slices.DeleteFunc(m.lanes(), func(l driver.Lane) bool { return l.Info().Retry })
		if len(ls) == n {
			return ls
		}
	}
	t.Fatalf("%d lanes were not assigned", n)
	return nil
}

// drain fetches and settles until done is closed or nothing comes for long.
func drain(t *testing.T, l driver.Lane, done <-chan struct{}, each func(*driver.Delivery)) {
	for empty := 0; empty < 10; {
		select {
		case <-done:
			return
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		ds, err := l.Fetch(ctx, 256)
		cancel()
		if err != nil {
			t.Errorf("fetch from %s: %v", l.Name(), err)
			return
		}
		if empty++; len(ds) > 0 {
			empty = 0
		}
		ss := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			each(d)
			ss[i] = driver.Settlement{Delivery: d, Outcome: driver.Ack}
		}
		if err := l.Settle(t.Context(), ss); err != nil {
			t.Errorf("settle on %s: %v", l.Name(), err)
			return
		}
	}
}

// liveHeap is what the heap holds after a collection.
func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
