package sdk

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// maxInFlight bounds the requests under way, whatever the number of lane keys.
const maxInFlight = 64

// async is the buffer of SendAsync. Each lane key has a queue and, while that is
// not empty, one goroutine that sends it batch by batch.
type async struct {
	client *Client
	chain  ProduceFunc
	room   chan struct{} // one element per message that is held
	slots  chan struct{} // one element per request under way

	wg sync.WaitGroup // lane goroutines

	mu     sync.Mutex
	closed bool
	stop   chan struct{} // closed together with closed
	lanes  map[laneKey][]*asyncItem
	epochs []*epoch // messages by the flushes between them; the last one is open
}

type laneKey struct{ topic, key string }

type asyncItem struct {
	m     *Outgoing
	done  func(SendResult, error)
	epoch *epoch
}

// epoch counts the messages that were taken between two flushes.
type epoch struct {
	pending int
	empty   chan struct{}
}

func newAsync(c *Client, chain ProduceFunc) *async {
	return &async{
		client: c, chain: chain,
		room:   make(chan struct{}, c.settings.AsyncBuffer),
		slots:  make(chan struct{}, maxInFlight),
		stop:   make(chan struct{}),
		lanes:  map[laneKey][]*asyncItem{},
		epochs: []*epoch{{empty: make(chan struct{})}},
	}
}

func (a *async) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

func laneOf(m *Outgoing) laneKey {
	if m.Queue != nil {
		return laneKey{m.Topic, "#" + strconv.Itoa(*m.Queue)}
	}
	return laneKey{m.Topic, "/" + m.OrderingKey}
}

// add takes an item or says why not.
func (a *async) add(ctx context.Context, item *asyncItem) error {
	op := sendOp([]*Outgoing{item.m})
	if a.isClosed() {
		return &Error{Code: Closed, Op: op, Err: errClientClosed}
	}
	select {
	case a.room <- struct{}{}:
	default:
		full := &Error{Code: ResourceExhausted, Op: op, Retryable: true, Err: fmt.Errorf("the buffer of %d asynchronous messages is full", cap(a.room))}
		switch a.client.settings.AsyncFull {
		case FullFail:
			return full
		case FullDrop:
			a.client.metrics.dropped(ctx, item.m.Topic)
			a.finish(item, SendResult{ID: item.m.ID, Topic: item.m.Topic, Offset: -1, Err: full}, full)
			return nil
		}
		select {
		case a.room <- struct{}{}:
		case <-a.stop:
			return &Error{Code: Closed, Op: op, Err: errClientClosed}
		case <-ctx.Done():
			return asError(op, driver.FromContext(ctx, "", false))
		}
	}
	if !a.enqueue(item) {
		<-a.room
		return &Error{Code: Closed, Op: op, Err: errClientClosed}
	}
	a.client.metrics.pending(ctx, 1)
	return nil
}

// enqueue is false after close.
func (a *async) enqueue(item *asyncItem) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	item.epoch = a.epochs[len(a.epochs)-1]
	item.epoch.pending++
	key := laneOf(item.m)
	queue, running := a.lanes[key]
	a.lanes[key] = append(queue, item)
	if !running {
		a.wg.Go(func() { a.drain(key) })
	}
	return true
}

// drain sends one lane until it is empty.
func (a *async) drain(key laneKey) {
	for {
		a.slots <- struct{}{}
		batch := a.take(key)
		if len(batch) == 0 {
			<-a.slots
			return
		}
		results, err := a.send(batch)
		<-a.slots
		for i, item := range batch {
			r := results[i]
			itemErr := r.Err
			if itemErr == nil && r.Status == NotStored {
				itemErr = err
			}
			// The room is free before the callback, so that it may send again.
			a.client.metrics.pending(a.client.root, -1)
			<-a.room
			a.finish(item, r, itemErr)
			a.done(item)
		}
	}
}

// take removes the next batch; an empty one ends the lane.
func (a *async) take(key laneKey) []*asyncItem {
	a.mu.Lock()
	defer a.mu.Unlock()
	queue := a.lanes[key]
	n := min(len(queue), a.client.settings.AsyncBatch, a.client.maxBatch())
	if n == 0 {
		delete(a.lanes, key)
		return nil
	}
	batch := queue[:n:n]
	a.lanes[key] = queue[n:]
	return batch
}

// send never panics, so that every item gets its result.
func (a *async) send(batch []*asyncItem) (results []SendResult, err error) {
	ms := make([]*Outgoing, 0, len(batch))
	for _, item := range batch {
		ms = append(ms, item.m)
	}
	defer func() {
		if r := recover(); r != nil {
			results, err = failed(ms, errorf(Internal, sendOp(ms), "panic: %v\n%s", r, debug.Stack()))
		}
	}()
	return callChain(a.client.root, a.chain, ms)
}

// finish calls back, once per item.
func (a *async) finish(item *asyncItem, r SendResult, err error) {
	if item.done == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			a.client.logger.LogAttrs(a.client.root, slog.LevelError, "the callback of an asynchronous send panicked",
				slog.String("message_id", r.ID), slog.String("topic", r.Topic),
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	item.done(r, err)
}

func (a *async) done(item *asyncItem) {
	a.mu.Lock()
	defer a.mu.Unlock()
	item.epoch.pending--
	a.settle()
}

// settle drops the closed epochs that are empty; a.mu is held.
func (a *async) settle() {
	open := a.epochs[:0]
	for i, e := range a.epochs {
		if last := i == len(a.epochs)-1; e.pending == 0 && !last {
			close(e.empty)
			continue
		}
		open = append(open, e)
	}
	a.epochs = open
}

// flush ends the open epoch and waits for all that are not empty.
func (a *async) flush(ctx context.Context) error {
	a.mu.Lock()
	waits := append([]*epoch(nil), a.epochs...)
	a.epochs = append(a.epochs, &epoch{empty: make(chan struct{})})
	a.settle()
	a.mu.Unlock()
	for _, e := range waits {
		select {
		case <-e.empty:
		case <-ctx.Done():
			return asError("flush asynchronous messages", driver.FromContext(ctx, "", true))
		}
	}
	return nil
}

// close takes nothing more, waits for what was taken, and when ctx ends first
// makes the rest fail. Afterwards no goroutine is left.
func (a *async) close(ctx context.Context) error {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.stop)
	}
	a.mu.Unlock()
	err := a.flush(ctx)
	if err != nil {
		a.client.cancel(fmt.Errorf("%w before its asynchronous messages were sent", errClientClosed))
	}
	a.wg.Wait()
	return err
}
