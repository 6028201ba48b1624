package server

import (
	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Code 33 (VIEW_MESSAGE_BY_ID): the one record at a physical offset, which
// clients take out of an offset id.
func handleViewMessage(s *Server, c *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeViewMessage(req.Fields)
	if err != nil {
		return err
	}
	r, err := s.store.Record(h.Offset, nil)
	if driver.CodeOf(err) == driver.Corrupt {
		return failed(err)
	}
	if err != nil {
		return refuse(remoting.ResSystemError, "can not find message by the offset, %d", h.Offset)
	}
	v, _, err := message.DecodeView(r.Bytes)
	if err != nil {
		return err
	}
	// The field topic is the client's to leave out.
	if err := c.permit(topicKind, string(v.TopicBytes), sub); err != nil {
		return err
	}
	resp.Body = r.Bytes
	return nil
}
