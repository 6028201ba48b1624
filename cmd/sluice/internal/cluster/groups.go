package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// RedriveGroup is the consumer group whose positions tell how far the dead
// letters of each group were sent again.
const RedriveGroup = "sluice-redrive"

// Group is a consumer group in a list.
type Group struct {
	Name string `json:"group"`
	// Members are online now.
	Members int `json:"members"`
	// Topics are those it has positions on, redeliveries not counted.
	Topics int `json:"topics"`
	// Lag is how many messages are behind its positions, redeliveries counted.
	Lag int64 `json:"lag"`
	// Rate is how many messages a second it consumes now.
	Rate float64 `json:"rate"`
}

// GroupConfig is how the brokers treat a group.
type GroupConfig struct {
	Consume    bool  `json:"consume"`
	Broadcast  bool  `json:"broadcast"`
	Orderly    bool  `json:"orderly"`
	RetryMax   int32 `json:"retry_max"`
	RetryQueue int32 `json:"retry_queues"`
}

// Member is one client of a group.
type Member struct {
	ClientID string `json:"client"`
	Addr     string `json:"address"`
	Language string `json:"language"`
	Version  int    `json:"version"`
}

// Subscription is what a group wants of a topic.
type Subscription struct {
	Topic      string `json:"topic"`
	Expression string `json:"expression"`
	Type       string `json:"type"`
}

// Membership is who is in a group now. Without members the rest is empty.
type Membership struct {
	Members       []Member       `json:"members"`
	Model         string         `json:"model,omitempty"`
	ConsumeType   string         `json:"consume_type,omitempty"`
	FromWhere     string         `json:"from_where,omitempty"`
	Subscriptions []Subscription `json:"subscriptions"`
}

// Progress is how far a group has come on one queue.
type Progress struct {
	Group  string `json:"group"`
	Topic  string `json:"topic"`
	Broker string `json:"broker"`
	Queue  int    `json:"queue"`
	// Position is the next offset it consumes, End that of the next message
	// which is stored, Pulled how far its clients have read ahead.
	Position int64 `json:"position"`
	End      int64 `json:"end"`
	Pulled   int64 `json:"pulled"`
	Lag      int64 `json:"lag"`
	// Consumed is when the message before Position was stored; zero if unknown.
	Consumed Time `json:"consumed,omitzero"`
}

// GroupProgress is how far a group has come on every queue.
type GroupProgress struct {
	Group  string
	Rate   float64
	Queues []Progress // by topic, broker, number
}

// Lag is that of all queues.
func (g GroupProgress) Lag() int64 {
	n := int64(0)
	for _, q := range g.Queues {
		n += q.Lag
	}
	return n
}

// Topics are the topics with positions, retry topics not counted.
func (g GroupProgress) Topics() []string {
	found := map[string]bool{}
	for _, q := range g.Queues {
		if !strings.HasPrefix(q.Topic, RetryPrefix) {
			found[q.Topic] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// systemGroup reports whether a group belongs to brokers and tools.
func systemGroup(name string) bool {
	if strings.HasPrefix(name, "CID_RMQ_SYS_") || strings.HasPrefix(name, "CID_ONSAPI_") {
		return true
	}
	switch name {
	case "DEFAULT_CONSUMER", "DEFAULT_PRODUCER", message.ToolsGroup, "SCHEDULE_CONSUMER", "FILTERSRV_CONSUMER", "__MONITOR_CONSUMER",
		"CLIENT_INNER_PRODUCER", "SELF_TEST_P_GROUP", "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY", "CID_SYS_RMQ_TRANS", RedriveGroup:
		return true
	}
	return false
}

// GroupNames answers the names of the groups that the brokers know, sorted;
// those of brokers and tools only with all.
func (c *Cluster) GroupNames(ctx context.Context, all bool) ([]string, error) {
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	tables, err := each(ctx, brokers, func(ctx context.Context, b Broker) (remoting.GroupTable, error) {
		r := request{op: "list the groups", code: remoting.ReqGetAllGroupConfig}
		resp, err := c.ask(ctx, b.Addr, r)
		if err != nil {
			return remoting.GroupTable{}, err
		}
		return decode(r, b.Addr, resp, remoting.DecodeGroupTable)
	})
	for _, table := range tables {
		for _, g := range table.Groups {
			found[g.Name] = true
		}
	}
	// A group that was configured nowhere still has a topic for redeliveries.
	topics, terr := c.TopicNames(ctx)
	for _, t := range topics {
		if group, ok := strings.CutPrefix(t, RetryPrefix); ok {
			found[group] = true
		}
	}
	names := slices.Sorted(maps.Keys(found))
	if !all {
		names = slices.DeleteFunc(names, systemGroup)
	}
	return names, cmp.Or(err, terr)
}

// Groups answers the groups that the brokers know, by their names; those of
// brokers and tools only with all.
func (c *Cluster) Groups(ctx context.Context, all bool) ([]Group, error) {
	names, err := c.GroupNames(ctx, all)
	if err != nil {
		return nil, err
	}
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	return each(ctx, names, func(ctx context.Context, name string) (Group, error) {
		p, err := c.progress(ctx, name, brokers)
		if err != nil {
			return Group{}, err
		}
		m, err := c.members(ctx, name, brokers)
		return Group{name, len(m.Members), len(p.Topics()), p.Lag(), p.Rate}, err
	})
}

// Lag answers how far a group has come. It is a [*NotFoundError] if nobody
// knows the group.
func (c *Cluster) Lag(ctx context.Context, group string) (GroupProgress, error) {
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return GroupProgress{}, err
	}
	p, err := c.progress(ctx, group, brokers)
	if err != nil || len(p.Queues) > 0 {
		return p, err
	}
	return p, c.known(ctx, group)
}

// Lags answers how far every group has come, by their names.
func (c *Cluster) Lags(ctx context.Context) ([]GroupProgress, error) {
	names, err := c.GroupNames(ctx, false)
	if err != nil {
		return nil, err
	}
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return nil, err
	}
	return each(ctx, names, func(ctx context.Context, name string) (GroupProgress, error) {
		return c.progress(ctx, name, brokers)
	})
}

// seen is a [*NotFoundError] for a group that no broker has heard of, as known
// is. But groups that an account may not see are listed to it no more than those
// that are not there, and brokers tell them apart only if they are asked for them:
// then it is what they refuse.
func (c *Cluster) seen(ctx context.Context, group string) error {
	err := c.known(ctx, group)
	if !notFound(err) {
		return err
	}
	brokers, berr := c.Brokers(ctx)
	if berr != nil {
		return berr
	}
	if _, perr := c.progress(ctx, group, brokers); perr != nil {
		return perr
	}
	return err
}

// known is a [*NotFoundError] for a group that no broker has heard of.
func (c *Cluster) known(ctx context.Context, group string) error {
	names, err := c.GroupNames(ctx, true)
	if err == nil && !slices.Contains(names, group) {
		return &NotFoundError{What: "group " + group, Group: group}
	}
	return err
}

// progress asks the brokers about one group. A group that they do not know has
// no queues.
func (c *Cluster) progress(ctx context.Context, group string, brokers []Broker) (GroupProgress, error) {
	parts, err := each(ctx, brokers, func(ctx context.Context, b Broker) (remoting.ConsumeStats, error) {
		r := request{
			op: "read the progress of group " + group, code: remoting.ReqGetConsumeStats,
			fields: remoting.Fields{{Name: "consumerGroup", Value: group}},
			also:   []int{remoting.ResGroupNotExist, remoting.ResConsumerNotOnline, remoting.ResBroadcastConsumption},
		}
		resp, err := c.ask(ctx, b.Addr, r)
		if err != nil || resp.Code != remoting.ResSuccess {
			return remoting.ConsumeStats{}, err
		}
		return decode(r, b.Addr, resp, remoting.DecodeConsumeStats)
	})
	p := GroupProgress{Group: group}
	for _, part := range parts {
		p.Rate += part.Tps
		for _, q := range part.Queues {
			p.Queues = append(p.Queues, Progress{
				Group: group, Topic: q.Topic, Broker: q.Broker, Queue: q.Queue, Position: q.ConsumerOffset, End: q.BrokerOffset,
				Pulled: max(q.PullOffset, q.ConsumerOffset), Lag: max(q.BrokerOffset-q.ConsumerOffset, 0), Consumed: Millis(q.LastTimestamp),
			})
		}
	}
	slices.SortFunc(p.Queues, func(a, b Progress) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.Queue, b.Queue))
	})
	return p, err
}

// Members answers who is in a group now. It is a [*NotFoundError] if nobody
// knows the group.
func (c *Cluster) Members(ctx context.Context, group string) (Membership, error) {
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return Membership{}, err
	}
	m, err := c.members(ctx, group, brokers)
	if err != nil || len(m.Members) > 0 {
		return m, err
	}
	return m, c.known(ctx, group)
}

// members asks the brokers about one group: members connect to each of them.
func (c *Cluster) members(ctx context.Context, group string, brokers []Broker) (Membership, error) {
	lists, err := each(ctx, brokers, func(ctx context.Context, b Broker) (remoting.ConnectionList, error) {
		r := request{
			op: "list the members of group " + group, code: remoting.ReqGetConsumerConnections,
			fields: remoting.Fields{{Name: "consumerGroup", Value: group}},
			also:   []int{remoting.ResConsumerNotOnline, remoting.ResGroupNotExist},
		}
		resp, err := c.ask(ctx, b.Addr, r)
		if err != nil || resp.Code != remoting.ResSuccess {
			return remoting.ConnectionList{}, err
		}
		return decode(r, b.Addr, resp, remoting.DecodeConnectionList)
	})
	m := Membership{Members: []Member{}, Subscriptions: []Subscription{}}
	for _, l := range lists {
		for _, conn := range l.Connections {
			m.Members = append(m.Members, Member{conn.ClientID, conn.ClientAddr, conn.Language.String(), conn.Version})
		}
		for _, s := range l.Subscriptions {
			m.Subscriptions = append(m.Subscriptions, Subscription{s.Topic, cmp.Or(s.SubString, "*"), cmp.Or(s.ExpressionType, remoting.ExpressionTag)})
		}
		if l.ConsumeType != "" {
			m.Model, m.ConsumeType, m.FromWhere = l.MessageModel, l.ConsumeType, l.ConsumeFromWhere
		}
	}
	slices.SortFunc(m.Members, func(a, b Member) int { return cmp.Or(cmp.Compare(a.ClientID, b.ClientID), cmp.Compare(a.Addr, b.Addr)) })
	m.Members = slices.CompactFunc(m.Members, func(a, b Member) bool { return a.ClientID == b.ClientID })
	slices.SortFunc(m.Subscriptions, func(a, b Subscription) int { return cmp.Compare(a.Topic, b.Topic) })
	m.Subscriptions = slices.CompactFunc(m.Subscriptions, func(a, b Subscription) bool { return a.Topic == b.Topic })
	return m, err
}

// GroupConfigOf answers how the first broker that knows a group treats it; ok
// is false if none has a configuration of it.
func (c *Cluster) GroupConfigOf(ctx context.Context, group string) (cfg GroupConfig, ok bool, err error) {
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return cfg, false, err
	}
	for _, b := range brokers {
		r := request{op: "read the configuration of group " + group, code: remoting.ReqGetAllGroupConfig}
		resp, err := c.ask(ctx, b.Addr, r)
		if err != nil {
			return cfg, false, err
		}
		table, err := decode(r, b.Addr, resp, remoting.DecodeGroupTable)
		if err != nil {
			return cfg, false, err
		}
		for _, g := range table.Groups {
			if g.Name == group {
				return GroupConfig{g.ConsumeEnable, g.BroadcastEnable, g.Orderly, g.RetryMaxTimes, g.RetryQueues}, true, nil
			}
		}
	}
	return cfg, false, nil
}

// DeleteGroup makes every broker forget a group and its positions, and deletes
// the topic of its redeliveries, by which it would still be known. Its dead
// letters stay.
func (c *Cluster) DeleteGroup(ctx context.Context, group string) error {
	brokers, err := c.Brokers(ctx)
	if err != nil {
		return err
	}
	_, err = each(ctx, brokers, func(ctx context.Context, b Broker) (struct{}, error) {
		_, err := c.ask(ctx, b.Addr, request{
			op: "delete group " + group, code: remoting.ReqDeleteGroup, also: []int{remoting.ResGroupNotExist}, changes: true,
			fields: remoting.Fields{
				{Name: "groupName", Value: group},
				{Name: "cleanOffset", Value: "true"},
				{Name: "removeOffset", Value: "true"}, // RocketMQ 5's name, and 4.9's
			},
		})
		return struct{}{}, err
	})
	if err != nil {
		return err
	}
	return c.DeleteTopic(ctx, RetryPrefix+group)
}
