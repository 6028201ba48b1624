package server

import (
	"context"

	"github.com/sluicemq/sluice/broker/remoting"
)

// createGroup serves UPDATE_AND_CREATE_SUBSCRIPTIONGROUP (200). What the body
// leaves out has its default, as with RocketMQ.
func createGroup(s *Server, _ *conn, req, _ *remoting.Command) error {
	g, err := remoting.DecodeSubscriptionGroupConfig(req.Body)
	if err != nil {
		return err
	}
	return s.change(func(ctx context.Context) error {
		cfg, err := s.wantedGroup(g)
		if err != nil {
			return err
		}
		return s.putGroup(ctx, cfg)
	})
}
