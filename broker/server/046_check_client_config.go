package server

import "github.com/sluicemq/sluice/broker/remoting"

// checkClientConfig serves CHECK_CLIENT_CONFIG (46): a client asks whether an
// expression will be accepted, before it starts.
func checkClientConfig(_ *Server, _ *conn, req, _ *remoting.Command) error {
	x, err := remoting.DecodeCheckClient(req.Body)
	if err != nil {
		return err
	}
	d := x.Subscription
	if err := newSubscription(d.Topic, d.SubString, d.ExpressionType, d.Tags, d.SubVersion).bad; err != nil {
		return refuse(remoting.ResSubscriptionParseFailed, "%v", err)
	}
	return nil
}

// checkClientRight needs SUB on the group and the topic.
func checkClientRight() right {
	return right{body: func(body []byte, need func(kind, string, perm) error) error {
		x, err := remoting.DecodeCheckClient(body)
		if err != nil {
			return err
		}
		if err := need(groupKind, x.Group, sub); err != nil {
			return err
		}
		return need(topicKind, x.Subscription.Topic, sub)
	}}
}
