package server

import (
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// getAllProducerInfo serves GET_ALL_PRODUCER_INFO (328): the producers of every
// group.
func getAllProducerInfo(s *Server, _ *conn, _, resp *remoting.Command) error {
	var table remoting.ProducerTable
	for _, name := range s.clients.producerGroups() {
		g := remoting.ProducerGroup{Group: name}
		for _, p := range s.clients.producersOf(name) {
			g.Producers = append(g.Producers, remoting.Producer{
				ClientID: p.id, Language: p.language, Version: p.version, RemoteIP: p.conn.remote,
				LastUpdate: s.clock.started.Add(time.Duration(p.seen)).UnixMilli(),
			})
		}
		table.Groups = append(table.Groups, g)
	}
	resp.Body = table.AppendTo(nil)
	return nil
}
