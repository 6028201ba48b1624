package server

import "github.com/sluicemq/sluice/broker/remoting"

// getSystemTopics serves GET_SYSTEM_TOPIC_LIST_FROM_NS (304): the topics named
// like clusters and brokers, and the broker to ask for the rest by 305.
func getSystemTopics(s *Server, _ *conn, _, resp *remoting.Command) error {
	resp.Body = remoting.TopicList{BrokerAddr: s.advertise, Topics: []string{s.cfg.Cluster, s.cfg.Broker}}.AppendTo(nil)
	return nil
}
