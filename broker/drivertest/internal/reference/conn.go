package reference

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Conn is one client.
type Conn struct {
	b      *Broker
	id     string
	root   context.Context // ends with the Conn
	cancel context.CancelFunc
	subs   map[*subscription]bool // guarded by the lock of the broker
	close  sync.Mutex
	calls  sync.WaitGroup
}

func (c *Conn) closed(op string) error {
	if c.root.Err() != nil {
		return driver.Errorf(driver.Closed, op, "the client is closed")
	}
	return nil
}

// Capabilities implements [driver.Conn].
func (c *Conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		System: "reference", Delay: driver.AnyTime, RetryDelay: driver.AnyTime, Tags: true, SQL: true, OneWay: true,
		Broadcast: true, Ordered: true, Queues: true, DecidesOnce: true, Durable: true, MaxBody: maxBody, MaxBatch: maxBatch,
	}
}

// Extensions implements [driver.Conn].
func (c *Conn) Extensions() driver.Extensions {
	return driver.Extensions{Tx: transactor{c}, Topics: admin{c}, Groups: admin{c}, Query: admin{c}, Requests: requester{c}, Recall: recaller{c}}
}

// Health implements [driver.Conn].
func (c *Conn) Health(context.Context) error { return c.closed("health") }

// Send implements [driver.Conn].
func (c *Conn) Send(ctx context.Context, req driver.SendRequest) []driver.SendResult {
	out := make([]driver.SendResult, len(req.Messages))
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for i, m := range req.Messages {
		out[i] = c.send(ctx, m, req)
	}
	return out
}

func (c *Conn) send(ctx context.Context, m *driver.Message, req driver.SendRequest) driver.SendResult {
	r := driver.SendResult{ID: m.ID, Offset: -1}
	switch {
	case c.closed("send") != nil:
		r.Err = c.closed("send")
	case ctx.Err() != nil:
		r.Err = driver.FromContext(ctx, "send to "+m.Topic, false)
	case len(req.Messages) > maxBatch:
		r.Err = invalid("send", "%d messages, at most %d are allowed", len(req.Messages), maxBatch)
	default:
		r.Err = c.b.check(m)
	}
	if r.Err != nil {
		return r
	}
	s := &stored{m: clone(m), attempt: 1, due: m.DeliverAt, into: c.b.route(m)}
	if s.m.ID == "" {
		s.m.ID = c.b.id()
	}
	r.ID, r.Lane, r.Queue, r.Status = s.m.ID, laneName(s.into), s.into.num, driver.Stored
	r.Offset, r.OffsetID = c.b.put(s), s.offsetID
	if r.Offset < 0 {
		r.Recall = c.b.recallable(s)
	}
	if req.NoAck {
		r.Status = driver.Unconfirmed
	}
	return r
}

// Close implements [driver.Conn].
func (c *Conn) Close(ctx context.Context) error {
	c.close.Lock() // a second Close waits for the first
	defer c.close.Unlock()
	c.b.mu.Lock()
	subs := slices.Collect(maps.Keys(c.subs))
	c.b.mu.Unlock()
	for _, s := range subs {
		_ = s.Close(ctx)
	}
	c.die()
	return nil
}

// die ends everything without ceremony.
func (c *Conn) die() {
	c.cancel()
	c.b.mu.Lock()
	delete(c.b.conns, c)
	subs := slices.Collect(maps.Keys(c.subs))
	clear(c.subs)
	c.b.wake()
	c.b.mu.Unlock()
	for _, s := range subs {
		s.lose()
	}
	c.calls.Wait()
}

type half struct {
	h        driver.Half
	s        *stored
	decision driver.Decision
	checks   int
	asking   bool
	next     time.Time
	parked   time.Time
}

// checks is one member of a producer group.
type checks struct {
	c    *Conn
	busy int
}

type transactor struct{ c *Conn }

func (t transactor) Prepare(_ context.Context, group string, m *driver.Message) (driver.Half, error) {
	b := t.c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := t.c.closed("prepare"); err != nil {
		return driver.Half{}, err
	}
	if err := driver.ValidGroup(group); err != nil {
		return driver.Half{}, invalid("prepare", "%w", err)
	}
	if err := b.check(m); err != nil {
		return driver.Half{}, err
	}
	s := &stored{m: clone(m), attempt: 1, into: b.route(m), at: time.Now()}
	if s.m.ID == "" {
		s.m.ID = b.id()
	}
	key := group + "\x00" + s.m.ID
	if h := b.halves[key]; h != nil {
		return h.h, nil
	}
	h := &half{h: driver.Half{TxID: s.m.ID, Group: group, Handle: []byte(key)}, s: s, next: time.Now().Add(b.cfg.CheckAfter)}
	b.halves[key] = h
	b.order = append(b.order, h)
	b.wake()
	return h.h, nil
}

func (t transactor) Resolve(_ context.Context, h driver.Half, d driver.Decision) error {
	b := t.c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := t.c.closed("resolve"); err != nil {
		return err
	}
	x := b.halves[h.Group+"\x00"+h.TxID]
	switch {
	case d != driver.Commit && d != driver.Rollback:
		return invalid("resolve "+h.TxID, "decision %v", d)
	case x == nil || string(x.h.Handle) != string(h.Handle):
		return driver.Errorf(driver.NotFound, "resolve "+h.TxID, "no such half message of group %s", h.Group)
	}
	return b.resolve(x, d)
}

func (b *Broker) resolve(x *half, d driver.Decision) error {
	switch x.decision {
	case d:
		return nil
	case driver.Undecided:
		x.decision = d
		if d == driver.Commit {
			b.put(x.s)
		}
		return nil
	default:
		return driver.Errorf(driver.FailedPrecondition, "resolve "+x.h.TxID, "it was decided: %v", x.decision)
	}
}

func (t transactor) Checks(ctx context.Context, group string, parallel int, f driver.CheckFunc) error {
	b := t.c.b
	if err := driver.ValidGroup(group); err != nil {
		return invalid("checks", "%w", err)
	}
	b.mu.Lock()
	if err := t.c.closed("checks"); err != nil {
		b.mu.Unlock()
		return err
	}
	me := &checks{c: t.c}
	b.checks[group] = append(b.checks[group], me)
	t.c.calls.Add(1)
	b.mu.Unlock()
	defer t.c.calls.Done()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		b.mu.Lock()
		if ctx.Err() != nil || t.c.root.Err() != nil {
			b.checks[group] = slices.DeleteFunc(b.checks[group], func(o *checks) bool { return o == me })
			b.mu.Unlock()
			return map[bool]error{true: nil, false: t.c.closed("checks")}[ctx.Err() != nil]
		}
		x, next := b.due(group, me, parallel)
		changed := b.changed
		b.mu.Unlock()
		if x == nil {
			wait(ctx, changed, next)
			continue
		}
		wg.Go(func() { b.ask(ctx, x, me, f) })
	}
}

// due picks a half message to ask for, else tells how long to wait.
func (b *Broker) due(group string, me *checks, parallel int) (*half, time.Duration) {
	next := time.Second
	if me.busy >= max(1, parallel) {
		return nil, next
	}
	for _, x := range b.order {
		if x.h.Group != group || x.decision != driver.Undecided || x.asking || !x.parked.IsZero() {
			continue
		}
		if d := time.Until(x.next); d > 0 {
			next = min(next, d)
			continue
		}
		x.asking = true
		x.checks++
		me.busy++
		return x, 0
	}
	return nil, next
}

func (b *Broker) ask(ctx context.Context, x *half, me *checks, f driver.CheckFunc) {
	b.mu.Lock()
	d, n := x.s.delivery(-1, nil), x.checks
	b.mu.Unlock()
	answer := f(ctx, x.h, d, n)
	b.mu.Lock()
	defer b.mu.Unlock()
	x.asking = false
	x.next = time.Now().Add(b.cfg.CheckEvery)
	me.busy--
	if answer == driver.Commit || answer == driver.Rollback {
		_ = b.resolve(x, answer) // decided meanwhile: the first decision stands
	} else if x.checks >= b.cfg.CheckMax && x.decision == driver.Undecided {
		x.parked = time.Now()
	}
	b.wake()
}

func (t transactor) Parked(_ context.Context, limit int) ([]driver.ParkedHalf, error) {
	b := t.c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := t.c.closed("parked"); err != nil {
		return nil, err
	}
	var out []driver.ParkedHalf
	for _, x := range b.order {
		if !x.parked.IsZero() && x.decision == driver.Undecided && len(out) < limit {
			out = append(out, driver.ParkedHalf{Half: x.h, Message: x.s.delivery(-1, nil), Checks: x.checks, ParkedAt: x.parked})
		}
	}
	return out, nil
}
