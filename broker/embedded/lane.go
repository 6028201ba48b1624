package embedded

import (
	"context"
	"errors"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/window"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

// fetchWait is how long Fetch waits for a first message.
const fetchWait = time.Second

// lane is one ownership of a slot. Another ownership is another lane, so what
// was fetched under an old one cannot be settled under a new one.
type lane struct {
	slot   *slot
	member *member
	name   string
	filter driver.Filter // set before Assigned, as is sql
	sql    *sql92.Expr

	stopped chan struct{} // closed when fetching ends
	revoked bool          // the same, guarded by slot.mu
	ended   chan struct{} // closed when it was handed over in order

	// What follows belongs to Fetch, which has one caller at a time.
	patience *time.Timer
	got      []catch
	raw      reader
}

// token ties a delivery to its flight.
type token struct {
	lane   *lane
	flight *window.Flight
	own    window.Flight // where flight lives, the first time
	pos    int64
	size   int
}

func newLane(s *slot, m *member) *lane {
	return &lane{slot: s, member: m, name: s.name, stopped: make(chan struct{}), ended: make(chan struct{})}
}

// Name is "topic/queue", of the retry topic for a retry lane.
func (l *lane) Name() string { return l.name }

// Info describes the lane.
func (l *lane) Info() driver.LaneInfo { return l.slot.info }

// Fetch waits for deliveries; see [driver.Lane].
func (l *lane) Fetch(ctx context.Context, limit int) ([]*driver.Delivery, error) {
	op := "fetch from " + l.name
	if limit < 1 {
		return nil, driver.Errorf(driver.InvalidArgument, op, "limit is %d, it takes 1 and more", limit)
	}
	waited := false
	for {
		select {
		case <-l.member.conn.done:
			return nil, l.lost(op)
		case <-ctx.Done():
			return nil, nil // nobody is there to take a delivery
		default:
		}
		g, ok := l.slot.grab(l, limit, l.got[:0])
		if l.got = g.caught; !ok {
			return nil, l.lost(op)
		}
		if len(g.caught) > 0 {
			ds, err := l.read(g.caught)
			if !l.slot.mayFetch(l) {
				return nil, l.lost(op) // the flights went back with the lane
			}
			if len(ds) > 0 || err != nil {
				return ds, asError(err, op)
			}
			if !l.patient(&waited) {
				return nil, nil // the filter selects next to nothing
			}
			continue
		}
		switch {
		case g.gap != nil:
			return nil, l.slot.e.lost(g.gap, l.slot.group, op)
		case g.err != nil:
			l.slot.e.rotten(g.err)
			return nil, asError(readError(g.err, ""), op)
		case g.more:
			continue
		}
		if !l.patient(&waited) || l.await(ctx, g.at) {
			return nil, nil
		}
	}
}

// patient begins the time that Fetch has, unless it has begun, and reports
// whether some of it is left.
func (l *lane) patient(begun *bool) bool {
	if !*begun {
		*begun = true
		l.patience = restart(l.patience, fetchWait)
		return true
	}
	select {
	case <-l.patience.C:
		return false
	default:
		return true
	}
}

// restart makes or reuses a timer.
func restart(t *time.Timer, d time.Duration) *time.Timer {
	if t == nil {
		return time.NewTimer(d)
	}
	t.Reset(d)
	return t
}

// await waits until fetching may have success, or until again, when a returned
// message may be fetched. It reports true if it ends without.
func (l *lane) await(ctx context.Context, again time.Time) (end bool) {
	var late <-chan time.Time
	if !again.IsZero() {
		t := time.NewTimer(time.Until(again))
		defer t.Stop()
		late = t.C
	}
	select {
	case <-l.slot.woken:
	case <-late:
	case <-l.stopped:
	case <-l.member.conn.done:
	case <-ctx.Done():
		return true
	case <-l.patience.C:
		return true
	}
	return false
}

// lost says why the lane answers no more.
func (l *lane) lost(op string) error {
	select {
	case <-l.member.conn.done:
		return closedError(op)
	default:
		return laneLost(op)
	}
}

// read reads what was grabbed. A message that cannot be read ends it: those
// before are answered, and it is met first by the next Fetch.
func (l *lane) read(got []catch) ([]*driver.Delivery, *driver.Error) {
	e := l.slot.e
	n, err := l.raw.read(e.log, got)
	var unread []*window.Flight
	for _, c := range got[n:] {
		unread = append(unread, c.token.flight)
	}
	ds, unselected := l.deliver(got[:n])
	if len(unselected)+len(unread) > 0 {
		l.slot.give(unselected, unread)
	}
	if err == nil || len(ds) > 0 {
		return ds, nil
	}
	if len(unselected) > 0 {
		return nil, nil // the next turn meets it first
	}
	return nil, l.unreadable(got[n], err)
}

// unreadable decides about a message that cannot be read. With
// [Quarantine], or if it is gone, it is lost, and the group hears of it.
func (l *lane) unreadable(c catch, err error) *driver.Error {
	e := l.slot.e
	e.count.unread(err)
	gap := &driver.GapError{Lane: l.name, From: c.token.flight.Offset, To: c.token.flight.Offset + 1}
	switch {
	case errors.Is(err, commitlog.ErrRange) && l.slot.trimmed(gap.From):
		gap.Reason = driver.Retention
	case errors.Is(err, commitlog.ErrCorrupt) && e.cfg.OnCorruption == Quarantine:
		gap.Reason = driver.Damage
	default:
		return readError(err, "")
	}
	if !l.slot.drop(l, c.token.flight) {
		return nil
	}
	return e.lost(gap, l.slot.group, "")
}

// deliver makes deliveries of what was read and the filter selects. What it
// does not select after all is another tag with the same hash, or has other
// properties than SQL wants.
func (l *lane) deliver(got []catch) (ds []*driver.Delivery, unselected []*window.Flight) {
	texts := l.raw.texts(l.slot.queueTopic)
	if l.sql != nil {
		got, texts, unselected = l.choose(got, texts)
	}
	slab := make([]driver.Delivery, len(got))
	ds = make([]*driver.Delivery, 0, len(got))
	for i, c := range got {
		d := &slab[i]
		envelope.Open(d, &texts[i].stored, texts[i].stored.Body, texts[i].offsetID)
		if !l.filter.MatchTag(d.Tag) {
			unselected = append(unselected, c.token.flight)
			continue
		}
		d.Attempt += c.token.flight.Failed
		d.Token = c.token
		ds = append(ds, d)
	}
	l.raw.forget()
	return ds, unselected
}

// Extend does nothing: there are no leases.
func (l *lane) Extend(context.Context, []*driver.Delivery) error { return nil }

// Seek moves the position of the group; see [driver.Lane].
func (l *lane) Seek(_ context.Context, p driver.Position) error {
	op := "seek " + l.name
	if p.Kind > driver.AtTime {
		return driver.Errorf(driver.InvalidArgument, op, "position of kind %d", p.Kind)
	}
	s := l.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lane != l {
		return l.lost(op)
	}
	s.reset(p)
	return nil
}
