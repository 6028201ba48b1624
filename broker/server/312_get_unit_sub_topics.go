package server

import "github.com/sluicemq/sluice/broker/remoting"

// getUnitSubTopics serves GET_HAS_UNIT_SUB_TOPIC_LIST (312): topics that are
// subscribed to by a unit.
func getUnitSubTopics(s *Server, c *conn, _, resp *remoting.Command) error {
	names := s.topicList(func(t topicConfig) bool { return t.SysFlag&unitSubscription != 0 && c.sees(topicKind, t.Name) })
	resp.Body = remoting.TopicList{Topics: names}.AppendTo(nil)
	return nil
}
