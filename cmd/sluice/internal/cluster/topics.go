package cluster

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Prefixes of the topics that belong to a group.
const (
	RetryPrefix = "%RETRY%" // RetryPrefix: redeliveries of the group behind it.
	DeadPrefix  = "%DLQ%"   // DeadPrefix: dead letters of the group behind it.
)

// Kinds of topics.
const (
	KindNormal = "normal" // KindNormal: messages of applications.
	KindRetry  = "retry"  // KindRetry: redeliveries of a group.
	KindDead   = "dead"   // KindDead: dead letters of a group.
	KindSystem = "system" // KindSystem: the brokers' own.
)

// Topic is a topic across its brokers.
type Topic struct {
	Name string `json:"topic"`
	Kind string `json:"kind"`
	// ReadQueues and WriteQueues are those of all brokers.
	ReadQueues  int `json:"read_queues"`
	WriteQueues int `json:"write_queues"`
	// Perm is "rw", "r", "w" or "none": what at least one broker allows.
	Perm    string   `json:"perm"`
	Brokers []string `json:"brokers"`
}

// NewTopic answers a topic by its shares; its kind is what its name tells.
func NewTopic(name string, shares []Share) Topic { return newTopic(name, kindOf(name, nil), shares) }

func newTopic(name, kind string, shares []Share) Topic {
	t := Topic{Name: name, Kind: kind, Brokers: []string{}}
	var perm Perm
	for _, s := range shares {
		t.ReadQueues += s.Read
		t.WriteQueues += s.Write
		t.Brokers = append(t.Brokers, s.Name)
		perm |= s.Perm
	}
	t.Perm = perm.String()
	return t
}

// TopicNames answers the names of all topics, sorted.
func (c *Cluster) TopicNames(ctx context.Context) ([]string, error) {
	r := request{op: "list the topics", code: remoting.ReqGetAllTopicList}
	resp, at, err := c.askNames(ctx, r)
	if err != nil {
		return nil, err
	}
	list, err := decode(r, at, resp, remoting.DecodeTopicList)
	if err != nil {
		return nil, err
	}
	slices.Sort(list.Topics)
	return slices.Compact(list.Topics), nil
}

// Topics answers the topics that pick picks by name and kind, by their names.
func (c *Cluster) Topics(ctx context.Context, pick func(name, kind string) bool) ([]Topic, error) {
	names, err := c.TopicNames(ctx)
	if err != nil {
		return nil, err
	}
	system := c.systemTopics(ctx)
	names = slices.DeleteFunc(names, func(n string) bool { return !pick(n, kindOf(n, system)) })
	return each(ctx, names, func(ctx context.Context, name string) (Topic, error) {
		shares, err := c.Route(ctx, name)
		switch {
		case err == nil:
			return newTopic(name, kindOf(name, system), shares), nil
		case notFound(err): // deleted meanwhile, or its broker is away
			return newTopic(name, kindOf(name, system), nil), nil
		}
		return Topic{}, err
	})
}

// systemTopics answers the brokers' own topics, as far as they tell.
func (c *Cluster) systemTopics(ctx context.Context) map[string]bool {
	found := map[string]bool{}
	add := func(list remoting.TopicList, err error) {
		if err == nil {
			for _, t := range list.Topics {
				found[t] = true
			}
		}
	}
	r := request{op: "list the system topics", code: remoting.ReqGetSystemTopicListFromNameServer}
	if resp, at, err := c.askNames(ctx, r); err == nil {
		add(decode(r, at, resp, remoting.DecodeTopicList))
	}
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return found
	}
	lists, _ := each(ctx, brokers, func(ctx context.Context, b Broker) (remoting.TopicList, error) {
		r := request{op: "list the system topics", code: remoting.ReqGetSystemTopicListFromBroker}
		resp, err := c.ask(ctx, b.Addr, r)
		if err != nil {
			return remoting.TopicList{}, err
		}
		return decode(r, b.Addr, resp, remoting.DecodeTopicList)
	})
	for _, list := range lists {
		add(list, nil)
	}
	return found
}

// KindOf answers the kind of a topic, as far as the brokers tell, else what its
// name tells.
func (c *Cluster) KindOf(ctx context.Context, name string) string {
	return kindOf(name, c.systemTopics(ctx))
}

// kindOf is the kind of a topic: by what the brokers tell, and by its name.
func kindOf(name string, system map[string]bool) string {
	switch {
	case strings.HasPrefix(name, RetryPrefix):
		return KindRetry
	case strings.HasPrefix(name, DeadPrefix):
		return KindDead
	case system[name], strings.HasPrefix(name, "rmq_sys_"), message.IsReplyTopic(name):
		return KindSystem
	}
	switch name {
	case message.AutoCreateTopic, message.ScheduleTopic, message.HalfTopic, message.OpHalfTopic, message.CheckMaxTimeTopic,
		message.TraceTopic, "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", "BenchmarkTest":
		return KindSystem
	}
	return KindNormal
}

// QueueStat is what one queue holds.
type QueueStat struct {
	Broker string `json:"broker"`
	Queue  int    `json:"queue"`
	// Min is the offset of the first message, Max that of the next one.
	Min int64 `json:"min"`
	Max int64 `json:"max"`
	// Stored is when the newest message was stored; zero if there is none.
	Stored Time `json:"stored,omitzero"`
}

// Messages is how many there are.
func (q QueueStat) Messages() int64 { return max(q.Max-q.Min, 0) }

// TopicDetail is everything about a topic.
type TopicDetail struct {
	Topic
	Messages int64       `json:"messages"`
	Queues   []QueueStat `json:"queues"`
	// Groups are those that consume it, now or before.
	Groups []string `json:"groups"`
}

// TopicDetail answers everything about one topic.
func (c *Cluster) TopicDetail(ctx context.Context, name string) (TopicDetail, error) {
	shares, err := c.Route(ctx, name)
	if err != nil {
		return TopicDetail{}, err
	}
	d := TopicDetail{Topic: newTopic(name, kindOf(name, c.systemTopics(ctx)), shares), Groups: []string{}}
	d.Queues, err = c.stats(ctx, name, shares)
	for _, q := range d.Queues {
		d.Messages += q.Messages()
	}
	if err != nil {
		return d, err
	}
	groups, err := each(ctx, shares, func(ctx context.Context, s Share) ([]string, error) {
		r := request{
			op: "list the groups of topic " + name, code: remoting.ReqQueryTopicConsumeByWho,
			fields: remoting.Fields{{Name: "topic", Value: name}},
		}
		resp, err := c.ask(ctx, s.Addr, r)
		if err != nil {
			return nil, err
		}
		list, err := decode(r, s.Addr, resp, remoting.DecodeGroupList)
		return list.Groups, err
	})
	d.Groups = append(d.Groups, slices.Concat(groups...)...)
	slices.Sort(d.Groups)
	d.Groups = slices.Compact(d.Groups)
	return d, err
}

// stats answers the queues of a topic, by broker and number.
func (c *Cluster) stats(ctx context.Context, topic string, shares []Share) ([]QueueStat, error) {
	parts, err := each(ctx, shares, func(ctx context.Context, s Share) ([]QueueStat, error) {
		r := request{
			op: "read the queues of topic " + topic, code: remoting.ReqGetTopicStats, also: []int{remoting.ResTopicNotExist},
			fields: remoting.Fields{{Name: "topic", Value: topic}},
		}
		resp, err := c.ask(ctx, s.Addr, r)
		if err != nil || resp.Code == remoting.ResTopicNotExist {
			return nil, err
		}
		stats, err := decode(r, s.Addr, resp, remoting.DecodeTopicStats)
		if err != nil {
			return nil, err
		}
		queues := make([]QueueStat, 0, len(stats.Queues))
		for _, q := range stats.Queues {
			queues = append(queues, QueueStat{s.Name, q.Queue, q.Min, q.Max, Millis(q.LastUpdate)})
		}
		slices.SortFunc(queues, func(a, b QueueStat) int { return cmp.Compare(a.Queue, b.Queue) })
		return queues, nil
	})
	return slices.Concat(parts...), err
}

// queuesMost is how many queues a topic may have of one broker.
const queuesMost = 1024

// Hides answers the queues with messages that a topic would hide from clients
// if it had so many queues of each broker only.
func (c *Cluster) Hides(ctx context.Context, topic string, queues int) ([]QueueStat, error) {
	shares, err := c.Route(ctx, topic)
	if err != nil {
		return nil, err
	}
	all, err := c.stats(ctx, topic, shares)
	return slices.DeleteFunc(all, func(q QueueStat) bool { return q.Queue < queues || q.Messages() == 0 }), err
}

// Hidden answers the queues with messages that a topic has hidden, because it had
// more queues before. No request lists them, so that each number is asked for.
func (c *Cluster) Hidden(ctx context.Context, topic string) ([]QueueStat, error) {
	shares, err := c.Route(ctx, topic)
	if err != nil {
		return nil, err
	}
	var beyond []queueOf
	for _, s := range shares {
		for q := max(s.Read, s.Write); q < queuesMost; q++ {
			beyond = append(beyond, queueOf{s, q})
		}
	}
	all, err := each(ctx, beyond, func(ctx context.Context, q queueOf) (QueueStat, error) {
		r := request{op: "read the end of topic " + topic, code: remoting.ReqGetMaxOffset}
		most, err := c.askOffset(ctx, q.Addr, r.with(remoting.QueueOffset{Topic: topic, QueueID: int32(q.queue), Committed: true}))
		if err != nil || most == 0 {
			return QueueStat{}, err
		}
		b, err := c.bounds(ctx, q.Share, topic, q.queue)
		return QueueStat{Broker: q.Name, Queue: q.queue, Min: b.min, Max: b.max}, err
	})
	return slices.DeleteFunc(all, func(q QueueStat) bool { return q.Messages() == 0 }), err
}
