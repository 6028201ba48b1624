package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/internal/lease"
	"github.com/sluicemq/sluice/sdk"
)

const (
	// maxFetch bounds one fetch; more would be memory without more speed.
	maxFetch = 64
	// ackTimeout is the lease of a delivery where the broker has one; it is
	// renewed every third of it.
	ackTimeout = 30 * time.Second
	// A fetch that fails is repeated after these, doubling.
	fetchBackoffMin = 100 * time.Millisecond
	fetchBackoffMax = 5 * time.Second
)

type itemState uint8

const (
	itemQueued   itemState = iota // waits for a slot, or behind its key
	itemRunning                   // in the handler
	itemWaiting                   // failed in place, waits for its delay
	itemSettling                  // handed to the settling of its lane
)

// item is one delivery on its way through a pump. Its changing fields are
// guarded by the mutex of the pump.
type item struct {
	lane  *lane
	unit  *unit
	d     *driver.Delivery
	key   *orderKey // nil: no order
	seq   uint64
	size  int64
	state itemState
	extra int // attempts that failed in place
	timer *time.Timer
	lost  bool // belongs to somebody else by now
}

// attempt is the number of the present or next run of the handler.
func (it *item) attempt() int { return max(it.d.Attempt, 1) + it.extra }

// orderKey is what is handled one at a time; its head is under way.
type orderKey struct {
	name    string
	head    *item
	waiting []*item
}

// lane is a driver's lane that this member owns.
type lane struct {
	p     *pump
	dl    driver.Lane
	name  string
	class int
	log   *slog.Logger

	// io bounds fetching, settling and extending; it ends with the lane.
	io    context.Context //nolint:containedctx // the service's own root
	endIO context.CancelFunc
	// gone is closed when no more may be fetched, wake holds one token when
	// room may have come.
	gone chan struct{}
	wake chan struct{}

	// All below is guarded by p.mu.
	work      context.Context //nolint:containedctx // the service's own root; parent of the ctxs of handlers
	interrupt context.CancelCauseFunc
	kept      *lease.Kept
	items     map[*item]struct{}
	keys      map[string]*orderKey
	bytes     int64
	size      int64 // smoothed size of a message
	running   int
	stopFetch context.CancelFunc // of the fetch under way
	parked    bool               // waits for room
	leaving   bool               // revoked: start nothing
	over      bool               // given away: settle nothing
	out       []driver.Settlement
	outItems  []*item
	flushing  bool
	returning int // given back on an ordered lane and not settled yet
}

// newLane takes over a lane. p.mu is held.
func (p *pump) newLane(dl driver.Lane) *lane {
	l := &lane{
		p: p, dl: dl, name: dl.Name(), class: fresh,
		gone: make(chan struct{}), wake: make(chan struct{}, 1),
		items: map[*item]struct{}{}, keys: map[string]*orderKey{},
	}
	if dl.Info().Retry {
		l.class = again
	}
	l.log = p.log.With(slog.String("lane", l.name))
	l.io, l.endIO = context.WithCancel(p.root)
	l.work, l.interrupt = context.WithCancelCause(p.root)
	l.kept = p.keep(l)
	return l
}

// keep has the leases of everything that is held of a lane renewed.
func (p *pump) keep(l *lane) *lease.Kept {
	renew := lease.Func(func(ctx context.Context) (time.Time, error) {
		sent := time.Now()
		p.mu.Lock()
		ds := make([]*driver.Delivery, 0, len(l.items))
		for it := range l.items {
			if !it.lost {
				ds = append(ds, it.d)
			}
		}
		p.mu.Unlock()
		if len(ds) > 0 {
			err := l.dl.Extend(ctx, ds)
			if sdk.CodeOf(err) == driver.LaneLost {
				err = fmt.Errorf("%w: %w", lease.ErrLost, err)
			}
			if err != nil {
				return time.Time{}, err
			}
		}
		return lease.Deadline(sent, ackTimeout), nil
	})
	return p.renewer.Keep(renew, ackTimeout/3, lease.Deadline(time.Now(), ackTimeout), func(cause error) { p.expired(l, cause) })
}

// fetchLoop fetches while there is room, until the lane is gone.
func (p *pump) fetchLoop(l *lane) {
	failures := 0
	for {
		n, ctx, ok := p.awaitRoom(l)
		if !ok {
			return
		}
		ds, err := l.dl.Fetch(ctx, n)
		stopped := ctx.Err() != nil
		p.arrived(l, ds, stopped)
		switch {
		case err == nil || stopped:
			failures = 0
		case sdk.CodeOf(err) == driver.LaneLost || sdk.CodeOf(err) == driver.Closed:
			p.ending(l)
			return
		case sdk.CodeOf(err) == driver.DataLoss:
			failures = 0
			p.gap(l, err)
		default:
			failures++
			l.log.LogAttrs(l.io, slog.LevelWarn, "fetch failed; it is tried again",
				slog.Int("failures", failures), slog.Any("error", err))
			if !l.pauseFetch(fetchDelay(failures, err)) {
				return
			}
		}
	}
}

// ending follows a fetch that has heard of the end of its lane. It may have
// heard before Revoked or Lost is called: until then the lane is ours, and what
// its handlers do is settled.
func (p *pump) ending(l *lane) {
	p.mu.Lock()
	defer p.unlock()
	if !l.over {
		p.leave(l)
	}
}

// gap reports messages that the broker has lost, or may have; the next Fetch
// goes on behind them.
func (p *pump) gap(l *lane, err error) {
	if g, ok := errors.AsType[*driver.GapError](err); ok && g.Unsure {
		l.log.LogAttrs(l.io, slog.LevelWarn, "messages may be lost", slog.Any("error", err))
	} else {
		l.log.LogAttrs(l.io, slog.LevelError, "messages are lost", slog.Any("error", err))
	}
	p.tell(Event{Kind: EventLost, Subject: l.name, Err: err})
}

// fetchDelay grows with the failures and follows the advice of the broker.
func fetchDelay(failures int, err error) time.Duration {
	d := min(fetchBackoffMin<<min(failures-1, 10), fetchBackoffMax)
	return max(d, retryAfter(err))
}

func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

func (l *lane) pauseFetch(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.gone:
		return false
	}
}

// awaitRoom returns how many deliveries may be fetched now, and a ctx that ends
// when fetching must stop; false when the lane is gone.
func (p *pump) awaitRoom(l *lane) (int, context.Context, bool) {
	for {
		p.mu.Lock()
		if l.leaving || l.over {
			p.mu.Unlock()
			return 0, nil, false
		}
		if n := p.room(l); n > 0 {
			ctx, cancel := context.WithCancel(l.io)
			l.stopFetch = cancel
			l.parked = false
			p.mu.Unlock()
			return n, ctx, true
		}
		l.parked = true
		p.mu.Unlock()
		select {
		case <-l.wake:
		case <-l.gone:
			return 0, nil, false
		}
	}
}

// room is how many deliveries of l may be fetched; p.mu is held. Where a failed
// delivery stays in place each lane has a room of its own, because a blocked
// one must not use up that of the others; elsewhere fresh and retried traffic
// have one room each.
func (p *pump) room(l *lane) int {
	if !p.open() || l.returning > 0 || p.orphans[l.name] > 0 && p.inPlace {
		return 0
	}
	limit, waits, buffer := p.share()
	held, bytes := p.held[l.class], p.bytes[l.class]
	switch {
	case p.inPlace:
		held, bytes = len(l.items), l.bytes
		buffer = max(buffer/int64(max(len(p.lanes), 1)), 1)
		if !p.byKey && p.ordered {
			limit = 1
		}
	case l.class == again:
		limit, waits, buffer = max(1, limit/2), max(1, waits/2), max(buffer/4, 1)
	}
	limit += waits
	n := limit - held
	// A quarter must be free, so that fetches are not one message each.
	if n <= 0 || 4*n < limit || bytes >= buffer {
		return 0
	}
	n = min(n, maxFetch)
	if l.size > 0 {
		n = min(n, int(max((buffer-bytes)/l.size, 1)))
	}
	return n
}

// share sums up what the listeners of the pump may hold; p.mu is held.
func (p *pump) share() (limit, waits int, buffer int64) {
	for _, u := range p.units {
		limit += u.limit
		waits += u.waits()
		buffer += u.buffer
	}
	return limit, waits, buffer
}

// wakeLanes lets lanes that wait for room look again; p.mu is held.
func (p *pump) wakeLanes() {
	for _, l := range p.lanes {
		if l.parked && p.room(l) > 0 {
			l.parked = false
			l.poke()
		}
	}
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// arrived takes in what was fetched. What a stopped fetch brings is given back:
// on an ordered lane something before it may have been given back as well.
func (p *pump) arrived(l *lane, ds []*driver.Delivery, stopped bool) {
	p.mu.Lock()
	defer p.unlock()
	if l.stopFetch != nil {
		l.stopFetch()
		l.stopFetch = nil
	}
	defer p.signal()
	if l.over {
		return
	}
	take := p.open() && !l.leaving && !stopped
	for _, d := range ds {
		it := p.admit(l, d)
		switch {
		case !take:
			p.settleItem(it, driver.Settlement{Outcome: driver.Return})
		case it.unit == nil:
			p.say(l.log, slog.LevelWarn, "no listener of this subscription wants the tag of a delivered message; it is acknowledged",
				slog.String("tag", d.Tag), slog.String("id", d.ID))
			p.settleItem(it, driver.Settlement{Outcome: driver.Ack})
		default:
			p.enqueue(it)
		}
	}
	if take {
		p.dispatch()
	}
}

// admit counts a delivery as held; p.mu is held.
func (p *pump) admit(l *lane, d *driver.Delivery) *item {
	it := &item{lane: l, unit: p.route(d.Tag), d: d, seq: p.seq, size: int64(len(d.Body)) + 256}
	p.seq++
	if n, ok := p.carried[d.ID]; ok {
		it.extra = n
		delete(p.carried, d.ID)
	}
	l.items[it] = struct{}{}
	l.bytes += it.size
	if l.size == 0 {
		l.size = it.size
	}
	l.size += (it.size - l.size) / 8
	p.held[l.class]++
	p.bytes[l.class] += it.size
	return it
}

// forget ends the bookkeeping of a delivery; p.mu is held.
func (p *pump) forget(it *item) {
	l := it.lane
	if _, ok := l.items[it]; !ok {
		return
	}
	delete(l.items, it)
	l.bytes -= it.size
	p.held[l.class]--
	p.bytes[l.class] -= it.size
}

// enqueue makes a delivery ready to run, or puts it behind its key; p.mu is held.
func (p *pump) enqueue(it *item) {
	if !p.ordered {
		it.unit.ready[it.lane.class].push(it)
		return
	}
	name := ""
	if p.byKey {
		name = it.d.OrderingKey
	}
	k := it.lane.keys[name]
	if k == nil {
		k = &orderKey{name: name}
		it.lane.keys[name] = k
	}
	it.key = k
	if k.head != nil {
		k.waiting = append(k.waiting, it)
		return
	}
	k.head = it
	it.unit.ready[it.lane.class].push(it)
}

// advance lets the next of a key run; p.mu is held.
func (p *pump) advance(it *item) {
	k := it.key
	if k == nil || k.head != it {
		return
	}
	if len(k.waiting) == 0 {
		delete(it.lane.keys, k.name)
		return
	}
	k.head = k.waiting[0]
	k.waiting[0] = nil
	k.waiting = k.waiting[1:]
	k.head.unit.ready[k.head.lane.class].push(k.head)
}
