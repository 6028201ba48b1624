package server

import "github.com/sluicemq/sluice/broker/remoting"

// getAllTopicList serves GET_ALL_TOPIC_LIST_FROM_NAMESERVER (206),
// with what the account has a permission for.
func getAllTopicList(s *Server, c *conn, _, resp *remoting.Command) error {
	resp.Body = remoting.TopicList{Topics: s.topicList(func(t topicConfig) bool { return c.sees(topicKind, t.Name) })}.AppendTo(nil)
	return nil
}
