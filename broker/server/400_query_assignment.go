package server

import (
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// queryAssignment serves QUERY_ASSIGNMENT (400): which queues of a topic a
// client is to read, for 5.x clients that leave the division to the broker. The
// mode is always PULL.
//
// Behavior: members in this process have their share, by the same rule. A topic
// that does not exist, and a group without members, mean no change, which is
// how RocketMQ answers, too; a client that is no member gets nothing.
func queryAssignment(s *Server, _ *conn, req, resp *remoting.Command) error {
	x, err := remoting.DecodeQueryAssignment(req.Body)
	if err != nil {
		return err
	}
	t, ok := s.topics.find(x.Topic)
	ids := append(s.clients.ids(x.Group), s.store.Members(x.Group)...)
	if !ok || len(ids) == 0 {
		resp.Body = []byte(`{}`)
		return nil
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	all := make([]int, t.ReadQueues)
	for n := range all {
		all[n] = n
	}
	switch {
	case x.MessageModel == remoting.Broadcasting:
	case x.Strategy == "AVG" || x.Strategy == "":
		all = averagely(all, ids, x.ClientID)
	case x.Strategy == "AVG_BY_CIRCLE":
		all = byCircle(all, ids, x.ClientID)
	default:
		return refuse(remoting.ResSystemError, "strategy %.64q is none of AVG and AVG_BY_CIRCLE", x.Strategy)
	}
	var out remoting.Assignments
	for _, n := range all {
		out.Queues = append(out.Queues, remoting.Assignment{MessageQueue: s.messageQueue(x.Topic, n), Mode: remoting.ModePull})
	}
	resp.Body = out.AppendTo(nil)
	return nil
}

// averagely is the share of a client when each gets neighbouring queues; the
// first clients get one more where it does not come out even. Every client
// computes the same.
func averagely(queues []int, ids []string, id string) []int {
	at := slices.Index(ids, id)
	if at < 0 {
		return nil
	}
	size, more := len(queues)/len(ids), len(queues)%len(ids)
	first := at*size + min(at, more)
	if at < more {
		size++
	}
	return queues[first : first+size]
}

// byCircle is the share of a client when the queues are dealt out like cards.
func byCircle(queues []int, ids []string, id string) []int {
	var share []int
	at := slices.Index(ids, id)
	for n := at; at >= 0 && n < len(queues); n += len(ids) {
		share = append(share, queues[n])
	}
	return share
}

// queryAssignmentRight needs SUB on the group and the topic.
func queryAssignmentRight() right {
	return right{body: func(body []byte, need func(kind, string, perm) error) error {
		x, err := remoting.DecodeQueryAssignment(body)
		if err != nil {
			return err
		}
		if err := need(groupKind, x.Group, sub); err != nil {
			return err
		}
		return need(topicKind, x.Topic, sub)
	}}
}
