package embedded_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// kit is a broker on a file system in memory that can crash.
type kit struct {
	testing.TB
	cfg  embedded.Config
	fs   *vfs.Mem
	b    *embedded.Broker
	conn driver.Conn
}

func newKit(t testing.TB, cfg embedded.Config) *kit {
	k := &kit{TB: t, cfg: cfg, fs: vfs.NewMem()}
	k.open()
	t.Cleanup(func() { _ = k.b.Close(context.Background()) })
	return k
}

func (k *kit) open() {
	k.Helper()
	k.cfg.FS = k.fs
	b, err := embedded.Open("", k.cfg)
	if err != nil {
		k.Fatalf("open: %v", err)
	}
	k.b, k.conn = b, b.Connect("main")
}

// crash ends the broker like a power cut that keeps nothing unsynced.
func (k *kit) crash() {
	k.Helper()
	after := k.fs.CrashClone(vfs.CrashOptions{})
	gone, cancel := context.WithCancel(k.Context())
	cancel()
	_ = k.b.Close(gone)
	k.fs = after
	k.open()
}

func (k *kit) reopen() {
	k.Helper()
	k.must("close", k.b.Close(k.Context()))
	k.open()
}

func (k *kit) must(what string, err error) {
	k.Helper()
	if err != nil {
		k.Fatalf("%s: %v", what, err)
	}
}

func (k *kit) send(ms ...*driver.Message) []driver.SendResult {
	k.Helper()
	rs := k.conn.Send(k.Context(), driver.SendRequest{Messages: ms})
	for _, r := range rs {
		k.must("send", r.Err)
	}
	return rs
}

func (k *kit) sendN(topic string, n int) {
	k.Helper()
	for i := range n {
		k.send(&driver.Message{Topic: topic, Body: fmt.Appendf(nil, "m%d", i)})
	}
}

func wantCode(t testing.TB, what string, err error, want driver.Code) {
	t.Helper()
	if got := driver.CodeOf(err); got != want {
		t.Errorf("%s: got %v (%v), want %v", what, err, got, want)
	}
}

// consumer is a member that fetches when told to.
type consumer struct {
	k   *kit
	sub driver.Subscription

	mu    sync.Mutex
	lanes map[string]driver.Lane
	given int                                      // calls of Assigned
	hold  func(ctx context.Context, l driver.Lane) // Revoked
}

func (c *consumer) Assigned(l driver.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes[l.Name()] = l
	c.given++
}

func (c *consumer) Revoked(ctx context.Context, l driver.Lane) {
	if c.hold != nil {
		c.hold(ctx, l)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lanes, l.Name())
}

func (c *consumer) Lost(driver.Lane) {}

func (k *kit) join(conn driver.Conn, s driver.SubscribeSpec) *consumer {
	k.Helper()
	c := &consumer{k: k, lanes: map[string]driver.Lane{}}
	sub, err := conn.Subscribe(k.Context(), s, c)
	k.must("subscribe", err)
	c.sub = sub
	return c
}

func (c *consumer) lane(name string) driver.Lane {
	c.k.Helper()
	for range 1000 {
		c.mu.Lock()
		l := c.lanes[name]
		c.mu.Unlock()
		if l != nil {
			return l
		}
		time.Sleep(5 * time.Millisecond)
	}
	c.k.Fatalf("lane %s was not assigned", name)
	return nil
}

func (c *consumer) owned() []driver.Lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []driver.Lane
	for _, l := range c.lanes {
		out = append(out, l)
	}
	return out
}

// fetch answers exactly n deliveries of a lane.
func (c *consumer) fetch(lane string, n int) []*driver.Delivery {
	c.k.Helper()
	l := c.lane(lane)
	var out []*driver.Delivery
	for deadline := time.Now().Add(30 * time.Hour); len(out) < n && time.Now().Before(deadline); {
		ds, err := l.Fetch(c.k.Context(), n-len(out))
		c.k.must("fetch from "+lane, err)
		out = append(out, ds...)
	}
	if len(out) < n {
		c.k.Fatalf("lane %s gave %d deliveries, want %d", lane, len(out), n)
	}
	return out
}

// none requires that a lane has nothing for about a second.
func (c *consumer) none(lane, why string) {
	c.k.Helper()
	ds, err := c.lane(lane).Fetch(c.k.Context(), 10)
	c.k.must("fetch from "+lane, err)
	if len(ds) > 0 {
		c.k.Errorf("lane %s gave %q: %s", lane, bodies(ds), why)
	}
}

func (c *consumer) settle(lane string, o driver.Outcome, delay time.Duration, ds ...*driver.Delivery) {
	c.k.Helper()
	var ss []driver.Settlement
	for _, d := range ds {
		ss = append(ss, driver.Settlement{Delivery: d, Outcome: o, Delay: delay})
	}
	c.k.must("settle on "+lane, c.lane(lane).Settle(c.k.Context(), ss))
}

func (c *consumer) close() {
	c.k.Helper()
	c.k.must("leave", c.sub.Close(c.k.Context()))
}

func bodies(ds []*driver.Delivery) []string {
	var out []string
	for _, d := range ds {
		out = append(out, string(d.Body))
	}
	return out
}
