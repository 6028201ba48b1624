package server

import (
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// queryTopicConsumeByWho serves QUERY_TOPIC_CONSUME_BY_WHO (300): the groups
// that subscribe to a topic now, or have a position on it.
func queryTopicConsumeByWho(s *Server, c *conn, req, resp *remoting.Command) error {
	topic, err := readName("query topic consume by who", "topic", req)
	if err != nil {
		return err
	}
	groups := append(s.clients.consumersOf(topic), s.store.GroupsOf(topic)...)
	slices.Sort(groups)
	groups = slices.DeleteFunc(slices.Compact(groups), func(g string) bool { return !c.sees(groupKind, g) })
	resp.Body = remoting.GroupList{Groups: groups}.AppendTo(nil)
	return nil
}
