package server

import "github.com/sluicemq/sluice/broker/remoting"

// Code 14 (QUERY_CONSUMER_OFFSET): how far a group has come on a queue.
//
// Behaviour: 22 if the group has no position, and then clients begin where they
// were told to. But a queue that still has its first message is answered with
// offset 0, as by RocketMQ for young queues: otherwise a new group would pass
// over what was sent before it came.
func handleQueryOffset(s *Server, _ *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeQueryOffset(req.Fields)
	if err != nil {
		return err
	}
	if h.QueueID < 0 { // the store has lanes of its own below
		return errNoOffset
	}
	if to, ok := s.pendingReset(h.Group, h.Topic, int(h.QueueID)); ok {
		resp.Fields.AddInt("offset", to)
		return nil
	}
	if at, ok := s.store.Cursor(h.Group, h.Topic, int(h.QueueID)).Position(); ok {
		resp.Fields.AddInt("offset", at)
		return nil
	}
	q, ok := s.store.Queue(h.Topic, int(h.QueueID))
	if ok && h.ZeroIfNotFound && q.Min() == 0 && q.Max() > 0 {
		resp.Fields.AddInt("offset", 0)
		return nil
	}
	return errNoOffset
}

// errNoOffset says that a group has no position: any other code would keep a
// client from the queue.
var errNoOffset = refuse(remoting.ResQueryNotFound, "Not found, maybe this group consumer boot first")
