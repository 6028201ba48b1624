package server

import "github.com/sluicemq/sluice/broker/remoting"

// Code 33 (VIEW_MESSAGE_BY_ID): the one record at a physical offset, which
// clients take out of an offset id.
func handleViewMessage(s *Server, _ *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeViewMessage(req.Fields)
	if err != nil {
		return err
	}
	r, err := s.store.Record(h.Offset, nil)
	if err != nil {
		return refuse(remoting.ResSystemError, "can not find message by the offset, %d", h.Offset)
	}
	resp.Body = r.Bytes
	return nil
}
