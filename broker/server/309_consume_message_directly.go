package server

import (
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// consumeMessageDirectly serves CONSUME_MESSAGE_DIRECTLY (309): a member of a
// group, any if the request names none, consumes one stored message once more
// and answers what came of it.
func consumeMessageDirectly(s *Server, _ *conn, req, resp *remoting.Command) error {
	x, err := remoting.DecodeConsumeDirectly(req.Fields)
	if err != nil {
		return err
	}
	_, pos, err := message.ParseOffsetID(x.MsgID)
	if err != nil {
		return refuse(remoting.ResSystemError, "%v", err)
	}
	if ids := s.clients.ids(x.Group); x.ClientID == "" && len(ids) > 0 {
		x.ClientID = ids[0]
	}
	m, err := s.consumerOf(x.Group, x.ClientID)
	if err != nil {
		return err
	}
	record, err := s.store.Record(pos, nil)
	if err != nil || !record.Visible {
		return refuse(remoting.ResSystemError, "can not find message by the offset, %d", pos)
	}
	ask := clone(req)
	ask.Fields.Set("clientId", x.ClientID)
	ask.Fields.Set("brokerName", s.cfg.Broker)
	ask.Body = record.Bytes
	return s.relay(m, ask, resp)
}
