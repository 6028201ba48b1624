package server

import (
	"github.com/sluicemq/sluice/broker/embedded"
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
	}
	return s.commit(s.store.Cursor(h.Group, h.Topic, int(h.QueueID)), h.Group, h.Topic, int(h.QueueID), h.CommitOffset)
}

// commit moves a group on a queue, unless an operator has moved it and its
// owner does not know yet; one who does so just now wins, too.
func (s *Server) commit(at embedded.Cursor, group, topic string, queue int, offset int64) error {
	if offset < 0 {
		return refuse(remoting.ResInvalidParameter, "commitOffset is %d, it takes 0 and more", offset)
	}
	if _, pending := s.pendingReset(group, topic, queue); pending {
		return nil
	}
	if err := s.admitGroup(group); err != nil {
		return err
	}
	at.Commit(offset)
	if to, pending := s.pendingReset(group, topic, queue); pending {
		at.Reset(to)
	}
	return nil
}
