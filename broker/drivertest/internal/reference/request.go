package reference

import (
	"context"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Properties of a request.
const (
	askedBy = "ASKED_BY" // the client that waits
	askedAs = "ASKED_AS" // the request
)

type requester struct{ c *Conn }

// Request implements [driver.Requester].
func (r requester) Request(ctx context.Context, m *driver.Message) (*driver.Message, error) {
	const op = "request"
	if err := r.c.closed(op); err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok || m == nil || !m.DeliverAt.IsZero() {
		return nil, invalid(op, "no deadline, no message or a delayed one")
	}
	own := clone(m)
	own.BornAt = m.BornAt
	if own.Properties == nil {
		own.Properties = map[string]string{}
	}
	b := r.c.b
	b.mu.Lock()
	id, reply := b.id(), make(chan *driver.Message, 1)
	own.Properties[askedBy], own.Properties[askedAs] = r.c.id, id
	sent := r.c.send(ctx, &own, driver.SendRequest{})
	if sent.Err == nil {
		b.asking[id] = reply
	}
	b.mu.Unlock()
	if sent.Err != nil {
		return nil, sent.Err
	}
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.asking, id)
	}()
	select {
	case got := <-reply:
		got.Topic = m.Topic
		return got, nil
	case <-r.c.root.Done():
		return nil, &driver.Error{Code: driver.Closed, Op: op, MaybeDone: true}
	case <-ctx.Done():
		return nil, driver.FromContext(ctx, op, true)
	}
}

// Reply implements [driver.Requester].
func (r requester) Reply(_ context.Context, request *driver.Delivery, m *driver.Message) error {
	const op = "reply"
	b := r.c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.c.closed(op) != nil:
		return r.c.closed(op)
	case request == nil || request.Properties[askedAs] == "":
		return invalid(op, "it is no request")
	case m == nil || m.Topic != "" || m.QueueSet || m.OrderingKey != "" || !m.DeliverAt.IsZero():
		return invalid(op, "a reply has neither topic nor time")
	}
	there := false
	for c := range b.conns {
		there = there || c.id == request.Properties[askedBy]
	}
	if !there {
		return driver.Errorf(driver.NotFound, op, "client %s is gone", request.Properties[askedBy])
	}
	got := clone(m)
	if got.ID == "" {
		got.ID = b.id()
	}
	id := request.Properties[askedAs]
	if reply := b.asking[id]; reply != nil {
		reply <- &got
		delete(b.asking, id)
	}
	return nil
}

type recaller struct{ c *Conn }

// Recall implements [driver.Recaller].
func (r recaller) Recall(_ context.Context, topic, handle string) error {
	b := r.c.b
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.handles[handle]
	switch {
	case r.c.closed("recall") != nil:
		return r.c.closed("recall")
	case s == nil || s.m.Topic != topic:
		return invalid("recall", "no handle of topic %s", topic)
	case time.Until(s.due) <= 0:
		return driver.Errorf(driver.FailedPrecondition, "recall", "message %s is due", s.m.ID)
	}
	delete(b.pending, s)
	return nil
}

// recallable makes a handle of a delayed message. The lock is held.
func (b *Broker) recallable(s *stored) string {
	handle := "recall " + s.m.ID
	b.handles[handle] = s
	return handle
}
