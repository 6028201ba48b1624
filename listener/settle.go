package listener

import (
	"context"
	"log/slog"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

const (
	settleBackoffMin = 50 * time.Millisecond
	settleBackoffMax = 5 * time.Second
)

// settleItem hands a delivery to the settling of its lane. The first one goes
// out at once; what comes while a call is under way goes with the next one. So
// a batch is as large as the broker is slow, without a timer. p.mu is held.
func (p *pump) settleItem(it *item, s driver.Settlement) {
	l := it.lane
	it.state = itemSettling
	s.Delivery = it.d
	if p.ordered && s.Outcome == driver.Return {
		l.returning++
	}
	l.out = append(l.out, s)
	l.outItems = append(l.outItems, it)
	if !l.flushing {
		l.flushing = true
		p.wg.Go(func() { p.flush(l) })
	}
}

// flush settles what a lane has, until it has nothing.
func (p *pump) flush(l *lane) {
	var spare []driver.Settlement
	var spareItems []*item
	for {
		p.mu.Lock()
		batch, items := l.out, l.outItems
		if len(batch) == 0 {
			l.flushing = false
			p.signal()
			p.mu.Unlock()
			return
		}
		l.out, l.outItems = spare[:0], spareItems[:0]
		p.mu.Unlock()
		lost := p.settle(l, batch)
		p.mu.Lock()
		for i, it := range items {
			if p.ordered && batch[i].Outcome == driver.Return && !it.lost {
				l.returning--
			}
			p.forget(it)
		}
		p.wakeLanes()
		p.signal()
		p.unlock()
		clear(batch)
		clear(items)
		spare, spareItems = batch, items
		if lost {
			p.lost(l)
		}
	}
}

// settle repeats until the broker has taken the batch or the lane has ended; it
// reports a lane that turned out to be lost.
func (p *pump) settle(l *lane, batch []driver.Settlement) (lost bool) {
	end := p.traceSettle(l, batch)
	err := p.client.Retry(l.io, "settle on "+l.name, func(ctx context.Context) error {
		return l.dl.Settle(ctx, batch)
	}, sdk.RetryTimeout(0), sdk.RetryAttempts(0), sdk.RetryMaybeDone(true), sdk.RetryBackoff(settleBackoffMin, settleBackoffMax))
	end(err)
	switch code := sdk.CodeOf(err); {
	case err == nil || l.io.Err() != nil:
		return false
	case code == driver.LaneLost || code == driver.Closed:
		return true
	case len(batch) > 1:
		// One of them is refused; the others must not suffer.
		for i := range batch {
			if p.settle(l, batch[i:i+1]) {
				return true
			}
		}
		return false
	default:
		l.log.LogAttrs(l.io, slog.LevelError, "a delivery cannot be settled; the broker will deliver it again",
			slog.String("id", batch[0].Delivery.ID), slog.String("outcome", batch[0].Outcome.String()), slog.Any("error", err))
		return false
	}
}

// traceSettle begins spans for what stores a copy at the broker; an
// acknowledgement and a return only move a position.
func (p *pump) traceSettle(l *lane, batch []driver.Settlement) (end func(error)) {
	var byOutcome map[driver.Outcome][]*sdk.Delivery
	for _, s := range batch {
		if s.Outcome == driver.Retry || s.Outcome == driver.DeadLetter {
			if byOutcome == nil {
				byOutcome = map[driver.Outcome][]*sdk.Delivery{}
			}
			byOutcome[s.Outcome] = append(byOutcome[s.Outcome], sdk.NewDelivery(s.Delivery, p.spec.Group, "", l.name))
		}
	}
	if len(byOutcome) == 0 {
		return func(error) {}
	}
	var ends []func(error)
	for outcome, ds := range byOutcome {
		_, end := p.client.Tracing().StartSettle(l.io, outcome.String(), ds...)
		ends = append(ends, end)
	}
	return func(err error) {
		for _, end := range ends {
			end(err)
		}
	}
}
