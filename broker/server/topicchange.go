package server

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// queuesMost is how many queues a topic may have; it is the store's limit.
const queuesMost = 1024

// topicChange is what an operator wants of a topic.
type topicChange struct {
	topicConfig
	// set and unset are changes of the attributes that are there.
	set   map[string]string
	unset []string
}

// wantedTopic checks what an operator wants of a topic. Everything that is
// wrong with it is refused with code 29, as by RocketMQ 5.
func (s *Server) wantedTopic(t remoting.TopicConfig) (topicChange, error) {
	w := topicChange{set: map[string]string{}, topicConfig: topicConfig{
		Name: strings.Clone(t.Name), ReadQueues: int(t.ReadQueues), WriteQueues: int(t.WriteQueues), Perm: int(t.Perm),
		FilterType: t.FilterType, SysFlag: int(t.SysFlag), Order: t.Order,
	}}
	bad := func(format string, args ...any) (topicChange, error) {
		return topicChange{}, refuse(remoting.ResInvalidParameter, format, args...)
	}
	if err := validTopic(t.Name); err != nil {
		return bad("%v", remarkOf(err))
	}
	if s.topics.isSystem(t.Name) {
		return bad("topic %s belongs to the broker", t.Name)
	}
	if t.ReadQueues < 0 || t.WriteQueues < 0 || w.queues() < 1 || w.queues() > queuesMost {
		return bad("topic %s with %d queues to read and %d to write, it takes 1 to %d", t.Name, t.ReadQueues, t.WriteQueues, queuesMost)
	}
	const perms = remoting.PermRead | remoting.PermWrite | remoting.PermInherit
	if t.Perm&^perms != 0 {
		return bad("topic %s with permission %d, it takes 0 to %d: 4 to read, 2 to write, 1 to inherit", t.Name, t.Perm, perms)
	}
	if t.FilterType != "" && t.FilterType != remoting.FilterSingleTag && t.FilterType != remoting.FilterMultiTag {
		return bad("topic %s with filter type %.40q, it takes %s or %s", t.Name, t.FilterType, remoting.FilterSingleTag, remoting.FilterMultiTag)
	}
	if t.SysFlag < 0 {
		return bad("topic %s with system flag %d, it takes 0 or more", t.Name, t.SysFlag)
	}
	for _, a := range t.Attributes {
		name, remove := strings.CutPrefix(a.Name, "-")
		name = strings.TrimPrefix(name, "+")
		if err := validAttribute(name, a.Value, remove); err != nil {
			return bad("topic %s: %v", t.Name, remarkOf(err))
		}
		if remove {
			w.unset = append(w.unset, name)
		} else {
			w.set[name] = a.Value
		}
	}
	return w, nil
}

// remarkOf is the text of a refusal without its code.
func remarkOf(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.remark
	}
	return err.Error()
}

// validAttribute takes the attributes of RocketMQ as far as they promise
// nothing that is not done here.
func validAttribute(name, value string, remove bool) error {
	var values []string
	switch name {
	case "message.type":
		values = []string{"UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"}
	case "queue.type":
		values = []string{"SimpleCQ"}
	case "cleanup.policy":
		values = []string{"DELETE"}
	default:
		return refuse(remoting.ResInvalidParameter, "attribute %.64q is none of message.type, queue.type and cleanup.policy", name)
	}
	if remove {
		return nil
	}
	for _, v := range values {
		if v == value {
			return nil
		}
	}
	return refuse(remoting.ResInvalidParameter, "attribute %s is %.64q, it takes %s", name, value, strings.Join(values, ", "))
}

// putTopic makes or changes a topic.
func (s *Server) putTopic(ctx context.Context, w topicChange) error {
	old, exists := s.topics.find(w.Name)
	if !exists && !s.unbounded() {
		if _, owned := ownerOf(w.Name); !owned {
			if err := s.admitTopic(); err != nil {
				return err
			}
		}
	}
	w.Attributes = maps.Clone(old.Attributes)
	if len(w.set) > 0 && w.Attributes == nil {
		w.Attributes = map[string]string{}
	}
	maps.Copy(w.Attributes, w.set)
	for _, name := range w.unset {
		delete(w.Attributes, name)
	}
	queues := w.queues()
	if group, ok := strings.CutPrefix(w.Name, retryPrefix); ok {
		// Its queues come with the topics of the group. They are not chosen, and
		// none is ever hidden: it would keep its redeliveries.
		if err := s.store.EnsureRetry(ctx, group, nil); err != nil {
			return err
		}
		queues, w.ReadQueues, w.WriteQueues = 1, queuesMost, queuesMost
	}
	settings, err := w.settings()
	if err != nil {
		return err
	}
	if err := s.store.PutTopic(ctx, embedded.Topic{Name: w.Name, Queues: queues, Settings: settings}); err != nil {
		return err
	}
	s.changed("put topic", w.Name)
	return nil
}

// wire is the configuration as commands carry it.
func (c topicConfig) wire() remoting.TopicConfig {
	return remoting.TopicConfig{
		Name: c.Name, ReadQueues: int32(c.ReadQueues), WriteQueues: int32(c.WriteQueues), Perm: int32(c.Perm),
		FilterType: c.FilterType, SysFlag: int32(c.SysFlag), Order: c.Order, Attributes: sortedFields(c.Attributes),
	}
}
