package server

import (
	"sync"
	"sync/atomic"
)

// resets are the positions that an operator has moved under clients elsewhere
// that do not know it yet. The position in the store has moved already; until
// the owner of the queue hears of it, with the answer to its next pull, what it
// commits is out of date.
type resets struct {
	count atomic.Int64 // len(pending), so that nobody takes the lock for nothing
	clock *clock
	// moved is told of each new one, to wake who waits for messages of the
	// queue. It is set before the first connection.
	moved func(group, topic string, queue int)

	mu      sync.Mutex
	pending map[laneKey]reset
}

// laneKey is a queue as a group sees it.
type laneKey struct {
	group, topic string
	queue        int
}

type reset struct {
	offset int64
	seen   int64 // when the group was online, by the server's clock
}

func newResets(c *clock) *resets {
	return &resets{clock: c, pending: map[laneKey]reset{}, moved: func(string, string, int) {}}
}

// pendingReset is where a group has to go on with a queue, if it does not know
// yet. Until it does, offset queries answer this and commits are ignored.
func (s *Server) pendingReset(group, topic string, queue int) (offset int64, ok bool) {
	r := s.resets
	if r.count.Load() == 0 {
		return 0, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pending[laneKey{group, topic, queue}]
	return p.offset, ok
}

// takeReset is pendingReset for the answer to a pull, which tells the group:
// nothing is pending behind it.
func (s *Server) takeReset(group, topic string, queue int) (offset int64, ok bool) {
	r := s.resets
	if r.count.Load() == 0 {
		return 0, false
	}
	k := laneKey{group, topic, queue}
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pending[k]
	if ok {
		delete(r.pending, k)
		r.count.Add(-1)
	}
	return p.offset, ok
}

// clearReset forgets what is pending.
func (s *Server) clearReset(group, topic string, queue int) { s.takeReset(group, topic, queue) }

// set makes a reset pending; a later one replaces an earlier one.
func (r *resets) set(group, topic string, queue int, offset int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending[laneKey{group, topic, queue}] = reset{offset, r.clock.now()}
	r.count.Store(int64(len(r.pending)))
}

// forget drops what is pending on lanes that the condition holds for.
func (r *resets) forget(of func(laneKey) bool) {
	if r.count.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.pending {
		if of(k) {
			delete(r.pending, k)
		}
	}
	r.count.Store(int64(len(r.pending)))
}

// expireResets forgets what is pending for groups whose clients have been gone
// for so long that they hold no queues any more: a client that comes anew asks
// for the position, and it is the right one.
func (s *Server) expireResets() {
	r := s.resets
	if r.count.Load() == 0 {
		return
	}
	online := map[string]bool{}
	for _, name := range s.clients.groupNames() {
		online[name] = true
	}
	now := s.clock.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, p := range r.pending {
		switch {
		case online[k.group]:
			p.seen = now
			r.pending[k] = p
		case now-p.seen > 2*int64(s.cfg.Limits.ClientExpiry):
			delete(r.pending, k)
		}
	}
	r.count.Store(int64(len(r.pending)))
}
