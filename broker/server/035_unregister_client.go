package server

import "github.com/sluicemq/sluice/broker/remoting"

// unregisterClient serves UNREGISTER_CLIENT (35): a client leaves a producer
// or a consumer group, and the remaining members hear of it. Apache's Go client
// never sends it; the end of its connection does the same. The answer about a
// consumer group comes when the positions of the group are durable: who leaves
// may end for good.
func unregisterClient(s *Server, c *conn, req, _ *remoting.Command) error {
	x, err := remoting.DecodeUnregisterClient(req.Fields)
	if err != nil {
		return err
	}
	if x.ProducerGroup != "" {
		s.clients.retire(c, x.ProducerGroup)
	}
	if x.ConsumerGroup != "" && s.clients.leave(c, x.ConsumerGroup) {
		s.notifyGroup(x.ConsumerGroup)
		if err := s.store.Flush(s.root, x.ConsumerGroup); err != nil {
			return refuse(remoting.ResSystemError, "%v", err)
		}
	}
	return nil
}
