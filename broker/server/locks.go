package server

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// lockExpiry is how long a queue lock lasts after the last time it was asked
// for, as in RocketMQ; clients ask every 20 s.
const lockExpiry = 60 * time.Second

// locksMost is how many queues are locked at a time: about 40 MiB. One too many
// is not given, and its consumer asks again.
const locksMost = 1 << 18

// locks are the queues that orderly consumers have locked, by group. They live
// in memory: after a restart each consumer locks its queues again before it
// goes on.
type locks struct {
	clock *clock
	mu    sync.Mutex
	held  map[string]map[queueKey]lock
	count atomic.Int64 // of groups in held
	total int          // of queues in held
}

type lock struct {
	client string
	until  int64 // by the clock
}

func newLocks(c *clock) *locks { return &locks{clock: c, held: map[string]map[queueKey]lock{}} }

// take locks those of the queues for client that nobody else has, and answers
// them.
func (l *locks) take(group, client string, queues []remoting.MessageQueue, free func(k queueKey) bool) []remoting.MessageQueue {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.held[group]
	now := l.clock.now()
	taken := make([]remoting.MessageQueue, 0, len(queues))
	for _, q := range queues {
		k := queueKey{q.Topic, q.Queue}
		have, ok := g[k]
		if ok && have.client != client && have.until > now || !ok && l.total >= locksMost || !free(k) {
			continue
		}
		if g == nil {
			g = map[queueKey]lock{}
			l.held[strings.Clone(group)] = g // names are parts of requests, which may be large
			l.count.Add(1)
		}
		if !ok {
			k.topic = strings.Clone(k.topic)
			l.total++
		}
		if have.client != client {
			have.client = strings.Clone(client)
		}
		have.until = now + int64(lockExpiry)
		g[k] = have
		taken = append(taken, q)
	}
	return taken
}

// release gives up those of the queues that client has.
func (l *locks) release(group, client string, queues []remoting.MessageQueue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.held[group]
	for _, q := range queues {
		if k := (queueKey{q.Topic, q.Queue}); g[k].client == client {
			l.drop(g, k)
		}
	}
	l.prune(group)
}

// drop forgets a lock of a group; mu is held.
func (l *locks) drop(g map[queueKey]lock, k queueKey) {
	if _, ok := g[k]; ok {
		delete(g, k)
		l.total--
	}
}

// prune forgets a group without locks; mu is held.
func (l *locks) prune(group string) {
	if g, ok := l.held[group]; ok && len(g) == 0 {
		delete(l.held, group)
		l.count.Add(-1)
	}
}

// any reports whether a group has a lock that has not expired: it consumes in
// order.
func (l *locks) any(group string) bool {
	if l.count.Load() == 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.now()
	for _, k := range l.held[group] {
		if k.until > now {
			return true
		}
	}
	return false
}

// expire forgets locks whose time is over.
func (l *locks) expire() {
	if l.count.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.now()
	for group, g := range l.held {
		for k, have := range g {
			if have.until <= now {
				l.drop(g, k)
			}
		}
		l.prune(group)
	}
}
