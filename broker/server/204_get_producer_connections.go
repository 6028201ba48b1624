package server

import "github.com/sluicemq/sluice/broker/remoting"

// getProducerConnections serves GET_PRODUCER_CONNECTION_LIST (204).
func getProducerConnections(s *Server, _ *conn, req, resp *remoting.Command) error {
	group, err := readName("get producer connections", "producerGroup", req)
	if err != nil {
		return err
	}
	producers := s.clients.producersOf(group)
	if len(producers) == 0 {
		return refuse(remoting.ResSystemError, "the producer group[%.255s] not exist", group)
	}
	var list remoting.ConnectionList
	for _, p := range producers {
		list.Connections = append(list.Connections, p.connection())
	}
	resp.Body = list.AppendTo(nil)
	return nil
}
