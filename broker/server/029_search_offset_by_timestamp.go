package server

import "github.com/sluicemq/sluice/broker/remoting"

// Code 29 (SEARCH_OFFSET_BY_TIMESTAMP): the offset of the first message that was
// stored at or after a time, or the end of the queue. With the upper boundary,
// the last message of that very time, if there is one.
func handleSearchOffset(s *Server, _ *conn, req, resp *remoting.Command) error {
	h, err := remoting.DecodeSearchOffset(req.Fields)
	if err != nil {
		return err
	}
	q, ok := s.store.Queue(h.Topic, int(h.QueueID))
	if !ok {
		resp.Fields.AddInt("offset", 0)
		return nil
	}
	at := q.AtTime(h.Timestamp)
	if h.Upper {
		last := q.AtTime(h.Timestamp+1) - 1
		if ms, ok := q.StoredMs(last); ok && ms == h.Timestamp {
			at = last
		}
	}
	resp.Fields.AddInt("offset", at)
	return nil
}
