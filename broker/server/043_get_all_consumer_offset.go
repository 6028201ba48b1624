package server

import "github.com/sluicemq/sluice/broker/remoting"

// getAllConsumerOffset serves GET_ALL_CONSUMER_OFFSET (43): every position of
// every group.
func getAllConsumerOffset(s *Server, c *conn, _, resp *remoting.Command) error {
	all := remoting.ConsumerOffsets{Version: s.version()}
	for _, g := range s.store.Groups() {
		if !c.sees(groupKind, g.Name) {
			continue
		}
		for _, topic := range s.store.Consumed(g.Name) {
			t, _ := s.store.Topic(topic)
			x := remoting.GroupOffsets{Topic: topic, Group: g.Name}
			for n := range t.Queues {
				if at, ok := s.position(g.Name, topic, n); ok {
					x.Queues = append(x.Queues, remoting.NumberedOffset{Number: n, Offset: at})
				}
			}
			all.Groups = append(all.Groups, x)
		}
	}
	resp.Body = all.AppendTo(nil)
	return nil
}
