package server

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Codes 11 (PULL_MESSAGE) and 361 (LITE_PULL_MESSAGE): read messages of one
// queue from an offset on.
//
// Behaviour: 0 with records, 20 if nothing that was looked at passed the filter,
// 19 at the end of the queue, 21 with the offset to go on at outside of it. If
// the client allows it, a pull that would be answered 19 is held until a message
// comes that passes the filter, or its time is over; see held.go. A queue that a
// member in this process has is empty for members elsewhere. The offset that a
// pull carries is committed once, when it comes.
func handlePull(s *Server, c *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodePullMessage(req.Fields)
	if err != nil {
		return err
	}
	// What is read has to find room in memory, and can wait for it here.
	room := int64(max(pullBytes, s.store.MaxBody()))
	if s.unsent.enter(room, c.done, s.closing) {
		defer s.unsent.add(-room)
	}
	if h.Topic == message.CheckMaxTimeTopic {
		return pullParked(s, &h, resp)
	}
	p := &pull{c: c, opaque: req.Opaque, flag: resp.Flag}
	if err := p.prepare(s, &h); err != nil {
		return err
	}
	if h.SysFlag&remoting.PullCommit != 0 {
		if err := s.commit(p.cursor, p.group, p.topic, p.queue, h.CommitOffset); err != nil {
			return err
		}
	}
	err = p.evaluate(s, resp)
	if err == nil && resp.Code != remoting.ResSuccess {
		s.countGet(p.group, p.topic, 0, 0)
	}
	hold := err == nil && resp.Code == remoting.ResPullNotFound && h.SysFlag&remoting.PullSuspend != 0 && h.SuspendMillis > 0
	if !hold {
		return err
	}
	p.own(s)
	return s.held.add(p, time.Duration(min(h.SuspendMillis, suspendMost.Milliseconds()))*time.Millisecond)
}

// own copies what is part of the request: a pull that is held keeps the names
// and not the whole header, which may be large.
func (p *pull) own(s *Server) {
	p.group, p.topic = strings.Clone(p.group), strings.Clone(p.topic)
	p.cursor = s.store.Cursor(p.group, p.topic, p.queue)
	if q, ok := s.store.Queue(p.topic, p.queue); ok {
		p.from = q
	}
}

const (
	// pullBytes and pullMessages bound the answer to a pull: RocketMQ's bound
	// for messages in memory, and more messages than its clients ask for.
	pullBytes    = 256 << 10
	pullMessages = 1024
	// suspendMost bounds how long a pull is held: less than the half minute
	// after which clients give up.
	suspendMost = 25 * time.Second
)

// pull is one request for messages.
type pull struct {
	c            *conn
	opaque, flag int32
	group, topic string
	queue        int
	from         embedded.Queue
	cursor       embedded.Cursor
	sel          embedded.Selection
	offset       int64 // where to go on
	asked        int64 // the offset of the request

	deadline int64 // of a held pull, by the server's clock
}

// prepare checks a pull against topic, group and subscription.
func (p *pull) prepare(s *Server, h *remoting.PullMessage) error {
	g := s.groups.find(h.Group)
	if !g.Consume {
		return forbidden(2, "subscription group no permission, %s", h.Group)
	}
	t, ok := s.topics.find(h.Topic)
	if !ok || t.virtual {
		return refuse(remoting.ResTopicNotExist, "topic[%s] not exist, apply first please!", h.Topic)
	}
	if !t.readable() {
		return forbidden(3, "the topic[%s] pulling message is forbidden", h.Topic)
	}
	if h.QueueID < 0 || int(h.QueueID) >= t.ReadQueues {
		return refuse(remoting.ResInvalidParameter, "queueId[%d] is illegal, topic:[%s] topicConfig.readQueueNums:[%d]", h.QueueID, h.Topic, t.ReadQueues)
	}
	if err := validGroup(h.Group); err != nil {
		return err
	}
	if !g.reads(h.Topic) {
		return forbidden(5, "the consumer group[%s] is forbidden to read topic[%s]", h.Group, h.Topic)
	}
	sub, err := s.wanted(h, &g)
	if err != nil {
		return err
	}
	p.group, p.topic, p.queue = h.Group, h.Topic, int(h.QueueID)
	if p.from, ok = s.store.Queue(h.Topic, p.queue); !ok {
		return refuse(remoting.ResTopicNotExist, "topic[%s] has no queue %d any more", h.Topic, p.queue)
	}
	bytes := pullBytes
	if h.MaxBytes > 0 {
		bytes = min(bytes, int(h.MaxBytes))
	}
	p.sel = sub.selection(max(1, min(int(h.MaxMessages), pullMessages)), bytes)
	p.cursor = s.store.Cursor(p.group, p.topic, p.queue)
	p.offset, p.asked = h.QueueOffset, h.QueueOffset
	return nil
}

// wanted is the filter that a pull carries, or that its group has registered;
// nil selects everything.
func (s *Server) wanted(h *remoting.PullMessage, g *groupConfig) (*subscription, error) {
	if strings.HasPrefix(h.Topic, retryPrefix) {
		return nil, nil //nolint:nilnil // redeliveries are the group's, whatever they are
	}
	if h.SysFlag&remoting.PullSubscription != 0 {
		sub, err := s.exprs.get(h.Subscription, h.ExpressionType)
		if err != nil {
			return nil, refuse(remoting.ResSubscriptionParseFailed, "parse the consumer's subscription failed: %v", err)
		}
		return sub, nil
	}
	sub, model, ok := s.clients.subscription(h.Group, h.Topic)
	switch {
	case !ok || sub == nil:
		return nil, refuse(remoting.ResSubscriptionNotExist, "the consumer's subscription not exist, group %s topic %s", h.Group, h.Topic)
	case model == remoting.Broadcasting && !g.Broadcast:
		return nil, forbidden(4, "the consumer group[%s] can not consume by broadcast way", h.Group)
	case sub.bad != nil:
		return nil, refuse(remoting.ResSubscriptionParseFailed, "parse the consumer's subscription failed: %v", sub.bad)
	case sub.version < h.SubVersion:
		return nil, refuse(remoting.ResSubscriptionNotLatest, "the consumer's subscription not latest, group %s topic %s", h.Group, h.Topic)
	}
	return sub, nil
}

// forbidden refuses a pull; who says who forbids it, see [remoting.PullResult].
func forbidden(who int32, format string, args ...any) error {
	r := &refusal{code: remoting.ResNoPermission, remark: fmt.Sprintf(format, args...)}
	r.fields.AddInt("forbiddenType", int64(who))
	return r
}

// evaluate makes the answer to a pull as of now.
func (p *pull) evaluate(s *Server, resp *remoting.Command) error {
	least, most := p.from.Min(), p.from.Max()
	x := remoting.PullResult{NextBeginOffset: p.offset, MinOffset: least, MaxOffset: most}
	to, reset := s.takeReset(p.group, p.topic, p.queue)
	switch {
	case reset:
		resp.Code, resp.Remark, x.NextBeginOffset = remoting.ResPullOffsetMoved, "OFFSET_RESET", to
	case p.cursor.Held():
		resp.Code, resp.Remark = remoting.ResPullNotFound, "NO_MATCHED_LOGIC_QUEUE"
	case most == 0:
		resp.Code, resp.Remark = remoting.ResPullNotFound, "NO_MESSAGE_IN_QUEUE"
		if x.NextBeginOffset = 0; p.offset != 0 {
			resp.Code = remoting.ResPullOffsetMoved
		}
	case p.offset < least:
		resp.Code, resp.Remark, x.NextBeginOffset = remoting.ResPullOffsetMoved, "OFFSET_TOO_SMALL", least
		if p.reader() != "" {
			p.cursor.Missed(p.from, p.offset)
		}
	case p.offset > most:
		resp.Code, resp.Remark, x.NextBeginOffset = remoting.ResPullOffsetMoved, "OFFSET_OVERFLOW_BADLY", most
	case p.offset == most:
		resp.Code, resp.Remark = remoting.ResPullNotFound, "OFFSET_OVERFLOW_ONE"
		if p.asked != p.offset {
			resp.Code, resp.Remark = remoting.ResPullRetryImmediately, "NO_MATCHED_MESSAGE"
		}
	default:
		if err := p.read(s, resp, &x); err != nil {
			return err
		}
	}
	x.AppendTo(&resp.Fields)
	return nil
}

// reader is the group that messages can be lost to; "" for a tool, which only looks
// into a queue.
func (p *pull) reader() string {
	if p.group == message.ToolsGroup {
		return ""
	}
	return p.group
}

// read reads messages into the answer.
func (p *pull) read(s *Server, resp *remoting.Command, x *remoting.PullResult) error {
	sel := p.sel
	sel.Group = p.reader()
	body, found, err := p.from.Read(p.offset, sel, nil)
	if err != nil {
		return refuse(remoting.ResSystemError, "%v", err)
	}
	x.NextBeginOffset = found.Next
	x.MaxOffset = max(x.MaxOffset, found.Next) // more may have come since it was asked for
	p.offset = found.Next
	if found.Messages == 0 {
		resp.Code, resp.Remark = remoting.ResPullRetryImmediately, "NO_MATCHED_MESSAGE"
		return nil
	}
	resp.Code, resp.Remark, resp.Body = remoting.ResSuccess, "FOUND", body
	s.countGet(p.group, p.topic, found.Messages, len(body))
	return nil
}
