package server

import "github.com/sluicemq/sluice/broker/remoting"

// getUnitSubTopics serves GET_HAS_UNIT_SUB_TOPIC_LIST (312): topics that are
// subscribed to by a unit.
func getUnitSubTopics(s *Server, _ *conn, _, resp *remoting.Command) error {
	names := s.topicList(func(c topicConfig) bool { return c.SysFlag&unitSubscription != 0 })
	resp.Body = remoting.TopicList{Topics: names}.AppendTo(nil)
	return nil
}
