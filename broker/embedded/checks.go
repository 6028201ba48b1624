package embedded

import (
	"context"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
)

// checkBatch is how many due checks are made ready at a time, so that the
// writer, which schedules new ones, does not wait long.
const checkBatch = 1024

// checks asks producer groups for the decisions they owe. How often a half
// message was asked for is kept in memory: a restart begins to count anew,
// which means more checks, never fewer.
//
// Lock order: state.mu, checks.mu. mu is never held over a CheckFunc.
type checks struct {
	e    *engine
	wake chan struct{} // buffer 1: look at the timer again
	due  []check       // scratch of run
	// asking is about goroutines of clients elsewhere, which nobody closes.
	asking sync.WaitGroup

	mu     sync.Mutex
	timed  checkHeap // waits for its time
	groups map[string]*producerGroup
	over   bool // nobody is asked any more
}

// check is one half message that is to be asked for.
type check struct {
	dueMs int64 // broker time
	pos   int64
	count int // undecided answers so far
}

// producerGroup is the members that answer for a group, and what waits for one.
// As long as checks wait, no member has room.
type producerGroup struct {
	name    string
	members []*checker
	turn    int
	ready   checkQueue // due, in order; without members they stay here
	// purgeAt is the length at which ready, without members, is searched for
	// what was decided meanwhile.
	purgeAt int
}

// leastPurge is the least length at which the ready checks of a group without
// members are searched.
const leastPurge = 1024

func newChecks(e *engine) *checks {
	return &checks{e: e, wake: make(chan struct{}, 1), groups: map[string]*producerGroup{}}
}

// add schedules the first check of a new half message.
func (c *checks) add(h halves.Half) {
	k := check{pos: h.Pos, dueMs: h.StoredMs + ceilDuration(c.e.cfg.CheckAfter)}
	c.mu.Lock()
	first := c.timed.push(k)
	c.mu.Unlock()
	if first {
		c.notify()
	}
}

func ceilDuration(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func (c *checks) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine of the service: it makes due checks ready.
func (c *checks) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var at <-chan time.Time
		if wait, more := c.advance(); more {
			timer.Reset(wait)
			at = timer.C
		}
		select {
		case <-at:
		case <-c.wake:
		case <-c.e.root.Done():
			return
		}
	}
}

// advance makes what is due ready and tells how long the next one waits.
func (c *checks) advance() (wait time.Duration, more bool) {
	for {
		now := c.e.nowMs()
		c.mu.Lock()
		c.due = c.timed.take(now, checkBatch, c.due[:0])
		next, more := c.timed.head()
		c.mu.Unlock()
		if len(c.due) > 0 {
			c.makeReady(c.due)
		}
		if len(c.due) < checkBatch {
			return c.e.until(next.dueMs), more
		}
	}
}

// makeReady gives due checks to their groups. Those of half messages that were
// decided meanwhile, which is the rule, are dropped.
func (c *checks) makeReady(due []check) {
	c.e.st.mu.RLock()
	defer c.e.st.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	var g *producerGroup
	for _, k := range due {
		h, ok := c.e.st.halves.At(k.pos)
		if !ok || h.State != halves.Open {
			continue
		}
		if g == nil || g.name != h.Group {
			c.dispatch(g, nil)
			g = c.group(h.Group)
		}
		g.ready.push(k)
		c.purge(g)
	}
	c.dispatch(g, nil)
}

// purge drops decided half messages of a group that nobody answers for, before
// they become many. state.mu and mu are held.
func (c *checks) purge(g *producerGroup) {
	if len(g.members) > 0 || g.ready.len() < max(g.purgeAt, leastPurge) {
		return
	}
	g.ready.keep(func(k check) bool {
		_, open := c.e.st.halves.At(k.pos)
		return open
	})
	g.purgeAt = 2 * g.ready.len()
}

// group answers a producer group. mu is held.
func (c *checks) group(name string) *producerGroup {
	g := c.groups[name]
	if g == nil {
		g = &producerGroup{name: name}
		c.groups[name] = g
	}
	return g
}

// dispatch gives ready checks to members that have room, in turn. Each gets a
// goroutine, but for the first that falls to mine, which is answered. g may be
// nil, for no checks, and mine, for nobody. mu is held.
func (c *checks) dispatch(g *producerGroup, mine *checker) (next check, ok bool) {
	for g != nil && g.ready.len() > 0 && !c.over {
		m := g.next()
		if m == nil {
			break
		}
		k := g.ready.pop()
		m.running++
		if m == mine && !ok {
			next, ok = k, true
			continue
		}
		if m.abroad != nil {
			c.asking.Add(1)
		}
		m.wg.Go(func() {
			c.work(g, m, k)
			if m.abroad != nil {
				c.asking.Done()
			}
		})
	}
	return next, ok
}

// end waits for questions to clients elsewhere. The engine's root has ended, so
// no more are asked; questions to clients in this process end with those.
func (c *checks) end() {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.asking.Wait()
}

// next is the next member in turn that has room.
func (g *producerGroup) next() *checker {
	for i := range g.members {
		m := g.members[(g.turn+i)%len(g.members)]
		if m.running < m.parallel && m.ctx.Err() == nil {
			g.turn = (g.turn + i + 1) % len(g.members)
			return m
		}
	}
	return nil
}

// done notes what became of the check k that m was asked for, and answers the
// next one for it.
func (c *checks) done(g *producerGroup, m *checker, k check, f fate) (next check, ok bool) {
	first := false
	c.mu.Lock()
	m.running--
	switch f {
	case askLater:
		first = c.timed.push(k)
	case askAgain:
		// The group may have been dropped with its last member.
		g = c.group(g.name)
		g.ready.pushFront(k)
	case asked:
	}
	next, ok = c.dispatch(g, m)
	c.mu.Unlock()
	if first {
		c.notify()
	}
	return next, ok
}

func (c *checks) join(group string, m *checker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.group(group)
	g.members = append(g.members, m)
	c.dispatch(g, nil)
}

// leave takes m out; it gets no more checks.
func (c *checks) leave(group string, m *checker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.groups[group]
	for i, o := range g.members {
		if o == m {
			g.members = append(g.members[:i:i], g.members[i+1:]...)
			break
		}
	}
	if len(g.members) == 0 && g.ready.len() == 0 {
		delete(c.groups, group)
		return
	}
	c.dispatch(g, nil)
}

// checker is one call of Checks.
type checker struct {
	ctx      context.Context //nolint:containedctx // the service's own root; of the call, for the CheckFunc
	parallel int
	f        driver.CheckFunc
	abroad   func(Check) bool // instead of f: asks a client elsewhere
	running  int              // guarded by checks.mu
	wg       sync.WaitGroup   // its goroutines
}
