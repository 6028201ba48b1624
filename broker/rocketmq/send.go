package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// producerGroup is the group in which plain sends go out; brokers only log it.
const producerGroup = "SLUICE_PRODUCER"

// batchRoom is how many bytes of a batch are for messages; brokers count their
// own fields to the 4 MiB that a batch may have.
const batchRoom = maxBody - 64<<10

// outgoing is one message on its way.
type outgoing struct {
	m     *driver.Message
	id    string
	due   int64 // milliseconds, 0 for now
	props []byte
	queue Queue
	// number is that of the queue among those of the topic.
	number int
	r      *driver.SendResult
}

// Send stores messages; see [driver.Conn]. Messages of one call without a queue
// and without an ordering key go to one queue, as one batch where they fit. A
// broker that fails is left out for a while by the sends after this one.
func (c *conn) Send(ctx context.Context, req driver.SendRequest) []driver.SendResult {
	if len(req.Messages) == 0 {
		return nil
	}
	results := make([]driver.SendResult, len(req.Messages))
	out := make([]*outgoing, 0, len(req.Messages))
	for i, m := range req.Messages {
		r := &results[i]
		r.Offset = -1
		o, err := c.accept(ctx, m, len(req.Messages))
		if m != nil {
			r.ID = m.ID
		}
		if err != nil {
			r.Err = err
			continue
		}
		o.r, r.ID = r, o.id
		out = append(out, o)
	}
	byLane := c.route(ctx, out)
	if len(byLane) == 1 {
		c.sendLane(ctx, byLane[0], req.NoAck)
		return results
	}
	var wg sync.WaitGroup
	for _, lane := range byLane {
		wg.Go(func() { c.sendLane(ctx, lane, req.NoAck) })
	}
	wg.Wait()
	return results
}

// accept checks one message of a call and encodes what it carries.
func (c *conn) accept(ctx context.Context, m *driver.Message, calls int) (*outgoing, *driver.Error) {
	topic := ""
	if m != nil {
		topic = m.Topic
	}
	op := "send to " + topic
	if err := c.use(ctx, op); err != nil {
		return nil, err
	}
	if calls > maxBatch {
		return nil, driver.Errorf(driver.InvalidArgument, op, "%d messages in one call, at most %d are allowed", calls, maxBatch)
	}
	if err := c.check(m); err != nil {
		return nil, invalid(op, err)
	}
	o := &outgoing{m: m, id: m.ID, due: dueAt(m.DeliverAt)}
	if o.id == "" {
		o.id = c.ids.Next()
	}
	var err error
	if o.props, err = properties(m, o.id, o.due); err != nil {
		return nil, invalid(op, err)
	}
	return o, nil
}

// route chooses the queues of messages and answers those of each queue in their
// order. Messages without a queue get their results here.
func (c *conn) route(ctx context.Context, out []*outgoing) [][]*outgoing {
	var lanes [][]*outgoing
	at := map[Queue]int{}
	turns := map[string]Queue{} // what messages that do not care get, by topic
	for _, o := range out {
		if err := c.chooseQueue(ctx, o, turns); err != nil {
			o.r.Err = err
			continue
		}
		i, ok := at[o.queue]
		if !ok {
			i = len(lanes)
			at[o.queue] = i
			lanes = append(lanes, nil)
		}
		lanes[i] = append(lanes[i], o)
	}
	return lanes
}

func (c *conn) chooseQueue(ctx context.Context, o *outgoing, turns map[string]Queue) *driver.Error {
	op := "send to " + o.m.Topic
	limited, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errAttempt)
	defer cancel()
	r, err := c.routes.forSend(limited, o.m.Topic)
	if err != nil {
		if ctx.Err() == nil && err.Code == driver.Canceled {
			err.Code, err.Retryable = driver.Timeout, true
		}
		return asDriver(err, op)
	}
	if len(r.write) == 0 {
		e := driver.Errorf(driver.Unavailable, op, "no broker takes messages for it now")
		e.Retryable = true
		c.suspect(o.m.Topic)
		return e
	}
	all := r.read
	if r.template {
		all = r.write
	}
	switch {
	case o.m.QueueSet && o.m.Queue >= len(all):
		return driver.Errorf(driver.InvalidArgument, op, "queue %d; the topic has the queues 0 to %d", o.m.Queue, len(all)-1)
	case o.m.QueueSet:
		o.queue = all[o.m.Queue]
	case o.m.OrderingKey != "":
		o.queue = r.write[keyQueue(o.m.OrderingKey, len(r.write))]
	default:
		q, ok := turns[o.m.Topic]
		if !ok {
			q = c.avoid.choose(r.write, c.turn.Add(1))
			turns[o.m.Topic] = q
		}
		o.queue = q
	}
	o.number = slices.Index(all, o.queue)
	if o.number < 0 {
		o.number = o.queue.ID
	}
	return nil
}

// keyQueue is the queue of an ordering key among n, as Java's
// SelectMessageQueueByHash has it: the hash code of the text, its remainder
// without the sign.
func keyQueue(key string, n int) int {
	i := int(message.TagCode(key)) % n
	if i < 0 {
		return -i
	}
	return i
}

// sendLane sends the messages of one queue one request after the other. Behind
// a failure nothing is sent: it would overtake.
func (c *conn) sendLane(ctx context.Context, lane []*outgoing, oneWay bool) {
	for len(lane) > 0 {
		n := batchOf(lane)
		var err *driver.Error
		if n == 1 {
			err = c.sendOne(ctx, lane[0], oneWay)
		} else {
			err = c.sendBatch(ctx, lane[:n], oneWay)
		}
		if err != nil {
			fail(lane[:n], err)
			behind := driver.Errorf(err.Code, err.Op, "not sent, a message before it on %s failed: %w", lane[0].queue, err)
			behind.Retryable, behind.RetryAfter = err.Retryable, err.RetryAfter
			fail(lane[n:], behind)
			return
		}
		lane = lane[n:]
	}
}

func fail(lane []*outgoing, err *driver.Error) {
	for _, o := range lane {
		o.r.Status, o.r.Err = driver.NotStored, err
	}
}

// batchOf is how many of the first messages of a lane go in one request.
func batchOf(lane []*outgoing) int {
	if strings.HasPrefix(lane[0].m.Topic, driver.RetryTopic("")) || strings.HasPrefix(lane[0].m.Topic, driver.DeadLetterTopic("")) {
		return 1
	}
	size, n := 0, 0
	for _, o := range lane {
		size += len(o.m.Body) + len(o.props) + 32
		if o.due > 0 || size > batchRoom {
			break
		}
		n++
	}
	return max(n, 1)
}

// header makes the fields of a send.
func header(o *outgoing, sysFlag int32) remoting.SendMessage {
	born := o.m.BornAt
	if born.IsZero() {
		born = time.Now()
	}
	return remoting.SendMessage{
		ProducerGroup: producerGroup, Topic: o.m.Topic, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: templateQueues,
		QueueID: int32(o.queue.ID), SysFlag: sysFlag, BornTimestamp: born.UnixMilli(), MaxReconsumeTimes: -1, BrokerName: o.queue.Broker,
	}
}

func (c *conn) sendOne(ctx context.Context, o *outgoing, oneWay bool) *driver.Error {
	body, flag, err := c.compress(o.m.Body)
	if err != nil {
		return driver.Errorf(driver.Internal, "send to "+o.m.Topic, "%w", err)
	}
	h := header(o, flag)
	h.Properties = string(o.props)
	return c.post(ctx, remoting.ReqSendMessageV2, h, body, []*outgoing{o}, oneWay)
}

func (c *conn) sendBatch(ctx context.Context, lane []*outgoing, oneWay bool) *driver.Error {
	op := "send to " + lane[0].m.Topic
	size := 0
	for _, o := range lane {
		size += len(o.m.Body) + len(o.props) + 32
	}
	body := make([]byte, 0, size)
	for _, o := range lane {
		var err error
		body, err = message.AppendBatch(body, message.BatchElement{Body: o.m.Body, Properties: string(o.props)})
		if err != nil {
			return driver.Errorf(driver.InvalidArgument, op, "%w", err)
		}
	}
	h := header(lane[0], 0)
	h.Batch = true
	h.Properties = string(message.AppendProperty(nil, message.Wait, "true"))
	return c.post(ctx, remoting.ReqSendBatch, h, body, lane, oneWay)
}

// post sends one request with the messages of one queue and fills in their
// results.
func (c *conn) post(ctx context.Context, code int, h remoting.SendMessage, body []byte, lane []*outgoing, oneWay bool) *driver.Error {
	q := lane[0].queue
	op := "send to " + q.String()
	addr, failed := c.master(op, q.Broker)
	if failed != nil {
		c.suspect(q.Topic)
		return failed
	}
	req := &remoting.Command{Code: code, Body: body}
	h.AppendTo(code, &req.Fields)
	if oneWay {
		return c.postOneWay(ctx, op, addr, req, lane)
	}
	began := time.Now()
	a, failed := c.call(ctx, op, addr, req, true, remoting.ResFlushDiskTimeout, remoting.ResSlaveNotAvailable, remoting.ResFlushSlaveTimeout)
	if failed != nil {
		if ctx.Err() == nil {
			c.avoid.failed(q.Broker)
			c.suspect(q.Topic)
		}
		return failed
	}
	c.avoid.took(q.Broker, time.Since(began))
	if err := stored(a, lane); err != nil {
		return driver.Errorf(driver.Internal, op, "%w", err) // it is stored: sending it again would be worse
	}
	return nil
}

func (c *conn) postOneWay(ctx context.Context, op, addr string, req *remoting.Command, lane []*outgoing) *driver.Error {
	limited, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errAttempt)
	defer cancel()
	if err := c.links.oneWay(limited, addr, req); err != nil {
		return unanswered(ctx, op, err, true)
	}
	for _, o := range lane {
		o.r.Status, o.r.Lane, o.r.Queue = driver.Unconfirmed, o.queue.String(), o.number
	}
	return nil
}

// statuses are those of the four codes that mean stored.
var statuses = map[int]driver.SendStatus{
	remoting.ResSuccess: driver.Stored, remoting.ResFlushDiskTimeout: driver.StoredUnflushed,
	remoting.ResSlaveNotAvailable: driver.StoredUnreplicated, remoting.ResFlushSlaveTimeout: driver.StoredUnreplicated,
}

var errAnswer = errors.New("the answer does not fit the request")

// stored fills in what a broker said of the messages of a lane.
func stored(a *remoting.Command, lane []*outgoing) error {
	res, err := remoting.DecodeSendResult(a.Fields)
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	ids := strings.Split(res.MsgID, ",")
	if len(ids) != len(lane) && len(lane) > 1 {
		ids = make([]string, len(lane)) // some brokers answer one id for a batch
		ids[0] = res.MsgID
	}
	for i, o := range lane {
		r := o.r
		r.Status, r.OffsetID = statuses[a.Code], ids[i]
		r.Lane, r.Queue = o.queue.String(), o.number
		if o.due == 0 {
			r.Offset = res.QueueOffset + int64(i)
		}
	}
	return nil
}
