package server

import (
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// getConsumerList serves GET_CONSUMER_LIST_BY_GROUP (38): the client ids among
// which the queues of a group are divided, members in this process included.
func getConsumerList(s *Server, _ *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("get consumer list", req.Fields)
	group := d.Text("consumerGroup")
	if err := d.Err(); err != nil {
		return err
	}
	ids := append(s.clients.ids(group), s.store.Members(group)...)
	if len(ids) == 0 {
		return refuse(remoting.ResSystemError, "no consumer for this group, %s", group)
	}
	slices.Sort(ids)
	resp.Body = remoting.ConsumerList{ClientIDs: slices.Compact(ids)}.AppendTo(nil)
	return nil
}
