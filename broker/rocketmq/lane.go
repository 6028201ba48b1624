package rocketmq

import (
	"context"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// fetchWait is how long Fetch waits for a message.
const fetchWait = time.Second

// lane is the share of a subscription in a queue.
type lane struct {
	f    *feed
	sub  *subscription
	name string
	info driver.LaneInfo
	wake chan struct{} // there may be something to fetch
	over chan struct{} // closed when the lane was given away

	// Guarded by f.mu:
	ready    []*entry // for their first Fetch, in the order of the queue
	returned []*entry // for another one, by due time, on ordered lanes by offset
	offered  []*entry // by operators
	ending   bool     // Revoked was called: nothing is fetched any more
	ended    bool
}

func newLane(f *feed, s *subscription, retry bool) *lane {
	l := &lane{f: f, sub: s, wake: make(chan struct{}, 1), over: make(chan struct{})}
	l.info = driver.LaneInfo{Topic: s.spec.Topic, Queue: f.number, Retry: retry}
	l.name = f.queue.String()
	if retry {
		l.name += "/" + s.spec.Topic
	}
	return l
}

// Name is topic/broker/queue; behind that of a retry topic stands the topic
// subscribed to.
func (l *lane) Name() string { return l.name }

// Info describes the lane.
func (l *lane) Info() driver.LaneInfo { return l.info }

func (l *lane) lost(op string) *driver.Error {
	return driver.Errorf(driver.LaneLost, op+" "+l.name, "the lane was given away")
}

// nudge lets Fetch look again.
func (l *lane) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Fetch answers messages that were pulled or returned; see [driver.Lane].
func (l *lane) Fetch(ctx context.Context, limit int) ([]*driver.Delivery, error) {
	const op = "fetch from"
	if limit < 1 {
		return nil, driver.Errorf(driver.InvalidArgument, op+" "+l.name, "limit %d; it takes 1 or more", limit)
	}
	var end *time.Timer // of the wait, if there is one
	for {
		out, again, err := l.take(limit)
		if err != nil {
			return nil, err
		}
		if len(out) > 0 {
			return out, nil
		}
		if end == nil {
			end = time.NewTimer(fetchWait)
			defer end.Stop()
		}
		if ctx.Err() != nil {
			return nil, driver.FromContext(ctx, op+" "+l.name, false)
		}
		var due <-chan time.Time
		if again > 0 {
			due = time.After(again)
		}
		select {
		case <-l.wake:
		case <-due:
		case <-l.over:
		case <-end.C:
			return nil, nil
		case <-ctx.Done():
		}
	}
}

// take answers what may be fetched now; if nothing may, again is when something
// may at the latest, zero for a matter of nudges.
func (l *lane) take(limit int) (out []*driver.Delivery, again time.Duration, err error) {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case l.ended || f.isLost():
		return nil, 0, l.lost("fetch from")
	case l.ending:
		return nil, 0, nil
	case f.gap != nil:
		gap := f.gap
		f.gap = nil
		return nil, 0, &driver.Error{Code: driver.DataLoss, Op: "fetch from " + l.name, Err: gap}
	}
	if wait := f.lease.invalidFor(); wait > 0 {
		return nil, wait, nil
	}
	if n := min(limit, len(l.ready)+len(l.returned)+len(l.offered)); n > 0 {
		out = make([]*driver.Delivery, 0, n)
	}
	for len(out) < limit && len(l.offered) > 0 {
		out = append(out, l.hand(l.offered[0]))
		l.offered = l.offered[1:]
	}
	now := time.Now()
	for len(out) < limit && len(l.returned) > 0 {
		e := l.returned[0]
		if wait := e.due.Sub(now); wait > 0 {
			if again = wait; l.sub.spec.Ordered {
				return out, again, nil // the lane waits with it
			}
			break
		}
		l.returned = l.returned[1:]
		out = append(out, l.hand(e))
	}
	for len(out) < limit && len(l.ready) > 0 {
		e := l.ready[0]
		l.ready[0] = nil
		l.ready = l.ready[1:]
		f.buffered--
		out = append(out, l.hand(e))
	}
	if len(out) > 0 {
		f.nudge()
	}
	return out, again, nil
}

// hand makes a delivery of an entry. f.mu is held.
func (l *lane) hand(e *entry) *driver.Delivery {
	if e.first.e == nil {
		e.first = flight{e: e, lane: l}
		e.d.Token = &e.first
		return &e.d
	}
	d := e.d
	d.Attempt += e.failed
	d.Token = &flight{e: e, lane: l}
	return &d
}

// giveBack makes an entry come again. f.mu is held.
func (l *lane) giveBack(e *entry, delay time.Duration) {
	e.due = time.Now().Add(max(delay, 0))
	i, _ := slices.BinarySearchFunc(l.returned, e, func(x, y *entry) int {
		if l.sub.spec.Ordered {
			return int(x.offset - y.offset)
		}
		if c := x.due.Compare(y.due); c != 0 {
			return c
		}
		return int(x.offset - y.offset)
	})
	l.returned = slices.Insert(l.returned, i, e)
	l.nudge()
}

// Extend does nothing: deliveries have no lease of their own.
func (l *lane) Extend(context.Context, []*driver.Delivery) error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if l.ended {
		return l.lost("extend on")
	}
	return nil
}

// Seek moves the group on the queue; see [driver.Lane].
func (l *lane) Seek(ctx context.Context, p driver.Position) error {
	op := "seek on"
	l.f.mu.Lock()
	ended := l.ended
	l.f.mu.Unlock()
	if ended {
		return l.lost(op)
	}
	at, err := l.f.c.locate(ctx, op+" "+l.name, l.f.queue, p)
	if err != nil {
		return err
	}
	l.f.move(at)
	return asError(l.f.commit(ctx))
}

// revoke lets the subscriber settle its work, and ends the lane.
func (l *lane) revoke() {
	f := l.f
	if f.owned.Err() != nil {
		l.sub.ev.Lost(l)
		return
	}
	f.mu.Lock()
	l.ending = true
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(f.owned, f.c.cfg.RevokeTimeout)
	defer cancel()
	over := make(chan struct{})
	f.c.wg.Go(func() { // it ends with its ctx, or the subscriber breaks the contract
		defer close(over)
		l.sub.ev.Revoked(ctx, l)
	})
	select {
	case <-over:
	case <-ctx.Done():
	case <-l.sub.closing:
		stop := context.AfterFunc(l.sub.revoke, cancel)
		defer stop()
		select {
		case <-over:
		case <-ctx.Done():
		}
	}
	l.settleEnd(over)
}

// settleEnd waits a moment for a Revoked that is late, and ends the lane. What
// was lost meanwhile is told behind it.
func (l *lane) settleEnd(over <-chan struct{}) {
	late := time.NewTimer(lateRevoke)
	defer late.Stop()
	select {
	case <-over:
		if l.f.owned.Err() != nil {
			l.sub.ev.Lost(l)
		}
	case <-late.C:
	}
	l.finish()
}

// finish ends the lane: nothing is fetched and settled any more.
func (l *lane) finish() {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	l.endLocked()
}

// endLocked is finish with f.mu held.
func (l *lane) endLocked() {
	if !l.ended {
		l.ended = true
		close(l.over)
	}
}
