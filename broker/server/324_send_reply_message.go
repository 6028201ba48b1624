package server

import (
	"context"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// replyTimeout is how long a requester may take to accept a reply.
const replyTimeout = 10 * time.Second

// Codes 324 (SEND_REPLY_MESSAGE) and 325 (SEND_REPLY_MESSAGE_V2): a responder
// answers a request message.
//
// Behaviour: the reply is pushed by 326 to the client that the property
// REPLY_TO_CLIENT names, on the connection that it has registered as a producer.
// The answer is a success only if that client has accepted it. The reply is
// stored in the reply topic as well, as by RocketMQ.
func handleSendReply(s *Server, c *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeSend(req.Code, req.Fields)
	if err != nil {
		return err
	}
	if h.Topic != s.replyTopic() {
		return refuse(remoting.ResInvalidParameter, "replies go to the topic %s, not to %.64q", s.replyTopic(), h.Topic)
	}
	if _, err := s.sendTopic(c, &h); err != nil {
		return err
	}
	to := message.Property(h.Properties, message.ReplyToClient)
	if to == "" {
		return refuse(remoting.ResSystemError, "the reply has no property %s", message.ReplyToClient)
	}
	client, ok := s.clients.producer(to)
	if !ok {
		return refuse(remoting.ResSystemError, "push reply message fail, channel of <%s> not found.", to)
	}
	now := s.store.NowMs()
	f := readFacts(h.Properties, now)
	put := embedded.Put{
		Topic: h.Topic, Queue: 0, Flag: h.Flag, SysFlag: h.SysFlag, BornMs: h.BornTimestamp, BornHost: c.born, Body: req.Body,
	}
	f.level, f.timer, f.half = 0, false, false
	if err := s.properties(&put, nil, h.Properties, &f); err != nil {
		return err
	}
	if err := s.pushReply(client.conn, c, &h, req.Body, now); err != nil {
		return err
	}
	return s.finishPut(s.store.Put([]embedded.Put{put}), &sent{topic: h.Topic, bytes: len(req.Body), id: f.id}, resp)
}

// pushReply hands a reply to the requester and waits until it has accepted it.
func (s *Server) pushReply(client, from *conn, h *remoting.SendMessage, body []byte, now int64) error {
	push := remoting.Command{Code: remoting.ReqPushReply, Body: body}
	x := remoting.PushReply{SendMessage: *h, BornHost: from.born.String(), StoreHost: s.host.String(), StoreTimestamp: now}
	for _, p := range [][2]string{{message.MsgRegion, region}, {message.TraceOn, "true"}, {message.PushReplyTime, strconv.FormatInt(now, 10)}} {
		x.Properties = message.SetProperty(x.Properties, p[0], p[1])
	}
	x.AppendTo(&push.Fields)
	ctx, cancel := context.WithTimeout(s.root, replyTimeout)
	defer cancel()
	answer, err := client.call(ctx, &push)
	switch {
	case err != nil:
		return refuse(remoting.ResSystemError, "push reply message to %s failed: %v", client.remote, err)
	case answer.Code != remoting.ResSuccess:
		return refuse(remoting.ResSystemError, "push reply message to %s failed: %s (code %d)", client.remote, answer.Remark, answer.Code)
	}
	return nil
}
