package server

import (
	"github.com/sluicemq/sluice/broker/remoting"
)

// Code 15 (UPDATE_CONSUMER_OFFSET): how far a group has come on a queue; what a
// member in this process knows better is left alone, and so is a position that
// was just reset. It is durable within a second.
func handleUpdateOffset(s *Server, _ *conn, req, _ *remoting.Command) error {
	h, err := remoting.DecodeUpdateOffset(req.Fields)
	if err != nil {
		return err
	}
	if err := validGroup(h.Group); err != nil {
		return err
	}
	t, ok := s.store.Topic(h.Topic)
	switch {
	case !ok:
		return refuse(remoting.ResTopicNotExist, "Topic %s not exist!", h.Topic)
	case h.QueueID < 0 || int(h.QueueID) >= t.Queues:
		return refuse(remoting.ResInvalidParameter, "queueId[%d] is illegal, topic %s has queues 0 to %d", h.QueueID, h.Topic, t.Queues-1)
	case h.CommitOffset < 0:
		return refuse(remoting.ResInvalidParameter, "commitOffset is %d, it takes 0 and more", h.CommitOffset)
	}
	if _, pending := s.pendingReset(h.Group, h.Topic, int(h.QueueID)); pending {
		return nil
	}
	if err := s.admitGroup(h.Group); err != nil {
		return err
	}
	s.store.Cursor(h.Group, h.Topic, int(h.QueueID)).Commit(h.CommitOffset)
	return nil
}
