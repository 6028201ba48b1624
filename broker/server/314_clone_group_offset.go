package server

import (
	"github.com/sluicemq/sluice/broker/remoting"
)

// cloneGroupOffset serves CLONE_GROUP_OFFSET (314): the positions of one group
// become those of another, on one topic or on all but the retry topic.
//
// Behavior: if the other group is online, its members go on from there, as
// after a reset. Unless offline is set, topics that it does not subscribe to
// are then left out.
func cloneGroupOffset(s *Server, _ *conn, req, _ *remoting.Command) error {
	x, err := remoting.DecodeCloneOffset(req.Fields)
	if err != nil {
		return err
	}
	for _, name := range []string{x.From, x.To} {
		if err := validGroup(name); err != nil {
			return err
		}
	}
	if err := s.admitGroup(x.To); err != nil {
		return err
	}
	topics := []string{x.Topic}
	if x.Topic == "" {
		topics = s.store.Consumed(x.From)
	}
	_, online := s.clients.view(x.To)
	for _, topic := range topics {
		if _, own := ownerOf(topic); own {
			continue
		}
		t, ok := s.store.Topic(topic)
		if !ok {
			continue
		}
		if sub, _, _ := s.clients.subscription(x.To, topic); online && sub == nil && !x.Offline {
			continue
		}
		s.cloneOffsets(x.From, x.To, topic, t.Queues)
	}
	s.changed("clone offsets to group", x.To)
	return nil
}

func (s *Server) cloneOffsets(from, to, topic string, queues int) {
	if !s.groupExists(from) {
		return
	}
	for n := range queues {
		if at, ok := s.position(from, topic, n); ok {
			s.move(to, topic, n, at)
		}
	}
}
