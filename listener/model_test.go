package listener_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/listener"
	"github.com/sluicemq/sluice/sdk"
)

// TestContainer_Model walks a running listener through random operations and
// compares its state, its membership and what becomes of every message with a
// model of a few lines.
func TestContainer_Model(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"plain", "queue", "key"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(outer *testing.T) {
				rapid.Check(inBubble{outer}, func(t *rapid.T) { walk(outer, t, kind) })
			})
		})
	}
}

// inBubble hides Deadline, which a bubble forbids.
type inBubble struct{ rapid.TB }

func walk(outer *testing.T, t *rapid.T, kind string) {
	broker := newFake()
	broker.queues = 2
	w := &walker{running: map[string]bool{}, last: map[string]int{}, done: map[string]bool{}, kind: kind}
	var opts []listener.Option
	if kind != "plain" {
		opts = append(opts, listener.Ordered(kind, "block"))
	}
	b := build(outer, bundleOptions{broker: broker}, on(outer, w.handle, append(opts, listener.Backoff("1s,3s"), listener.Concurrency(3))...))
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	broker.onSettle = func([]driver.Settlement) error { time.Sleep(50 * time.Millisecond); return nil }
	broker.late = 100 * time.Millisecond
	check(b.c.Start(ctx))
	defer func() { // also after a failure, so that the bubble can end
		if err := errors.Join(b.c.Stop(ctx), b.client.Close(ctx)); err != nil {
			outer.Error(err)
		}
		synctest.Wait()
	}()
	want, sent := "running", 0
	t.Repeat(map[string]func(*rapid.T){
		"send": func(t *rapid.T) {
			for range rapid.IntRange(1, 5).Draw(t, "n") {
				key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
				q := int(key[0]) % 2
				sent++
				broker.put("t", q, driver.Message{ID: fmt.Sprintf("%s-%d-%d", key, q, sent), OrderingKey: key, Body: []byte("{}")})
			}
		},
		"time": func(t *rapid.T) {
			time.Sleep(time.Duration(rapid.IntRange(1, 5000).Draw(t, "ms")) * time.Millisecond)
		},
		"hold": func(*rapid.T) {
			check(b.c.Pause(ctx, listener.All(), listener.HoldLanes))
			if want == "running" {
				want = "paused(hold)"
			}
		},
		"release": func(*rapid.T) {
			check(b.c.Pause(ctx, listener.All(), listener.ReleaseLanes))
			want = "paused(release)"
		},
		"resume": func(*rapid.T) {
			check(b.c.Resume(ctx, listener.All()))
			want = "running"
		},
		"lose": func(*rapid.T) {
			if want != "paused(release)" {
				broker.lose("t/0")
			}
		},
		"resize": func(t *rapid.T) {
			check(b.c.SetConcurrency("l", rapid.IntRange(1, 8).Draw(t, "n")))
		},
		"": func(t *rapid.T) {
			s, _ := b.c.Status("l")
			got := s.State.String()
			if s.Mode != listener.NotPaused {
				got += "(" + s.Mode.String() + ")"
			}
			if got != want || (broker.members() == 0) != (want == "paused(release)") {
				t.Fatalf("%s with %d members, want %s", got, broker.members(), want)
			}
			if want != "running" && (s.InFlight != 0 || s.Held != 0) {
				t.Fatalf("paused with %d in flight and %d held", s.InFlight, s.Held)
			}
			w.check(t)
		},
	})
	check(b.c.Resume(ctx, listener.All()))
	time.Sleep(10 * time.Minute)
	w.check(t)
	if len(w.done) != sent || broker.backlog() != 0 {
		t.Fatalf("sent %d, done %d, backlog %d", sent, len(w.done), broker.backlog())
	}
}

// walker is a handler that fails, takes its time, and watches the order.
type walker struct {
	kind string

	mu       sync.Mutex
	n        int
	running  map[string]bool
	last     map[string]int
	done     map[string]bool
	problems []string
}

func (w *walker) handle(ctx context.Context, m *sdk.Message[bill]) error {
	var key, queue string
	var number int
	parts := strings.Split(m.ID, "-")
	key, queue = parts[0], parts[1]
	_, _ = fmt.Sscan(parts[2], &number)
	unit := m.ID
	switch w.kind {
	case "queue":
		unit = queue
	case "key":
		unit = key
	}
	w.mu.Lock()
	// Without order the new owner of a lost lane does not wait for the old one.
	if w.running[unit] && w.kind != "plain" {
		w.problems = append(w.problems, unit+" runs twice at a time")
	}
	w.running[unit] = true
	w.n++
	n := w.n
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.running, unit)
		w.mu.Unlock()
	}()
	select {
	case <-time.After(time.Duration(n%4) * 300 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	switch n % 7 {
	case 3:
		return errors.New("failed")
	case 5:
		return listener.Defer(time.Second)
	case 6:
		return listener.Hold(2*time.Second, nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kind != "plain" && number < w.last[unit] && !w.done[m.ID] {
		w.problems = append(w.problems, fmt.Sprintf("%s after number %d", m.ID, w.last[unit]))
	}
	w.last[unit] = max(number, w.last[unit])
	w.done[m.ID] = true
	return nil
}

func (w *walker) check(t *rapid.T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.problems) > 0 {
		t.Fatal(w.problems)
	}
}
