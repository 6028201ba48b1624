package server

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// adminHandlers are the commands of operators, and of the tools and pages that
// they use.
func adminHandlers() []handler {
	return []handler{
		{code: remoting.ReqCreateTopic, serve: createTopic, apart: true, right: adminOnly()},
		{code: remoting.ReqCreateTopics, serve: createTopics, apart: true, right: adminOnly()},
		{code: remoting.ReqDeleteTopicInBroker, serve: deleteTopic, apart: true, right: adminOnly()},
		{code: remoting.ReqGetAllTopicConfig, serve: getAllTopicConfig, right: anyAccount()},
		{code: remoting.ReqGetTopicConfig, serve: getTopicConfig, right: needs(seesTopic("topic"))},

		{code: remoting.ReqCreateGroup, serve: createGroup, apart: true, right: adminOnly()},
		{code: remoting.ReqCreateGroups, serve: createGroups, apart: true, right: adminOnly()},
		{code: remoting.ReqDeleteGroup, serve: deleteGroup, apart: true, right: adminOnly()},
		{code: remoting.ReqGetAllGroupConfig, serve: getAllGroupConfig, right: anyAccount()},
		{code: remoting.ReqGetGroupConfig, serve: getGroupConfig, right: needs(onGroup("group"))},
		{code: remoting.ReqGroupForbidden, serve: groupForbidden, apart: true, right: adminOnly()},

		{code: remoting.ReqGetTopicStats, serve: getTopicStats, right: needs(seesTopic("topic"))},
		{code: remoting.ReqGetConsumeStats, serve: getConsumeStats, right: needs(onGroup("consumerGroup"))},
		{code: remoting.ReqGetBrokerConsumeStats, serve: getBrokerConsumeStats, right: anyAccount()},
		{code: remoting.ReqGetConsumerConnections, serve: getConsumerConnections, right: needs(onGroup("consumerGroup"))},
		{code: remoting.ReqGetProducerConnections, serve: getProducerConnections, right: needs(onTopic("topic", pub))},
		{code: remoting.ReqGetAllProducerInfo, serve: getAllProducerInfo, right: anyAccount()},
		{code: remoting.ReqQueryTopicConsumeByWho, serve: queryTopicConsumeByWho, right: needs(seesTopic("topic"))},
		{code: remoting.ReqQueryTopicsByConsumer, serve: queryTopicsByConsumer, right: needs(onGroup("group"))},
		{code: remoting.ReqQuerySubscriptionByConsumer, serve: querySubscriptionByConsumer, right: needs(onGroup("group"), seesTopic("topic"))},
		{code: remoting.ReqQueryConsumeTimeSpan, serve: queryConsumeTimeSpan, right: needs(onGroup("group"), seesTopic("topic"))},
		{code: remoting.ReqQueryCorrectionOffset, serve: queryCorrectionOffset, right: needs(onGroup("compareGroup"), seesTopic("topic"))},
		{code: remoting.ReqQueryConsumeQueue, serve: queryConsumeQueue, right: needs(onTopic("topic", sub))},
		{code: remoting.ReqViewBrokerStats, serve: viewBrokerStats, right: anyAccount()},
		{code: remoting.ReqQueryAssignment, serve: queryAssignment, right: queryAssignmentRight()},

		{code: remoting.ReqInvokeBrokerToResetOffset, serve: resetOffset, right: adminOnly()},
		{code: remoting.ReqCloneGroupOffset, serve: cloneGroupOffset, right: adminOnly()},
		{code: remoting.ReqGetAllConsumerOffset, serve: getAllConsumerOffset, right: anyAccount()},

		{code: remoting.ReqGetConsumerRunningInfo, serve: getConsumerRunningInfo, apart: true, relays: true, right: needs(onGroup("consumerGroup"))},
		{code: remoting.ReqConsumeMessageDirectly, serve: consumeMessageDirectly, apart: true, relays: true, right: adminOnly()},
		{code: remoting.ReqInvokeBrokerToGetConsumerStatus, serve: getConsumerStatus, apart: true, relays: true, right: needs(onGroup("group"), seesTopic("topic"))},

		{code: remoting.ReqGetBrokerConfig, serve: getBrokerConfig, right: anyAccount()},
		{code: remoting.ReqGetBrokerRuntimeInfo, serve: getBrokerRuntimeInfo, right: anyAccount()},
		{code: remoting.ReqCleanExpiredConsumeQueue, serve: cleanExpiredConsumeQueue, right: adminOnly()},
		{code: remoting.ReqCleanUnusedTopic, serve: cleanUnusedTopic, right: adminOnly()},
		{code: remoting.ReqDeleteExpiredCommitLog, serve: deleteExpiredCommitLog, right: adminOnly()},
	}
}

// change runs the change of a configuration. There is one at a time, because
// each begins with what is there.
func (s *Server) change(f func(ctx context.Context) error) error {
	select {
	case s.changes <- struct{}{}:
	case <-s.root.Done():
		return context.Cause(s.root)
	}
	defer func() { <-s.changes }()
	return f(s.root)
}

// changed leaves a line about a change that an operator has asked for, when it
// is done; that it was asked for has a line of its own.
func (s *Server) changed(what, name string) {
	s.log.Info("an operator's change is done", slog.String("change", what), slog.String("name", name))
}

// sees reports whether the account of the request that is being served may see
// a topic or a group in a list. It is for handlers that do not run apart.
func (c *conn) sees(k kind, name string) bool {
	if c.who == nil || c.who.admin {
		return true
	}
	need, either := sub, false
	if k == topicKind {
		need, either = pub|sub, true
	}
	return claimName(c.srv, k, name, need, either, c.who.has) == nil
}

// version is the version of a table that is asked for as a whole. Every answer
// has a new one, since anything may have changed.
func (s *Server) version() remoting.DataVersion {
	return remoting.DataVersion{Counter: 1, Timestamp: s.store.NowMs()}
}

// groupExists reports whether a group has settings, a position or a member.
func (s *Server) groupExists(name string) bool {
	if len(s.clients.ids(name)) > 0 {
		return true
	}
	if _, ok := s.store.Group(name); ok {
		return true
	}
	return len(s.store.Members(name)) > 0
}

// groupNames are the groups that have settings, a position or a member on a
// connection, in their order.
func (s *Server) groupNames() []string {
	all := s.groups.all(s.clients.groupNames())
	names := make([]string, 0, len(all))
	for _, g := range all {
		names = append(names, g.Name)
	}
	return names
}

// sortedFields are the entries of a map in the order of their names.
func sortedFields(m map[string]string) remoting.Fields {
	var f remoting.Fields
	for _, name := range slices.Sorted(maps.Keys(m)) {
		f.Add(name, m[name])
	}
	return f
}

// messageQueue names a queue of this broker.
func (s *Server) messageQueue(topic string, n int) remoting.MessageQueue {
	return remoting.MessageQueue{Topic: topic, Broker: s.cfg.Broker, Queue: n}
}

// queues is how many queues clients know of.
func (c topicConfig) queues() int { return max(c.ReadQueues, c.WriteQueues) }

// known finds a topic, or refuses the request.
func (s *Server) known(topic string) (topicConfig, error) {
	c, ok := s.topics.find(topic)
	if !ok {
		return c, refuse(remoting.ResTopicNotExist, "topic %.255s does not exist", topic)
	}
	return c, nil
}

// readName reads the one name that a command takes.
func readName(command, field string, req *remoting.Command) (string, error) {
	d := remoting.ReadFields(command, req.Fields)
	name := d.Text(field)
	return name, d.Err()
}

// readNames is readName for two.
func readNames(command, first, second string, req *remoting.Command) (a, b string, err error) {
	d := remoting.ReadFields(command, req.Fields)
	a, b = d.Text(first), d.Text(second)
	return a, b, d.Err()
}

// data is what clients see of a subscription.
func (s *subscription) data() remoting.SubscriptionData {
	d := remoting.SubscriptionData{
		Topic: s.topic, SubString: s.text, ExpressionType: cmp.Or(s.kind, remoting.ExpressionTag), Tags: s.names, SubVersion: s.version,
	}
	for code := range s.tags {
		d.Codes = append(d.Codes, code)
	}
	slices.Sort(d.Codes)
	return d
}
