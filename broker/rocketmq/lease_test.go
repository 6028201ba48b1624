package rocketmq_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

var inOrder = driver.SubscribeSpec{Group: "g", Topic: "t", Ordered: true}

// holder is a member that keeps what it fetches in its hands.
type holder struct {
	lanes chan driver.Lane
	// settle is closed when Revoked may return before its ctx ends.
	settle chan struct{}

	mu     sync.Mutex
	events []string
}

func newHolder() *holder {
	return &holder{lanes: make(chan driver.Lane, 8), settle: make(chan struct{})}
}

func (h *holder) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, what)
}

func (h *holder) Assigned(l driver.Lane) { h.note("assigned"); h.lanes <- l }
func (h *holder) Lost(driver.Lane)       { h.note("lost") }

func (h *holder) Revoked(ctx context.Context, _ driver.Lane) {
	select {
	case <-h.settle:
		h.note("revoked")
	case <-ctx.Done():
		h.note("revoked in vain")
	}
}

func (h *holder) want(t *testing.T, when string, events ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.events, events) {
		t.Errorf("%s: the events are %q, want %q", when, h.events, events)
	}
}

// atWork is a member that has settled two of ten messages in order and has the
// third with a handler; no position is stored before the lane ends.
func atWork(t *testing.T) (c *cluster, h *holder, sub driver.Subscription, l driver.Lane, d *driver.Delivery) {
	t.Helper()
	c = newCluster(t, false, "a")
	c.topic("t", 1)
	conn := c.open(rocketmq.Config{CommitEvery: time.Hour, RevokeTimeout: time.Minute}, "client")
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	fill(t, conn, "t", 0, 10)
	h = newHolder()
	sub, err := conn.Subscribe(t.Context(), inOrder, h)
	if err != nil {
		t.Fatal(err)
	}
	l = <-h.lanes
	time.Sleep(time.Second)
	ds, err := l.Fetch(t.Context(), 3)
	if err != nil || len(ds) != 3 {
		t.Fatalf("fetched %d: %v", len(ds), err)
	}
	for _, d := range ds[:2] {
		if err := ack(l, d); err != nil {
			t.Fatal(err)
		}
	}
	return c, h, sub, l, ds[2]
}

func ack(l driver.Lane, d *driver.Delivery) error {
	return l.Settle(context.Background(), []driver.Settlement{{Delivery: d, Outcome: driver.Ack}})
}

// taken gives the queue to somebody who has done everything there is.
func (c *cluster) taken() {
	c.with(func() {
		a := c.brokers["a"]
		a.locks["g@t/0"] = locked{"somebody", time.Now().Add(time.Hour)}
		a.offsets[offsetKey("g", "t", 0)] = 10
	})
}

// wantLost checks that a lane is over for its old owner and that the position
// of the new one stays.
func (c *cluster) wantLost(t *testing.T, l driver.Lane, d *driver.Delivery) {
	t.Helper()
	if err := ack(l, d); driver.CodeOf(err) != driver.LaneLost {
		t.Errorf("settle on a lane that was lost: %v", err)
	}
	if ds, err := l.Fetch(t.Context(), 1); driver.CodeOf(err) != driver.LaneLost {
		t.Errorf("fetch from a lane that was lost: %d messages, %v", len(ds), err)
	}
	if err := l.Seek(t.Context(), driver.Position{}); driver.CodeOf(err) != driver.LaneLost {
		t.Errorf("seek on a lane that was lost: %v", err)
	}
	time.Sleep(time.Minute)
	if at := c.position(); at != 10 {
		t.Errorf("the member without the lock put the position back to %d; its owner, which is idle, was at 10", at)
	}
}

// A member whose lock somebody else had got stored its last position all the
// same, behind that of the new owner.
func TestTrap_OldOwnerCommitsLate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"the broker gave the lock away":        testLockTaken,
		"the lock was not renewed in time":     testLockExpired,
		"the lock is lost while it is leaving": testLockTakenLeaving,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, test)
		})
	}
}

func testLockTaken(t *testing.T) {
	c, h, _, l, d := atWork(t)
	c.taken()
	time.Sleep(6 * time.Second)
	h.want(t, "behind the next renewal", "assigned", "lost")
	c.wantLost(t, l, d)
	c.with(func() { delete(c.brokers["a"].locks, "g@t/0") })
	time.Sleep(time.Second)
	h.want(t, "the other has left", "assigned", "lost", "assigned")
	conn := c.open(rocketmq.Config{}, "sender")
	defer func() { _ = conn.Close(context.Background()) }()
	fill(t, conn, "t", 10, 1)
	if ds, err := (<-h.lanes).Fetch(t.Context(), 5); err != nil || len(ds) != 1 || string(ds[0].Body) != "m010" {
		t.Errorf("the lane goes on with %d messages, %v; want m010", len(ds), err)
	}
}

func testLockExpired(t *testing.T) {
	c, h, _, l, d := atWork(t)
	busy := func(is bool) { c.with(func() { c.brokers["a"].lockless = is }) }
	busy(true)
	time.Sleep(20 * time.Second)
	busy(false)
	time.Sleep(time.Minute)
	h.want(t, "renewals failed for 20s", "assigned")
	busy(true)
	time.Sleep(20 * time.Second)
	h.want(t, "20s without a renewal", "assigned")
	fetch := func() int {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ds, _ := l.Fetch(ctx, 1)
		return len(ds)
	}
	time.Sleep(11 * time.Second)
	if n := fetch(); n != 0 {
		t.Errorf("%d messages began on a lane whose lock does not count", n)
	}
	h.want(t, "32s without a renewal", "assigned")
	busy(false)
	time.Sleep(6 * time.Second)
	if n := fetch(); n != 1 {
		t.Errorf("the lock counts again, and %d messages began", n)
	}
	busy(true)
	time.Sleep(54 * time.Second)
	h.want(t, "almost a minute without a renewal", "assigned")
	time.Sleep(7 * time.Second)
	h.want(t, "more than a minute without a renewal", "assigned", "lost")
	c.taken()
	busy(false)
	c.wantLost(t, l, d)
	h.want(t, "somebody else has the lock", "assigned", "lost")
}

func testLockTakenLeaving(t *testing.T) {
	c, h, sub, l, d := atWork(t)
	left := make(chan error)
	go func() { left <- sub.Close(context.Background()) }()
	time.Sleep(time.Second)
	c.taken()
	began := time.Now()
	if err := <-left; driver.CodeOf(err) != driver.LaneLost || time.Since(began) > 10*time.Second {
		t.Errorf("Close took %v: %v; want an error that tells that the last position was not stored", time.Since(began), err)
	}
	h.want(t, "the lock was lost while Revoked was at work", "assigned", "revoked in vain", "lost")
	c.wantLost(t, l, d)
}

// The lock of a lane is renewed while its member settles its last work, however
// long that may take.
func TestLease_LongRevocation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, h, sub, l, d := atWork(t)
		left := make(chan error)
		go func() { left <- sub.Close(context.Background()) }()
		time.Sleep(50 * time.Second)
		if err := ack(l, d); err != nil {
			t.Errorf("settle 50s after the end began, with a minute to do it: %v", err)
		}
		close(h.settle)
		if err := <-left; err != nil {
			t.Errorf("close: %v", err)
		}
		h.want(t, "all was settled", "assigned", "revoked")
		if at := c.position(); at != 3 {
			t.Errorf("the position is %d, want 3", at)
		}
		c.with(func() {
			if n := len(c.brokers["a"].locks); n > 0 {
				t.Errorf("%d locks are left", n)
			}
		})
	})
}
