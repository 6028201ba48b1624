package server

import "github.com/sluicemq/sluice/broker/remoting"

// getAllTopicList serves GET_ALL_TOPIC_LIST_FROM_NAMESERVER (206).
func getAllTopicList(s *Server, _ *conn, _, resp *remoting.Command) error {
	resp.Body = remoting.TopicList{Topics: s.topicList(func(topicConfig) bool { return true })}.AppendTo(nil)
	return nil
}
