package server

import (
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
)

// viewBrokerStats serves VIEW_BROKER_STATS_DATA (315): what was counted in the
// last minute, hour and day. Statistics of which nothing was counted since the
// start do not exist, as with RocketMQ.
func viewBrokerStats(s *Server, c *conn, req, resp *remoting.Command) error {
	name, key, err := readNames("view broker stats", "statsName", "statsKey", req)
	if err != nil {
		return err
	}
	t, size := s.tally(c, name, key)
	if t == nil || t.calls.Load() == 0 {
		return refuse(remoting.ResSystemError, "the statistic %.64s of %.255s does not exist", name, key)
	}
	stat := func(w window) remoting.BrokerStat {
		n := w.messages
		if size {
			n = w.bytes
		}
		return remoting.BrokerStat{Sum: n, Tps: w.perSecond(n), Avgpt: w.perCall(n)}
	}
	minute, hour, day := s.counts.windows(t)
	resp.Body = remoting.BrokerStats{Day: stat(day), Hour: stat(hour), Minute: stat(minute)}.AppendTo(nil)
	return nil
}

// tally finds what a statistic is read from, nil if there is none or the
// account may not see it; size says that it is about bytes.
func (s *Server) tally(c *conn, name, key string) (t *tally, size bool) {
	switch name {
	case "BROKER_PUT_NUMS":
		return &s.counts.put, false
	case "BROKER_GET_NUMS":
		return &s.counts.got, false
	}
	topicName, groupName, ofGroup := strings.Cut(key, "@")
	topic, group := s.counts.find(topicName, groupName)
	if topic == nil || !c.sees(topicKind, topicName) || ofGroup && !c.sees(groupKind, groupName) {
		return nil, false
	}
	switch {
	case !ofGroup && name == "TOPIC_PUT_NUMS":
		return &topic.put, false
	case !ofGroup && name == "TOPIC_PUT_SIZE":
		return &topic.put, true
	case group != nil && name == "GROUP_GET_NUMS":
		return &group.got, false
	case group != nil && name == "GROUP_GET_SIZE":
		return &group.got, true
	case group != nil && name == "SNDBCK_PUT_NUMS":
		return &group.back, false
	default:
		return nil, false
	}
}
