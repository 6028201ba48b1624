package server

import "github.com/sluicemq/sluice/broker/remoting"

// deleteTopicInNameServer serves DELETE_TOPIC_IN_NAMESRV (216), with which
// operators end the deletion of a topic after 215 at each broker. This name
// server knows topics only from its broker, so there is nothing left to do.
func deleteTopicInNameServer(_ *Server, _ *conn, req, _ *remoting.Command) error {
	d := remoting.ReadFields("delete topic in name server", req.Fields)
	d.Text("topic")
	return d.Err()
}
