package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

const (
	// stopMargin is left of the time to stop, so that what stops after the
	// listeners gets its turn.
	stopMargin = 500 * time.Millisecond
	// cancelBudget is how long cancelled handlers have to return.
	cancelBudget = 2 * time.Second
	// closeBudget is kept for settling and leaving the group.
	closeBudget = 250 * time.Millisecond
)

// act runs one control operation; the beginning of the drain interrupts it.
func (p *pump) act(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(p.life, func() { cancel(context.Cause(p.life)) })
	defer stop()
	select {
	case p.op <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.op }()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return f(ctx)
}

// step moves the pump along the table and tells about it; p.mu is held.
func (p *pump) step(s step, reason string) error {
	to, err := p.place.next(s)
	if err != nil {
		return err
	}
	from := p.place
	p.reason = reason
	if to == from {
		return nil
	}
	p.place, p.since = to, time.Now()
	p.say(p.log, slog.LevelInfo, "listener changed its state", slog.String("from", from.String()),
		slog.String("to", to.String()), slog.String("reason", reason))
	p.tell(Event{Kind: EventState, From: from.state, To: to.state, FromMode: from.mode, ToMode: to.mode})
	p.signal()
	return nil
}

// start begins the life of the pump. A start-paused one goes on in the
// background, so that a red gate does not keep the application from starting.
func (p *pump) start(ctx context.Context, conn driver.Conn) error {
	p.mu.Lock()
	p.conn = conn
	err := p.step(stepStart, "")
	if err == nil && p.startPaused {
		p.wg.Go(p.verifyLoop)
	}
	p.unlock()
	if err != nil || p.startPaused {
		return err
	}
	p.mu.Lock()
	p.want, p.verified = true, true
	p.unlock()
	return p.act(ctx, p.join)
}

// verifyLoop asks the gates until they are green once.
func (p *pump) verifyLoop() {
	for wait := gateBackoffMin; ; wait = min(2*wait, gateBackoffMax) {
		p.mu.Lock()
		done := p.verified && (!p.want || p.place == running)
		p.mu.Unlock()
		if done {
			return
		}
		if p.verify(p.life) != nil && !sleep(p.life, wait) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// verify asks every gate once, and joins the group if all are green and the
// listener is wanted. Whoever comes while it is under way waits for its end.
func (p *pump) verify(ctx context.Context) error {
	p.mu.Lock()
	if p.place == verifying {
		p.mu.Unlock()
		return p.await(ctx, func() bool { return p.place != verifying })
	}
	err := p.step(stepVerify, "")
	p.unlock()
	if err != nil {
		return err
	}
	red := p.askGates(ctx)
	return p.act(ctx, func(ctx context.Context) error {
		p.mu.Lock()
		if p.place != verifying {
			// An operator paused it meanwhile; the result stands all the same.
			p.verified = p.verified || red == nil
			p.mu.Unlock()
			return red
		}
		if red != nil {
			_ = p.step(stepRed, red.Error())
			p.say(p.log, slog.LevelWarn, "listener stays paused", slog.Any("error", red))
			p.unlock()
			return red
		}
		p.verified = true
		if !p.want {
			err := p.step(stepGreen, "verified; waits for resume")
			p.unlock()
			return err
		}
		p.unlock()
		return p.join(ctx)
	})
}

// askGates runs the gates side by side; the error names those that are red.
func (p *pump) askGates(ctx context.Context) error {
	errs := make([]error, len(p.gates))
	var wg sync.WaitGroup
	for i, g := range p.gates {
		wg.Go(func() {
			err := g.run(ctx, &p.wg)
			if err != nil {
				err = fmt.Errorf("gate %q is red: %w", g.name, err)
				p.tell(Event{Kind: EventGateRed, Subject: g.name, Err: err})
			}
			p.mu.Lock()
			g.status = GateStatus{Name: g.name, Green: err == nil, Err: err, At: time.Now()}
			p.mu.Unlock()
			errs[i] = err
		})
	}
	wg.Wait()
	return join(errs)
}

// join enters the group and begins to fetch. It is called within act.
func (p *pump) join(ctx context.Context) error {
	p.mu.Lock()
	if p.sub == nil {
		m := &membership{p: p}
		p.member = m
		conn := p.conn
		p.mu.Unlock()
		var sub driver.Subscription
		op := "subscribe group " + p.spec.Group + " to " + p.spec.Topic
		err := p.client.Retry(ctx, op, func(ctx context.Context) error {
			var err error
			sub, err = conn.Subscribe(ctx, p.spec, m)
			return err
		})
		p.mu.Lock()
		if err != nil {
			p.member = nil
			for _, l := range p.lanes {
				p.abandonLane(l)
			}
			_ = p.step(stepRed, err.Error()) // refused unless verifying, and that is right
			p.reason = err.Error()
			p.unlock()
			return err
		}
		p.sub = sub
	}
	err := p.step(stepRun, "")
	p.wakeLanes()
	p.dispatch()
	p.unlock()
	return err
}

// resume is the operator's: it ends a pause and a hold. A start-paused listener
// whose gates were never green asks them now, unless forced.
func (p *pump) resume(ctx context.Context, force bool) error {
	p.mu.Lock()
	if p.place == running {
		p.clearHold()
		p.wakeLanes()
		p.dispatch()
		p.unlock()
		return nil
	}
	if p.place.state != StatePaused && p.place != verifying {
		_, err := p.place.next(stepRun)
		p.unlock()
		return err
	}
	verified := p.verified || force
	p.unlock()
	if !verified {
		if err := p.verify(ctx); err != nil {
			return err
		}
	}
	return p.act(ctx, func(ctx context.Context) error {
		p.mu.Lock()
		ok, at, gates := p.verified || force, p.place, p.redGates()
		p.unlock()
		switch {
		case at == running:
			return nil
		case !ok:
			return fmt.Errorf("not verified yet: %s", gates)
		}
		if err := p.join(ctx); err != nil {
			return err
		}
		p.mu.Lock()
		p.want, p.verified = true, true
		p.unlock()
		return nil
	})
}

// redGates names what is not green; p.mu is held.
func (p *pump) redGates() string {
	var names []string
	for _, g := range p.gates {
		if !g.status.Green {
			names = append(names, fmt.Sprintf("gate %q", g.name))
		}
	}
	return strings.Join(names, ", ")
}

// pause stops fetching and returns when nothing is under way; with ReleaseLanes
// it leaves the group then. When ctx ends first the pause stands, the lanes are
// kept, and another pause waits again.
func (p *pump) pause(ctx context.Context, mode Mode) error {
	return p.act(ctx, func(ctx context.Context) error {
		s := stepHold
		if mode == ReleaseLanes {
			s = stepRelease
		}
		p.mu.Lock()
		if err := p.step(s, "paused by an operator"); err != nil {
			p.unlock()
			return err
		}
		p.want = false
		p.clearHold()
		p.halt()
		p.unlock()
		if err := p.await(ctx, p.quiet); err != nil {
			return fmt.Errorf("paused, but %s: %w", p.unfinished(), err)
		}
		p.mu.Lock()
		release := p.place == released
		p.mu.Unlock()
		if !release {
			return nil
		}
		return p.leaveGroup(ctx)
	})
}

// leaveGroup closes the subscription. Nothing is under way, so it is quick, and
// it is not cut short by the end of ctx alone: a half-left group helps nobody.
func (p *pump) leaveGroup(ctx context.Context) error {
	p.mu.Lock()
	sub := p.sub
	p.sub = nil
	p.mu.Unlock()
	if sub == nil {
		return nil
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelBudget)
	defer cancel()
	return p.closeSubscription(limit, sub)
}

func (p *pump) closeSubscription(ctx context.Context, sub driver.Subscription) error {
	err := sub.Close(ctx)
	p.mu.Lock()
	p.member = nil
	for _, l := range p.lanes {
		p.abandonLane(l) // a driver that kept its promise has revoked them all
	}
	p.unlock()
	if err != nil {
		return fmt.Errorf("leave group %s of %s: %w", p.spec.Group, p.spec.Topic, err)
	}
	return nil
}

// unfinished says what a pause or a drain waits for.
func (p *pump) unfinished() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	handlers, unsettled := 0, 0
	for _, u := range p.units {
		handlers += u.inFlight()
	}
	for _, l := range p.lanes {
		unsettled += len(l.items) - l.running
	}
	return fmt.Sprintf("%d handlers are running and %d messages are unsettled", handlers, unsettled)
}

// drain is the last operation: finish what was begun, settle, leave, stop. It
// ends stopMargin before the deadline of ctx.
func (p *pump) drain(ctx context.Context) error {
	p.endLife(ErrDraining)
	p.mu.Lock()
	p.want = false
	_ = p.step(stepDrain, "") // every state can
	p.clearHold()
	p.halt()
	p.unlock()

	finish, cancelFinish := until(ctx, func(left time.Duration) time.Duration { return left - min(stopMargin, left/4) })
	defer cancelFinish()
	select {
	case p.op <- struct{}{}: // the operation before this one has been interrupted
		defer func() { <-p.op }()
	case <-finish.Done():
		return fmt.Errorf("drain: a control operation is still under way: %w", context.Cause(finish))
	}
	p.mu.Lock()
	over := p.place == stopped
	p.mu.Unlock()
	if over {
		return nil
	}
	err := p.finishHandlers(finish)
	p.mu.Lock()
	p.leftover = true
	sub := p.sub
	p.sub = nil
	p.signal()
	p.mu.Unlock()
	if sub != nil {
		err = errors.Join(err, p.closeSubscription(finish, sub))
	}
	p.mu.Lock()
	_ = p.step(stepDrained, "")
	p.unlock()
	p.end(ErrDraining)
	return errors.Join(err, p.awaitGoroutines(finish))
}

// finishHandlers waits for the handlers, cancels those that overrun, and waits
// again for a while.
func (p *pump) finishHandlers(finish context.Context) error {
	patience, cancel := until(finish, func(left time.Duration) time.Duration { return left - min(cancelBudget, left/4) })
	defer cancel()
	if p.await(patience, p.quiet) == nil {
		return nil
	}
	what := p.unfinished()
	p.mu.Lock()
	p.say(p.log, slog.LevelWarn, "handlers are cancelled because the time to stop is running out", slog.String("left", what))
	for _, l := range p.lanes {
		l.interrupt(ErrDraining)
	}
	p.unlock()
	last, cancelLast := until(finish, func(left time.Duration) time.Duration { return left - min(closeBudget, left/4) })
	defer cancelLast()
	if p.await(last, p.quiet) == nil {
		return nil
	}
	return fmt.Errorf("drain: left behind: %s; these messages come again", p.unfinished())
}

// awaitGoroutines waits for the goroutines of the pump, unless handlers or gates that
// ignore their ctx keep one alive.
func (p *pump) awaitGoroutines(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends with the last of the goroutines it waits for
		p.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("drain: goroutines of handlers or gates that ignore their ctx were left behind")
	}
}

// until bounds ctx by a part of what is left of it; without a deadline it is
// ctx itself.
func until(ctx context.Context, part func(left time.Duration) time.Duration) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	now := time.Now()
	return context.WithDeadline(ctx, now.Add(part(max(end.Sub(now), 0))))
}

// resize changes the concurrency of one listener.
func (p *pump) resize(u *unit, n int) {
	p.mu.Lock()
	defer p.unlock()
	u.limit = n
	p.wakeLanes()
	p.dispatch()
}
