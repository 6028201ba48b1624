package server

import (
	"cmp"
	"errors"
	"log/slog"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// heartBeat serves HEART_BEAT (34): a client says who it is, every 30 s and
// whenever something has changed.
//
// Behavior: every group is registered, or refused for a reason of its own; the
// first refusal is the answer when the others are registered. The retry topic
// of a consumer group is there before the answer leaves, since clients ask for
// its route next. An expression that does not compile is registered all the
// same and refuses the group's pulls, as in RocketMQ. The answer carries no
// IS_SUPPORT_HEART_BEAT_V2, so clients never leave their subscriptions out;
// should one do it, what is registered stays.
func heartBeat(s *Server, c *conn, req, _ *remoting.Command) error {
	beat, err := remoting.DecodeHeartbeat(req.Body)
	if err != nil {
		return err
	}
	if err := validClientID(beat.ClientID); err != nil {
		return err
	}
	// What is kept is copied: names are parts of the whole body, which may be large.
	who := client{conn: c, id: strings.Clone(beat.ClientID), language: req.Language, version: req.Version}
	c.member.Store(true)
	var refused []error
	for _, name := range beat.Producers {
		err := validProducer(name)
		if err == nil {
			err = s.clients.produce(who, strings.Clone(name))
		}
		refused = append(refused, err)
	}
	for _, data := range beat.Consumers {
		refused = append(refused, s.consumer(who, data, !beat.WithoutSub))
	}
	return errors.Join(refused...)
}

// consumer registers one consumer group of a heartbeat.
func (s *Server) consumer(who client, data remoting.ConsumerData, complete bool) error {
	if err := validGroup(data.Group); err != nil {
		return err
	}
	reg := registration{
		group: strings.Clone(data.Group), consume: brief(data.ConsumeType), model: brief(cmp.Or(data.MessageModel, remoting.Clustering)),
		fromWhere: brief(data.ConsumeFromWhere), complete: complete,
	}
	if len(data.Subscriptions) > s.cfg.Limits.Subscriptions {
		return refuse(remoting.ResSystemError, "group %s subscribes to %d topics, at most %d are allowed (%s)",
			data.Group, len(data.Subscriptions), s.cfg.Limits.Subscriptions, s.cfg.setting("Limits.Subscriptions"))
	}
	var known []string // topics, for their queues of the retry topic
	size := 0
	for _, d := range data.Subscriptions {
		if err := validTopic(d.Topic); err != nil {
			return err
		}
		if size += expressionSize(d); size > expressionsSize {
			return refuse(remoting.ResSystemError, "the expressions of group %s have more than %d bytes", data.Group, expressionsSize)
		}
		if err := s.ensureShown(d.Topic); err != nil {
			return err
		}
		if _, ok := s.store.Topic(d.Topic); ok {
			known = append(known, d.Topic)
		}
		reg.subs = append(reg.subs, subscribing(d))
	}
	if reg.model != remoting.Clustering {
		known = nil
	}
	if err := s.clients.room(who.conn, data.Group); err != nil {
		return err // before there is a topic
	}
	if err := s.ensureRetry(data.Group, known); err != nil {
		return err
	}
	changed, err := s.clients.consume(who, reg)
	if err != nil {
		return err
	}
	if changed {
		s.notifyGroup(data.Group)
	}
	return nil
}

// expressionsSize bounds the expressions of one group, in bytes.
const expressionsSize = 64 << 10

func expressionSize(d remoting.SubscriptionData) int {
	n := len(d.SubString)
	for _, tag := range d.Tags {
		n += len(tag) + 1
	}
	return n
}

// subscribing is a subscription that owns its memory.
func subscribing(d remoting.SubscriptionData) *subscription {
	tags := make([]string, len(d.Tags))
	for i, tag := range d.Tags {
		tags[i] = strings.Clone(tag)
	}
	return newSubscription(strings.Clone(d.Topic), strings.Clone(d.SubString), strings.Clone(d.ExpressionType), tags, d.SubVersion)
}

// brief copies what is a short name if it is right.
func brief(text string) string { return strings.Clone(text[:min(len(text), 64)]) }

// ensureShown makes a topic that clients have seen all the time without there
// being anything to pull from, such as that of traces.
func (s *Server) ensureShown(name string) error {
	t, ok := s.topics.find(name)
	if !ok || !t.virtual || protected(name) {
		return nil
	}
	return s.store.PutTopic(s.root, embedded.Topic{Name: strings.Clone(name), Queues: max(t.WriteQueues, 1)})
}

// ensureRetry makes the retry topic of a group, if there may be another group.
func (s *Server) ensureRetry(group string, topics []string) error {
	if _, ok := s.store.Topic(driver.RetryTopic(group)); !ok {
		if err := s.admitGroup(group); err != nil {
			return err
		}
	}
	return s.store.EnsureRetry(s.root, group, topics)
}

// notifyGroup tells the members of a group to divide the queues anew
// (NOTIFY_CONSUMER_IDS_CHANGED, 40).
func (s *Server) notifyGroup(name string) {
	v, ok := s.clients.view(name)
	if !ok || v.model != remoting.Clustering || !s.groups.find(name).Notify {
		return
	}
	cmd := remoting.Command{Code: remoting.ReqNotifyConsumerIDsChanged}
	cmd.Fields.Add("consumerGroup", name)
	for _, m := range v.clients {
		if err := m.conn.notify(&cmd); err != nil { // it asks by itself every 20 s
			s.log.Debug("a member was not told that its group has changed", slog.String("group", name), slog.Any("error", err))
		}
	}
}

// clientIDMost is more than an address, a process and a name take.
const clientIDMost = 255

func validClientID(id string) error {
	if id == "" || len(id) > clientIDMost {
		return refuse(remoting.ResSystemError, "client id of %d characters, it takes 1 to %d", len(id), clientIDMost)
	}
	return nil
}

// heartBeatRight needs SUB on every consumer group and topic.
func heartBeatRight() right {
	return right{body: func(body []byte, need func(kind, string, perm) error) error {
		beat, err := remoting.DecodeHeartbeat(body)
		if err != nil {
			return err
		}
		for _, data := range beat.Consumers {
			if err := need(groupKind, data.Group, sub); err != nil {
				return err
			}
			for _, d := range data.Subscriptions {
				if err := need(topicKind, d.Topic, sub); err != nil {
					return err
				}
			}
		}
		return nil
	}}
}
