package apache

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/rocketmq"
	"github.com/sluicemq/sluice/integration/apache/internal/ledger"
	"github.com/sluicemq/sluice/integration/internal/peer"
)

const (
	senders = 4
	// pace is the pause of a sender between two messages.
	pace = 20 * time.Millisecond
	// deadline is what a sender gives one attempt, and late how much later than
	// that it may be told.
	deadline = 2 * time.Second
	late     = time.Second
	// patience bounds what has to happen when the cluster is whole again.
	patience = time.Minute
)

// alert is how clients connect that are to notice soon what happens.
var alert = rocketmq.Config{
	Timeout: time.Second, RouteEvery: time.Second, HeartbeatEvery: time.Second, RebalanceEvery: time.Second,
	CommitEvery: 200 * time.Millisecond, RevokeTimeout: 2 * time.Second, PullWait: time.Second,
}

// load is senders and members of a group that are at work while something
// happens to the cluster.
type load struct {
	t            *testing.T
	ledger       *ledger.Ledger
	topic, group string
	connect      func(ctx context.Context, id string) (driver.Conn, error)
	conns        []driver.Conn
	members      []*member
	acknowledged atomic.Int64
	longest      atomic.Int64 // nanoseconds of the slowest attempt

	stop    context.CancelFunc
	sending sync.WaitGroup
}

// begin starts a load with that many members on a topic of its own.
func begin(t *testing.T, c *peer.Cluster, members int) *load {
	t.Helper()
	l := &load{t: t, ledger: ledger.New(), connect: connect(t, c, alert)}
	l.topic, l.group = space()+"load", space()+"group"
	main := l.open("sender")
	if err := main.Extensions().Topics.CreateTopic(t.Context(), driver.TopicInfo{Name: l.topic, Queues: 8}); err != nil {
		t.Fatal(err)
	}
	for i := range members {
		l.join(fmt.Sprint("member-", i+1), 0)
	}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	t.Cleanup(l.stop)
	for i := range senders {
		l.sending.Go(func() { l.send(ctx, main, i) })
	}
	return l
}

// open connects a client of the load.
func (l *load) open(id string) driver.Conn {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	c, err := l.connect(ctx, l.group+"-"+id)
	if err != nil {
		l.t.Fatalf("connect %s: %v", id, err)
	}
	l.conns = append(l.conns, c)
	return c
}

// send sends one message after the other. Each is tried until it is stored: that
// is what the framework does.
func (l *load) send(ctx context.Context, c driver.Conn, sender int) {
	for i := 0; ctx.Err() == nil; i++ {
		body := fmt.Sprintf("%d/%d", sender, i)
		for l.attempt(c, body) != nil && ctx.Err() == nil {
			time.Sleep(10 * pace)
		}
		time.Sleep(pace)
	}
}

func (l *load) attempt(c driver.Conn, body string) error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	l.ledger.Sending(body)
	began := time.Now()
	r := c.Send(ctx, driver.SendRequest{Messages: []*driver.Message{{Topic: l.topic, Body: []byte(body)}}})[0]
	took := time.Since(began)
	l.ledger.Told(body, r.Err)
	for was := l.longest.Load(); int64(took) > was && !l.longest.CompareAndSwap(was, int64(took)); was = l.longest.Load() {
	}
	if r.Err == nil {
		l.acknowledged.Add(1)
	}
	return r.Err
}

// goesOn requires sends to be acknowledged all the time d, in each of its halves.
func (l *load) goesOn(what string, d time.Duration) {
	l.t.Helper()
	for range 2 {
		before := l.acknowledged.Load()
		time.Sleep(d / 2)
		if n := l.acknowledged.Load() - before; n == 0 {
			l.t.Errorf("%s: no send was acknowledged for %v", what, d/2)
		}
	}
}

// end stops the senders, waits for what was acknowledged and closes the account.
func (l *load) end() ledger.Verdict {
	l.t.Helper()
	l.stop()
	l.sending.Wait()
	if took := time.Duration(l.longest.Load()); took > deadline+late {
		l.t.Errorf("an attempt with a deadline of %v took %v", deadline, took)
	}
	l.drain()
	for _, m := range l.members {
		m.leave()
	}
	// What was settled does not come again: the positions are where they were.
	before := l.ledger.Verdict()
	l.join("after", 0)
	time.Sleep(3 * time.Second)
	v := l.ledger.Verdict()
	if n := v.AgainPosition - before.AgainPosition; n > 0 {
		l.t.Errorf("%d messages came again to a member that joined when all was settled", n)
	}
	l.members[len(l.members)-1].leave()
	for _, c := range l.conns {
		if err := c.Close(l.t.Context()); err != nil {
			l.t.Errorf("close a client: %v", err)
		}
	}
	if err := v.Err(); err != nil {
		l.t.Error(err)
	}
	if v.Acknowledged == 0 {
		l.t.Error("nothing was acknowledged, so nothing was tried")
	}
	return v
}

// drain waits until everything acknowledged was received.
func (l *load) drain() {
	for end := time.Now().Add(patience); l.ledger.Missing() > 0 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
}

// lives counts the terms of lanes of all loads.
var lives atomic.Int64

// member is a member of the group; it acknowledges what it gets.
type member struct {
	l     *load
	sub   driver.Subscription
	think time.Duration // for each message

	mu    sync.Mutex
	lanes map[driver.Lane]func() // what ends the goroutine of a lane
}

// join adds a member that needs a time for each message.
func (l *load) join(id string, think time.Duration) *member {
	l.t.Helper()
	m := &member{l: l, think: think, lanes: map[driver.Lane]func(){}}
	var err error
	if m.sub, err = l.open(id).Subscribe(l.t.Context(), driver.SubscribeSpec{Group: l.group, Topic: l.topic}, m); err != nil {
		l.t.Fatalf("subscribe %s: %v", id, err)
	}
	l.members = append(l.members, m)
	return m
}

func (m *member) leave() {
	m.l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.sub.Close(ctx); err != nil {
		m.l.t.Errorf("leave the group: %v", err)
	}
}

// Assigned begins to consume a lane.
func (m *member) Assigned(lane driver.Lane) {
	life := ledger.Life(lives.Add(1))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m.mu.Lock()
	m.lanes[lane] = func() { cancel(); <-done }
	m.mu.Unlock()
	go func() {
		defer close(done)
		m.consume(ctx, lane, life)
	}()
}

func (m *member) consume(ctx context.Context, lane driver.Lane, life ledger.Life) {
	for ctx.Err() == nil {
		ds, err := lane.Fetch(ctx, 32)
		if code := driver.CodeOf(err); code == driver.LaneLost || code == driver.Closed {
			return
		}
		for i, d := range ds {
			if ctx.Err() != nil && i > 0 {
				return // the lane is wanted elsewhere, where the rest comes again
			}
			time.Sleep(m.think)
			m.l.ledger.Received(string(d.Body), fmt.Sprintf("%s/%d", lane.Name(), d.Offset), life)
			if err := lane.Settle(context.WithoutCancel(ctx), []driver.Settlement{{Delivery: d, Outcome: driver.Ack}}); err != nil {
				return // it comes again
			}
		}
	}
}

// Revoked ends the work on a lane.
func (m *member) Revoked(_ context.Context, lane driver.Lane) { m.Lost(lane) }

// Lost does the same.
func (m *member) Lost(lane driver.Lane) {
	m.mu.Lock()
	end := m.lanes[lane]
	delete(m.lanes, lane)
	m.mu.Unlock()
	if end != nil {
		end()
	}
}
