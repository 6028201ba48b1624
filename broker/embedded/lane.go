package embedded

import (
	"context"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/window"
)

// fetchWait is how long Fetch waits for a first message.
const fetchWait = time.Second

// lane is one ownership of a slot. Another ownership is another lane, so what
// was fetched under an old one cannot be settled under a new one.
type lane struct {
	slot   *slot
	member *member
	name   string
	filter driver.Filter // set before Assigned

	stopped chan struct{} // closed when fetching ends
	revoked bool          // the same, guarded by slot.mu
	ended   chan struct{} // closed when it was handed over in order
}

// token ties a delivery to its flight.
type token struct {
	lane   *lane
	flight *window.Flight
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
	patience := time.NewTimer(fetchWait)
	defer patience.Stop()
	for {
		select {
		case <-l.member.conn.done:
			return nil, l.lost(op)
		case <-ctx.Done():
			return nil, nil // nobody is there to take a delivery
		default:
		}
		got, w, ok := l.slot.grab(l, limit)
		if !ok {
			return nil, l.lost(op)
		}
		if len(got) > 0 {
			ds, err := l.read(got)
			if !l.slot.mayFetch(l) {
				return nil, l.lost(op) // the flights went back with the lane
			}
			if len(ds) > 0 || err != nil {
				return ds, asError(err, op)
			}
			continue
		}
		if end := l.await(ctx, w, patience.C); end {
			return nil, nil
		}
	}
}

// await waits until fetching may have success; it reports true if it ends
// without.
func (l *lane) await(ctx context.Context, w wait, patience <-chan time.Time) (end bool) {
	var again <-chan time.Time
	if !w.at.IsZero() {
		t := time.NewTimer(time.Until(w.at))
		defer t.Stop()
		again = t.C
	}
	select {
	case <-w.moved:
	case <-w.grown:
	case <-again:
	case <-l.stopped:
	case <-l.member.conn.done:
	case <-ctx.Done():
		return true
	case <-patience:
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
func (l *lane) read(got []catch) (ds []*driver.Delivery, failure *driver.Error) {
	var unselected, unread []*window.Flight
	for i, c := range got {
		s, _, _, err := l.slot.e.read(c.entry.Pos, int(c.entry.Size))
		if err != nil {
			for _, rest := range got[i:] {
				unread = append(unread, rest.flight)
			}
			if len(ds) == 0 {
				failure = readError(err, "")
			}
			break
		}
		d := newDelivery(&s)
		if !l.filter.MatchTag(d.Tag) {
			unselected = append(unselected, c.flight) // another tag with the same hash
			continue
		}
		d.Attempt += c.flight.Failed
		d.Token = &token{lane: l, flight: c.flight, pos: c.entry.Pos, size: int(c.entry.Size)}
		ds = append(ds, d)
	}
	if len(unselected)+len(unread) > 0 {
		l.slot.give(unselected, unread)
	}
	return ds, failure
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
