// Package queue is one queue of a topic in memory: where its messages lie in
// the commit log, in the order of their queue offsets.
package queue

import (
	"sort"
	"sync"
)

// Entry is one message of a queue.
type Entry struct {
	// Pos is the position of its frame in the log.
	Pos int64
	// StoredMs is when it was stored; it never decreases along a queue.
	StoredMs int64
	// Tag is the hash of its tag, 0 without one.
	Tag int32
	// Size is the size of the payload of its frame.
	Size int32
}

// Queue is a list of entries that only grows. It is safe for concurrent use.
type Queue struct {
	mu      sync.RWMutex
	entries []Entry
	grown   chan struct{} // made by the first waiter, closed by Append
}

// Max is the offset that the next entry gets.
func (q *Queue) Max() int64 {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return int64(len(q.entries))
}

// Append adds an entry and wakes who waits on [Queue.Grown].
func (q *Queue) Append(e Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries = append(q.entries, e)
	if q.grown != nil {
		close(q.grown)
		q.grown = nil
	}
}

// At answers the entry at offset.
func (q *Queue) At(offset int64) (Entry, bool) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if offset < 0 || offset >= int64(len(q.entries)) {
		return Entry{}, false
	}
	return q.entries[offset], true
}

// Scan calls f for the entries from offset on until f answers false.
func (q *Queue) Scan(offset int64, f func(offset int64, e Entry) bool) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	for o := max(offset, 0); o < int64(len(q.entries)); o++ {
		if !f(o, q.entries[o]) {
			return
		}
	}
}

// AtTime is the offset of the first entry stored at or after ms; Max if all
// are older.
func (q *Queue) AtTime(ms int64) int64 {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return int64(sort.Search(len(q.entries), func(i int) bool { return q.entries[i].StoredMs >= ms }))
}

// Grown answers a channel that is closed once the queue holds more than after
// entries; it is closed already if it does.
func (q *Queue) Grown(after int64) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if int64(len(q.entries)) > after {
		return closed()
	}
	if q.grown == nil {
		q.grown = make(chan struct{})
	}
	return q.grown
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}
