package measure

import (
	"fmt"
	"sync/atomic"
	"time"
)

// Backlog is waiting messages that a consumer takes, from the first handler to
// the last. Make it with [NewBacklog] before the consumer starts.
type Backlog struct {
	messages          int64
	epoch             time.Time
	begin             Usage
	seen, first, last atomic.Int64
	done              chan struct{}
}

// NewBacklog begins to account for so many messages; servers are the processes
// that give them.
func NewBacklog(messages int, servers ...int) *Backlog {
	return &Backlog{messages: int64(messages), epoch: time.Now(), begin: Read(servers...), done: make(chan struct{})}
}

// Handled is called when a handler gets a message.
func (b *Backlog) Handled() {
	n := b.seen.Add(1)
	if n == 1 {
		b.first.Store(int64(time.Since(b.epoch)))
	}
	if n == b.messages {
		b.last.Store(int64(time.Since(b.epoch)))
		close(b.done)
	}
}

// Await waits until all messages were handled.
func (b *Backlog) Await(limit time.Duration) (Result, error) {
	select {
	case <-b.done:
	case <-time.After(limit):
		return Result{}, fmt.Errorf("only %d of %d messages came in %v", b.seen.Load(), b.messages, limit)
	}
	r := Result{Messages: b.messages, Latency: &Histogram{}, Spent: b.begin.Spent()}
	r.Spent.Elapsed = time.Duration(b.last.Load() - b.first.Load())
	return r, nil
}
