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

// pretended is the latency that a broker that failed is taken to have had.
const pretended = 10 * time.Second

// avoidance remembers which brokers were slow or failed. It is an offer to
// choose others while they are there: everything ends by itself.
type avoidance struct {
	off bool

	mu    sync.Mutex
	until map[string]time.Time // by broker
	last  string               // the broker that failed last; "" after a success
}

func newAvoidance(off bool) *avoidance { return &avoidance{off: off, until: map[string]time.Time{}} }

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
		a.last = broker
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
