package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// conn is one client of a broker in this process.
type conn struct {
	broker *Broker
	id     string

	mu      sync.Mutex
	closing bool
	subs    map[*member]struct{}
	calls   sync.WaitGroup // Checks, which have goroutines
	done    chan struct{}  // closed when Close begins: unblocks what waits
	// finished is closed when Close has done its work.
	finished chan struct{}
}

// Capabilities tells what the bundled broker can do.
func (c *conn) Capabilities() driver.Capabilities {
	cfg := c.broker.cfg
	return driver.Capabilities{
		System: "sluice", Delay: driver.AnyTime, RetryDelay: driver.AnyTime,
		Tags: true, SQL: true, OneWay: true, Broadcast: true, Ordered: true, Queues: true,
		DecidesOnce: true, Durable: (c.broker.dir != "" || cfg.FS != nil) && cfg.Sync == SyncAlways,
		MaxBody: cfg.MaxBody, MaxBatch: cfg.MaxBatch,
	}
}

// use answers the engine for one call.
func (c *conn) use(ctx context.Context, op string) (*engine, *driver.Error) {
	select {
	case <-c.done:
		return nil, closedError(op)
	default:
	}
	if ctx.Err() != nil {
		return nil, driver.FromContext(ctx, op, false)
	}
	e, err := c.broker.open(ctx)
	if err != nil {
		if d, ok := errors.AsType[*driver.Error](err); ok {
			return nil, d
		}
		return nil, driver.Errorf(driver.Internal, op, "%w", err)
	}
	return e, nil
}

// Send stores messages; see [driver.Conn].
func (c *conn) Send(ctx context.Context, req driver.SendRequest) []driver.SendResult {
	if len(req.Messages) == 0 {
		return nil
	}
	e, err := c.use(ctx, "")
	if err == nil {
		return e.send(ctx, c.done, req)
	}
	err = withOp(err, "send to "+topicOf(req.Messages[0]))
	results := make([]driver.SendResult, len(req.Messages))
	for i, m := range req.Messages {
		results[i].Err = err
		if m != nil {
			results[i].ID = m.ID
		}
	}
	return results
}

// Subscribe joins a group; see [driver.Conn].
func (c *conn) Subscribe(ctx context.Context, s driver.SubscribeSpec, ev driver.LaneEvents) (driver.Subscription, error) {
	op := fmt.Sprintf("subscribe group %s to %s", s.Group, s.Topic)
	e, err := c.use(ctx, op)
	if err != nil {
		return nil, err
	}
	m, err := e.join(ctx, c, s, ev)
	if err != nil {
		return nil, withOp(err, op)
	}
	return m, nil
}

// enter notes a new membership; it fails once Close has begun.
func (c *conn) enter(m *member) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.subs[m] = struct{}{}
	return true
}

func (c *conn) leave(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.subs, m)
}

// Extensions answers all four.
func (c *conn) Extensions() driver.Extensions {
	return driver.Extensions{Tx: transactor{c}, Topics: topicAdmin{c}, Groups: groupAdmin{c}, Query: query{c}}
}

// Health reports whether the store takes writes.
func (c *conn) Health(ctx context.Context) error {
	e, err := c.use(ctx, "check broker")
	if err != nil {
		return err
	}
	return e.health()
}

// Close leaves every group; see [driver.Conn].
func (c *conn) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		select {
		case <-c.finished:
			return nil
		case <-ctx.Done():
			return driver.FromContext(ctx, "close client "+c.id, false)
		}
	}
	c.closing = true
	close(c.done)
	subs := make([]*member, 0, len(c.subs))
	for m := range c.subs {
		subs = append(subs, m)
	}
	c.mu.Unlock()
	defer close(c.finished)
	var wg sync.WaitGroup
	errs := make([]error, len(subs)+1) // the last one for the check-backs
	for i, m := range subs {
		wg.Go(func() { errs[i] = m.Close(ctx) })
	}
	wg.Wait()
	left := make(chan struct{})
	go func() {
		defer close(left)
		c.calls.Wait()
	}()
	if !awaitEnd(ctx, left) {
		errs[len(subs)] = driver.FromContext(ctx, "wait for check-backs of client "+c.id, false)
	}
	c.broker.forget(c)
	return errors.Join(errs...)
}

// begin notes a call that owns goroutines; the caller must end it by c.calls.Done.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.calls.Add(1)
	return true
}
