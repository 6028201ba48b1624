package server

import (
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Codes 10 (SEND_MESSAGE), 310 (SEND_MESSAGE_V2) and 320 (SEND_BATCH_MESSAGE):
// store one message, or a batch of them.
//
// Behaviour: an unknown topic is created from the template TBW102 if that is
// allowed, else 17. A message with a delay level or a due time becomes visible
// later; a half message only by code 37. A send to a retry topic beyond the
// number of attempts, or of a group that holds queue locks, goes to the dead
// letters. The answer comes when the message is as durable as the broker
// promises, with the offset id, the queue and the queue offset.
func handleSend(s *Server, c *conn, req, resp *remoting.Command) error {
	err := s.send(c, req, resp)
	if r, ok := errors.AsType[*refusal](err); ok {
		r.fields.Add(message.MsgRegion, region) // as RocketMQ answers these, too
		r.fields.Add(message.TraceOn, "true")
	}
	return err
}

// send checks a message, or a batch, and begins to store it.
func (s *Server) send(c *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeSend(req.Code, req.Fields)
	if err != nil {
		return err
	}
	t, err := s.sendTopic(c, &h)
	if err != nil {
		return err
	}
	if n := max(t.ReadQueues, t.WriteQueues); int(h.QueueID) >= n {
		return refuse(remoting.ResInvalidParameter, "request queueId[%d] is illegal, topic %s has queues 0 to %d", h.QueueID, h.Topic, n-1)
	}
	if h.Batch {
		return s.sendBatch(c, &h, t, req, resp)
	}
	return s.sendOne(c, &h, t, req, resp)
}

// protected reports whether clients may not send to a topic.
func protected(topic string) bool {
	switch topic {
	case message.ScheduleTopic, message.HalfTopic, message.OpHalfTopic, message.CheckMaxTimeTopic, message.AutoCreateTopic,
		"SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT":
		return true
	}
	return strings.HasPrefix(topic, "rmq_sys_")
}

// sendTopic finds the topic that a message is for, and creates it if it may.
func (s *Server) sendTopic(c *conn, h *remoting.SendMessage) (topicConfig, error) {
	if protected(h.Topic) {
		return topicConfig{}, refuse(remoting.ResNoPermission, "sending to topic [%s] is forbidden: it belongs to the broker", h.Topic)
	}
	if t, ok := s.topics.find(h.Topic); ok && !t.virtual {
		return t, nil
	}
	if err := validTopic(h.Topic); err != nil {
		return topicConfig{}, refuse(remoting.ResInvalidParameter, "%s", remarkOf(err))
	}
	return s.createBySend(c, h)
}

// createBySend makes a topic that a message is the first for: one that every
// RocketMQ broker has, one that belongs to a group, or one from its template.
func (s *Server) createBySend(c *conn, h *remoting.SendMessage) (topicConfig, error) {
	if group, owned := ownerOf(h.Topic); owned {
		return defaultTopic(h.Topic, 1), s.admitGroup(group) // the store makes it with the message
	}
	queues := 0
	if t, ok := s.topics.find(h.Topic); ok {
		queues = t.WriteQueues
	} else if t, ok := s.topics.find(h.DefaultTopic); ok && s.cfg.AutoCreate && t.inherits() {
		queues = min(int(h.DefaultTopicQueues), t.WriteQueues)
	}
	if queues <= 0 {
		return topicConfig{}, refuse(remoting.ResTopicNotExist, "topic[%s] not exist, apply first please!", h.Topic)
	}
	if err := s.admitTopic(); err != nil {
		return topicConfig{}, err
	}
	if err := s.store.PutTopic(s.root, embedded.Topic{Name: strings.Clone(h.Topic), Queues: queues}); err != nil {
		return topicConfig{}, failed(err)
	}
	t, ok := s.topics.find(h.Topic)
	if !ok {
		return t, refuse(remoting.ResTopicNotExist, "topic[%s] was deleted meanwhile", h.Topic)
	}
	return t, nil
}

// sendOne stores a single message.
func (s *Server) sendOne(c *conn, h *remoting.SendMessage, t topicConfig, req, resp *remoting.Command) error {
	f := readFacts(h.Properties, s.store.NowMs())
	w := sents.Get().(*sent)
	*w = sent{topic: h.Topic, bytes: len(req.Body)}
	p := embedded.Put{
		Topic: h.Topic, Queue: s.writeQueue(&t, int(h.QueueID)), Flag: h.Flag, SysFlag: h.SysFlag &^ (message.SysNeedUnwrap | message.SysInnerBatch),
		BornMs: h.BornTimestamp, BornHost: c.born, Reconsumed: h.ReconsumeTimes, Body: req.Body,
		Extra: c.extra[:0],
	}
	if t.FilterType == remoting.FilterMultiTag {
		p.SysFlag |= message.SysMultiTags
	}
	if group, ok := strings.CutPrefix(h.Topic, driver.RetryTopic("")); ok {
		s.sendAgain(&p, h, &f, group)
	}
	if h.ReconsumeTimes > 0 && f.level > 0 {
		f.half = false // the redelivery of what was a half message once
	}
	if f.half {
		if err := s.half(&p, &f); err != nil {
			return err
		}
		w.half, w.queue = true, int32(p.Queue)
	}
	if err := s.properties(&p, c.scratch[:0], h.Properties, &f); err != nil {
		return err
	}
	c.scratch, c.extra = p.Properties, p.Extra
	w.id = f.id
	return c.await(s.store.Put([]embedded.Put{p}), req, resp, w)
}

// writeQueue is the queue of a message: one of those that are written to, in
// turn, if the client leaves it open.
func (s *Server) writeQueue(t *topicConfig, queue int) int {
	if queue >= 0 {
		return queue
	}
	return int(s.turn.Add(1) % uint32(max(t.WriteQueues, 1)))
}

// sendAgain is a client that puts a failed message into its retry topic by
// itself. Beyond the number of attempts, or if the group consumes in order,
// which shows by its queue locks, it becomes a dead letter.
func (s *Server) sendAgain(p *embedded.Put, h *remoting.SendMessage, f *facts, group string) {
	most := s.groups.find(group).RetryMax
	if h.MaxReconsumeTimes >= 0 {
		most = int(h.MaxReconsumeTimes)
	}
	if int(h.ReconsumeTimes) > most || s.locks.any(group) {
		p.Topic, p.Queue = driver.DeadLetterTopic(group), 0
		f.level, f.timer, f.dead = 0, false, true
		return
	}
	p.Group, p.RetryOf = group, f.retryTopic
}

// half makes p a half message.
func (s *Server) half(p *embedded.Put, f *facts) error {
	if err := driver.ValidGroup(f.group); err != nil {
		return illegal("a half message without a producer group: %v", err)
	}
	if _, n := s.store.Waiting(); n >= s.cfg.Limits.Halves {
		err := refuse(remoting.ResSystemBusy, "[OVERLOAD] %d half messages are undecided, as many as may be (%s)", n, s.cfg.setting("Limits.Halves"))
		s.warn("halves", "a half message was refused", slog.String("topic", p.Topic), slog.Any("reason", err))
		return err
	}
	s.identify(p, f)
	p.Group, p.Tx = f.group, f.id
	f.level, f.timer = 0, false
	if f.txID == "" {
		p.Extra = message.AppendProperty(p.Extra, message.TransactionID, f.id)
	}
	return nil
}

// identify gives a message a unique id if its sender has not.
func (s *Server) identify(p *embedded.Put, f *facts) {
	if f.id == "" {
		f.id = s.ids.Next()
		p.Extra = message.AppendProperty(p.Extra, message.UniqKey, f.id)
	}
}

// properties puts together what is stored: what the client sent, what the
// broker says of itself, and where a message goes that waits elsewhere. They
// are put into the memory of into, which may be nil.
func (s *Server) properties(p *embedded.Put, into []byte, given string, f *facts) error {
	if f.level > 0 || f.timer {
		if n, _ := s.store.Waiting(); n >= s.cfg.Limits.Delayed {
			err := refuse(remoting.ResSystemBusy, "[OVERLOAD] %d messages are not due yet, as many as may be (%s)", n, s.cfg.setting("Limits.Delayed"))
			s.warn("delayed", "a delayed message was refused", slog.String("topic", p.Topic), slog.Any("reason", err))
			return err
		}
	}
	if f.level > 0 {
		p.DueMs = s.store.NowMs() + s.levelMs(s.level(f.level))
	} else if f.timer {
		if p.DueMs = f.dueMs; f.dueMs > s.store.NowMs()+timerMost {
			return illegal("timer message illegal, the delay time should not be bigger than the max delay %dms; or if set del msg, the delay time should be bigger than the current time", timerMost)
		}
	}
	p.Properties = s.given(into, given, f)
	s.identify(p, f)
	if f.waits() {
		p.Extra = message.AppendProperty(p.Extra, message.RealTopic, p.Topic)
		p.Extra = message.AppendProperty(p.Extra, message.RealQueueID, strconv.Itoa(max(p.Queue, 0)))
		if p.Queue < 0 {
			p.Queue = 0
		}
	}
	p.Properties, p.Extra = append(append(p.Properties, p.Extra...), s.marks...), p.Extra[:0]
	if n := len(p.Properties); n > message.MaxProperties {
		return illegal("the properties have %d bytes with those of the broker, at most %d are allowed", n, message.MaxProperties)
	}
	if n, most := len(p.Body), s.store.MaxBody(); n > most {
		return illegal("the message body has %d bytes, at most %d are allowed", n, most)
	}
	return nil
}

// sent is a message that was sent. Its answer gives it back.
type sent struct {
	topic string
	bytes int
	id    string // unique id
	half  bool
	queue int32 // of a half message: the one it is meant for
}

var sents = sync.Pool{New: func() any { return new(sent) }} //nolint:gochecknoglobals // a pool has no state

func (w *sent) answer(s *Server, results []embedded.PutResult, resp *remoting.Command) error {
	r := &results[0]
	if r.Err != nil {
		return failed(r.Err)
	}
	s.countPut(w.topic, 1, w.bytes)
	x := remoting.SendResult{
		MsgID: message.OffsetID(s.host, r.Pos), QueueID: int32(r.Queue), QueueOffset: r.Offset,
		TransactionID: w.id, Region: region, TraceOn: "true",
	}
	if w.half {
		x.QueueID = w.queue // also if the message was there before
	}
	x.AppendTo(&resp.Fields)
	sents.Put(w)
	return nil
}
