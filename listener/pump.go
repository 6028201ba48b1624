package listener

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/internal/lease"
	"github.com/sluicemq/sluice/sdk"
)

// maxCarried bounds what is remembered of deliveries that were given back with
// failed attempts; beyond it they start anew.
const maxCarried = 1024

// pump is one subscription, of one group to one topic, with the listeners that
// share it. It outlives pauses; memberships come and go.
//
// Everything that can happen takes p.mu, changes the books, and leaves; nothing
// waits or calls out under it. Work is started by dispatch, from wherever room
// or something to do has come up.
type pump struct {
	c       *Container
	client  *sdk.Client
	renewer *lease.Renewer
	log     *slog.Logger
	units   []*unit // by name
	names   []string
	spec    driver.SubscribeSpec
	byTag   map[string]*unit // nil value in all: the only unit takes everything
	all     *unit

	ordered, byKey, inPlace, startPaused bool

	root    context.Context //nolint:containedctx // the service's own root; lives until the pump has stopped
	end     context.CancelCauseFunc
	life    context.Context //nolint:containedctx // the service's own root; lives until the drain begins
	endLife context.CancelCauseFunc
	op      chan struct{} // one slot: one control operation at a time
	wg      sync.WaitGroup

	mu       sync.Mutex
	place    place
	verified bool
	want     bool // run as soon as verified
	reason   string
	since    time.Time
	gates    []*gate
	conn     driver.Conn
	member   *membership
	sub      driver.Subscription
	leftover bool // what is still running is not waited for any more
	lanes    map[string]*lane
	orphans  map[string]int // running handlers of lanes that are gone, by name
	held     [classes]int
	bytes    [classes]int64
	seq      uint64
	carried  map[string]int
	blocked  map[*item]struct{}

	holdUntil time.Time
	holdCause error
	holdTimer *time.Timer

	changed chan struct{} // closed and replaced on a change that somebody awaits
	waiters int
	later   []func() // log lines to be written once p.mu is free
}

// membership is one stay in the group; events of an earlier one are nothing to
// the present one.
type membership struct{ p *pump }

// Assigned implements [driver.LaneEvents].
func (m *membership) Assigned(dl driver.Lane) {
	p := m.p
	p.mu.Lock()
	defer p.unlock()
	if p.member != m || p.place == stopped {
		return
	}
	if old := p.lanes[dl.Name()]; old != nil {
		p.abandonLane(old)
	}
	l := p.newLane(dl)
	p.lanes[l.name] = l
	p.wg.Go(func() { p.fetchLoop(l) })
	p.signal()
}

// Revoked implements [driver.LaneEvents].
func (m *membership) Revoked(ctx context.Context, dl driver.Lane) {
	p := m.p
	p.mu.Lock()
	l := p.lanes[dl.Name()]
	if p.member != m || l == nil {
		p.mu.Unlock()
		return
	}
	p.leave(l)
	p.unlock()
	// The lane is given away after the return: everything must be settled before.
	_ = p.await(ctx, func() bool { return l.over || l.quiet() || p.leftover && l.onlyRunning() })
	p.mu.Lock()
	p.abandonLane(l)
	p.unlock()
}

// Lost implements [driver.LaneEvents].
func (m *membership) Lost(dl driver.Lane) {
	p := m.p
	p.mu.Lock()
	l := p.lanes[dl.Name()]
	mine := p.member == m
	p.mu.Unlock()
	if l != nil && mine {
		p.lost(l)
	}
}

// quiet reports whether nothing of the lane is under way; p.mu is held.
func (l *lane) quiet() bool {
	return len(l.items) == 0 && l.stopFetch == nil && !l.flushing
}

// onlyRunning reports whether only handlers are left; p.mu is held.
func (l *lane) onlyRunning() bool {
	return len(l.items) == l.running && l.stopFetch == nil && !l.flushing
}

// depart ends the waits of a lane that is given away; p.mu is held.
func (l *lane) depart() {
	if !l.leaving {
		l.leaving = true
		close(l.gone)
	}
}

// leave stops fetching from a lane and gives back what has not begun; p.mu is
// held.
func (p *pump) leave(l *lane) {
	l.depart()
	p.giveBack(l)
}

// lost takes a lane out of the books: it is somebody else's already.
func (p *pump) lost(l *lane) {
	p.mu.Lock()
	if !l.over {
		p.say(l.log, slog.LevelWarn, "lane lost; its deliveries come again at its new owner", slog.Int("deliveries", len(l.items)))
	}
	p.abandonLane(l)
	p.unlock()
}

// abandonLane ends a lane; handlers that are still running are cancelled and
// settle nothing any more. p.mu is held.
func (p *pump) abandonLane(l *lane) {
	if l.over {
		return
	}
	l.over = true
	l.depart()
	p.disown(l)
	l.endIO()
	p.later = append(p.later, l.kept.Stop) // it waits for a renewal, which takes p.mu
	if p.lanes[l.name] == l {
		delete(p.lanes, l.name)
	}
	p.wakeLanes()
	p.signal()
}

// disown drops every delivery of a lane without settling it; p.mu is held.
func (p *pump) disown(l *lane) {
	for it := range l.items {
		if it.timer != nil {
			it.timer.Stop()
		}
		delete(p.blocked, it)
		it.lost = true
		if it.state == itemRunning {
			p.orphans[l.name]++
		}
		p.forget(it)
	}
	for _, u := range p.units {
		u.ready[l.class].drop(l)
	}
	clear(l.keys)
	l.out, l.outItems, l.returning = nil, nil, 0
	l.interrupt(ErrLaneLost)
}

// expired handles leases that could not be renewed: the broker may hand the
// deliveries to somebody else, but the lane is still ours.
func (p *pump) expired(l *lane, cause error) {
	p.mu.Lock()
	defer p.unlock()
	if l.over || errors.Is(cause, lease.ErrClosed) {
		return
	}
	p.say(l.log, slog.LevelError, "deliveries could not be kept; their handlers are cancelled and they come again",
		slog.Int("deliveries", len(l.items)), slog.Any("error", cause))
	p.disown(l)
	l.work, l.interrupt = context.WithCancelCause(p.root)
	l.kept = p.keep(l)
	p.wakeLanes()
	p.signal()
}

// open reports whether fetching and starting handlers is allowed; p.mu is held.
func (p *pump) open() bool { return p.place == running && p.holdUntil.IsZero() }

// route finds the listener for a tag.
func (p *pump) route(tag string) *unit {
	if p.all != nil {
		return p.all
	}
	return p.byTag[tag]
}

// dispatch starts what can run; p.mu is held.
func (p *pump) dispatch() {
	if !p.open() {
		return
	}
	for _, u := range p.units {
		for it := u.take(); it != nil; it = u.take() {
			p.wg.Go(func() { p.work(it) })
		}
	}
}

// giveBack stops the fetch under way and returns what has not begun, in the
// order of its arrival; p.mu is held.
func (p *pump) giveBack(l *lane) {
	if l.stopFetch != nil {
		l.stopFetch() // stays set: arrived clears it
	}
	var items []*item
	for it := range l.items {
		if it.state == itemQueued || it.state == itemWaiting {
			items = append(items, it)
		}
	}
	slices.SortFunc(items, func(a, b *item) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	for _, u := range p.units {
		u.ready[l.class].drop(l)
	}
	for name, k := range l.keys {
		k.waiting = nil
		if k.head.state != itemRunning {
			delete(l.keys, name)
		}
	}
	for _, it := range items {
		if it.timer != nil {
			it.timer.Stop()
		}
		p.carry(it)
		p.settleItem(it, driver.Settlement{Outcome: driver.Return})
	}
}

// carry remembers attempts that failed in place, of a delivery that is given
// back and will probably come again; p.mu is held.
func (p *pump) carry(it *item) {
	delete(p.blocked, it)
	if it.extra > 0 && it.d.ID != "" && len(p.carried) < maxCarried {
		p.carried[it.d.ID] = it.extra
	}
}

// halt stops fetching and gives back what has not begun; p.mu is held.
func (p *pump) halt() {
	for _, l := range p.lanes {
		p.giveBack(l)
	}
	p.signal()
}

// quiet reports whether nothing is running, held, fetched or settled; p.mu is
// held.
func (p *pump) quiet() bool {
	for _, l := range p.lanes {
		if !l.quiet() {
			return false
		}
	}
	return len(p.orphans) == 0
}

// await waits until cond, which runs under p.mu, is true.
func (p *pump) await(ctx context.Context, cond func() bool) error {
	p.mu.Lock()
	p.waiters++
	for !cond() {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			p.mu.Lock()
			p.waiters--
			ok := cond()
			p.mu.Unlock()
			if ok {
				return nil
			}
			return context.Cause(ctx)
		}
		p.mu.Lock()
	}
	p.waiters--
	p.mu.Unlock()
	return nil
}

// signal lets those who await something look again; p.mu is held.
func (p *pump) signal() {
	if p.waiters > 0 {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// say logs once p.mu is free, because a log handler is foreign code; p.mu is held.
func (p *pump) say(log *slog.Logger, level slog.Level, msg string, attrs ...slog.Attr) {
	p.later = append(p.later, func() { log.LogAttrs(p.root, level, msg, attrs...) }) //nolint:sloglint // the constant is the caller's
}

// unlock frees p.mu and writes what was said meanwhile.
func (p *pump) unlock() {
	later := p.later
	p.later = nil
	p.mu.Unlock()
	for _, f := range later {
		f()
	}
}

// tell sends an event of every listener of the pump.
func (p *pump) tell(e Event) {
	e.At = time.Now()
	for _, name := range p.names {
		e.Listener = name
		p.c.events.send(e)
	}
}
