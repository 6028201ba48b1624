package server

import "github.com/sluicemq/sluice/broker/remoting"

// getBrokerSystemTopics serves GET_SYSTEM_TOPIC_LIST_FROM_BROKER (305).
func getBrokerSystemTopics(s *Server, _ *conn, _, resp *remoting.Command) error {
	names := s.topicList(func(c topicConfig) bool { return s.topics.isSystem(c.Name) })
	resp.Body = remoting.TopicList{Topics: names}.AppendTo(nil)
	return nil
}
