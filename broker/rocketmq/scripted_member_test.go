package rocketmq_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
)

// consumer is a member of a group: it fetches from every lane it has and hands
// each delivery to handle, by default to be acknowledged.
type consumer struct {
	t      testing.TB
	handle func(l driver.Lane, d *driver.Delivery) driver.Settlement
	limit  int // messages of one Fetch

	mu    sync.Mutex
	lanes map[driver.Lane]*reading
	got   []string // bodies, in the order of their arrival
	errs  []error
}

// reading is the goroutine of one lane.
type reading struct {
	stop context.CancelFunc
	done chan struct{}
}

func newConsumer(t testing.TB) *consumer {
	return &consumer{t: t, limit: 32, lanes: map[driver.Lane]*reading{}}
}

// join subscribes.
func (c *consumer) join(conn driver.Conn, s driver.SubscribeSpec) driver.Subscription {
	c.t.Helper()
	sub, err := conn.Subscribe(context.Background(), s, c)
	if err != nil {
		c.t.Fatalf("subscribe: %v", err)
	}
	return sub
}

func (c *consumer) Assigned(l driver.Lane) {
	ctx, stop := context.WithCancel(context.Background())
	r := &reading{stop: stop, done: make(chan struct{})}
	c.mu.Lock()
	c.lanes[l] = r
	c.mu.Unlock()
	go func() {
		defer close(r.done)
		c.read(ctx, l)
	}()
}

func (c *consumer) read(ctx context.Context, l driver.Lane) {
	for {
		ds, err := l.Fetch(ctx, c.limit)
		if ctx.Err() != nil || driver.CodeOf(err) == driver.LaneLost {
			return
		}
		if err != nil {
			c.mu.Lock()
			c.errs = append(c.errs, err)
			c.mu.Unlock()
		}
		for _, d := range ds {
			c.mu.Lock()
			c.got = append(c.got, string(d.Body))
			c.mu.Unlock()
			s := driver.Settlement{Outcome: driver.Ack}
			if c.handle != nil {
				s = c.handle(l, d)
			}
			s.Delivery = d
			if err := l.Settle(context.Background(), []driver.Settlement{s}); err != nil {
				c.mu.Lock()
				c.errs = append(c.errs, err)
				c.mu.Unlock()
			}
		}
	}
}

func (c *consumer) Revoked(_ context.Context, l driver.Lane) { c.end(l) }
func (c *consumer) Lost(l driver.Lane)                       { c.end(l) }

func (c *consumer) end(l driver.Lane) {
	c.mu.Lock()
	r := c.lanes[l]
	delete(c.lanes, l)
	c.mu.Unlock()
	if r != nil {
		r.stop()
		<-r.done
	}
}

// came are the bodies that came, in their order.
func (c *consumer) came() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// bodies are those that came, sorted.
func (c *consumer) bodies() []string {
	out := c.came()
	slices.Sort(out)
	return out
}

// names are those of the lanes that the consumer has, sorted.
func (c *consumer) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for l := range c.lanes {
		if !l.Info().Retry {
			out = append(out, l.Name())
		}
	}
	slices.Sort(out)
	return out
}

func (c *consumer) errors() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.errs...)
}

// fill sends n messages m0… and stops at an error.
func fill(t testing.TB, conn driver.Conn, topic string, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if r := sendOne(context.Background(), conn, &driver.Message{Topic: topic, Body: fmt.Appendf(nil, "m%03d", i)}); r.Err != nil {
			t.Fatalf("send %d: %v", i, r.Err)
		}
	}
}

// numbered are the bodies that fill sends.
func numbered(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("m%03d", i))
	}
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }
