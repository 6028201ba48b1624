package server

import "github.com/sluicemq/sluice/broker/remoting"

// getConsumerRunningInfo serves GET_CONSUMER_RUNNING_INFO (307): asks a member
// of a group what it is doing.
func getConsumerRunningInfo(s *Server, _ *conn, req, resp *remoting.Command) error {
	group, id, err := readNames("get consumer running info", "consumerGroup", "clientId", req)
	if err != nil {
		return err
	}
	m, err := s.consumerOf(group, id)
	if err != nil {
		return err
	}
	return s.relay(m, req, resp)
}
