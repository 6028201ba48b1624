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
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// producerGroup is the group in which plain sends go out; brokers only log it.
const producerGroup = "SLUICE_PRODUCER"

// batchRoom is how many bytes of a batch are for messages; brokers count their
// own fields to the 4 MiB that a batch may have.
const batchRoom = maxBody - 64<<10

// outgoing is one message on its way.
type outgoing struct {
	m  *driver.Message
	id string
	delay
	props string
	queue Queue
	// number is that of the queue among those of the topic, name its lane.
	number int
	name   string
	// anywhere: another queue would do as well. Spare: there is one at another
	// broker. Fresh: a send makes the topic.
	anywhere, spare, fresh bool
	// end is the deadline that all attempts of the message share; zero: none.
	end time.Time
	// half is the producer group of a half message, else empty.
	half string
	// asks: it is a request, which goes alone: brokers do not mark those in a
	// batch with their cluster, and without that there is no reply.
	asks bool
	r    *driver.SendResult
}

// wireSize is about what a message takes in the body of a batch.
func (o *outgoing) wireSize() int { return len(o.m.Body) + len(o.props) + 32 }

// op is what errors about one message call its sending.
func (o *outgoing) op() string { return sendTo(o.m.Topic) }

func sendTo(where string) string { return "send to " + where }

// Send stores messages; see [driver.Conn]. Messages of one call without a queue
// and without an ordering key go to one queue, as one batch where they fit, and
// messages of calls at the same time may. A broker that fails is left out for a
// while by the sends after this one.
func (c *conn) Send(ctx context.Context, req driver.SendRequest) []driver.SendResult {
	if len(req.Messages) == 0 {
		return nil
	}
	results := make([]driver.SendResult, len(req.Messages))
	out := make([]outgoing, 0, len(req.Messages))
	failed := c.use(ctx, "")
	for i, m := range req.Messages {
		r := &results[i]
		r.Offset = -1
		o := outgoing{m: m, r: r}
		err := failed
		if err == nil {
			err = c.accept(&o, len(req.Messages))
		}
		if r.ID = o.id; r.ID == "" && m != nil {
			r.ID = m.ID
		}
		if err != nil {
			r.Err = withTopic(err, m)
			continue
		}
		out = append(out, o)
	}
	out = c.route(ctx, out)
	c.sendAll(ctx, out, req.NoAck)
	if c.cfg.RetryAnotherBroker {
		c.sendCopies(ctx, out)
	}
	return results
}

// sendAll sends messages that have their queues.
func (c *conn) sendAll(ctx context.Context, out []outgoing, oneWay bool) {
	if len(out) == 1 && !oneWay && c.gather.takes(&out[0]) {
		c.gather.send(ctx, out)
	} else {
		c.sendLanes(ctx, out, oneWay)
	}
}

// sendCopies sends what is stored less safely than it should be to another broker
// as well. The first copy counts, unless the second one is safe.
func (c *conn) sendCopies(ctx context.Context, out []outgoing) {
	var copies []outgoing
	var firsts []*driver.SendResult
	others := map[Queue]Queue{}
	for _, o := range out {
		if s := o.r.Status; !o.spare || s == driver.NotStored || s == driver.Stored || s == driver.Unconfirmed {
			continue
		}
		r, err := c.routeFor(ctx, o.m.Topic)
		if err != nil {
			continue
		}
		other, ok := others[o.queue]
		if !ok {
			elsewhere := slices.DeleteFunc(slices.Clone(r.write), func(q Queue) bool { return q.Broker == o.queue.Broker })
			if len(elsewhere) == 0 {
				continue // the route has changed
			}
			other = c.avoid.choose(elsewhere, c.turn.Add(1))
			others[o.queue] = other
		}
		firsts = append(firsts, o.r)
		o.r = &driver.SendResult{ID: o.id, Offset: -1}
		o.queue = other
		o.number, o.name = r.lane(other)
		copies = append(copies, o)
	}
	if len(copies) == 0 {
		return
	}
	c.sendAll(ctx, copies, false)
	for i, first := range firsts {
		second := copies[i].r
		e, failed := errors.AsType[*driver.Error](second.Err)
		if second.Status == driver.Stored {
			*first = *second
		}
		first.MaybeDone = !failed || e.MaybeDone
	}
}

// withTopic gives an error the name of what failed.
func withTopic(err *driver.Error, m *driver.Message) *driver.Error {
	e := *err
	e.Op = sendTo("")
	if m != nil {
		e.Op = sendTo(m.Topic)
	}
	return &e
}

// accept checks one message of a call and encodes what it carries.
func (c *conn) accept(o *outgoing, calls int) *driver.Error {
	if calls > maxBatch {
		return driver.Errorf(driver.InvalidArgument, "", "%d messages in one call, at most %d are allowed", calls, maxBatch)
	}
	if err := checkMessage(o.m); err != nil {
		return invalid("", err)
	}
	o.asks = o.m.Properties[message.CorrelationID] != ""
	var err error
	if o.delay, err = c.delay(o.m.DeliverAt, o.m.BornAt); err != nil {
		return driver.Errorf(driver.Unsupported, "", "%w", err)
	}
	if o.props, o.id, err = c.properties(o.m, o.m.ID, o.delay); err != nil {
		return invalid("", err)
	}
	return nil
}

// route chooses the queues of messages and answers those that have one. The
// others get their results here.
func (c *conn) route(ctx context.Context, out []outgoing) []outgoing {
	turns := map[string]Queue{} // what messages that do not care get, by topic
	routed := out[:0]
	for _, o := range out {
		if err := c.chooseQueue(ctx, &o, turns); err != nil {
			o.r.Err = err
			continue
		}
		routed = append(routed, o)
	}
	return routed
}

// sendLanes sends the messages of each queue in their order, the queues side by
// side.
func (c *conn) sendLanes(ctx context.Context, out []outgoing, oneWay bool) {
	if !slices.ContainsFunc(out, func(o outgoing) bool { return o.queue != out[0].queue }) {
		c.sendLane(ctx, out, oneWay)
		return
	}
	var lanes [][]outgoing
	at := map[Queue]int{}
	for _, o := range out {
		i, ok := at[o.queue]
		if !ok {
			i = len(lanes)
			at[o.queue] = i
			lanes = append(lanes, nil)
		}
		lanes[i] = append(lanes[i], o)
	}
	var wg sync.WaitGroup
	for _, lane := range lanes {
		wg.Go(func() { c.sendLane(ctx, lane, oneWay) })
	}
	wg.Wait()
}

// routeFor answers the route of a topic, within Config.Timeout if it is not known.
func (c *conn) routeFor(ctx context.Context, topic string) (*route, *driver.Error) {
	return c.routeTo(ctx, topic, c.routes.forSend)
}

func (c *conn) routeTo(ctx context.Context, topic string, ask func(context.Context, string) (*route, *driver.Error)) (*route, *driver.Error) {
	if r := c.routes.cached(topic); r != nil {
		return r, nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errAttempt)
	defer cancel()
	r, err := ask(limited, topic)
	if err == nil {
		return r, nil
	}
	if ctx.Err() == nil && err.Code == driver.Canceled {
		err.Code, err.Retryable = driver.Timeout, true
	}
	return nil, asDriver(err, sendTo(topic))
}

func (c *conn) chooseQueue(ctx context.Context, o *outgoing, turns map[string]Queue) *driver.Error {
	r, err := c.routeFor(ctx, o.m.Topic)
	if err != nil {
		return err
	}
	if len(r.write) == 0 {
		e := driver.Errorf(driver.Unavailable, o.op(), "no broker takes messages for it now")
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
		return driver.Errorf(driver.InvalidArgument, o.op(), "queue %d; the topic has the queues 0 to %d", o.m.Queue, len(all)-1)
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
		o.queue, o.anywhere = q, true
		o.spare = r.write[0].Broker != r.write[len(r.write)-1].Broker // they are sorted
	}
	o.fresh = r.template
	o.end, _ = ctx.Deadline()
	o.number, o.name = r.lane(o.queue)
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
func (c *conn) sendLane(ctx context.Context, lane []outgoing, oneWay bool) {
	for len(lane) > 0 {
		n := batchOf(lane)
		var err *driver.Error
		if n == 1 {
			err = c.sendOne(ctx, lane[:1], oneWay)
		} else {
			err = c.sendBatch(ctx, lane[:n], oneWay)
		}
		if err != nil {
			fail(lane[:n], err)
			fail(lane[n:], behind(err, lane[0].queue))
			return
		}
		lane = lane[n:]
	}
}

// behind is the error of what is not sent because of err.
func behind(err *driver.Error, q Queue) *driver.Error {
	e := driver.Errorf(err.Code, err.Op, "not sent, a message before it on %s failed: %w", q, err)
	e.Retryable, e.RetryAfter = err.Retryable, err.RetryAfter
	return e
}

func fail(lane []outgoing, err *driver.Error) {
	for i := range lane {
		lane[i].r.Status, lane[i].r.Err = driver.NotStored, err
	}
}

// ageGap is how far apart the births of messages are that go in one request,
// which has one time of birth for all of them.
const ageGap = time.Second

// together reports whether messages of two times of birth may share the first.
// Times that were measured for each message are never the same.
func together(first, other time.Time) bool {
	return first.IsZero() == other.IsZero() && other.Sub(first).Abs() <= ageGap
}

// batchOf is how many of the first messages of a lane go in one request.
func batchOf(lane []outgoing) int {
	if envelope.Internal(lane[0].m.Topic) {
		return 1
	}
	size, n := 0, 0
	for i := range lane {
		o := &lane[i]
		size += o.wireSize()
		if o.due > 0 || o.asks || size > batchRoom || !together(lane[0].m.BornAt, o.m.BornAt) {
			break
		}
		n++
	}
	return max(n, 1)
}

// header makes the fields of a send.
func header(q Queue, born time.Time, sysFlag int32) remoting.SendMessage {
	if born.IsZero() {
		born = time.Now()
	}
	return remoting.SendMessage{
		ProducerGroup: producerGroup, Topic: q.Topic, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: templateQueues,
		QueueID: int32(q.ID), SysFlag: sysFlag, BornTimestamp: born.UnixMilli(), MaxReconsumeTimes: -1, BrokerName: q.Broker,
	}
}

// sendOne sends a lane of one message.
func (c *conn) sendOne(ctx context.Context, lane []outgoing, oneWay bool) *driver.Error {
	o := &lane[0]
	body, flag, err := c.compress(o.m.Body)
	if err != nil {
		return driver.Errorf(driver.Internal, o.op(), "%w", err)
	}
	h := header(o.queue, o.m.BornAt, flag)
	if o.half != "" {
		h.ProducerGroup, h.SysFlag = o.half, flag|message.SysPrepared
	}
	h.Properties = o.props
	return c.post(ctx, remoting.ReqSendMessageV2, h, body, lane, oneWay)
}

// batchProperties are those of a batch itself.
var batchProperties = string(message.AppendProperty(nil, message.Wait, "true")) //nolint:gochecknoglobals // a constant

// sendBatch sends a lane in one request.
func (c *conn) sendBatch(ctx context.Context, lane []outgoing, oneWay bool) *driver.Error {
	memory := bodies.Get().(*[]byte) //nolint:forcetypeassert // of its New
	defer bodies.Put(memory)
	body := (*memory)[:0]
	for i := range lane {
		o := &lane[i]
		var err error
		body, err = message.AppendBatch(body, message.BatchElement{Body: o.m.Body, Properties: o.props})
		if err != nil {
			return driver.Errorf(driver.InvalidArgument, o.op(), "%w", err)
		}
	}
	if cap(body) <= keptBody {
		*memory = body
	}
	return c.postBatch(ctx, lane[0].queue, lane[0].m.BornAt, body, lane, oneWay)
}

// postBatch sends the messages of a lane that body has.
func (c *conn) postBatch(ctx context.Context, q Queue, born time.Time, body []byte, lane []outgoing, oneWay bool) *driver.Error {
	h := header(q, born, 0)
	h.Batch = true
	h.Properties = batchProperties
	return c.post(ctx, remoting.ReqSendBatch, h, body, lane, oneWay)
}

// keptBody is the largest body that is kept for another batch.
const keptBody = 256 << 10

// Memory of requests, which is free again when they are encoded.
var (
	bodies   = sync.Pool{New: func() any { return new([]byte) }}  //nolint:gochecknoglobals // a pool has no state
	requests = sync.Pool{New: func() any { return new(sending) }} //nolint:gochecknoglobals // a pool has no state
)

// sending is the request of a send with room for its fields.
type sending struct {
	remoting.Command
	fields [16]remoting.Field
}

// post sends one request with the messages of one queue and fills in their
// results.
func (c *conn) post(ctx context.Context, code int, h remoting.SendMessage, body []byte, lane []outgoing, oneWay bool) *driver.Error {
	q := lane[0].queue
	addr, ok := c.routes.master(q.Broker)
	if !ok {
		c.suspect(q.Topic)
		return noMaster(sendTo(q.String()), q.Broker)
	}
	req := requests.Get().(*sending) //nolint:forcetypeassert // of its New
	defer requests.Put(req)
	req.Command = remoting.Command{Code: code, Body: body, Fields: req.fields[:0]}
	h.AppendTo(code, &req.Fields)
	if oneWay {
		return c.postOneWay(ctx, addr, &req.Command, lane)
	}
	began := time.Now()
	patience := c.patience(lane)
	if lane[0].due > 0 { // else the name of the send is not worth making
		if failed := c.keeps(ctx, patience, sendTo(q.String()), addr, lane[0].delay); failed != nil {
			return failed
		}
	}
	a, err := c.links.call(ctx, patience, addr, &req.Command)
	var failed *driver.Error
	switch {
	case err != nil:
		failed = unanswered(ctx, sendTo(q.String()), err, true)
	case status(a.Code) == driver.NotStored:
		failed = refused(sendTo(q.String()), addr, a)
	}
	if failed != nil {
		if ctx.Err() == nil {
			c.sendFailed(q, failed)
		}
		return failed
	}
	c.avoid.took(q.Broker, time.Since(began))
	if err := stored(a, lane); err != nil {
		return driver.Errorf(driver.Internal, sendTo(q.String()), "%w", err) // it is stored: sending it again would be worse
	}
	return nil
}

func (c *conn) postOneWay(ctx context.Context, addr string, req *remoting.Command, lane []outgoing) *driver.Error {
	limited, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errAttempt)
	defer cancel()
	if err := c.links.oneWay(limited, addr, req); err != nil {
		return unanswered(ctx, sendTo(lane[0].queue.String()), err, true)
	}
	for i := range lane {
		o := &lane[i]
		o.r.Status, o.r.Lane, o.r.Queue = driver.Unconfirmed, o.name, o.number
	}
	return nil
}

// status is what a code says of a message: four of them mean that it is stored.
func status(code int) driver.SendStatus {
	switch code {
	case remoting.ResSuccess:
		return driver.Stored
	case remoting.ResFlushDiskTimeout:
		return driver.StoredUnflushed
	case remoting.ResFlushSlaveTimeout:
		return driver.StoredUnreplicated
	case remoting.ResSlaveNotAvailable:
		return driver.StoredNoReplica
	default:
		return driver.NotStored
	}
}

var errAnswer = errors.New("the answer does not fit the request")

// stored fills in what a broker said of the messages of a lane.
func stored(a *remoting.Command, lane []outgoing) error {
	res, err := remoting.DecodeSendResult(a.Fields)
	if err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	ids := res.MsgID
	for i := range lane {
		o := &lane[i]
		r := o.r
		r.Status, r.Lane, r.Queue = status(a.Code), o.name, o.number
		r.OffsetID, ids, _ = strings.Cut(ids, ",") // some brokers answer one id for a batch
		r.Recall = res.RecallHandle
		if o.due == 0 {
			r.Offset = res.QueueOffset + int64(i)
		}
	}
	return nil
}
