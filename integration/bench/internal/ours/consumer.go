package ours

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// fetchSize is how many deliveries a handler goroutine takes, and settles, at a time.
const fetchSize = 64

// consumer is the one member of a group: a goroutine a lane fetches, handles
// and settles. Handlers of different lanes run at the same time.
type consumer struct {
	handle  func(*driver.Delivery)
	settled func(n int)
	sub     driver.Subscription
	running sync.WaitGroup
	broken  chan struct{} // closed when err is set

	mu    sync.Mutex
	lanes map[driver.Lane]*ownership
	err   error // the first one
}

// ownership is the work on one lane.
type ownership struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// subscribe makes a consumer of a new group from the earliest message on.
func (s *Store) subscribe(group, topic string, handle func(*driver.Delivery), settled func(n int)) (*consumer, error) {
	c := &consumer{handle: handle, settled: settled, broken: make(chan struct{}), lanes: map[driver.Lane]*ownership{}}
	sub, err := s.conn.Subscribe(context.Background(), driver.SubscribeSpec{Group: group, Topic: topic}, c)
	if err != nil {
		return nil, err
	}
	c.sub = sub
	return c, nil
}

// Assigned begins to work on a lane.
func (c *consumer) Assigned(l driver.Lane) {
	ctx, cancel := context.WithCancel(context.Background())
	o := &ownership{cancel, make(chan struct{})}
	c.mu.Lock()
	c.lanes[l] = o
	c.mu.Unlock()
	c.running.Go(func() {
		defer close(o.ended)
		if err := c.work(ctx, l); err != nil && driver.CodeOf(err) != driver.LaneLost && driver.CodeOf(err) != driver.Closed {
			c.fail(err)
		}
	})
}

func (c *consumer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.broken)
	}
}

// Revoked waits until the work on a lane is settled.
func (c *consumer) Revoked(ctx context.Context, l driver.Lane) {
	if o := c.end(l); o != nil {
		select {
		case <-o.ended:
		case <-ctx.Done():
		}
	}
}

// Lost ends the work on a lane.
func (c *consumer) Lost(l driver.Lane) { c.end(l) }

func (c *consumer) end(l driver.Lane) *ownership {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.lanes[l]
	if o != nil {
		o.cancel()
		delete(c.lanes, l)
	}
	return o
}

// work is the goroutine of one lane.
func (c *consumer) work(ctx context.Context, l driver.Lane) error {
	done := make([]driver.Settlement, 0, fetchSize)
	for ctx.Err() == nil {
		ds, err := l.Fetch(ctx, fetchSize)
		if err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		if len(ds) == 0 {
			continue
		}
		done = done[:0]
		for _, d := range ds {
			c.handle(d)
			done = append(done, driver.Settlement{Delivery: d, Outcome: driver.Ack})
		}
		if err := l.Settle(context.WithoutCancel(ctx), done); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
		c.settled(len(ds))
	}
	return nil
}

// close leaves the group; it returns the first error of the lanes.
func (c *consumer) close() error {
	err := c.sub.Close(context.Background())
	c.running.Wait()
	return errors.Join(err, c.err)
}

// Pipeline is publishers and one consumer of one store.
type Pipeline struct {
	*Publisher
	consumer *consumer
}

// NewPipeline is a [measure.Pipeline] in dir that reports to f.
func NewPipeline(dir string, publishers int, f *measure.Flow) (*Pipeline, error) {
	p, err := NewPublisher(dir, Written, publishers, 1)
	if err != nil {
		return nil, err
	}
	c, err := p.subscribe("flow", topic, func(d *driver.Delivery) { f.Handled(d.Body) }, f.Settled)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return &Pipeline{p, c}, nil
}

// Publish stores one message.
func (p *Pipeline) Publish(worker int, stamp int64) error {
	measure.PutStamp(p.batches[worker][0].Body, stamp)
	return p.send(p.batches[worker])
}

// Close ends the consumer and closes the store.
func (p *Pipeline) Close() error { return errors.Join(p.consumer.close(), p.Publisher.Close()) }

// Drain opens the store in dir and gives a new group so many of its messages;
// it answers microseconds for each.
func Drain(dir, group string, messages int) (float64, error) {
	s, err := Open(dir, embedded.Config{Sync: Written})
	if err != nil {
		return 0, err
	}
	took, err := s.drain(group, messages)
	return measure.Micros(took) / float64(messages), errors.Join(err, s.Close())
}

// drain takes so many messages and tells how long that took from the first
// handler to the last settlement.
func (s *Store) drain(group string, messages int) (time.Duration, error) {
	var begin, settled atomic.Int64
	epoch, done := time.Now(), make(chan time.Duration, 1)
	c, err := s.subscribe(group, topic, func(*driver.Delivery) {
		if begin.Load() == 0 {
			begin.CompareAndSwap(0, int64(time.Since(epoch)))
		}
	}, func(n int) {
		if now := settled.Add(int64(n)); now >= int64(messages) && now-int64(n) < int64(messages) {
			done <- time.Since(epoch) - time.Duration(begin.Load())
		}
	})
	if err != nil {
		return 0, err
	}
	select {
	case took := <-done:
		return took, c.close()
	case <-c.broken:
		return 0, c.close()
	}
}
