package server

import (
	"strconv"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Code 36 (CONSUMER_SEND_MSG_BACK): a consumer could not handle a message and
// wants it again later.
//
// Behaviour: a copy goes to the retry topic of the group, with one more
// reconsume time, after the delay of the level; level 0 is 3 and one more for
// each time before. Beyond the number of attempts, or with a level below 0, it
// goes to the dead letters. The answer comes when the copy is durable.
func handleSendBack(s *Server, c *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeSendBack(req.Fields)
	if err != nil {
		return err
	}
	if err := validGroup(h.Group); err != nil {
		return err
	}
	g := s.groups.find(h.Group)
	if g.RetryQueues <= 0 {
		return refuse(remoting.ResNoPermission, "group %s has no retry queue; messages that were sent back would be lost", h.Group)
	}
	r, err := s.store.Record(h.Offset, nil)
	if err != nil || !r.Visible {
		return refuse(remoting.ResSystemError, "look message by offset failed, %d", h.Offset)
	}
	m, _, err := message.DecodeTrusted(r.Bytes)
	if err != nil {
		return err
	}
	// The copy is for the group, which must be allowed to read the message.
	if err := c.permit(topicKind, m.Topic, sub); err != nil {
		return err
	}
	if _, ok := s.store.Topic(driver.RetryTopic(h.Group)); !ok {
		if err := s.admitGroup(h.Group); err != nil {
			return err
		}
	}
	most := g.RetryMax
	if h.MaxReconsumes >= 0 {
		most = int(h.MaxReconsumes)
	}
	b := &back{s: s, m: &m, group: h.Group}
	dead := int(m.ReconsumeTimes) >= most || h.DelayLevel < 0
	level := int(h.DelayLevel)
	if level == 0 {
		level = 3 + int(m.ReconsumeTimes)
	}
	s.countSendBack(h.Group, b.origin())
	return c.await(s.store.Put([]embedded.Put{b.put(dead, level)}), req, resp, done{})
}

// back is a message that is stored again.
type back struct {
	s     *Server
	m     *message.Stored
	group string
}

// origin is the topic that the message was first sent to.
func (b *back) origin() string {
	if t := message.Property(b.m.Properties, message.RetryTopic); t != "" {
		return t
	}
	return b.m.Topic
}

// put is the copy, for the retry topic or for the dead letters.
func (b *back) put(dead bool, level int) embedded.Put {
	m, origin := b.m, b.origin()
	id := message.Property(m.Properties, message.OriginMessageID)
	if id == "" {
		id = message.OffsetID(b.s.host, m.PhysicalOffset)
	}
	p := embedded.Put{
		Topic: driver.RetryTopic(b.group), Queue: -1, Flag: m.Flag, SysFlag: m.SysFlag, BornMs: m.BornTimestamp, BornHost: m.BornHost,
		Reconsumed: m.ReconsumeTimes + 1, Body: m.Body, Group: b.group, RetryOf: origin,
	}
	p.Properties = edit(m.Properties, func(name string) bool {
		switch name {
		case message.RetryTopic, message.OriginMessageID, message.Wait, message.TranMsg, message.Delay:
			return true
		}
		return timerName(name) || !dead && placeName(name)
	})
	p.Extra = message.AppendProperty(nil, message.RetryTopic, origin)
	p.Extra = message.AppendProperty(p.Extra, message.OriginMessageID, id)
	p.Extra = message.AppendProperty(p.Extra, message.Wait, "false")
	if dead {
		p.Topic, p.Queue, p.RetryOf = driver.DeadLetterTopic(b.group), 0, ""
		p.Extra = message.AppendProperty(p.Extra, message.Delay, "0")
		return p
	}
	level = b.s.level(level)
	p.DueMs = b.s.store.NowMs() + b.s.levelMs(level)
	p.Extra = message.AppendProperty(p.Extra, message.Delay, strconv.Itoa(level))
	p.Extra = message.AppendProperty(p.Extra, message.RealTopic, p.Topic)
	p.Extra = message.AppendProperty(p.Extra, message.RealQueueID, strconv.Itoa(0))
	return p
}

// done answers a work of which only the success is told.
type done struct{}

func (done) answer(_ *Server, results []embedded.PutResult, _ *remoting.Command) error {
	if err := results[0].Err; err != nil {
		return failed(err)
	}
	return nil
}
