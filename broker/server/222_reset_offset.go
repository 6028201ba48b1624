package server

import (
	"github.com/sluicemq/sluice/broker/remoting"
)

// resetOffset serves INVOKE_BROKER_TO_RESET_OFFSET (222): moves a group on the
// queues of a topic, to a time, to the end (timestamp -1) or to an offset.
//
// Behavior: that of RocketMQ 5.2 and later, whether or not a member is online.
// The positions in the store move at once. Members in this process go on from
// there. Clients elsewhere hear of it by the answer to their next pull of each
// queue; what they commit until then does not count. They are not sent 220:
// every release leaves its queue when a pull is answered so, and one that did
// both would reset itself twice. Without isForce nobody moves forward.
func resetOffset(s *Server, _ *conn, req, resp *remoting.Command) error {
	x, err := remoting.DecodeResetOffset(req.Fields)
	if err != nil {
		return err
	}
	if err := validGroup(x.Group); err != nil {
		return err
	}
	t, err := s.known(x.Topic)
	if err != nil {
		return err
	}
	if !s.groupExists(x.Group) {
		return refuse(remoting.ResGroupNotExist, "group %s does not exist", x.Group)
	}
	if v, online := s.clients.view(x.Group); online && v.model == remoting.Broadcasting {
		return refuse(remoting.ResBroadcastConsumption, "group %s is broadcasting, its members keep their positions themselves", x.Group)
	}
	targets, err := s.targets(x, t)
	if err != nil {
		return err
	}
	var table remoting.OffsetTable
	for _, m := range targets {
		table.Queues = append(table.Queues, remoting.QueuePosition{MessageQueue: s.messageQueue(x.Topic, m.queue), Offset: m.offset})
		if m.moves {
			s.move(x.Group, x.Topic, m.queue, m.offset)
		}
	}
	if req.Language == remoting.LanguageCPP {
		resp.Body = table.AppendList(nil)
	} else {
		resp.Body = table.AppendTo(nil)
	}
	s.changed("reset offsets of group", x.Group+" on "+x.Topic)
	return nil
}

// target is where a group is to go on with a queue.
type target struct {
	queue  int
	offset int64
	moves  bool
}

// targets finds out where a reset leads.
func (s *Server) targets(x remoting.ResetOffset, t topicConfig) ([]target, error) {
	first, last := 0, t.queues()-1
	if x.QueueID >= 0 {
		first, last = int(x.QueueID), int(x.QueueID)
	}
	var out []target
	for n := first; n <= last; n++ {
		q, ok := s.store.Queue(x.Topic, n)
		switch {
		case ok:
		case x.QueueID >= 0 || !t.virtual:
			return nil, refuse(remoting.ResInvalidParameter, "topic %s has no queue %d", x.Topic, n)
		default:
			continue // a topic of the broker itself that holds nothing
		}
		m := target{queue: n, offset: q.Max()}
		switch {
		case x.Offset >= 0 && x.QueueID >= 0:
			// One past the end is what RocketMQ takes; it is the end.
			if x.Offset < q.Min() || x.Offset > q.Max()+1 {
				return nil, refuse(remoting.ResInvalidParameter, "offset %d, queue %d of topic %s takes %d to %d", x.Offset, n, x.Topic, q.Min(), q.Max())
			}
			m.offset = min(x.Offset, q.Max())
		case x.Timestamp >= 0:
			m.offset = q.AtTime(x.Timestamp)
		}
		at, has := s.position(x.Group, x.Topic, n)
		m.moves = x.Force || !has || m.offset < at
		if !m.moves {
			m.offset = at
		}
		out = append(out, m)
	}
	return out, nil
}

// move moves a group on a queue. Clients elsewhere that may hold the queue are
// told by their next pull, unless a member in this process holds it.
func (s *Server) move(group, topic string, queue int, offset int64) {
	cursor := s.store.Cursor(group, topic, queue)
	abroad := len(s.clients.ids(group)) > 0 && !cursor.Held()
	if abroad {
		s.resets.set(group, topic, queue, offset) // first, so that no commit comes in between
	}
	cursor.Reset(offset)
	if abroad {
		s.resets.moved(group, topic, queue)
	}
}
