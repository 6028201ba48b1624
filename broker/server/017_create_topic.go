package server

import (
	"context"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
)

// createTopic serves UPDATE_AND_CREATE_TOPIC (17).
//
// Behavior: what the request leaves out of the attributes stays as it is,
// everything else is replaced. Queues are never taken away from the store, so a
// smaller number hides them and a larger one shows them again. The answer comes
// when the change is durable; routes show it at once.
func createTopic(s *Server, _ *conn, req, _ *remoting.Command) error {
	x, err := remoting.DecodeCreateTopic(req.Fields)
	if err != nil {
		return err
	}
	attributes, err := parseAttributes(x.Attributes)
	if err != nil {
		return err
	}
	w, err := s.wantedTopic(remoting.TopicConfig{
		Name: x.Topic, ReadQueues: x.ReadQueues, WriteQueues: x.WriteQueues, Perm: x.Perm,
		FilterType: x.FilterType, SysFlag: x.SysFlag, Order: x.Order, Attributes: attributes,
	})
	if err != nil {
		return err
	}
	return s.change(func(ctx context.Context) error { return s.putTopic(ctx, w) })
}

// parseAttributes reads +name=value,-name.
func parseAttributes(text string) (remoting.Fields, error) {
	var f remoting.Fields
	if text == "" {
		return f, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, value, assigned := strings.Cut(strings.TrimSpace(part), "=")
		if len(name) < 2 || assigned != (name[0] == '+') || !assigned && name[0] != '-' {
			return nil, refuse(remoting.ResInvalidParameter, "attributes %.128q, they take +name=value,-name", text)
		}
		f.Add(name, value)
	}
	return f, nil
}
