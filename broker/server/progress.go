package server

import (
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// position is where a group stands on a queue, false if it has no position.
// The group must exist: the store remembers whom it was asked about.
func (s *Server) position(group, topic string, n int) (int64, bool) {
	return s.store.Cursor(group, topic, n).Position()
}

// storedMs is when the message at an offset was stored, 0 if it is not there.
func (s *Server) storedMs(topic string, n int, offset int64) int64 {
	q, ok := s.store.Queue(topic, n)
	if !ok || offset < 0 {
		return 0
	}
	ms, _ := q.StoredMs(offset)
	return ms
}

// progress is how far a group is with the queues of a topic that clients read.
// What was pulled and not committed is not known: clients keep it to
// themselves.
func (s *Server) progress(group string, t topicConfig) []remoting.QueueProgress {
	known := s.groupExists(group)
	out := make([]remoting.QueueProgress, 0, t.ReadQueues)
	for n := range t.ReadQueues {
		p := remoting.QueueProgress{MessageQueue: s.messageQueue(t.Name, n)}
		if q, ok := s.store.Queue(t.Name, n); ok {
			if known {
				p.ConsumerOffset, _ = s.position(group, t.Name, n)
			}
			// Offsets that damage has left out at the end are no lag, neither
			// before a group has passed them nor after.
			p.BrokerOffset = max(q.End(), p.ConsumerOffset)
			p.PullOffset = p.ConsumerOffset
			p.LastTimestamp = s.storedMs(t.Name, n, p.ConsumerOffset-1)
		}
		out = append(out, p)
	}
	return out
}

// consumed are the topics of a group whose positions count: those that it has
// positions on, but not those that it has unsubscribed from, which shows while
// it is online only.
func (s *Server) consumed(group string) []topicConfig {
	names := s.store.Consumed(group)
	v, online := s.clients.view(group)
	for _, sub := range v.subs {
		// The store lists a position a second after its first commit.
		if !slices.Contains(names, sub.topic) && s.positioned(group, sub.topic) {
			names = append(names, sub.topic)
		}
	}
	slices.Sort(names)
	if len(s.store.Members(group)) > 0 {
		online = false // what they subscribe to is not known here
	}
	var out []topicConfig
	for _, name := range names {
		subscribed := slices.ContainsFunc(v.subs, func(sub *subscription) bool { return sub.topic == name })
		if online && !subscribed {
			continue
		}
		if t, ok := s.topics.find(name); ok {
			out = append(out, t)
		}
	}
	return out
}

// positioned reports whether a group has a position on any queue of a topic.
func (s *Server) positioned(group, topic string) bool {
	t, _ := s.store.Topic(topic)
	for n := range t.Queues {
		if _, ok := s.position(group, topic, n); ok {
			return true
		}
	}
	return false
}
