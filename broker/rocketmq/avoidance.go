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
	asked map[string]bool      // brokers that are asked whether they answer again
}

func newAvoidance(off bool) *avoidance {
	return &avoidance{off: off, until: map[string]time.Time{}, asked: map[string]bool{}}
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

// probe reports whether somebody should begin to ask a broker; that one says
// probed when it stops.
func (a *avoidance) probe(broker string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.off || a.asked[broker] {
		return false
	}
	a.asked[broker] = true
	return true
}

func (a *avoidance) probed(broker string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.asked, broker)
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

// choose answers one of the queues, from number n on in turn: one whose broker
// is neither avoided nor the one that failed last, else one whose broker did
// not fail last, else the next.
func (a *avoidance) choose(queues []Queue, n uint32) Queue {
	at := func(i int) Queue { return queues[(int(n%uint32(len(queues)))+i)%len(queues)] }
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == "" && len(a.until) == 0 {
		return at(0)
	}
	now := time.Now()
	if now.Sub(a.since) >= lastFor {
		a.last = ""
	}
	spare := -1
	for i := range queues {
		b := at(i).Broker
		if b == a.last {
			continue
		}
		if !a.until[b].After(now) {
			return at(i)
		}
		if spare < 0 {
			spare = i
		}
	}
	return at(max(spare, 0))
}
