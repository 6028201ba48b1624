package listener

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

// work runs deliveries of one listener one after the other, as long as there is
// one and a slot for it.
func (p *pump) work(it *item) {
	err := ErrGoexit
	returned := false
	defer func() {
		if returned {
			return
		}
		// An interceptor panicked or ended this goroutine; handlers cannot. The
		// delivery has failed, and another worker takes over.
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		if next := p.finish(it, err); next != nil {
			p.wg.Go(func() { p.work(next) })
		}
	}()
	for it != nil {
		err = ErrGoexit
		ctx, d := p.begin(it)
		if err = it.unit.chain(ctx, d); err != nil {
			it.unit.log.LogAttrs(ctx, slog.LevelDebug, "handler returned an error",
				slog.String("id", d.ID), slog.Int("attempt", d.Attempt), slog.Any("error", err))
		}
		it = p.finish(it, err)
	}
	returned = true
}

func (p *pump) begin(it *item) (context.Context, *sdk.Delivery) {
	p.mu.Lock()
	ctx, attempt := it.lane.work, it.attempt()
	p.mu.Unlock()
	d := sdk.NewDelivery(it.d, p.spec.Group, it.unit.name, it.lane.name)
	d.Attempt = attempt
	return ctx, d
}

// finish books the end of a run and takes the next delivery of the listener.
func (p *pump) finish(it *item, err error) *item {
	p.mu.Lock()
	defer p.unlock()
	u, l := it.unit, it.lane
	u.busy[l.class]--
	l.running--
	if it.lost {
		p.finishLost(it)
	} else {
		p.apply(it, u.judge(it.attempt(), err, context.Cause(l.work) != nil), err)
	}
	p.signal()
	if !p.open() {
		return nil
	}
	// Usually this listener goes on in this goroutine; what else became
	// possible, after a hold or a resize, starts by dispatch.
	next := u.take()
	p.dispatch()
	return next
}

// finishLost books the end of a handler whose lane is gone; p.mu is held.
func (p *pump) finishLost(it *item) {
	name := it.lane.name
	if p.orphans[name]--; p.orphans[name] <= 0 {
		delete(p.orphans, name)
		p.wakeLanes()
	}
}

// apply does what the verdict says; p.mu is held.
func (p *pump) apply(it *item, v verdict, err error) {
	u, attempt := it.unit, it.attempt()
	delete(p.blocked, it)
	if v.hold > 0 {
		p.holdFor(v.hold, err)
	}
	if v.outcome == 0 {
		p.again(it, v, err)
		return
	}
	s := driver.Settlement{Outcome: v.outcome, Delay: v.delay}
	switch {
	case v.givenUp:
		p.say(u.log, slog.LevelError, "message given up and acknowledged", slog.String("id", it.d.ID),
			slog.String("reason", v.reason), slog.Int("attempt", attempt), slog.Any("error", err))
		p.c.events.send(Event{Kind: EventGivenUp, At: time.Now(), Listener: u.name, Subject: it.d.ID, Err: err})
	case v.outcome == driver.DeadLetter:
		s.Properties = deadProperties(p.spec.Group, attempt, v.reason, err, time.Now())
		p.say(u.log, slog.LevelWarn, "message goes to the dead letters", slog.String("id", it.d.ID),
			slog.String("reason", v.reason), slog.Int("attempt", attempt), slog.Any("error", err))
	case v.outcome == driver.Return:
		p.carry(it)
	}
	if p.ordered && v.outcome == driver.Return {
		// What is behind must come behind again.
		p.settleItem(it, s)
		p.giveBackKey(it)
		return
	}
	p.settleItem(it, s)
	p.advance(it)
}

// again keeps a delivery in place until its delay is over; p.mu is held.
func (p *pump) again(it *item, v verdict, err error) {
	if v.failed {
		it.extra++
	}
	if !p.open() || it.lane.leaving {
		p.carry(it)
		p.settleItem(it, driver.Settlement{Outcome: driver.Return})
		p.giveBackKey(it)
		return
	}
	if v.blocked {
		p.blocked[it] = struct{}{}
		p.say(it.unit.log, slog.LevelError, "message spent its attempts and blocks what comes behind it",
			slog.String("lane", it.lane.name), slog.String("id", it.d.ID), slog.Int("attempt", it.attempt()-1),
			slog.Duration("again_in", v.delay), slog.Any("error", err))
		p.c.events.send(Event{Kind: EventBlocked, At: time.Now(), Listener: it.unit.name, Subject: it.lane.name, Err: err})
	}
	it.state = itemWaiting
	it.timer = time.AfterFunc(v.delay, func() { p.awake(it) })
}

// awake lets a delivery run again after its delay.
func (p *pump) awake(it *item) {
	p.mu.Lock()
	defer p.unlock()
	if it.state != itemWaiting || it.lost {
		return
	}
	it.state, it.timer = itemQueued, nil
	it.unit.ready[it.lane.class].push(it)
	p.dispatch()
}

// giveBackKey returns what waits behind an ordered delivery that was returned;
// p.mu is held.
func (p *pump) giveBackKey(it *item) {
	k := it.key
	if k == nil || k.head != it {
		return
	}
	delete(it.lane.keys, k.name)
	for _, w := range k.waiting {
		p.settleItem(w, driver.Settlement{Outcome: driver.Return})
	}
}

// holdFor stops fetching for d; p.mu is held.
func (p *pump) holdFor(d time.Duration, cause error) {
	until := time.Now().Add(d)
	if p.place != running || !until.After(p.holdUntil) {
		return
	}
	if p.holdTimer != nil {
		p.holdTimer.Stop()
	}
	if h, ok := errors.AsType[*holdError](cause); ok && h.cause != nil {
		cause = h.cause
	}
	p.holdUntil, p.holdCause = until, cause
	p.holdTimer = time.AfterFunc(d, func() { p.endHold(until) })
	p.halt()
	p.say(p.log, slog.LevelWarn, "a handler asked for a pause; nothing is fetched meanwhile",
		slog.Duration("for", d), slog.Any("cause", cause))
	p.tell(Event{Kind: EventHold, Until: until, Err: cause})
}

// endHold goes on after the hold that ends at until; p.mu is not held.
func (p *pump) endHold(until time.Time) {
	p.mu.Lock()
	defer p.unlock()
	if p.holdUntil.Equal(until) {
		p.clearHold()
		p.wakeLanes()
		p.dispatch()
	}
}

// clearHold forgets a hold; p.mu is held.
func (p *pump) clearHold() {
	if p.holdUntil.IsZero() {
		return
	}
	p.holdTimer.Stop()
	p.holdUntil, p.holdCause, p.holdTimer = time.Time{}, nil, nil
	p.tell(Event{Kind: EventHoldEnded})
}

// stuck reports a handler that does not end when its ctx does.
func (p *pump) stuck(u *unit, d *sdk.Delivery, since time.Time) {
	u.log.LogAttrs(p.root, slog.LevelWarn, "handler ignores the end of its ctx and occupies its slot",
		slog.String("id", d.ID), slog.String("lane", d.Lane), slog.Duration("overdue", time.Since(since)))
	p.c.events.send(Event{Kind: EventStuck, At: time.Now(), Listener: u.name, Subject: d.ID})
}
