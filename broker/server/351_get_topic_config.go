package server

import "github.com/sluicemq/sluice/broker/remoting"

// getTopicConfig serves GET_TOPIC_CONFIG (351).
func getTopicConfig(s *Server, _ *conn, req, resp *remoting.Command) error {
	name, err := readName("get topic config", "topic", req)
	if err != nil {
		return err
	}
	t, err := s.known(name)
	if err != nil {
		return err
	}
	resp.Body = t.wire().AppendTo(nil)
	return nil
}
