package faulty

import (
	"context"
	"slices"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// Driver wraps d so that its connections suffer from f.
func Driver(d driver.Driver, f *Faults) driver.Driver { return wrappedDriver{d, f} }

type wrappedDriver struct {
	driver.Driver
	faults *Faults
}

// Open implements [driver.Driver].
func (w wrappedDriver) Open(ctx context.Context, cfg driver.Config) (c driver.Conn, err error) {
	err = w.faults.around(ctx, nil, Open, cfg.ClientID, func() (err error) {
		c, err = w.Driver.Open(ctx, cfg)
		return err
	})
	if err != nil {
		if c != nil { // opened, but the answer was lost
			_ = c.Close(ctx)
		}
		return nil, err
	}
	return Conn(c, w.faults), nil
}

// Conn wraps c so that it suffers from f.
func Conn(c driver.Conn, f *Faults) driver.Conn {
	w := &conn{inner: c, faults: f, dead: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, w)
	return w
}

type conn struct {
	inner  driver.Conn
	faults *Faults
	dead   chan struct{} // closed by Kill
	kill   sync.Once

	mu   sync.Mutex
	subs []*subscription
}

func (c *conn) Capabilities() driver.Capabilities { return c.inner.Capabilities() }

// Send implements [driver.Conn]. A fault hits all messages of the call.
func (c *conn) Send(ctx context.Context, req driver.SendRequest) []driver.SendResult {
	var rs []driver.SendResult
	topic := ""
	if len(req.Messages) > 0 {
		topic = req.Messages[0].Topic
	}
	err := c.faults.around(ctx, c.dead, Send, topic, func() error {
		again := driver.SendRequest{NoAck: req.NoAck}
		for _, m := range req.Messages {
			if c.faults.takeDouble(1) {
				again.Messages = append(again.Messages, m)
			}
		}
		rs = c.inner.Send(ctx, req)
		for i, m := range again.Messages { // the copy has the id of the original
			copied := *m
			if j := slices.Index(req.Messages, m); j >= 0 && j < len(rs) {
				copied.ID = rs[j].ID
			}
			again.Messages[i] = &copied
		}
		if len(again.Messages) > 0 {
			c.inner.Send(ctx, again)
		}
		return nil
	})
	if err == nil {
		return rs
	}
	out := make([]driver.SendResult, len(req.Messages))
	for i, m := range req.Messages {
		out[i] = driver.SendResult{ID: m.ID, Offset: -1, Err: err}
		if i < len(rs) {
			out[i].ID = rs[i].ID
			if rs[i].Err != nil { // it was refused; that answer is lost as well
				out[i].Err = err
			}
		}
	}
	return out
}

func (c *conn) Subscribe(ctx context.Context, s driver.SubscribeSpec, ev driver.LaneEvents) (driver.Subscription, error) {
	sub := &subscription{conn: c, ev: ev, lanes: map[driver.Lane]*lane{}}
	err := c.faults.around(ctx, c.dead, Subscribe, s.Topic, func() (err error) {
		sub.inner, err = c.inner.Subscribe(ctx, s, sub)
		return err
	})
	if err != nil {
		if sub.inner != nil {
			_ = sub.inner.Close(ctx)
		}
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs = append(c.subs, sub)
	return sub, nil
}

func (c *conn) Extensions() driver.Extensions {
	x := c.inner.Extensions()
	if x.Tx != nil {
		x.Tx = transactor{c, x.Tx}
	}
	if x.Topics != nil {
		x.Topics = topicAdmin{c, x.Topics}
	}
	if x.Groups != nil {
		x.Groups = groupAdmin{c, x.Groups}
	}
	if x.Query != nil {
		x.Query = messageQuery{c, x.Query}
	}
	if x.Requests != nil {
		x.Requests = requester{c, x.Requests}
	}
	if x.Recall != nil {
		x.Recall = recaller{c, x.Recall}
	}
	return x
}

func (c *conn) Health(ctx context.Context) error {
	return c.faults.around(ctx, c.dead, Health, "", func() error { return c.inner.Health(ctx) })
}

// Close always closes the inner Conn, so that nothing leaks.
func (c *conn) Close(ctx context.Context) error {
	hit := c.faults.meet(Close, "")
	c.faults.mu.Lock()
	c.faults.conns = slices.DeleteFunc(c.faults.conns, func(o *conn) bool { return o == c })
	c.faults.mu.Unlock()
	err := c.inner.Close(ctx)
	for _, x := range hit {
		if e := x.pass(ctx, nil, Close.String()); e != nil {
			return e
		}
		if !x.slow() {
			return x.fail(Close.String())
		}
	}
	return err
}

// Kill cuts every connection that is open now, as a network does: calls that
// are waiting and calls that follow answer Unavailable, and every lane is lost.
// The connections stay dead; a [Driver] opens new ones. What was fetched and
// not settled comes again elsewhere.
func (f *Faults) Kill(ctx context.Context) {
	f.mu.Lock()
	conns := slices.Clone(f.conns)
	f.conns = nil
	f.mu.Unlock()
	for _, c := range conns {
		c.kill.Do(func() { close(c.dead) })
		c.mu.Lock()
		subs := slices.Clone(c.subs)
		c.mu.Unlock()
		for _, s := range subs {
			s.lose(ctx, nil, false)
		}
		_ = c.inner.Close(ctx) // the broker notices that the client is gone
	}
}

// LoseLanes takes away, without asking, every lane whose name match selects
// (nil: all) on every open connection: LaneEvents.Lost is called, and the lane
// answers LaneLost. With regain the same member gets it assigned again at once;
// without, the broker believes that the member still has it, as after a
// partition, and nobody is served from it until the member leaves. What was
// fetched and not settled comes again to the next owner, no attempt counted.
// It returns how many lanes were lost.
func (f *Faults) LoseLanes(ctx context.Context, match func(name string) bool, regain bool) int {
	f.mu.Lock()
	conns := slices.Clone(f.conns)
	f.mu.Unlock()
	n := 0
	for _, c := range conns {
		c.mu.Lock()
		subs := slices.Clone(c.subs)
		c.mu.Unlock()
		for _, s := range subs {
			n += s.lose(ctx, match, regain)
		}
	}
	return n
}
