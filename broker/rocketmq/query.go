package rocketmq

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// queryMost is how many messages one query by key answers at most; stock
// brokers have 64.
const queryMost = 64

// query finds stored messages.
type query struct{ c *conn }

// ByID finds a message; see [driver.MessageQuery].
func (x query) ByID(ctx context.Context, topic, id string) (*driver.Delivery, error) {
	op := fmt.Sprintf("find message %s of %s", id, topic)
	r, err := x.route(ctx, op, topic)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, driver.Errorf(driver.InvalidArgument, op, "the id is empty")
	}
	d, failed := x.byUniqueID(ctx, op, r, topic, id)
	if d != nil {
		return d, nil
	}
	host, at, parseErr := message.ParseOffsetID(id)
	if parseErr == nil {
		for _, broker := range r.brokersOf() {
			// The address in an id is only compared: it may lead anywhere.
			addr, ok := x.c.routes.master(broker)
			if !ok || addr != host.String() {
				continue
			}
			return x.byOffset(ctx, op, addr, topic, at)
		}
	}
	if failed != nil && failed.Code != driver.NotFound {
		return nil, failed
	}
	return nil, driver.Errorf(driver.NotFound, op, "there is none")
}

func (x query) route(ctx context.Context, op, topic string) (*route, *driver.Error) {
	if err := x.c.use(ctx, op); err != nil {
		return nil, err
	}
	if err := driver.ValidTopic(topic); err != nil {
		return nil, invalid(op, err)
	}
	r, err := x.c.routes.get(ctx, topic)
	if err != nil {
		return nil, asDriver(err, op)
	}
	return r, nil
}

func (x query) byUniqueID(ctx context.Context, op string, r *route, topic, id string) (*driver.Delivery, *driver.Error) {
	found, err := x.find(ctx, op, r, remoting.QueryMessage{Topic: topic, Key: id, MaxNum: queryMost, End: math.MaxInt64, UniqueKey: true})
	for _, d := range found {
		if d.ID == id {
			return d, nil
		}
	}
	return nil, err
}

// byOffset reads the message at a physical offset, if it is one of the topic.
func (x query) byOffset(ctx context.Context, op, addr, topic string, at int64) (*driver.Delivery, error) {
	req := &remoting.Command{Code: remoting.ReqViewMessageByID}
	remoting.ViewMessage{Offset: at, Topic: topic}.AppendTo(&req.Fields)
	a, err := x.c.call(ctx, op, addr, req, false, remoting.ResSystemError)
	if err != nil {
		return nil, err
	}
	if a.Code == remoting.ResSystemError {
		return nil, driver.Errorf(driver.NotFound, op, "%w", &RefusedError{Code: a.Code, Remark: a.Remark, Addr: addr})
	}
	found, decodeErr := deliveries(a.Body)
	if decodeErr != nil {
		return nil, driver.Errorf(driver.Corrupt, op, "%w", decodeErr)
	}
	if len(found) != 1 || found[0].Topic != topic {
		return nil, driver.Errorf(driver.NotFound, op, "there is none")
	}
	x.number(ctx, found[0])
	return found[0], nil
}

// number gives a delivery the number of its queue.
func (x query) number(ctx context.Context, d *driver.Delivery) {
	r, err := x.c.routes.get(ctx, d.Topic)
	if err != nil || len(r.brokersOf()) == 1 {
		return
	}
	for _, q := range r.read {
		if addr, ok := x.c.routes.master(q.Broker); ok && q.ID == d.Queue {
			if host, _, err := message.ParseOffsetID(d.OffsetID); err == nil && host.String() == addr {
				d.Queue = r.number(q)
				return
			}
		}
	}
}

// find asks every broker of a topic, all at once. It answers what it has found
// also when some of them have failed: that one is away is no fault of the others.
func (x query) find(ctx context.Context, op string, r *route, q remoting.QueryMessage) ([]*driver.Delivery, *driver.Error) {
	brokers := r.brokersOf()
	found, errs := make([][]*driver.Delivery, len(brokers)), make([]*driver.Error, len(brokers))
	var asked sync.WaitGroup
	for i, broker := range brokers {
		asked.Go(func() { found[i], errs[i] = x.findAt(ctx, op, broker, q) })
	}
	asked.Wait()
	var failed *driver.Error
	for _, err := range errs {
		if err != nil && (failed == nil || failed.Code == driver.NotFound) {
			failed = err
		}
	}
	return slices.Concat(found...), failed
}

// findAt asks one broker.
func (x query) findAt(ctx context.Context, op, broker string, q remoting.QueryMessage) ([]*driver.Delivery, *driver.Error) {
	addr, err := x.c.writer(op, broker)
	if err != nil {
		return nil, err
	}
	req := &remoting.Command{Code: remoting.ReqQueryMessage}
	q.AppendTo(&req.Fields)
	a, err := x.c.call(ctx, op, addr, req, false, remoting.ResQueryNotFound)
	if err != nil || a.Code == remoting.ResQueryNotFound {
		return nil, err
	}
	found, decodeErr := deliveries(a.Body)
	if decodeErr != nil {
		return nil, driver.Errorf(driver.Corrupt, op, "%w", decodeErr)
	}
	for _, d := range found {
		x.number(ctx, d)
	}
	return found, nil
}

// deliveries reads the messages of an answer.
func deliveries(body []byte) ([]*driver.Delivery, error) {
	var out []*driver.Delivery
	for len(body) > 0 {
		s, n, err := message.Decode(body)
		if err != nil {
			return out, err
		}
		d, err := deliver(&s)
		if err != nil {
			return out, err
		}
		out, body = append(out, d), body[n:]
	}
	return out, nil
}

// ByKey finds messages by a business key; see [driver.MessageQuery]. A broker
// answers its 64 newest ones at most. With the error of a broker comes what the
// others have.
func (x query) ByKey(ctx context.Context, topic, key string, tr driver.TimeRange, limit int) ([]*driver.Delivery, error) {
	op := fmt.Sprintf("find messages of %s by key %s", topic, key)
	r, err := x.route(ctx, op, topic)
	if err != nil {
		return nil, err
	}
	if limit < 1 || key == "" {
		return nil, driver.Errorf(driver.InvalidArgument, op, "limit %d and key %q; it takes 1 or more and a key", limit, key)
	}
	q := remoting.QueryMessage{Topic: topic, Key: key, MaxNum: queryMost, End: math.MaxInt64}
	if !tr.From.IsZero() {
		// The times in the index of RocketMQ's brokers are cut to whole seconds
		// from the beginning of its file.
		q.Begin = tr.From.Add(-time.Second).UnixMilli()
	}
	if !tr.To.IsZero() {
		q.End = tr.To.UnixMilli()
	}
	found, err := x.find(ctx, op, r, q)
	found = slices.DeleteFunc(found, func(d *driver.Delivery) bool { return !slices.Contains(d.Keys, key) || !tr.Contains(d.StoredAt) })
	slices.SortStableFunc(found, func(a, b *driver.Delivery) int {
		return cmp.Or(a.StoredAt.Compare(b.StoredAt), cmp.Compare(a.OffsetID, b.OffsetID))
	})
	return found[:min(limit, len(found))], asError(err)
}

// Browse reads a queue without a group; see [driver.MessageQuery].
func (x query) Browse(ctx context.Context, topic string, queue int, offset int64, limit int) ([]*driver.Delivery, error) {
	op := fmt.Sprintf("browse %s/%d", topic, queue)
	r, err := x.route(ctx, op, topic)
	if err != nil {
		return nil, err
	}
	if queue < 0 || queue >= len(r.read) {
		return nil, driver.Errorf(driver.InvalidArgument, op, "the topic has the queues 0 to %d", len(r.read)-1)
	}
	if limit < 1 {
		return nil, driver.Errorf(driver.InvalidArgument, op, "limit %d; it takes 1 or more", limit)
	}
	out, err := x.c.browse(ctx, r.read[queue], offset, limit)
	if err != nil {
		return nil, asDriver(err, op)
	}
	for _, d := range out {
		d.Queue = queue
	}
	return out, nil
}

// browse reads up to limit messages of a queue.
func (c *conn) browse(ctx context.Context, q Queue, offset int64, limit int) ([]*driver.Delivery, *driver.Error) {
	found, err := c.stored(ctx, q, offset, limit)
	if err != nil {
		return nil, err
	}
	var out []*driver.Delivery
	for i := range found {
		d, decodeErr := deliver(&found[i])
		if decodeErr != nil {
			return out, driver.Errorf(driver.Corrupt, "browse "+q.String(), "%w", decodeErr)
		}
		out = append(out, d)
	}
	return out, nil
}

// stored reads up to limit stored messages of a queue from offset on.
func (c *conn) stored(ctx context.Context, q Queue, offset int64, limit int) ([]message.Stored, *driver.Error) {
	op := "browse " + q.String()
	var out []message.Stored
	for at := max(offset, 0); len(out) < limit; {
		addr, err := c.writer(op, q.Broker)
		if err != nil {
			return out, err
		}
		p := remoting.PullMessage{
			Group: message.ToolsGroup, Topic: q.Topic, QueueID: int32(q.ID), QueueOffset: at, MaxMessages: int32(min(limit-len(out), pullBatch)),
			SysFlag: remoting.PullSubscription, Subscription: "*", ExpressionType: remoting.ExpressionTag, BrokerName: q.Broker,
		}
		req := &remoting.Command{Code: remoting.ReqPullMessage}
		p.AppendTo(&req.Fields)
		a, err := c.call(ctx, op, addr, req, false, remoting.ResPullNotFound, remoting.ResPullRetryImmediately, remoting.ResPullOffsetMoved)
		if err != nil {
			return out, err
		}
		res, decodeErr := remoting.DecodePullResult(a.Fields)
		if decodeErr != nil {
			return out, driver.Errorf(driver.Internal, op, "%w", decodeErr)
		}
		if a.Code == remoting.ResSuccess {
			for rest := a.Body; len(rest) > 0 && len(out) < limit; {
				s, n, decodeErr := message.Decode(rest)
				if decodeErr != nil {
					return out, driver.Errorf(driver.Corrupt, op, "%w", decodeErr)
				}
				rest = rest[n:]
				if s.QueueOffset >= at {
					out = append(out, s)
				}
			}
		}
		if a.Code == remoting.ResPullNotFound || res.NextBeginOffset <= at {
			return out, nil
		}
		at = res.NextBeginOffset
	}
	return out, nil
}
