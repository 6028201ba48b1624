package faulty

import (
	"context"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// subscription stands between the driver and the LaneEvents of the framework.
type subscription struct {
	conn  *conn
	inner driver.Subscription
	ev    driver.LaneEvents

	mu    sync.Mutex
	lanes map[driver.Lane]*lane // by the lane of the driver: its present incarnation
}

// Close implements [driver.Subscription].
func (s *subscription) Close(ctx context.Context) error { return s.inner.Close(ctx) }

// Assigned implements [driver.LaneEvents].
func (s *subscription) Assigned(in driver.Lane) {
	l := newLane(s.conn, in)
	l.calls <- struct{}{} // before anybody can find it: Assigned comes first
	s.mu.Lock()
	s.lanes[in] = l
	s.mu.Unlock()
	s.ev.Assigned(l)
	<-l.calls
}

// Revoked implements [driver.LaneEvents].
func (s *subscription) Revoked(ctx context.Context, in driver.Lane) {
	l := s.take(in)
	if l == nil {
		return
	}
	l.calls <- struct{}{}
	defer func() { <-l.calls }()
	if !l.isGone() {
		s.ev.Revoked(ctx, l)
		l.end(false)
	}
}

// Lost implements [driver.LaneEvents].
func (s *subscription) Lost(in driver.Lane) {
	if l := s.take(in); l != nil {
		s.announce(l)
	}
}

// take removes the incarnation of in.
func (s *subscription) take(in driver.Lane) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[in]
	delete(s.lanes, in)
	return l
}

// announce tells the framework once that l is lost.
func (s *subscription) announce(l *lane) bool {
	l.calls <- struct{}{}
	defer func() { <-l.calls }()
	if !l.end(true) {
		return false
	}
	s.ev.Lost(l)
	return true
}

// lose takes lanes away and, with regain, assigns them anew.
func (s *subscription) lose(ctx context.Context, match func(name string) bool, regain bool) int {
	s.mu.Lock()
	var picked []*lane
	for _, l := range s.lanes {
		if match == nil || match(l.Name()) {
			picked = append(picked, l)
		}
	}
	s.mu.Unlock()
	n := 0
	for _, l := range picked {
		if !s.announce(l) {
			continue
		}
		n++
		l.giveBack(ctx)
		if regain {
			s.regain(l.inner)
		}
	}
	return n
}

func (s *subscription) regain(in driver.Lane) {
	s.mu.Lock()
	_, still := s.lanes[in] // the driver has not taken it away meanwhile
	s.mu.Unlock()
	if still {
		s.Assigned(in)
	}
}

// lane is one incarnation of a lane: losing and regaining makes another.
type lane struct {
	conn  *conn
	inner driver.Lane
	calls chan struct{} // one slot: LaneEvents calls for a lane never overlap
	fetch chan struct{} // one slot: an old incarnation may still be in Fetch
	gone  chan struct{} // closed when lost or revoked

	mu   sync.Mutex
	lost bool
	// open are the deliveries that were answered and not settled; the value is
	// the driver's own, because a doubled delivery is a copy.
	open  map[*driver.Delivery]*driver.Delivery
	extra []*driver.Delivery // doubles for the next Fetch
}

func newLane(c *conn, in driver.Lane) *lane {
	return &lane{
		conn: c, inner: in, calls: make(chan struct{}, 1), fetch: make(chan struct{}, 1), gone: make(chan struct{}),
		open: map[*driver.Delivery]*driver.Delivery{},
	}
}

func (l *lane) Name() string          { return l.inner.Name() }
func (l *lane) Info() driver.LaneInfo { return l.inner.Info() }

func (l *lane) isGone() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// end closes the incarnation and reports whether it was open.
func (l *lane) end(lost bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isGone() {
		return false
	}
	l.lost = lost
	close(l.gone)
	return true
}

func (l *lane) lostError(op Op) error {
	return driver.Errorf(driver.LaneLost, op.String()+" "+l.Name(), "the lane was lost")
}

// Fetch implements [driver.Lane].
func (l *lane) Fetch(ctx context.Context, limit int) (ds []*driver.Delivery, err error) {
	l.fetch <- struct{}{}
	defer func() { <-l.fetch }()
	if l.isGone() {
		return nil, l.lostError(Fetch)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // a lost or dead lane must not wait for its second
		select {
		case <-l.gone:
			cancel()
		case <-l.conn.dead:
			cancel()
		case <-stop:
		}
	})
	defer func() { close(stop); wg.Wait() }()
	err = l.conn.faults.around(ctx, l.conn.dead, Fetch, l.Name(), func() (err error) {
		if ds = l.doubles(limit); len(ds) == 0 {
			ds, err = l.inner.Fetch(ctx, limit)
		}
		return err
	})
	return l.fetched(ctx, ds, err)
}

// fetched keeps account of what goes out.
func (l *lane) fetched(ctx context.Context, ds []*driver.Delivery, err error) ([]*driver.Delivery, error) {
	l.mu.Lock()
	for _, d := range ds {
		if l.open[d] != nil {
			continue // a double, it was noted when it was made
		}
		l.open[d] = d
		if err == nil && l.conn.faults.takeDouble(0) {
			twin := *d
			l.open[&twin] = d
			l.extra = append(l.extra, &twin)
		}
	}
	l.mu.Unlock()
	if l.isGone() {
		l.giveBack(ctx)
		return nil, l.lostError(Fetch)
	}
	if err != nil { // the deliveries were lost on the way
		l.giveBack(ctx, ds...)
		return nil, err
	}
	return ds, nil
}

// doubles takes the copies that are due.
func (l *lane) doubles(limit int) []*driver.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(max(limit, 0), len(l.extra))
	out := l.extra[:n:n]
	l.extra = l.extra[n:]
	return out
}

// giveBack returns ds, or everything that is open, to the driver.
func (l *lane) giveBack(ctx context.Context, ds ...*driver.Delivery) {
	l.mu.Lock()
	var back []driver.Settlement
	seen := map[*driver.Delivery]bool{}
	for twin, d := range l.open {
		for _, x := range ds {
			seen[x] = true
		}
		if len(ds) > 0 && !seen[twin] {
			continue
		}
		delete(l.open, twin)
		if twin == d {
			back = append(back, driver.Settlement{Delivery: d, Outcome: driver.Return})
		}
	}
	l.mu.Unlock()
	if len(back) > 0 {
		_ = l.inner.Settle(context.WithoutCancel(ctx), back) // a lane that is gone gives back by itself
	}
}

// Settle implements [driver.Lane].
func (l *lane) Settle(ctx context.Context, ss []driver.Settlement) error {
	if l.isGone() {
		return l.lostError(Settle)
	}
	inner := make([]driver.Settlement, len(ss))
	l.mu.Lock()
	for i, s := range ss {
		if d := l.open[s.Delivery]; d != nil {
			s.Delivery = d
		}
		inner[i] = s
	}
	l.mu.Unlock()
	return l.conn.faults.around(ctx, l.conn.dead, Settle, l.Name(), func() error {
		err := l.inner.Settle(ctx, inner)
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, s := range ss {
				delete(l.open, s.Delivery)
			}
		}
		return err
	})
}

// Extend implements [driver.Lane].
func (l *lane) Extend(ctx context.Context, ds []*driver.Delivery) error {
	if l.isGone() {
		return l.lostError(Extend)
	}
	inner := make([]*driver.Delivery, len(ds))
	l.mu.Lock()
	for i, d := range ds {
		if inner[i] = l.open[d]; inner[i] == nil {
			inner[i] = d
		}
	}
	l.mu.Unlock()
	return l.conn.faults.around(ctx, l.conn.dead, Extend, l.Name(), func() error { return l.inner.Extend(ctx, inner) })
}

// Seek implements [driver.Lane].
func (l *lane) Seek(ctx context.Context, p driver.Position) error {
	if l.isGone() {
		return l.lostError(Seek)
	}
	return l.conn.faults.around(ctx, l.conn.dead, Seek, l.Name(), func() error { return l.inner.Seek(ctx, p) })
}
