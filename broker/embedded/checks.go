package embedded

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
)

// checkGrowth bounds the pause between two checks of one half message, in
// multiples of Config.CheckEvery.
const checkGrowth = 16

// checks asks producer groups for the decisions they owe. How often a half
// message was asked for is kept in memory: a restart begins to count anew,
// which means more checks, never fewer.
//
// Lock order: state.mu, checks.mu. mu is never held over a CheckFunc.
type checks struct {
	e    *engine
	wake chan struct{} // buffer 1: look at the timer again

	mu     sync.Mutex
	timed  checkHeap // waits for its time
	groups map[string]*producerGroup
}

// check is one half message that is to be asked for.
type check struct {
	id    halves.ID
	pos   int64
	count int   // undecided answers so far
	dueMs int64 // broker time
}

// producerGroup is the members that answer for a group, and what waits for one.
type producerGroup struct {
	members []*checker
	turn    int
	ready   []*check // due, in order; without members they stay here
}

// checker is one call of Checks.
type checker struct {
	ctx      context.Context //nolint:containedctx // the service's own root; of the call, for the CheckFunc
	parallel int
	f        driver.CheckFunc
	running  int            // guarded by checks.mu
	wg       sync.WaitGroup // running CheckFuncs
}

func newChecks(e *engine) *checks {
	return &checks{e: e, wake: make(chan struct{}, 1), groups: map[string]*producerGroup{}}
}

// add schedules the first check of a new half message.
func (c *checks) add(h halves.Half) {
	c.schedule(&check{id: h.ID, pos: h.Pos, dueMs: h.StoredMs + ceilDuration(c.e.cfg.CheckAfter)})
}

func ceilDuration(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func (c *checks) schedule(k *check) {
	c.mu.Lock()
	heap.Push(&c.timed, k)
	first := c.timed[0] == k
	c.mu.Unlock()
	if first {
		c.notify()
	}
}

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
	now := c.e.nowMs()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.timed) > 0 && c.timed[0].dueMs <= now {
		k := heap.Pop(&c.timed).(*check)
		g := c.group(k.id.Group)
		g.ready = append(g.ready, k)
		c.dispatch(g)
	}
	if len(c.timed) == 0 {
		return 0, false
	}
	return c.e.until(c.timed[0].dueMs), true
}

// group answers a producer group. mu is held.
func (c *checks) group(name string) *producerGroup {
	g := c.groups[name]
	if g == nil {
		g = &producerGroup{}
		c.groups[name] = g
	}
	return g
}

// dispatch gives ready checks to members that have room, in turn. mu is held.
func (c *checks) dispatch(g *producerGroup) {
	for len(g.ready) > 0 {
		m := g.next()
		if m == nil {
			return
		}
		k := g.ready[0]
		g.ready = g.ready[1:]
		m.running++
		m.wg.Go(func() { c.ask(g, m, k) })
	}
	g.ready = nil
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

// ask is one check-back, in a goroutine of its member.
func (c *checks) ask(g *producerGroup, m *checker, k *check) {
	again := c.answer(m, k)
	c.mu.Lock()
	m.running--
	if again {
		// The member left before it answered: the next one is asked at once.
		// The group may have been dropped with its last member.
		g = c.group(k.id.Group)
		g.ready = append([]*check{k}, g.ready...)
	}
	c.dispatch(g)
	c.mu.Unlock()
}

// answer asks and obeys. It reports whether k is still to be asked for now.
func (c *checks) answer(m *checker, k *check) (again bool) {
	c.e.st.mu.RLock()
	h := c.e.st.halves.Get(k.id)
	c.e.st.mu.RUnlock()
	if h.State != halves.Open || h.Pos != k.pos {
		return false
	}
	d, err := c.e.halfDelivery(k.pos)
	if err != nil {
		c.e.cfg.Logger.Error("a half message cannot be read", slog.String("transaction", k.id.Tx), slog.Any("error", err))
		return false // it stays undecided; the next start tries again
	}
	half := driver.Half{TxID: k.id.Tx, Group: k.id.Group, Handle: c.e.handle(k.pos)}
	switch decision := c.call(m, half, d, k.count+1); decision {
	case driver.Commit, driver.Rollback:
		c.decide(k, decision)
	default:
		if m.ctx.Err() != nil {
			return true // an answer in a hurry is no answer
		}
		k.count++
		c.later(k)
	}
	return false
}

// call runs the user's function; a panic is an undecided answer.
func (c *checks) call(m *checker, h driver.Half, d *driver.Delivery, n int) (decision driver.Decision) {
	defer func() {
		if p := recover(); p != nil {
			decision = driver.Undecided
			c.e.cfg.Logger.Error("a check-back has panicked", slog.String("transaction", h.TxID), slog.String("group", h.Group),
				slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	return m.f(m.ctx, h, d, n)
}

// decide stores the decision of a check. The sender may have decided meanwhile;
// then the first decision counts.
func (c *checks) decide(k *check, d driver.Decision) {
	err := c.e.resolve(context.WithoutCancel(c.e.root), nil, k.id, k.pos, d)
	switch {
	case err == nil:
	case err.Code == driver.FailedPrecondition:
		c.e.cfg.Logger.Warn("a check-back contradicts an earlier decision, which stays",
			slog.String("transaction", k.id.Tx), slog.String("group", k.id.Group), slog.String("answer", d.String()))
	case err.Code == driver.Closed, c.e.health() != nil:
	default:
		c.e.cfg.Logger.Warn("the decision of a check-back was not stored, asking again",
			slog.String("transaction", k.id.Tx), slog.Any("error", err))
		c.later(k)
	}
}

// later schedules the next check, or parks what was asked for often enough.
func (c *checks) later(k *check) {
	if k.count < c.e.cfg.CheckMax {
		growth := int64(1) << min(max(k.count-1, 0), 8)
		k.dueMs = c.e.nowMs() + ceilDuration(c.e.cfg.CheckEvery)*min(growth, checkGrowth)
		c.schedule(k)
		return
	}
	j := &parkJob{id: k.id, checks: k.count}
	err := c.e.w.do(context.WithoutCancel(c.e.root), nil, j, 0)
	if err == nil && j.frame != nil {
		err = j.frame.err
	}
	switch {
	case err == nil && j.frame != nil:
		c.e.cfg.Logger.Error("a half message stayed undecided and is parked until somebody decides it",
			slog.String("transaction", k.id.Tx), slog.String("group", k.id.Group), slog.Int("checks", k.count))
	case err != nil && err.Retryable:
		k.dueMs = c.e.nowMs() + ceilDuration(c.e.cfg.CheckEvery)
		c.schedule(k)
	}
}

// Checks answers check-backs until ctx ends; see [driver.Transactor].
func (t transactor) Checks(ctx context.Context, group string, parallel int, f driver.CheckFunc) error {
	op := "answer check-backs of group " + group
	err := driver.ValidGroup(group)
	switch {
	case err != nil:
		return driver.Errorf(driver.InvalidArgument, op, "%w", err)
	case parallel < 1:
		return driver.Errorf(driver.InvalidArgument, op, "parallel is %d, it takes 1 and more", parallel)
	case f == nil:
		return driver.Errorf(driver.InvalidArgument, op, "there is no function to call")
	}
	e, failure := t.c.use(ctx, op)
	if failure != nil {
		if failure.Code == driver.Canceled || failure.Code == driver.Timeout {
			return nil // ctx has ended, which is how Checks ends
		}
		return failure
	}
	if !t.c.begin() {
		return closedError(op)
	}
	defer t.c.calls.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := &checker{ctx: ctx, parallel: parallel, f: f}
	e.checks.join(group, m)
	closed := false
	select {
	case <-ctx.Done():
	case <-t.c.done:
		closed = true
		cancel()
	}
	e.checks.leave(group, m)
	m.wg.Wait()
	if closed {
		return closedError(op)
	}
	return nil
}

func (c *checks) join(group string, m *checker) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.group(group)
	g.members = append(g.members, m)
	c.dispatch(g)
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
	if len(g.members) == 0 && len(g.ready) == 0 {
		delete(c.groups, group)
		return
	}
	c.dispatch(g)
}

// checkHeap orders checks by their time.
type checkHeap []*check

func (h checkHeap) Len() int { return len(h) }
func (h checkHeap) Less(i, j int) bool {
	if h[i].dueMs != h[j].dueMs {
		return h[i].dueMs < h[j].dueMs
	}
	return h[i].pos < h[j].pos
}
func (h checkHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *checkHeap) Push(x any)   { *h = append(*h, x.(*check)) }
func (h *checkHeap) Pop() any {
	last := len(*h) - 1
	k := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return k
}
