package server

import "github.com/sluicemq/sluice/broker/remoting"

// queryTopicsByConsumer serves QUERY_TOPICS_BY_CONSUMER (343): the topics on
// which a group has positions.
func queryTopicsByConsumer(s *Server, _ *conn, req, resp *remoting.Command) error {
	group, err := readName("query topics by consumer", "group", req)
	if err != nil {
		return err
	}
	resp.Body = remoting.TopicList{BrokerAddr: s.advertise, Topics: s.store.Consumed(group)}.AppendTo(nil)
	return nil
}
