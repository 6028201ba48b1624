package server

import (
	"github.com/sluicemq/sluice/broker/remoting"
)

// lockMost is how many queues one request may lock.
const lockMost = 4096

// Code 41 (LOCK_BATCH_MQ): an orderly consumer takes queues, or renews what it
// has. The answer names those that it has now; a queue that a member in this
// process has is not given.
func handleLockBatch(s *Server, _ *conn, req, resp *remoting.Command) error {
	b, err := s.lockBatch(req)
	if err != nil {
		return err
	}
	taken := s.locks.take(b.Group, b.ClientID, b.Queues, func(k queueKey) bool {
		_, exists := s.store.Queue(k.topic, k.queue)
		return exists && !s.store.Cursor(b.Group, k.topic, k.queue).Held()
	})
	resp.Body = remoting.LockedQueues{Queues: taken}.AppendTo(nil)
	return nil
}

// Code 42 (UNLOCK_BATCH_MQ): the client gives queues up.
func handleUnlockBatch(s *Server, _ *conn, req, _ *remoting.Command) error {
	b, err := s.lockBatch(req)
	if err != nil {
		return err
	}
	s.locks.release(b.Group, b.ClientID, b.Queues)
	return nil
}

func (s *Server) lockBatch(req *remoting.Command) (remoting.LockBatch, error) {
	b, err := remoting.DecodeLockBatch(req.Body)
	if err != nil {
		return b, refuse(remoting.ResInvalidParameter, "%v", err)
	}
	if err := validGroup(b.Group); err != nil {
		return b, err
	}
	if err := validClientID(b.ClientID); err != nil {
		return b, err
	}
	if len(b.Queues) > lockMost {
		return b, refuse(remoting.ResInvalidParameter, "%d queues in one request, at most %d are locked", len(b.Queues), lockMost)
	}
	return b, nil
}

// lockRight needs SUB on the group and on the topic of each queue.
func lockRight() right {
	return right{body: func(body []byte, need func(kind, string, perm) error) error {
		b, err := remoting.DecodeLockBatch(body)
		if err != nil {
			return err
		}
		if err := need(groupKind, b.Group, sub); err != nil {
			return err
		}
		last := ""
		for _, q := range b.Queues {
			if q.Topic == last {
				continue
			}
			if err := need(topicKind, q.Topic, sub); err != nil {
				return err
			}
			last = q.Topic
		}
		return nil
	}}
}
