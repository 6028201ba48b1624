package embedded

import (
	"context"
	"errors"
	"slices"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// query finds stored messages.
type query struct{ c *conn }

// ByID finds the first message of topic with a unique id, or the one with an
// offset id.
func (q query) ByID(ctx context.Context, topic, id string) (*driver.Delivery, error) {
	op := "find message " + id + " in " + topic
	e, failure := q.c.use(ctx, op)
	if failure != nil {
		return nil, failure
	}
	d, failure := e.firstMatch(topic, byID, id, driver.TimeRange{}, 1, func(d *driver.Delivery) bool { return d.ID == id })
	if failure != nil {
		return nil, withOp(failure, op)
	}
	if len(d) > 0 {
		return d[0], nil
	}
	if _, pos, err := message.ParseOffsetID(id); err == nil {
		d, failure := e.visibleAt(topic, pos)
		if failure != nil && failure.Code == driver.Corrupt && !damaged(failure) {
			failure = nil // the id is wrong
		}
		if failure != nil || d != nil {
			return d, asError(failure, op)
		}
	}
	return nil, driver.Errorf(driver.NotFound, op, "there is none")
}

// ByKey finds messages by a business key, oldest first.
func (q query) ByKey(ctx context.Context, topic, key string, r driver.TimeRange, limit int) ([]*driver.Delivery, error) {
	op := "find key " + key + " in " + topic
	if limit < 1 {
		return nil, driver.Errorf(driver.InvalidArgument, op, "limit is %d, it takes 1 and more", limit)
	}
	e, failure := q.c.use(ctx, op)
	if failure != nil {
		return nil, failure
	}
	ds, failure := e.firstMatch(topic, byKey, key, r, limit, func(d *driver.Delivery) bool { return slices.Contains(d.Keys, key) })
	if failure != nil {
		return nil, withOp(failure, op)
	}
	return ds, nil
}

// Browse reads a queue without a group; an offset below zero means zero.
func (q query) Browse(ctx context.Context, topic string, n int, offset int64, limit int) ([]*driver.Delivery, error) {
	op := "browse " + laneName(topic, n)
	if limit < 1 {
		return nil, driver.Errorf(driver.InvalidArgument, op, "limit is %d, it takes 1 and more", limit)
	}
	e, failure := q.c.use(ctx, op)
	if failure != nil {
		return nil, failure
	}
	queues := e.st.queues(topic)
	switch {
	case queues == 0:
		return nil, driver.Errorf(driver.NotFound, op, "there is no such topic")
	case n < 0 || n >= queues:
		return nil, driver.Errorf(driver.InvalidArgument, op, "the topic has queues 0 to %d", queues-1)
	}
	from := e.st.queue("", topic, n)
	if from == nil {
		return nil, nil
	}
	entries := make([]segindex.Entry, min(limit, 1024))
	got, err := from.Read(max(offset, from.Min()), entries)
	if got == 0 && err != nil && offset < from.Max() {
		return nil, asError(readError(err, ""), op)
	}
	out := make([]*driver.Delivery, 0, got)
	for _, en := range entries[:got] {
		if en.Size == 0 {
			continue // lost; only a group is told
		}
		s, _, _, err := e.read(en.Pos, int(en.Size))
		if err != nil {
			if len(out) > 0 {
				break // the next call meets it first
			}
			return nil, readError(err, op)
		}
		out = append(out, newDelivery(&s))
	}
	return out, nil
}

// firstMatch answers the oldest messages of topic that the index has under a
// key and that match holds for.
func (e *engine) firstMatch(topic string, kind byte, key string, r driver.TimeRange, limit int,
	match func(*driver.Delivery) bool,
) ([]*driver.Delivery, *driver.Error) {
	var candidates []int64
	err := e.st.set.Lookup(keyHash(kind, topic, key), func(pos int64) bool {
		candidates = append(candidates, pos)
		return true
	})
	if err != nil {
		return nil, readError(err, "")
	}
	slices.Reverse(candidates) // the oldest first
	var out []*driver.Delivery
	var lost *driver.Error
	for _, pos := range candidates {
		d, err := e.visibleAt(topic, pos)
		if err != nil && err.Code == driver.Corrupt {
			lost = err // it may have been one of them
			continue
		}
		if err != nil {
			return nil, err
		}
		if d != nil && match(d) && r.Contains(d.StoredAt) {
			if out = append(out, d); len(out) == limit {
				break
			}
		}
	}
	if len(out) == 0 {
		return nil, lost
	}
	return out, nil
}

// visibleAt answers the message of topic at a position of the log, nil if
// there is none that everybody may see: a half message, one that is not due, of
// another topic or of one that was deleted. [driver.Corrupt] says that what is
// there cannot be read; if the position is not from the index, it may be wrong.
func (e *engine) visibleAt(topic string, pos int64) (*driver.Delivery, *driver.Error) {
	s, k, _, err := e.read(pos, sizeUnknown)
	switch {
	case errors.Is(err, commitlog.ErrClosed):
		return nil, closedError("")
	case errors.Is(err, commitlog.ErrCorrupt):
		e.count.unread(err)
		return nil, readError(err, "")
	case err != nil:
		return nil, nil //nolint:nilerr,nilnil // no frame begins there, or none of a message
	}
	if k != record.Message && k != record.Fired && k != record.Committed || s.Topic != topic {
		return nil, nil
	}
	q := e.st.queue("", topic, int(s.QueueID))
	if q == nil {
		return nil, nil
	}
	var en [1]segindex.Entry
	if n, _ := q.Read(s.QueueOffset, en[:]); n == 0 || en[0].Pos != pos {
		return nil, nil
	}
	return newDelivery(&s), nil
}
