package server

import (
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// getRoute serves GET_ROUTEINFO_BY_TOPIC (105) of name servers: where the
// queues of a topic are.
//
// Behavior: standard JSON whatever the version of the client, since every one
// reads it; 17 for an unknown topic. The template TBW102 has a route only if
// topics are created by their first message.
func getRoute(s *Server, _ *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("get route", req.Fields)
	topic := d.Text("topic")
	if err := d.Err(); err != nil {
		return err
	}
	c, ok := s.topics.find(topic)
	if !ok {
		hint := ""
		if topic == message.AutoCreateTopic {
			hint = "; topics are not created by their first message here (" + s.cfg.setting("Config.AutoCreate") + ")"
		}
		return refuse(remoting.ResTopicNotExist, "No topic route info in name server for the topic: %.255s%s", topic, hint)
	}
	resp.Body = s.route(c).AppendTo(nil)
	return nil
}
