package processes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/history"
)

// producers and consumers of a worker.
const (
	producers = 4
	consumers = 2
	liveGroup = "live"
)

// workerArgs configure the role "worker": it sends and consumes until it is
// killed. Its lines are, in the order in which things happen:
//
//	at GROUP QUEUE COMMITTED MAX     position of the group at the start
//	ready
//	i PROCESS COUNTER KEY            about to send
//	a PROCESS COUNTER QUEUE OFFSET OUTCOME
//	d N GROUP LANE OFFSET PROCESS COUNTER    delivered; x … if damaged
//	t N                              about to acknowledge
//	s N                              the broker has taken the acknowledgement
//	l CLIENT                         the client has left, its positions are durable
type workerArgs struct {
	store
	Seed uint64
	Next [producers]int // counters to go on with
	// Pace is a pause between two calls of Send.
	Pace time.Duration
	// SendOnly leaves the consumers out.
	SendOnly bool
}

func playWorker(s *stage) error {
	var args workerArgs
	if err := s.parse(&args); err != nil {
		return err
	}
	b, err := args.open()
	if err != nil {
		return err
	}
	var reading []*consumer
	if !args.SendOnly {
		admin := b.Connect("admin")
		gate := make(chan struct{})
		for i := range consumers {
			name := fmt.Sprint("consumer-", i)
			c := newConsumer(s, b.Connect(name), name, liveGroup, gate)
			if err := c.join(); err != nil {
				return err
			}
			reading = append(reading, c)
		}
		if err := sayPositions(s, admin, liveGroup); err != nil {
			return err
		}
		close(gate)
	}
	s.say("ready")
	errs := make(chan error, producers)
	for i := range producers {
		p := &producer{
			stage: s, conn: b.Connect(fmt.Sprint("producer-", i)), process: fmt.Sprint("p", i), next: args.Next[i],
			rand: rand.New(rand.NewPCG(args.Seed, uint64(i))), pace: args.Pace,
		}
		go func() { errs <- p.run() }()
	}
	for _, c := range reading {
		go func() { errs <- <-c.failed }()
	}
	if len(reading) > 0 {
		go func() { errs <- churn(reading, rand.New(rand.NewPCG(args.Seed, producers))) }()
	}
	return <-errs // until the kill
}

// churn lets one consumer after the other leave the group and come back: lanes
// change hands, and what was acknowledged has to be durable then.
func churn(cs []*consumer, r *rand.Rand) error {
	for i := 0; ; i++ {
		time.Sleep(between(r, 30*time.Millisecond, 120*time.Millisecond))
		c := cs[i%len(cs)]
		if err := c.leave(); err != nil {
			return fmt.Errorf("%s leaves: %w", c.name, err)
		}
		if err := c.join(); err != nil {
			return fmt.Errorf("%s comes back: %w", c.name, err)
		}
	}
}

// sayPositions says where the group stands.
func sayPositions(s *stage, c driver.Conn, group string) error {
	lags, err := c.Extensions().Groups.Lag(context.Background(), group)
	if driver.CodeOf(err) == driver.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	for _, l := range lags {
		if !l.Lane.Retry {
			s.say("at %s %d %d %d", group, l.Lane.Queue, l.Committed, l.Max)
		}
	}
	return nil
}

// producer sends values, a few with each call.
type producer struct {
	stage   *stage
	conn    driver.Conn
	process string
	next    int
	rand    *rand.Rand
	pace    time.Duration
}

func (p *producer) run() error {
	for {
		if err := p.send(1 + p.rand.IntN(4)); err != nil {
			return err
		}
		if p.pace > 0 {
			time.Sleep(p.pace)
		}
	}
}

// send sends n values and says what came of them. Its error is that of the
// first message which the broker did not take.
func (p *producer) send(n int) (err error) {
	var lines []byte
	values, messages := make([]history.Value, n), make([]*driver.Message, n)
	for i := range n {
		v := history.Value{Process: p.process, Counter: p.next}
		p.next++
		key := fmt.Sprint("k", p.rand.IntN(8))
		values[i] = v
		messages[i] = &driver.Message{Topic: topic, OrderingKey: key, Body: history.Body(v, 64+p.rand.IntN(900))}
		lines = fmt.Appendf(lines, "i %s %d %s\n", v.Process, v.Counter, key)
	}
	p.stage.write(lines)
	lines = lines[:0]
	for i, r := range p.conn.Send(context.Background(), driver.SendRequest{Messages: messages}) {
		lines = fmt.Appendf(lines, "a %s %d %d %d %s\n", values[i].Process, values[i].Counter, r.Queue, r.Offset, outcome(r.Err))
		err = errors.Join(err, r.Err)
	}
	p.stage.write(lines)
	return err
}

// consumer is a member of a group that acknowledges everything.
type consumer struct {
	stage  *stage
	conn   driver.Conn
	name   string
	group  string
	sub    driver.Subscription
	gate   <-chan struct{}
	failed chan error

	mu    sync.Mutex
	lanes map[driver.Lane]*laneLoop
}

type laneLoop struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func newConsumer(s *stage, c driver.Conn, name, group string, gate <-chan struct{}) *consumer {
	return &consumer{stage: s, conn: c, name: name, group: group, gate: gate, failed: make(chan error, 1), lanes: map[driver.Lane]*laneLoop{}}
}

func (c *consumer) join() error {
	var err error
	c.sub, err = c.conn.Subscribe(context.Background(), driver.SubscribeSpec{Group: c.group, Topic: topic}, c)
	return err
}

// leave gives the lanes away and says so.
func (c *consumer) leave() error {
	if err := c.sub.Close(context.Background()); err != nil {
		return err
	}
	c.stage.say("l %s", c.name)
	return nil
}

// Assigned implements [driver.LaneEvents].
func (c *consumer) Assigned(l driver.Lane) {
	ctx, cancel := context.WithCancel(context.Background())
	loop := &laneLoop{cancel: cancel, done: make(chan struct{})}
	c.mu.Lock()
	c.lanes[l] = loop
	c.mu.Unlock()
	go func() {
		defer close(loop.done)
		if err := c.read(ctx, l); err != nil {
			select {
			case c.failed <- err:
			default:
			}
		}
	}()
}

// Revoked implements [driver.LaneEvents].
func (c *consumer) Revoked(_ context.Context, l driver.Lane) { c.stop(l) }

// Lost implements [driver.LaneEvents].
func (c *consumer) Lost(l driver.Lane) { c.stop(l) }

func (c *consumer) stop(l driver.Lane) {
	c.mu.Lock()
	loop := c.lanes[l]
	delete(c.lanes, l)
	c.mu.Unlock()
	if loop != nil {
		loop.cancel()
		<-loop.done
	}
}

// read fetches and acknowledges until the lane is taken away.
func (c *consumer) read(ctx context.Context, l driver.Lane) error {
	select {
	case <-c.gate:
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil {
		ds, err := l.Fetch(ctx, 16)
		if driver.CodeOf(err) == driver.LaneLost {
			return nil
		}
		if err != nil {
			return fmt.Errorf("fetch from %s: %w", l.Name(), err)
		}
		if err := c.settle(l, ds); err != nil {
			return err
		}
	}
	return nil
}

// settle says what came, acknowledges it and says so.
func (c *consumer) settle(l driver.Lane, ds []*driver.Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	var came, tried, taken []byte
	settlements := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		id := fmt.Sprintf("%s@%s#%d", c.name, strings.ReplaceAll(l.Name(), " ", "_"), d.Offset)
		if v, err := history.Parse(d.Body); err != nil {
			came = fmt.Appendf(came, "x %s %s %d %s\n", c.group, l.Name(), d.Offset, oneLine(err))
		} else {
			came = fmt.Appendf(came, "d %s %s %s %d %s %d\n", id, c.group, l.Name(), d.Offset, v.Process, v.Counter)
		}
		tried = fmt.Appendf(tried, "t %s\n", id)
		taken = fmt.Appendf(taken, "s %s\n", id)
		settlements[i] = driver.Settlement{Delivery: d, Outcome: driver.Ack}
	}
	c.stage.write(came)
	c.stage.write(tried)
	err := l.Settle(context.Background(), settlements)
	if driver.CodeOf(err) == driver.LaneLost {
		return nil
	}
	if err != nil {
		return fmt.Errorf("settle on %s: %w", l.Name(), err)
	}
	c.stage.write(taken)
	return nil
}

// playDrain consumes what is left, then everything once more in a group that
// is new, and closes the store. Its lines are those of the worker, and at the
// end "drained".
func playDrain(s *stage) error {
	var args workerArgs
	if err := s.parse(&args); err != nil {
		return err
	}
	b, err := args.open()
	if err != nil {
		return err
	}
	admin := b.Connect("admin")
	for _, group := range []string{liveGroup, freshGroup} {
		gate := make(chan struct{})
		c := newConsumer(s, b.Connect("drain-"+group), "drain-"+group, group, gate)
		if err := c.join(); err != nil {
			return err
		}
		if err := sayPositions(s, admin, group); err != nil {
			return err
		}
		close(gate)
		if err := drained(admin, c); err != nil {
			return err
		}
	}
	if err := b.Close(context.Background()); err != nil {
		return err
	}
	s.say("drained")
	return nil
}

// freshGroup reads everything after the last crash.
const freshGroup = "fresh"

// readGroup stands for the role "reader" in a history.
const readGroup = "read"

// drained waits until the group of c has settled everything.
func drained(admin driver.Conn, c *consumer) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-c.failed:
			return err
		default:
		}
		lags, err := admin.Extensions().Groups.Lag(context.Background(), c.group)
		if err != nil {
			return err
		}
		behind := int64(0)
		for _, l := range lags {
			behind += l.Behind()
		}
		if behind == 0 && len(lags) > 0 {
			return nil
		}
	}
	return fmt.Errorf("group %s has not consumed everything within %v", c.group, patience)
}

// playReader says everything that the store holds, without a group, and checks
// that the places are dense and the times of storing never go back. Its lines
// are "d …" and at the end "read N".
func playReader(s *stage) error {
	var args workerArgs
	if err := s.parse(&args); err != nil {
		return err
	}
	b, err := args.open()
	if err != nil {
		return err
	}
	c := b.Connect("reader")
	n := 0
	for q := range queues {
		stored := time.Time{}
		for offset := int64(0); ; {
			ds, err := c.Extensions().Query.Browse(context.Background(), topic, q, offset, 256)
			if driver.CodeOf(err) == driver.NotFound {
				break // nothing was ever sent
			}
			if err != nil {
				return err
			}
			if len(ds) == 0 {
				break
			}
			var lines []byte
			for _, d := range ds {
				if d.Offset != offset {
					return fmt.Errorf("queue %d continues with offset %d, want %d", q, d.Offset, offset)
				}
				if d.StoredAt.Before(stored) {
					return fmt.Errorf("%d/%d was stored at %v, the one before at %v", q, offset, d.StoredAt, stored)
				}
				stored = d.StoredAt
				v, err := history.Parse(d.Body)
				if err != nil {
					return err
				}
				lines = fmt.Appendf(lines, "d - %s %s/%d %d %s %d\n", readGroup, topic, q, offset, v.Process, v.Counter)
				offset++
			}
			s.write(lines)
			n += len(ds)
		}
	}
	if err := b.Close(context.Background()); err != nil {
		return err
	}
	s.say("read %d", n)
	return nil
}
