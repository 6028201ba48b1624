package server

import (
	"cmp"

	"github.com/sluicemq/sluice/broker/remoting"
)

// getConsumerConnections serves GET_CONSUMER_CONNECTION_LIST (203): the members
// of a group. Those in this process are at the broker's own address; what they
// subscribe to is not listed.
func getConsumerConnections(s *Server, _ *conn, req, resp *remoting.Command) error {
	group, err := readName("get consumer connections", "consumerGroup", req)
	if err != nil {
		return err
	}
	v, online := s.clients.view(group)
	inside := s.store.Members(group)
	if !online && len(inside) == 0 {
		return refuse(remoting.ResConsumerNotOnline, "no consumer of group %.255s is online", group)
	}
	list := remoting.ConnectionList{
		ConsumeType: cmp.Or(v.consume, remoting.ConsumePassively), MessageModel: cmp.Or(v.model, remoting.Clustering),
		ConsumeFromWhere: cmp.Or(v.fromWhere, remoting.FromLastOffset),
	}
	for _, m := range v.clients {
		list.Connections = append(list.Connections, m.connection())
	}
	for _, id := range inside {
		list.Connections = append(list.Connections, remoting.Connection{
			ClientAddr: s.advertise, ClientID: id, Language: remoting.LanguageGo, Version: remoting.Version,
		})
	}
	for _, sub := range v.subs {
		list.Subscriptions = append(list.Subscriptions, sub.data())
	}
	resp.Body = list.AppendTo(nil)
	return nil
}

func (m client) connection() remoting.Connection {
	return remoting.Connection{ClientAddr: m.conn.remote, ClientID: m.id, Language: m.language, Version: m.version}
}
