// Package member is one member of a consumer group, driven through package
// driver as an application would do it without the framework.
package member

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// fetchSize is how many deliveries a handler goroutine takes, and settles, at a time.
const fetchSize = 64

// Member is the one member of a group: a goroutine a lane fetches, handles and
// settles. Handlers of different lanes run at the same time.
type Member struct {
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

// Join makes the member of a new group from the earliest message on. It hands
// over each delivery, and tells how many were settled at a time.
func Join(conn driver.Conn, group, topic string, handle func(*driver.Delivery), settled func(n int)) (*Member, error) {
	m := &Member{handle: handle, settled: settled, broken: make(chan struct{}), lanes: map[driver.Lane]*ownership{}}
	sub, err := conn.Subscribe(context.Background(), driver.SubscribeSpec{Group: group, Topic: topic}, m)
	if err != nil {
		return nil, err
	}
	m.sub = sub
	return m, nil
}

// Assigned begins to work on a lane.
func (m *Member) Assigned(l driver.Lane) {
	ctx, cancel := context.WithCancel(context.Background())
	o := &ownership{cancel, make(chan struct{})}
	m.mu.Lock()
	m.lanes[l] = o
	m.mu.Unlock()
	m.running.Go(func() {
		defer close(o.ended)
		err := m.work(ctx, l)
		if code := driver.CodeOf(err); err != nil && ctx.Err() == nil && code != driver.LaneLost && code != driver.Closed {
			m.fail(err)
		}
	})
}

func (m *Member) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
		close(m.broken)
	}
}

// Revoked waits until the work on a lane is settled.
func (m *Member) Revoked(ctx context.Context, l driver.Lane) {
	if o := m.end(l); o != nil {
		select {
		case <-o.ended:
		case <-ctx.Done():
		}
	}
}

// Lost ends the work on a lane.
func (m *Member) Lost(l driver.Lane) { m.end(l) }

func (m *Member) end(l driver.Lane) *ownership {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.lanes[l]
	if o != nil {
		o.cancel()
		delete(m.lanes, l)
	}
	return o
}

// work is the goroutine of one lane.
func (m *Member) work(ctx context.Context, l driver.Lane) error {
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
			m.handle(d)
			done = append(done, driver.Settlement{Delivery: d, Outcome: driver.Ack})
		}
		if err := l.Settle(context.WithoutCancel(ctx), done); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
		m.settled(len(ds))
	}
	return nil
}

// Broken is closed when a lane has failed; [Member.Close] answers with what.
func (m *Member) Broken() <-chan struct{} { return m.broken }

// Close leaves the group; it answers the first error of the lanes.
func (m *Member) Close() error {
	err := m.sub.Close(context.Background())
	m.running.Wait()
	return errors.Join(err, m.err)
}
