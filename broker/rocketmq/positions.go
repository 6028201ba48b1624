package rocketmq

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
)

// noPosition is what a group has that never stored one.
const noPosition int64 = -1

// storePosition stores the position of a group on a queue. It reports whether
// the master has it: what a slave takes while there is no master is forgotten when
// that comes back.
func (c *conn) storePosition(ctx context.Context, op, group string, q Queue, at int64) (kept bool, err *driver.Error) {
	addr, master, ok := c.routes.replica(q.Broker, masterID)
	if !ok {
		_, err := c.master(op, q.Broker)
		return false, err
	}
	req := &remoting.Command{Code: remoting.ReqUpdateConsumerOffset}
	remoting.UpdateOffset{Group: group, Topic: q.Topic, QueueID: int32(q.ID), CommitOffset: at}.AppendTo(&req.Fields)
	req.Fields.Add("bname", q.Broker)
	_, err = c.call(ctx, op, addr, req, true)
	return master && err == nil, err
}

// writer is who is asked about queues: the master, or while there is none a slave.
func (c *conn) writer(op, broker string) (string, *driver.Error) {
	addr, _, ok := c.routes.replica(broker, masterID)
	if !ok {
		_, err := c.master(op, broker)
		return "", err
	}
	return addr, nil
}

// askOf asks the writer of a queue something about it; see call.
func (c *conn) askOf(ctx context.Context, op string, q Queue, req *remoting.Command, also ...int) (*remoting.Command, *driver.Error) {
	addr, err := c.writer(op, q.Broker)
	if err != nil {
		return nil, err
	}
	req.Fields.Add("bname", q.Broker)
	return c.call(ctx, op, addr, req, false, also...)
}

// position answers the stored position of a group on a queue, noPosition if
// there is none. An error is never taken for none.
func (c *conn) position(ctx context.Context, group string, q Queue) (int64, *driver.Error) {
	op := "read the position of group " + group + " on " + q.String()
	req := &remoting.Command{Code: remoting.ReqQueryConsumerOffset}
	remoting.QueryOffset{Group: group, Topic: q.Topic, QueueID: int32(q.ID)}.AppendTo(&req.Fields)
	a, err := c.askOf(ctx, op, q, req, remoting.ResQueryNotFound)
	if err != nil {
		return 0, err
	}
	if a.Code == remoting.ResQueryNotFound {
		return noPosition, nil
	}
	return offsetField(op, a)
}

// offsetField reads the field offset of an answer.
func offsetField(op string, a *remoting.Command) (int64, *driver.Error) {
	n, err := strconv.ParseInt(a.Fields.Get("offset"), 10, 64)
	if err != nil || n < 0 {
		return 0, driver.Errorf(driver.Internal, op, "the answer has the offset %q", a.Fields.Get("offset"))
	}
	return n, nil
}

// bound answers the first offset of a queue, or with ReqGetMaxOffset the one
// behind the last.
func (c *conn) bound(ctx context.Context, op string, code int, q Queue) (int64, *driver.Error) {
	req := &remoting.Command{Code: code}
	remoting.QueueOffset{Topic: q.Topic, QueueID: int32(q.ID), Committed: true}.AppendTo(&req.Fields)
	a, err := c.askOf(ctx, op, q, req)
	if err != nil {
		return 0, err
	}
	n, parseErr := strconv.ParseInt(a.Fields.Get("offset"), 10, 64)
	if parseErr != nil {
		return 0, driver.Errorf(driver.Internal, op, "the answer has the offset %q", a.Fields.Get("offset"))
	}
	return max(n, 0), nil
}

// locate answers the offset of a position, within the ends of the queue.
func (c *conn) locate(ctx context.Context, op string, q Queue, p driver.Position) (int64, *driver.Error) {
	low, err := c.bound(ctx, op, remoting.ReqGetMinOffset, q)
	if err != nil {
		return 0, err
	}
	if p.Kind == driver.Earliest {
		return low, nil
	}
	high, err := c.bound(ctx, op, remoting.ReqGetMaxOffset, q)
	if err != nil {
		return 0, err
	}
	at := high
	switch p.Kind {
	case driver.AtOffset:
		at = p.Offset
	case driver.AtTime:
		if at, err = c.search(ctx, op, q, p.Time, high); err != nil {
			return 0, err
		}
	default: // Latest
	}
	return min(max(at, low), high), nil
}

// search asks for the first message stored at or after a time; high is the end
// of the queue.
func (c *conn) search(ctx context.Context, op string, q Queue, t time.Time, high int64) (int64, *driver.Error) {
	ms := envelope.Millis(t)
	if ms <= 0 {
		return 0, nil
	}
	req := &remoting.Command{Code: remoting.ReqSearchOffsetByTimestamp}
	remoting.SearchOffset{Topic: q.Topic, QueueID: int32(q.ID), Timestamp: ms}.AppendTo(&req.Fields)
	a, err := c.askOf(ctx, op, q, req)
	if err != nil {
		return 0, err
	}
	at, err := offsetField(op, a)
	if err != nil || at != high-1 {
		return at, err
	}
	// Some brokers answer the last message when all are older: then the position
	// is behind it.
	found, err := c.browse(ctx, q, at, 1)
	if err != nil {
		return 0, err
	}
	if len(found) == 1 && found[0].StoredAt.UnixMilli() < ms {
		return at + 1, nil
	}
	return at, nil
}

// keeper is the connection to the master of the queue, nil if there is none, and
// for positions of broadcast groups, which brokers do not keep.
func (f *feed) keeper() *link {
	if f.spec().Broadcast {
		return nil
	}
	addr, ok := f.c.routes.master(f.queue.Broker)
	if !ok {
		return nil
	}
	return f.c.links.open(addr)
}

// store stores a position; see [conn.storePosition].
func (f *feed) store(ctx context.Context, op string, at int64) (kept bool, err *driver.Error) {
	if !f.spec().Broadcast {
		return f.c.storePosition(ctx, op, f.g.name, f.queue, at)
	}
	if err := f.c.local.set(f.g.name, f.queue, at); err != nil {
		return false, driver.Errorf(driver.Unavailable, op, "%w", err)
	}
	return true, nil
}

// stored answers the position that is stored, noPosition if there is none.
func (f *feed) stored() (int64, *driver.Error) {
	if !f.spec().Broadcast {
		return f.c.position(f.ctx, f.g.name, f.queue)
	}
	at, ok, err := f.c.local.get(f.g.name, f.queue)
	switch {
	case err != nil:
		return 0, driver.Errorf(driver.Corrupt, "find where to begin on "+f.queue.String(), "%w", err)
	case !ok:
		return noPosition, nil
	}
	return at, nil
}

// start finds where the feed begins; false: it is to end.
func (f *feed) start() bool {
	for f.ctx.Err() == nil {
		at, by, err := f.firstOffset()
		if err == nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.epoch == 0 { // an operator has not moved it meanwhile
				f.next, f.committed, f.by = at, at, by
			}
			f.begun = true
			return true
		}
		f.c.log.Warn("where a queue goes on is not known yet", slog.String("group", f.g.name),
			slog.String("queue", f.queue.String()), slog.Any("error", err))
		f.g.wantBeat() // a broker may not know the group
		sleep(f.ctx, retryAfter)
	}
	return false
}

// firstOffset is the position of the group, or where a group without one
// begins. That is stored at once, so that it does not move with the queue. By is
// the connection to the master that knows it, nil if none does.
func (f *feed) firstOffset() (at int64, by *link, err *driver.Error) {
	by = f.keeper()
	at, err = f.stored()
	if err != nil {
		return 0, nil, err
	}
	before, err := f.g.remembered(f.ctx, f.queue)
	switch {
	case err != nil:
		return 0, nil, err
	case before > at:
		at = before
	case at != noPosition:
		f.g.forget(f.queue)
		return at, by, nil
	default:
		from := f.spec().From
		if !slices.Contains(f.lanes[0].sub.began, f.queue) {
			from = driver.Position{} // it was added since, or is one of retries: all of it is new
		}
		if at, err = f.c.locate(f.ctx, "find where to begin on "+f.queue.String(), f.queue, from); err != nil {
			return 0, nil, err
		}
	}
	kept, err := f.store(f.ctx, "store where group "+f.g.name+" begins on "+f.queue.String(), at)
	if kept {
		f.g.forget(f.queue)
	} else {
		by = nil
	}
	return at, by, err
}
