package server

import "github.com/sluicemq/sluice/broker/remoting"

// getTopicStats serves GET_TOPIC_STATS_INFO (202): the extent of each queue.
// Tools take the difference for the number of messages, so offsets that damage
// has left out at the end are not told; 30 tells where the queue goes on.
func getTopicStats(s *Server, _ *conn, req, resp *remoting.Command) error {
	name, err := readName("get topic stats", "topic", req)
	if err != nil {
		return err
	}
	t, err := s.known(name)
	if err != nil {
		return err
	}
	stats := remoting.TopicStats{PutTps: s.counts.putRate(name)}
	for n := range t.queues() {
		x := remoting.QueueStats{MessageQueue: s.messageQueue(name, n)}
		if q, ok := s.store.Queue(name, n); ok {
			x.Min, x.Max = q.Min(), q.End()
			x.LastUpdate = s.storedMs(name, n, x.Max-1)
		}
		stats.Queues = append(stats.Queues, x)
	}
	resp.Body = stats.AppendTo(nil)
	return nil
}
