package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// requesterGroup is the producer group in which clients that wait for replies
// are registered; brokers find them by their client id.
const requesterGroup = "SLUICE_REQUESTER"

// requester is the requests of one client that wait for their replies.
type requester struct {
	c *conn

	mu      sync.Mutex
	closed  bool
	joined  bool                            // heartbeats say that this client waits for replies
	waiting map[string]chan *driver.Message // by correlation id; closed by close
	met     map[string]chan struct{}        // by address: closed when a broker was told first, or was not to be reached
}

func newRequester(c *conn) *requester {
	return &requester{c: c, waiting: map[string]chan *driver.Message{}, met: map[string]chan struct{}{}}
}

// close ends the waiting of all.
func (r *requester) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, reply := range r.waiting {
		close(reply)
	}
	r.waiting = nil
}

// Request sends a request; see [driver.Requester]. Every master of the cluster
// learns first where this client is, because the reply may come by any of them.
func (r *requester) Request(ctx context.Context, m *driver.Message) (*driver.Message, error) {
	op := "send a request"
	if m != nil {
		op += " to " + m.Topic
	}
	c := r.c
	if err := c.use(ctx, op); err != nil {
		return nil, err
	}
	end, bounded := ctx.Deadline()
	switch {
	case !bounded:
		return nil, invalid(op, errors.New("its context has no deadline, which says how long to wait for the reply"))
	case m != nil && !m.DeliverAt.IsZero():
		return nil, invalid(op, errors.New("a request cannot be delayed; leave DeliverAt out"))
	}
	id := c.ids.Next()
	own, err := withProperties(m, map[string]string{
		message.CorrelationID: id, message.ReplyToClient: c.id, message.TTL: strconv.FormatInt(max(time.Until(end).Milliseconds(), 1), 10),
	})
	if err != nil {
		return nil, invalid(op, err)
	}
	o := outgoing{m: own, r: &driver.SendResult{}}
	if err := c.accept(&o, 1); err != nil {
		return nil, asDriver(err, op)
	}
	if err := c.chooseQueue(ctx, &o, map[string]Queue{}); err != nil {
		return nil, asDriver(err, op)
	}
	o.spare = false // nobody sends it to another broker after this one
	if err := r.introduce(ctx, op, o.queue); err != nil {
		return nil, err
	}
	reply, failed := r.expect(op, id)
	if failed != nil {
		return nil, failed
	}
	defer r.forget(id)
	if failed = c.sendOne(ctx, []outgoing{o}, false); failed != nil {
		select {
		case got, ok := <-reply: // it came instead of the broker's answer
			if ok {
				got.Topic = m.Topic
				return got, nil
			}
		default:
		}
		return nil, asDriver(failed, op)
	}
	select {
	case got, ok := <-reply:
		if !ok {
			e := closed(op)
			e.MaybeDone = true
			return nil, e
		}
		got.Topic = m.Topic
		return got, nil
	case <-ctx.Done():
		return nil, driver.FromContext(ctx, op, true)
	}
}

// withProperties is a message with properties that make it a request, or a reply.
func withProperties(m *driver.Message, props map[string]string) (*driver.Message, error) {
	if m == nil {
		return nil, errors.New("the message is nil")
	}
	own := *m
	own.Properties = maps.Clone(m.Properties)
	if own.Properties == nil {
		own.Properties = map[string]string{}
	}
	for name, value := range props {
		if own.Properties[name] != "" {
			return nil, fmt.Errorf("property %s is set; the driver sets it here", name)
		}
		own.Properties[name] = value
	}
	return &own, nil
}

// expect notes that a reply is waited for.
func (r *requester) expect(op, id string) (<-chan *driver.Message, *driver.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, closed(op)
	}
	reply := make(chan *driver.Message, 1)
	r.waiting[id] = reply
	return reply, nil
}

func (r *requester) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, id)
}

// introduce tells brokers where replies go. Those that were never told are given
// a part of the time; the one that gets the request must know.
func (r *requester) introduce(ctx context.Context, op string, q Queue) *driver.Error {
	c := r.c
	addr, err := c.master(op, q.Broker)
	if err != nil {
		return err
	}
	topic := message.ReplyTopic(c.routes.clusterOf(q.Broker))
	if _, err := c.routeTo(ctx, topic, c.routes.get); err != nil {
		if err.Code == driver.NotFound {
			err = driver.Errorf(driver.Unsupported, op, "the brokers have no topic %s, as those before RocketMQ 4.7: %w", topic, err)
		}
		return asDriver(err, op)
	}
	end, _ := ctx.Deadline()
	some, cancel := context.WithTimeout(ctx, time.Until(end)/share)
	defer cancel()
	for _, first := range r.meet(op, c.routes.addresses([]string{topic}, false)) {
		select {
		case <-first:
		case <-some.Done():
		}
	}
	return r.hello(ctx, op, addr)
}

// meet tells brokers for the first time, in the background.
func (r *requester) meet(op string, addrs []string) (firsts []<-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.joined {
		_, err := r.c.joinProducers(op, requesterGroup) // until Close
		r.joined = err == nil
	}
	for _, addr := range addrs {
		first := r.met[addr]
		if first == nil {
			first = make(chan struct{})
			tell := func() {
				defer close(first)
				_ = r.hello(r.c.root, op, addr) // the heartbeats tell it again
			}
			if !r.c.spawn(tell) {
				return nil // the client is closing
			}
			r.met[addr] = first
		}
		firsts = append(firsts, first)
	}
	return firsts
}

// hello makes sure that a broker knows this client by the connection there is.
func (r *requester) hello(ctx context.Context, op, addr string) *driver.Error {
	c := r.c
	l, _, err := c.links.within(ctx, c.cfg.Timeout, addr)
	if err != nil {
		return unanswered(ctx, op, err, false)
	}
	if l.introduced.Load() {
		return nil
	}
	body := remoting.Heartbeat{ClientID: c.id, Producers: []string{requesterGroup}}.AppendTo(nil)
	if _, err := c.call(ctx, op, addr, &remoting.Command{Code: remoting.ReqHeartbeat, Body: body}, false); err != nil {
		return err
	}
	l.introduced.Store(true)
	return nil
}

// ofReplies are the properties that only say where a reply goes.
var ofReplies = []string{ //nolint:gochecknoglobals // a constant
	message.CorrelationID, message.ReplyToClient, message.TTL, message.MsgType, message.ArriveTime, message.PushReplyTime,
}

// replied takes the reply to a request. Nobody may wait for it any more, which is
// no fault of who sent it.
func (r *requester) replied(req *remoting.Command) *remoting.Command {
	x, err := remoting.DecodePushReply(req.Fields)
	if err != nil {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: err.Error()}
	}
	body, err := remoting.Inflate(x.SysFlag, req.Body, 0)
	if err != nil {
		return &remoting.Command{Code: remoting.ResSystemError, Remark: err.Error()}
	}
	var d driver.Delivery
	envelope.Open(&d, &message.Stored{Topic: x.Topic, Properties: x.Properties, BornTimestamp: x.BornTimestamp}, body, "")
	id := d.Properties[message.CorrelationID]
	for _, name := range ofReplies {
		delete(d.Properties, name)
	}
	r.mu.Lock()
	reply := r.waiting[id]
	delete(r.waiting, id)
	if reply != nil {
		reply <- &d.Message
	}
	r.mu.Unlock()
	if reply == nil {
		r.c.log.Info("a reply is dropped, nobody waits for it", slog.String("correlation", id), slog.String("id", d.ID))
	}
	return &remoting.Command{Code: remoting.ResSuccess}
}

// Reply answers a request; see [driver.Requester]. It goes by the broker from
// which the request came, where the requester is known.
func (r *requester) Reply(ctx context.Context, request *driver.Delivery, m *driver.Message) error {
	const op = "reply to a request"
	c := r.c
	if err := c.use(ctx, op); err != nil {
		return err
	}
	from, props, err := origin(request)
	if err != nil {
		return invalid(op, err)
	}
	if props[message.Cluster] == "" {
		return driver.Errorf(driver.Unsupported, op, "the broker %s has not marked the request with its cluster, as those before RocketMQ 4.7", from)
	}
	if m != nil && (m.Topic != "" || m.QueueSet || m.OrderingKey != "" || !m.DeliverAt.IsZero()) {
		return invalid(op, errors.New("a reply goes to who has asked; leave out its topic, queue, ordering key and time"))
	}
	back := map[string]string{message.MsgType: "reply"}
	for _, name := range []string{message.CorrelationID, message.ReplyToClient, message.TTL} {
		if props[name] != "" {
			back[name] = props[name]
		}
	}
	own, err := withProperties(m, back)
	if err != nil {
		return invalid(op, err)
	}
	own.Topic = message.ReplyTopic(props[message.Cluster])
	return asError(c.sendReply(ctx, op, from, own))
}

// origin answers the broker from which a request came, and the properties that
// it has there.
func origin(request *driver.Delivery) (string, map[string]string, error) {
	if request == nil {
		return "", nil, errors.New("the request is nil")
	}
	t, ok := request.Token.(*flight)
	if !ok {
		return "", nil, errors.New("the request is no delivery of this driver")
	}
	props := message.ParseProperties(t.e.stored.Properties)
	if props[message.CorrelationID] == "" || props[message.ReplyToClient] == "" {
		return "", nil, fmt.Errorf("message %s is no request", request.ID)
	}
	return t.lane.f.queue.Broker, props, nil
}

// sendReply sends a reply by a broker.
func (c *conn) sendReply(ctx context.Context, op, broker string, m *driver.Message) *driver.Error {
	if err := checkMessage(m); err != nil {
		return invalid(op, err)
	}
	props, _, err := c.properties(m, m.ID, delay{})
	if err != nil {
		return invalid(op, err)
	}
	body, flag, err := c.compress(m.Body)
	if err != nil {
		return driver.Errorf(driver.Internal, op, "%w", err)
	}
	addr, failed := c.master(op, broker)
	if failed != nil {
		return failed
	}
	h := header(Queue{Topic: m.Topic, Broker: broker}, m.BornAt, flag)
	h.Properties = props
	req := &remoting.Command{Code: remoting.ReqSendReplyV2, Body: body}
	h.AppendTo(req.Code, &req.Fields)
	// That the copy which a broker keeps is not safe yet is of no interest.
	_, failed = c.call(ctx, op, addr, req, true, remoting.ResFlushDiskTimeout, remoting.ResFlushSlaveTimeout, remoting.ResSlaveNotAvailable)
	if failed == nil {
		return nil
	}
	if r, ok := errors.AsType[*RefusedError](failed); ok && r.Code == remoting.ResSystemError {
		if strings.HasSuffix(r.Remark, "not found.") {
			failed.Code, failed.Retryable = driver.NotFound, false
		} else {
			failed.MaybeDone = true // it was handed to the requester, whose answer is missing
		}
	}
	return failed
}

var _ driver.Requester = (*requester)(nil)
