package drivertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// arrival is one delivery as a member saw it.
type arrival struct {
	m    *member
	lane driver.Lane
	d    *driver.Delivery
	at   time.Time
}

// member is a client in a group: the other side of LaneEvents. Unless manual,
// one goroutine per lane fetches all there is; nothing is settled by itself.
type member struct {
	e    *env
	id   string
	spec driver.SubscribeSpec
	conn driver.Conn
	sub  driver.Subscription
	memberOptions

	mu      sync.Mutex
	lanes   map[string]*laneRun
	busy    map[string]bool // lanes with a call of LaneEvents in progress
	got     []arrival
	taken   int
	log     []string // assigned, revoked, lost: in order
	changed chan struct{}
	wg      sync.WaitGroup
}

type memberOptions struct {
	// manual: the test itself calls Fetch.
	manual bool
	// limit of each Fetch; 0 means 16.
	limit int
	// revoked runs after the pump of the lane has ended, before Revoked returns.
	revoked func(ctx context.Context, l driver.Lane)
	// assigned and lost are told first.
	assigned func(l driver.Lane)
	lost     func(l driver.Lane)
	// via is used instead of a client of its own.
	via driver.Conn
}

type laneRun struct {
	lane   driver.Lane
	cancel context.CancelFunc
	done   chan struct{}
}

// join subscribes a new client id to spec.
func (e *env) join(id string, spec driver.SubscribeSpec, opts memberOptions) *member {
	e.Helper()
	m, err := e.tryJoin(id, spec, opts)
	if err != nil {
		e.Fatalf("subscribe %s of group %s to %s: %v", id, spec.Group, spec.Topic, err)
	}
	return m
}

func (e *env) tryJoin(id string, spec driver.SubscribeSpec, opts memberOptions) (*member, error) {
	e.Helper()
	m := &member{
		e: e, id: id, spec: spec, conn: opts.via, memberOptions: opts,
		lanes: map[string]*laneRun{}, busy: map[string]bool{}, changed: make(chan struct{}),
	}
	if m.limit == 0 {
		m.limit = 16
	}
	if m.conn == nil {
		m.conn = e.connect(id)
	}
	sub, err := m.conn.Subscribe(e.ctx(), spec, m)
	if err != nil {
		return nil, err
	}
	m.sub = sub
	e.mu.Lock()
	e.members = append(e.members, m)
	e.mu.Unlock()
	return m, nil
}

// member joins with the defaults.
func (e *env) member(group, topic string) *member {
	e.Helper()
	return e.join(e.name("client"), driver.SubscribeSpec{Group: group, Topic: topic}, memberOptions{})
}

// enter and exit check that calls for one lane never overlap.
func (m *member) enter(call, lane string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[lane] {
		m.e.Errorf("%s(%s) of client %s began while another LaneEvents call for the lane was running", call, lane, m.id)
	}
	m.busy[lane] = true
}

func (m *member) exit(lane string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy[lane] = false
	m.wake()
}

func (m *member) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Assigned implements driver.LaneEvents.
func (m *member) Assigned(l driver.Lane) {
	name := l.Name()
	m.enter("Assigned", name)
	defer m.exit(name)
	if m.assigned != nil {
		m.assigned(l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &laneRun{lane: l, cancel: cancel, done: make(chan struct{})}
	m.mu.Lock()
	if m.lanes[name] != nil {
		m.e.Errorf("lane %s was assigned to client %s twice without Revoked or Lost in between", name, m.id)
	}
	m.lanes[name] = run
	m.log = append(m.log, "assigned "+name)
	m.mu.Unlock()
	if m.manual {
		close(run.done)
		return
	}
	m.wg.Go(func() {
		defer close(run.done)
		m.pump(ctx, l)
	})
}

// Revoked implements driver.LaneEvents.
func (m *member) Revoked(ctx context.Context, l driver.Lane) {
	name := l.Name()
	m.enter("Revoked", name)
	defer m.exit(name)
	m.end(ctx, l, "revoked")
	if m.revoked != nil {
		m.revoked(ctx, l)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, "released "+name)
}

// Lost implements driver.LaneEvents.
func (m *member) Lost(l driver.Lane) {
	name := l.Name()
	m.enter("Lost", name)
	defer m.exit(name)
	m.end(context.Background(), l, "lost") // waits for nothing
	if m.lost != nil {
		m.lost(l)
	}
}

func (m *member) end(ctx context.Context, l driver.Lane, how string) {
	name := l.Name()
	m.mu.Lock()
	run := m.lanes[name]
	delete(m.lanes, name)
	m.log = append(m.log, how+" "+name)
	m.mu.Unlock()
	if run == nil {
		if how == "revoked" {
			m.e.Errorf("lane %s was revoked from client %s, which does not own it", name, m.id)
		}
		return
	}
	run.cancel()
	if how == "lost" {
		return
	}
	select {
	case <-run.done:
	case <-ctx.Done():
	}
}

// pump fetches until the lane ends.
func (m *member) pump(ctx context.Context, l driver.Lane) {
	for ctx.Err() == nil {
		ds, err := l.Fetch(ctx, m.limit)
		m.record(l, ds)
		switch driver.CodeOf(err) {
		case driver.LaneLost, driver.Closed:
			return
		}
		if err != nil && ctx.Err() == nil {
			select { // the broker is away for a moment
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
}

func (m *member) record(l driver.Lane, ds []*driver.Delivery) {
	if len(ds) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range ds {
		m.got = append(m.got, arrival{m: m, lane: l, d: d, at: time.Now()})
	}
	m.wake()
}

// wait blocks until cond, called with the lock held, holds, or d has passed.
func (m *member) wait(d time.Duration, cond func() bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		m.mu.Lock()
		ok, changed := cond(), m.changed
		m.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

// take waits for the next n deliveries and fails if they do not come in time.
func (m *member) take(n int) []arrival {
	m.e.Helper()
	return m.takeWithin(n, m.e.lim.Within)
}

func (m *member) takeWithin(n int, d time.Duration) []arrival {
	m.e.Helper()
	ok := m.wait(d, func() bool { return len(m.got)-m.taken >= n })
	m.mu.Lock()
	fresh := slices.Clone(m.got[m.taken:])
	m.taken += min(n, len(fresh))
	m.mu.Unlock()
	if !ok {
		m.e.Fatalf("client %s of group %s on %s: waited %v for %d deliveries, got %d: %s",
			m.id, m.spec.Group, m.spec.Topic, d, n, len(fresh), describe(fresh))
	}
	return fresh[:n]
}

// none requires that nothing more arrives for the time the suite watches.
func (m *member) none(why string) {
	m.e.Helper()
	m.noneFor(m.e.lim.Quiet, why)
}

func (m *member) noneFor(d time.Duration, why string) {
	m.e.Helper()
	if m.wait(d, func() bool { return len(m.got) > m.taken }) {
		m.mu.Lock()
		extra := slices.Clone(m.got[m.taken:])
		m.taken = len(m.got)
		m.mu.Unlock()
		m.e.Errorf("client %s of group %s got %s; want nothing: %s", m.id, m.spec.Group, describe(extra), why)
	}
}

// owned returns the lanes that m has now, by name.
func (m *member) owned() []driver.Lane {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]driver.Lane, 0, len(m.lanes))
	for _, r := range m.lanes {
		out = append(out, r.lane)
	}
	slices.SortFunc(out, func(a, b driver.Lane) int { return strings.Compare(a.Name(), b.Name()) })
	return out
}

// fresh are the owned lanes that carry no redeliveries.
func (m *member) fresh() []driver.Lane {
	return slices.DeleteFunc(m.owned(), func(l driver.Lane) bool { return l.Info().Retry })
}

// awaitLanes waits until m owns at least n lanes that are no retry lanes.
func (m *member) awaitLanes(n int) []driver.Lane {
	m.e.Helper()
	m.e.await(fmt.Sprintf("client %s to own %d lanes of %s", m.id, n, m.spec.Topic), func() bool { return len(m.fresh()) >= n })
	return m.fresh()
}

// events returns the log of lane events.
func (m *member) events() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log)
}

// leave closes the subscription.
func (m *member) leave(ctx context.Context) error { return m.sub.Close(ctx) }

// close leaves the group and requires that it succeeds.
func (m *member) close() {
	m.e.Helper()
	m.e.must("close the subscription of "+m.id, m.leave(m.e.ctx()))
}

// stop ends pumps that a dead broker left behind and waits for them.
func (m *member) stop() {
	m.mu.Lock()
	for _, r := range m.lanes {
		r.cancel()
	}
	m.mu.Unlock()
	m.wg.Wait()
}

// settle ends a with the outcome and requires success.
func (a arrival) settle(o driver.Outcome, delay time.Duration) {
	a.m.e.Helper()
	a.m.e.must(fmt.Sprintf("settle %s as %v", a, o), a.try(driver.Settlement{Outcome: o, Delay: delay}))
}

func (a arrival) ack() { a.m.e.Helper(); a.settle(driver.Ack, 0) }

func (a arrival) try(s driver.Settlement) error {
	s.Delivery = a.d
	return a.lane.Settle(a.m.e.ctx(), []driver.Settlement{s})
}

func (a arrival) String() string {
	return fmt.Sprintf("%.20q (attempt %d, offset %d of %s)", a.d.Body, a.d.Attempt, a.d.Offset, a.lane.Name())
}

func describe(as []arrival) string {
	if len(as) > 8 {
		return fmt.Sprintf("%v and %d more", as[:8], len(as)-8)
	}
	return fmt.Sprint(as)
}

// ackAll acknowledges all of as.
func ackAll(as []arrival) {
	for _, a := range as {
		a.m.e.Helper()
		a.ack()
	}
}

// bodies lists the bodies in the order of arrival.
func bodies(as []arrival) []string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = string(a.d.Body)
	}
	return out
}
