package server

import "github.com/sluicemq/sluice/broker/remoting"

// wipeWritePerm serves WIPE_WRITE_PERM_OF_BROKER (205): routes tell clients not
// to send, until 327 or the next start. Sends that come all the same are
// served.
func wipeWritePerm(s *Server, _ *conn, req, resp *remoting.Command) error {
	return s.setWrites("wipe write permission", req, resp, false, "wipeTopicCount")
}
