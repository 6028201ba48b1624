package server

import (
	"cmp"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// Code 37 (END_TRANSACTION): a producer decides a half message.
//
// Behaviour: the half message is the one at the given physical offset, of that
// producer group and unique id; anything else changes nothing. The first
// decision counts: the same again succeeds, the opposite is refused with 604.
// The answer comes when the decision is durable. An unknown outcome decides
// nothing and is not answered, as by RocketMQ.
func handleEndTransaction(s *Server, c *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeEndTransaction(req.Fields)
	if err != nil {
		return err
	}
	id := embedded.HalfID{Group: h.ProducerGroup, Tx: cmp.Or(h.TransactionID, h.MsgID), Pos: h.CommitLogOffset}
	switch h.Decision {
	case remoting.DecisionCommit:
		return c.await(s.store.Resolve(id, driver.Commit), req, resp, ended{})
	case remoting.DecisionRollback:
		return c.await(s.store.Resolve(id, driver.Rollback), req, resp, ended{})
	case remoting.DecisionUnknown:
		return errSilent
	}
	return refuse(remoting.ResInvalidParameter, "commitOrRollback is %d; it takes 8 commit, 12 rollback or 0 unknown", h.Decision)
}

// ended answers a decision.
type ended struct{}

func (ended) answer(s *Server, results []embedded.PutResult, _ *remoting.Command) error {
	err := results[0].Err
	if err == nil {
		return nil
	}
	switch err.Code {
	case driver.NotFound:
		return refuse(remoting.ResSystemError, "Find prepared transaction message failed: %v", err)
	case driver.FailedPrecondition:
		s.conflicts.Add(1)
		return refuse(remoting.ResIllegalOperation, "%v", err)
	default:
		return failed(err)
	}
}
