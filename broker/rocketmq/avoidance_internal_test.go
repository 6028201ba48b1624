package rocketmq

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func brokersOf(queues ...string) []Queue {
	var out []Queue
	for _, b := range queues {
		out = append(out, Queue{"t", b, 0})
	}
	return out
}

// The table of RocketMQ's producers since 5.1.4, with its edges, in exact times.
func TestAvoidance_Table(t *testing.T) {
	t.Parallel()
	for latency, want := range map[time.Duration]time.Duration{
		0: 0, 49 * time.Millisecond: 0, 50 * time.Millisecond: 0, 549 * time.Millisecond: 0,
		550 * time.Millisecond: 2 * time.Second, 1799 * time.Millisecond: 2 * time.Second,
		1800 * time.Millisecond: 5 * time.Second, 3 * time.Second: 6 * time.Second, 5 * time.Second: 10 * time.Second,
		15 * time.Second: 30 * time.Second, time.Hour: 30 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			a := newAvoidance(false)
			a.took("a", latency)
			queues := brokersOf("a", "b")
			avoided := func() bool { return a.choose(queues, 0).Broker == "b" }
			if want == 0 {
				if avoided() {
					t.Errorf("a latency of %v: the broker is avoided", latency)
				}
				return
			}
			time.Sleep(want - time.Nanosecond)
			if !avoided() {
				t.Errorf("a latency of %v: the broker is not avoided %v later", latency, want-time.Nanosecond)
			}
			time.Sleep(time.Nanosecond)
			if avoided() {
				t.Errorf("a latency of %v: the broker is still avoided after %v", latency, want)
			}
		})
	}
}

// A broker that failed is skipped at once and for ten seconds; a success of its
// own ends the first, nothing makes the second shorter.
func TestAvoidance_Failure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAvoidance(false)
		queues := brokersOf("a", "a", "b")
		a.failed("a")
		for n := range uint32(6) {
			if got := a.choose(queues, n).Broker; got != "b" {
				t.Errorf("turn %d went to the broker that failed", n)
			}
		}
		a.took("a", time.Millisecond)
		if got := a.choose(queues, 0).Broker; got != "b" {
			t.Error("one quick answer made the broker good again")
		}
		time.Sleep(10 * time.Second)
		if got := a.choose(queues, 0).Broker; got != "a" {
			t.Error("the broker is avoided for more than ten seconds")
		}
		a.failed("a")
		time.Sleep(10 * time.Second)
		if got := a.choose(queues, 0).Broker; got != "a" {
			t.Error("a broker that failed once and had no success since never comes again")
		}
	})
}

// With nothing else to choose the broker is used all the same, and with the
// avoidance off only the one that failed last is skipped.
func TestAvoidance_NothingElse(t *testing.T) {
	t.Parallel()
	a := newAvoidance(false)
	a.failed("a")
	a.failed("b")
	if got := a.choose(brokersOf("a"), 7).Broker; got != "a" {
		t.Errorf("got %s, the only broker is a", got)
	}
	if got := a.choose(brokersOf("a", "b"), 0).Broker; got != "a" {
		t.Errorf("both are avoided and b failed last, got %s", got)
	}
	off := newAvoidance(true)
	off.took("a", time.Hour)
	if got := off.choose(brokersOf("a", "b"), 0).Broker; got != "a" {
		t.Errorf("the avoidance is off, got %s", got)
	}
	off.failed("a")
	if got := off.choose(brokersOf("a", "b"), 0).Broker; got != "b" {
		t.Errorf("the broker that failed last comes again at once: %s", got)
	}
}

// A broker that is away comes behind those that are slow or have refused, for as
// long as it is away.
func TestAvoidance_Away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAvoidance(false)
		queues := brokersOf("a", "b")
		goesTo := func(when string, want ...string) {
			t.Helper()
			for n, b := range want {
				if got := a.choose(queues, uint32(n)).Broker; got != b {
					t.Errorf("%s turn %d goes to %s", when, n, got)
				}
			}
		}
		a.failed("a")
		if !a.probe("a") || a.probe("a") {
			t.Error("a broker is asked by nobody, or twice")
		}
		time.Sleep(lastFor)
		a.took("b", 600*time.Millisecond)
		goesTo("with b slow", "b", "b")
		a.failed("b")
		goesTo("with b just having refused", "b", "b")
		time.Sleep(time.Hour)
		goesTo("an hour later", "b", "b")
		if !a.probe("b") {
			t.Error("b is asked by nobody")
		}
		goesTo("with both away", "a", "b")
		a.back("a")
		a.probed("a")
		goesTo("with a back", "a", "a")
	})
}

// Turns go around all queues.
func TestAvoidance_RoundRobin(t *testing.T) {
	t.Parallel()
	a := newAvoidance(false)
	queues := brokersOf("a", "b", "c")
	var got []string
	for n := range uint32(4) {
		got = append(got, a.choose(queues, n).Broker)
	}
	if want := []string{"a", "b", "c", "a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// The counter is as large as it may become, and wraps.
	_ = a.choose(queues, ^uint32(0))
}

// Java's String.hashCode, its remainder without the sign.
func TestKeyQueue(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int{"": 0, "a": 97 % 4, "order-1": keyQueue("order-1", 4), "polygenelubricants": 0} {
		if got := keyQueue(key, 4); got != want || got < 0 || got > 3 {
			t.Errorf("keyQueue(%q, 4) = %d, want %d", key, got, want)
		}
	}
	// Its hash code is the smallest int, whose absolute value is none in Java.
	if got := keyQueue("polygenelubricants", 7); got != 2 {
		t.Errorf("keyQueue of the smallest hash code among 7 = %d, want 2", got)
	}
}
