package measure

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"
)

// lateAt is when a paced message counts from the time it was due instead of
// the time it was published: a sleep is up to a millisecond late here, and
// that is not the broker's fault; a broker that blocks its publisher is.
const lateAt = 2 * time.Millisecond

// Pipeline is what a flow drives: publishers on one side, and on the other a
// consumer that reports to the [Flow] it was made for.
type Pipeline interface {
	// Publish stores one message with the stamp in its body; see [PutStamp].
	Publish(worker int, stamp int64) error
	// Close ends the consumer and releases everything.
	Close() error
}

// Flow measures messages from the call that publishes them to the handler, and
// counts them when they are settled. Make it with [NewFlow].
type Flow struct {
	// Servers are the processes that do the other half of the work; set it
	// before Run.
	Servers []int

	publishers int
	rate       float64
	warm, span time.Duration
	epoch      time.Time
	on         atomic.Bool
	settled    atomic.Int64
	latency    Histogram

	mu     sync.Mutex
	room   sync.Cond
	window int // how many more may be under way
	over   bool
}

// NewFlow makes a flow of publishers that keep at most window messages under
// way, as fast as they can or, with a rate above 0, together so many messages
// a second. It measures for span after warm.
func NewFlow(publishers, window int, rate float64, warm, span time.Duration) *Flow {
	f := &Flow{publishers: publishers, rate: rate, warm: warm, span: span, epoch: time.Now(), window: window}
	f.room.L = &f.mu
	return f
}

// PutStamp writes a stamp to the head of a body.
func PutStamp(body []byte, stamp int64) { binary.LittleEndian.PutUint64(body, uint64(stamp)) }

// Stamp is the stamp of a body.
func Stamp(body []byte) int64 { return int64(binary.LittleEndian.Uint64(body)) }

// Handled is called when a handler gets a body.
func (f *Flow) Handled(body []byte) {
	if f.on.Load() {
		f.latency.Add(time.Since(f.epoch) - time.Duration(Stamp(body)))
	}
}

// Settled is called when n messages are settled.
func (f *Flow) Settled(n int) {
	if f.on.Load() {
		f.settled.Add(int64(n))
	}
	f.mu.Lock()
	f.window += n
	f.mu.Unlock()
	f.room.Broadcast()
}

// enter waits until another message may be under way; it reports false when
// the flow is over.
func (f *Flow) enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.window <= 0 && !f.over {
		f.room.Wait()
	}
	f.window--
	return !f.over
}

// Run publishes until the time is over and returns what was measured.
func (f *Flow) Run(p Pipeline) (Result, error) {
	errs := make([]error, f.publishers)
	var all sync.WaitGroup
	for w := range f.publishers {
		all.Go(func() { errs[w] = f.publish(w, p) })
	}
	time.Sleep(f.warm)
	begin := Read(f.Servers...)
	f.on.Store(true)
	time.Sleep(f.span)
	f.on.Store(false)
	r := Result{Messages: f.settled.Load(), Spent: begin.Spent(), Latency: &Histogram{}}
	r.Latency.Merge(&f.latency)
	f.mu.Lock()
	f.over = true
	f.mu.Unlock()
	f.room.Broadcast()
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// publish is one publisher.
func (f *Flow) publish(worker int, p Pipeline) error {
	gap := time.Duration(0)
	if f.rate > 0 {
		gap = time.Duration(float64(f.publishers) / f.rate * float64(time.Second))
	}
	due := time.Now().Add(gap * time.Duration(worker) / time.Duration(f.publishers))
	for f.enter() {
		stamp := time.Now()
		if gap > 0 {
			time.Sleep(time.Until(due))
			if stamp = time.Now(); stamp.Sub(due) > lateAt {
				stamp = due
			}
			due = due.Add(gap)
		}
		if err := p.Publish(worker, int64(stamp.Sub(f.epoch))); err != nil {
			return err
		}
	}
	return nil
}
