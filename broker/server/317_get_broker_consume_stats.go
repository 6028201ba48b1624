package server

import "github.com/sluicemq/sluice/broker/remoting"

// getBrokerConsumeStats serves GET_BROKER_CONSUME_STATS (317): 208 for every
// group, of ordered topics or of the others.
func getBrokerConsumeStats(s *Server, c *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("get broker consume stats", req.Fields)
	ordered := d.Bool("isOrder")
	if err := d.Err(); err != nil {
		return err
	}
	list := remoting.ConsumeStatsList{BrokerAddr: s.advertise}
	for _, group := range s.groupNames() {
		if !c.sees(groupKind, group) {
			continue
		}
		g := remoting.GroupStats{Group: group}
		for _, t := range s.consumed(group) {
			if t.Order != ordered {
				continue
			}
			stats := remoting.ConsumeStats{Tps: s.counts.getRate(t.Name, group), Queues: s.progress(group, t)}
			for _, q := range stats.Queues {
				list.TotalDiff += q.BrokerOffset - q.ConsumerOffset
			}
			g.Stats = append(g.Stats, stats)
		}
		if len(g.Stats) > 0 {
			list.Groups = append(list.Groups, g)
		}
	}
	resp.Body = list.AppendTo(nil)
	return nil
}
