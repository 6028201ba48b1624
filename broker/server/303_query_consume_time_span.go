package server

import "github.com/sluicemq/sluice/broker/remoting"

// queryConsumeTimeSpan serves QUERY_CONSUME_TIME_SPAN (303): when the oldest,
// the newest and the last consumed message of each queue were stored, and for
// how long the next one has been waiting.
func queryConsumeTimeSpan(s *Server, _ *conn, req, resp *remoting.Command) error {
	topic, group, err := readNames("query consume time span", "topic", "group", req)
	if err != nil {
		return err
	}
	t, err := s.known(topic)
	if err != nil {
		return err
	}
	known := s.groupExists(group)
	var span remoting.ConsumeTimeSpan
	for n := range t.queues() {
		x := remoting.QueueTimeSpan{MessageQueue: s.messageQueue(topic, n), Min: -1, Max: -1}
		q, ok := s.store.Queue(topic, n)
		if ok && q.End() > q.Min() {
			x.Min, x.Max = s.storedMs(topic, n, q.Min()), s.storedMs(topic, n, q.End()-1)
		}
		var at int64
		if ok && known {
			at, _ = s.position(group, topic, n)
		}
		x.Consumed = x.Min
		if at > 0 {
			x.Consumed = s.storedMs(topic, n, at-1)
		}
		if ok && at < q.Max() {
			if ms := s.storedMs(topic, n, max(at, q.Min())); ms > 0 {
				x.Delay = max(s.store.NowMs()-ms, 0)
			}
		}
		span.Queues = append(span.Queues, x)
	}
	resp.Body = span.AppendTo(nil)
	return nil
}
