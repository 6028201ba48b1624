package server

import "github.com/sluicemq/sluice/broker/remoting"

// Bits of the system flag of a topic.
const (
	unitTopic        = 1
	unitSubscription = 2
)

// getUnitTopics serves GET_UNIT_TOPIC_LIST (311): topics that belong to a unit.
func getUnitTopics(s *Server, _ *conn, _, resp *remoting.Command) error {
	names := s.topicList(func(c topicConfig) bool { return c.SysFlag&unitTopic != 0 })
	resp.Body = remoting.TopicList{Topics: names}.AppendTo(nil)
	return nil
}
