package server

import "github.com/sluicemq/sluice/broker/remoting"

// getUnitSubUnunitTopics serves GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST (313):
// topics that belong to no unit and are subscribed to by one.
func getUnitSubUnunitTopics(s *Server, c *conn, _, resp *remoting.Command) error {
	names := s.topicList(func(t topicConfig) bool {
		return t.SysFlag&(unitTopic|unitSubscription) == unitSubscription && c.sees(topicKind, t.Name)
	})
	resp.Body = remoting.TopicList{Topics: names}.AppendTo(nil)
	return nil
}
