package server

import (
	"encoding/json"

	"github.com/sluicemq/sluice/broker/remoting"
)

// querySubscriptionByConsumer serves QUERY_SUBSCRIPTION_BY_CONSUMER (345): what
// a group that is online wants of a topic. There is no subscriptionData if it
// is not, or does not subscribe to it.
func querySubscriptionByConsumer(s *Server, _ *conn, req, resp *remoting.Command) error {
	group, topic, err := readNames("query subscription by consumer", "group", "topic", req)
	if err != nil {
		return err
	}
	sub, _, _ := s.clients.subscription(group, topic)
	if sub == nil {
		resp.Body, err = json.Marshal(map[string]string{"group": group, "topic": topic})
		return err
	}
	resp.Body = remoting.GroupSubscription{Group: group, Topic: topic, Subscription: sub.data()}.AppendTo(nil)
	return nil
}
