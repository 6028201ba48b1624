package server

import "github.com/sluicemq/sluice/broker/remoting"

// getAllTopicConfig serves GET_ALL_TOPIC_CONFIG (21). The answer is whole, so
// it has no totalTopicNum: clients that read by pages stop after the first.
func getAllTopicConfig(s *Server, c *conn, _, resp *remoting.Command) error {
	table := remoting.TopicConfigTable{Version: s.version()}
	for _, t := range s.topics.all() {
		if c.sees(topicKind, t.Name) {
			table.Topics = append(table.Topics, t.wire())
		}
	}
	resp.Body = table.AppendTo(nil)
	return nil
}
