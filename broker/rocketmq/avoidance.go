package rocketmq

import (
	"sync"
	"time"
)

// latencies and avoidFor are the table of RocketMQ's producers since 5.1.4: a
// broker that took so long is left out for the time below it.
var (
	latencies = [...]time.Duration{
		50 * time.Millisecond, 100 * time.Millisecond, 550 * time.Millisecond, 1800 * time.Millisecond,
		3 * time.Second, 5 * time.Second, 15 * time.Second,
	}
	avoidFor = [...]time.Duration{0, 0, 2 * time.Second, 5 * time.Second, 6 * time.Second, 10 * time.Second, 30 * time.Second}
)

// lastFor is how long the broker that failed last is not the next one, also
// without the table: long enough for another attempt of the same send, and no
// longer, or a broker without a success of its own would never get one.
const lastFor = time.Second

// pretended is the latency that a broker that failed is taken to have had.
const pretended = 10 * time.Second

// avoidance remembers which brokers were slow or failed. It is an offer to
// choose others while they are there: everything ends by itself.
type avoidance struct {
	off bool

	mu    sync.Mutex
	until map[string]time.Time // by broker
	last  string               // the broker that failed last; "" after a success
	since time.Time            // when it did
	away  map[string]bool      // brokers that did not answer, and are asked until they do
}

func newAvoidance(off bool) *avoidance {
	return &avoidance{off: off, until: map[string]time.Time{}, away: map[string]bool{}}
}

// took notes how long a broker took to answer.
func (a *avoidance) took(broker string, latency time.Duration) {
	a.note(broker, latency, false)
}

// failed notes that a broker did not do what it was asked.
func (a *avoidance) failed(broker string) { a.note(broker, pretended, true) }

func (a *avoidance) note(broker string, latency time.Duration, failed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case failed:
		a.last, a.since = broker, time.Now()
	case a.last == broker:
		a.last = ""
	}
	d := avoidTime(latency)
	if a.off || d == 0 {
		return
	}
	if at := time.Now().Add(d); at.After(a.until[broker]) {
		a.until[broker] = at // it is only ever moved later
	}
}

// probe notes that a broker is away, and reports whether somebody should begin to
// ask it; that one says probed when it stops.
func (a *avoidance) probe(broker string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.off || a.away[broker] {
		return false
	}
	a.away[broker] = true
	return true
}

func (a *avoidance) probed(broker string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.away, broker)
}

// back notes that a broker answers again: whatever it was left out for is over.
func (a *avoidance) back(broker string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.until, broker)
	if a.last == broker {
		a.last = ""
	}
}

// avoidTime is how long a broker of that latency is left out.
func avoidTime(latency time.Duration) (d time.Duration) {
	for i, l := range latencies {
		if latency >= l {
			d = avoidFor[i]
		}
	}
	return d
}

// choose answers one of the queues, from number n on in turn: the first of those
// whose brokers are the least bad.
func (a *avoidance) choose(queues []Queue, n uint32) Queue {
	at := func(i int) Queue { return queues[(int(n%uint32(len(queues)))+i)%len(queues)] }
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == "" && len(a.until)+len(a.away) == 0 {
		return at(0)
	}
	now := time.Now()
	if now.Sub(a.since) >= lastFor {
		a.last = ""
	}
	best, least := 0, a.fault(at(0).Broker, now)
	for i := 1; i < len(queues) && least > 0; i++ {
		if f := a.fault(at(i).Broker, now); f < least {
			best, least = i, f
		}
	}
	return at(best)
}

// fault is how bad a choice a broker is: one that was slow or failed of late is
// worse than none, the one that failed last is worse than that, and one that is
// away is the worst. mu is held.
func (a *avoidance) fault(broker string, now time.Time) int {
	switch until, avoided := a.until[broker]; {
	case a.away[broker]:
		return 3
	case broker == a.last:
		return 2
	case until.After(now):
		return 1
	case avoided:
		delete(a.until, broker)
	}
	return 0
}
