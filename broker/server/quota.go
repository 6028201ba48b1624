package server

import (
	"slices"
	"sync"
	"sync/atomic"
)

// quota bounds bytes in memory over all connections. Who can wait enters with
// what it will need, in the order of coming; what cannot wait is added whatever
// there is. It is safe for concurrent use, and cheap while nobody waits.
type quota struct {
	most    int64
	used    atomic.Int64
	waiting atomic.Int32 // len(queue)

	mu    sync.Mutex
	queue []*entrant
}

// entrant is who waits to enter.
type entrant struct {
	size int64
	turn chan struct{} // closed when it is in
}

// enter takes size bytes once there is room for them, however many they are when
// nothing else is there. It answers false, and has taken nothing, if done or
// closing is closed first.
func (q *quota) enter(size int64, done, closing <-chan struct{}) bool {
	if q.waiting.Load() == 0 && q.take(size) {
		return true
	}
	e := &entrant{size, make(chan struct{})}
	q.mu.Lock()
	q.queue = append(q.queue, e)
	q.waiting.Store(int32(len(q.queue)))
	q.admit() // what left meanwhile has not seen it
	q.mu.Unlock()
	select {
	case <-e.turn:
		return true
	case <-done:
	case <-closing:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.queue, e); i >= 0 {
		q.queue = slices.Delete(q.queue, i, i+1)
		q.waiting.Store(int32(len(q.queue)))
	} else {
		q.used.Add(-size) // its turn came all the same
	}
	q.admit() // those behind may be smaller
	return false
}

// take takes size bytes if there is room.
func (q *quota) take(size int64) bool {
	for {
		used := q.used.Load()
		if used > 0 && used+size > q.most {
			return false
		}
		if q.used.CompareAndSwap(used, used+size) {
			return true
		}
	}
}

// add takes n bytes, or gives them back if n is negative.
func (q *quota) add(n int64) {
	q.used.Add(n)
	if n >= 0 || q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.admit()
}

// admit lets in who comes next, as far as there is room. mu is held.
func (q *quota) admit() {
	n := 0
	for n < len(q.queue) && q.take(q.queue[n].size) {
		close(q.queue[n].turn)
		n++
	}
	q.queue = slices.Delete(q.queue, 0, n)
	q.waiting.Store(int32(len(q.queue)))
}

// crowded reports whether somebody waits.
func (q *quota) crowded() bool { return q.waiting.Load() > 0 }

// exceeded reports whether there is more than there may be.
func (q *quota) exceeded() bool { return q.used.Load() > q.most }
