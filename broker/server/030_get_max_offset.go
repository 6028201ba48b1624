package server

import "github.com/sluicemq/sluice/broker/remoting"

// Codes 30 (GET_MAX_OFFSET), 31 (GET_MIN_OFFSET) and 32
// (GET_EARLIEST_MSG_STORETIME): the ends of a queue. The maximum is the offset
// of the next message. Of a queue that does not exist everything is 0, and so is
// no error.
func handleMaxOffset(s *Server, _ *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeQueueOffset(req.Fields)
	if err != nil {
		return err
	}
	var offset int64
	if q, ok := s.store.Queue(h.Topic, int(h.QueueID)); ok {
		offset = q.Max()
	}
	resp.Fields.AddInt("offset", offset)
	return nil
}

func handleMinOffset(s *Server, _ *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeQueueOffset(req.Fields)
	if err != nil {
		return err
	}
	var offset int64
	if q, ok := s.store.Queue(h.Topic, int(h.QueueID)); ok {
		offset = q.Min()
	}
	resp.Fields.AddInt("offset", offset)
	return nil
}

// handleEarliestStoreTime answers milliseconds, -1 for an empty queue.
func handleEarliestStoreTime(s *Server, _ *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeQueueOffset(req.Fields)
	if err != nil {
		return err
	}
	ms := int64(-1)
	if q, ok := s.store.Queue(h.Topic, int(h.QueueID)); ok {
		if at, ok := q.StoredMs(q.Min()); ok {
			ms = at
		}
	}
	resp.Fields.AddInt("timestamp", ms)
	return nil
}
