package server

import (
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
)

// getConsumeStats serves GET_CONSUME_STATS (208): how far a group is, by
// queue. Without a topic it is about all that the group consumes, its retry
// topic included; topics that do not exist are left out.
func getConsumeStats(s *Server, c *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("get consume stats", req.Fields)
	group, topic, list := d.Text("consumerGroup"), d.OptText("topic"), d.OptText("topicList")
	if err := d.Err(); err != nil {
		return err
	}
	var topics []topicConfig
	asked := strings.FieldsFunc(list, func(r rune) bool { return r == ';' })
	if topic != "" {
		asked = []string{topic}
	}
	for _, name := range asked {
		if t, ok := s.topics.find(name); ok {
			topics = append(topics, t)
		}
	}
	if len(asked) == 0 {
		topics = s.consumed(group)
	}
	var stats remoting.ConsumeStats
	for _, t := range topics {
		if !c.sees(topicKind, t.Name) {
			continue
		}
		stats.Tps += s.counts.getRate(t.Name, group)
		stats.Queues = append(stats.Queues, s.progress(group, t)...)
	}
	resp.Body = stats.AppendTo(nil)
	return nil
}
