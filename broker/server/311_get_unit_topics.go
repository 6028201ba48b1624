package server

import "github.com/sluicemq/sluice/broker/remoting"

// Bits of the system flag of a topic.
const (
	unitTopic        = 1
	unitSubscription = 2
)

// getUnitTopics serves GET_UNIT_TOPIC_LIST (311): topics that belong to a unit.
func getUnitTopics(s *Server, c *conn, _, resp *remoting.Command) error {
	names := s.topicList(func(t topicConfig) bool { return t.SysFlag&unitTopic != 0 && c.sees(topicKind, t.Name) })
	resp.Body = remoting.TopicList{Topics: names}.AppendTo(nil)
	return nil
}
