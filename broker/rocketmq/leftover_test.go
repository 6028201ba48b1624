package rocketmq_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// vanish makes one of several masters die: it is in no route any more, and has
// lost every position when it is back.
func (c *cluster) vanish(name string) {
	p := c.brokers[name]
	p.master.set(down)
	c.with(func() {
		p.deposed = true
		clear(p.offsets)
		clear(p.locks)
		clear(p.members)
	})
}

func (c *cluster) comeBack(name string) {
	c.with(func() { c.brokers[name].deposed = false })
	c.brokers[name].master.set(up)
}

// A master that was killed came back without the first position of a group that
// begins at the end, while another one had stayed in the route: what waited there
// was passed over, and what came meanwhile, and for a group that begins at the
// start all came again.
func TestTrap_BacklogOfALostMasterIsSkipped(t *testing.T) {
	t.Parallel()
	for _, from := range []driver.PositionKind{driver.Latest, driver.Earliest} {
		for _, ordered := range []bool{false, true} {
			t.Run(fmt.Sprintf("from=%d/ordered=%v", from, ordered), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { testLostMaster(t, from, ordered) })
			})
		}
	}
}

func testLostMaster(t *testing.T, from driver.PositionKind, ordered bool) {
	c := newCluster(t, false, "a", "b")
	c.topic("t", 1)
	conn := c.open(rocketmq.Config{CommitEvery: time.Second, Prefetch: 4}, "client")
	defer func() { _ = conn.Close(context.Background()) }()
	m := newConsumer(t)
	m.limit = 1
	m.handle = func(driver.Lane, *driver.Delivery) driver.Settlement {
		time.Sleep(500 * time.Millisecond)
		return driver.Settlement{Outcome: driver.Ack}
	}
	m.join(conn, driver.SubscribeSpec{Group: "g", Topic: "t", Ordered: ordered, From: driver.Position{Kind: from}})
	time.Sleep(time.Second)
	fill(t, conn, "t", 0, 60) // 15 s of work on each queue
	time.Sleep(4 * time.Second)
	c.vanish("b")
	time.Sleep(40 * time.Second)
	if got := m.names(); !slices.Equal(got, []string{"t/a/0"}) {
		t.Fatalf("the lanes are %q, b is not in the route any more", got)
	}
	began := time.Now()
	c.comeBack("b")
	for len(m.names()) < 2 && time.Since(began) < time.Minute {
		time.Sleep(100 * time.Millisecond)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("its queue was served %v after b was back", took)
	}
	fill(t, conn, "t", 60, 10)
	time.Sleep(time.Minute)
	got := m.bodies()
	slices.Sort(got)
	if !slices.Equal(got, numbered(70)) {
		t.Errorf("of 70 messages there came %d: %q", len(got), got)
	}
	c.with(func() {
		for name, p := range c.brokers {
			if at := p.offsets[offsetKey("g", "t", 0)]; at != 35 {
				t.Errorf("the position on %s is %d, want 35", name, at)
			}
		}
	})
}

// The queue of such a master may be another member's when it is back: the one
// that was there before it says how far that is.
func TestTrap_NewOwnerOfALostMasterBeginsAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a", "b")
		c.topic("t", 1)
		first := c.open(rocketmq.Config{CommitEvery: time.Second}, "first")
		defer func() { _ = first.Close(context.Background()) }()
		before := newConsumer(t)
		s := driver.SubscribeSpec{Group: "g", Topic: "t", From: driver.Position{Kind: driver.Latest}}
		before.join(first, s)
		time.Sleep(time.Second)
		fill(t, first, "t", 0, 20)
		time.Sleep(3 * time.Second)
		c.vanish("b")
		time.Sleep(40 * time.Second)
		second := c.open(rocketmq.Config{CommitEvery: time.Second}, "second") // it gets the queue of b
		defer func() { _ = second.Close(context.Background()) }()
		after := newConsumer(t)
		after.join(second, s)
		time.Sleep(5 * time.Second)
		c.comeBack("b")
		time.Sleep(40 * time.Second)
		if got := after.names(); !slices.Equal(got, []string{"t/b/0"}) {
			t.Fatalf("the lanes of the second member are %q", got)
		}
		c.with(func() {
			if at := c.brokers["b"].offsets[offsetKey("g", "t", 0)]; at != 10 {
				t.Errorf("the position on b is %d, want 10", at)
			}
		})
		if got := append(before.bodies(), after.bodies()...); len(got) != 20 {
			t.Errorf("of 20 messages there came %q", got)
		}
	})
}

// A topic that is made anew is not begun where the one before was.
func TestTrap_PositionOfTheTopicBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, false, "a", "b")
		c.topic("t", 1)
		conn := c.open(rocketmq.Config{CommitEvery: time.Second}, "client")
		defer func() { _ = conn.Close(context.Background()) }()
		m := newConsumer(t)
		m.join(conn, spec)
		time.Sleep(time.Second)
		fill(t, conn, "t", 0, 20)
		time.Sleep(3 * time.Second)
		c.vanish("b")
		time.Sleep(40 * time.Second)
		c.with(func() { clear(c.brokers["b"].logs) })
		c.comeBack("b")
		time.Sleep(5 * time.Second)
		fill(t, conn, "t", 20, 8)
		time.Sleep(40 * time.Second)
		if got := m.bodies(); len(got) != 28 {
			t.Errorf("of 28 messages there came %d: %q", len(got), got)
		}
	})
}
