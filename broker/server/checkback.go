package server

import (
	"strconv"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// checkWith lets the store ask the client of c for the decisions of a producer
// group, until the answered function is called: by code 39
// (CHECK_TRANSACTION_STATE), which is one-way. Connections of a group are asked
// in turn, and answer by code 37 with the offsets of the question.
func (s *Server) checkWith(c *conn, group string) (leave func()) {
	return s.store.Checks(group, func(k embedded.Check) bool {
		m, _, err := message.DecodeTrusted(k.Record)
		if err != nil {
			return false
		}
		m.Properties = message.SetProperty(m.Properties, message.TransactionCheckTimes, strconv.Itoa(k.Number))
		m.Properties = message.SetProperty(m.Properties, message.Wait, "false") // nobody waits for this copy
		if message.Property(m.Properties, message.TransactionID) == "" {
			m.Properties = message.SetProperty(m.Properties, message.TransactionID, k.Tx)
		}
		body, err := m.AppendTo(nil)
		if err != nil {
			return false
		}
		ask := remoting.Command{Code: remoting.ReqCheckTransactionState, Body: body}
		x := remoting.CheckTransaction{
			CommitLogOffset: k.Pos, MsgID: k.Tx, TransactionID: k.Tx,
			OffsetMsgID: message.OffsetID(s.host, k.Pos), Topic: m.Topic, BrokerName: s.cfg.Broker,
		}
		x.AppendTo(&ask.Fields)
		return c.notify(&ask) == nil
	})
}
