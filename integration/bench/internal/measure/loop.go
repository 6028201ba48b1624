package measure

import (
	"sync"
	"time"
)

// Publisher is what a closed loop drives: a way to store messages.
type Publisher interface {
	// Publish stores some messages and tells how many. Each worker, numbered
	// from 0, calls it from a goroutine of its own.
	Publish(worker int) (messages int, err error)
	// Close releases everything. It is called once, after the loop.
	Close() error
}

// Loop is a closed loop: workers that each begin the next call when the one
// before has returned.
type Loop struct {
	Workers int
	// Warm runs before For, which alone is measured.
	Warm, For time.Duration
	// Servers are the processes that do the other half of the work.
	Servers []int
}

// Result is what a loop or a flow has measured.
type Result struct {
	Messages int64
	Latency  *Histogram // of calls of a loop, of messages of a flow
	Spent    Spent
}

// Rate is messages a second.
func (r Result) Rate() float64 { return float64(r.Messages) / r.Spent.Elapsed.Seconds() }

// Figures are the rate, latencies, and costs of one message: of this process,
// and of the servers if there are any.
func (r Result) Figures() Figures {
	n := float64(max(r.Messages, 1))
	f := Figures{
		"rate": r.Rate(), "p50_us": Micros(r.Latency.Quantile(.5)), "p99_us": Micros(r.Latency.Quantile(.99)),
		"cpu_us": Micros(r.Spent.CPU) / n, "allocs": float64(r.Spent.Mallocs) / n, "others": r.Spent.Others,
	}
	if len(r.Spent.Served) > 0 {
		f["server_us"] = Micros(r.Spent.Serving()) / n
	}
	return f
}

// Run drives call until the time is over; the first error ends the loop.
func (l Loop) Run(call func(worker int) (int, error)) (Result, error) {
	if _, _, err := l.phase(l.Warm, call); err != nil {
		return Result{}, err
	}
	begin := Read(l.Servers...)
	n, latency, err := l.phase(l.For, call)
	return Result{Messages: n, Latency: latency, Spent: begin.Spent()}, err
}

// phase is one run of all workers.
func (l Loop) phase(d time.Duration, call func(worker int) (int, error)) (int64, *Histogram, error) {
	type account struct {
		messages int64
		latency  Histogram
		err      error
	}
	accounts := make([]account, l.Workers)
	end := time.Now().Add(d)
	var all sync.WaitGroup
	for w := range accounts {
		all.Go(func() {
			a := &accounts[w]
			for now := time.Now(); now.Before(end); {
				n, err := call(w)
				if err != nil {
					a.err = err
					return
				}
				then := time.Now()
				a.latency.Add(then.Sub(now))
				a.messages += int64(n)
				now = then
			}
		})
	}
	all.Wait()
	sum, latency := int64(0), &Histogram{}
	for w := range accounts {
		if accounts[w].err != nil {
			return 0, latency, accounts[w].err
		}
		sum += accounts[w].messages
		latency.Merge(&accounts[w].latency)
	}
	return sum, latency, nil
}

// Share runs call for every number below n, spread over workers; it returns
// how long that took, and the first error.
func Share(n, workers int, call func(worker, i int) error) (time.Duration, error) {
	begin := time.Now()
	errs := make([]error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = call(w, i)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}
