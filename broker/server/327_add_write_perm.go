package server

import "github.com/sluicemq/sluice/broker/remoting"

// addWritePerm serves ADD_WRITE_PERM_OF_BROKER (327): the contrary of 205.
func addWritePerm(s *Server, _ *conn, req, resp *remoting.Command) error {
	return s.setWrites("add write permission", req, resp, true, "addTopicCount")
}
