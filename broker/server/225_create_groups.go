package server

import (
	"context"

	"github.com/sluicemq/sluice/broker/remoting"
)

// createGroups serves UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST (225). Nothing
// is done unless every group is acceptable; a failure later leaves those before
// it in place.
func createGroups(s *Server, _ *conn, req, _ *remoting.Command) error {
	list, err := remoting.DecodeGroupConfigList(req.Body)
	if err != nil {
		return err
	}
	return s.change(func(ctx context.Context) error {
		wanted := make([]groupConfig, 0, len(list.Groups))
		for _, g := range list.Groups {
			cfg, err := s.wantedGroup(g)
			if err != nil {
				return err
			}
			wanted = append(wanted, cfg)
		}
		for _, cfg := range wanted {
			if err := s.putGroup(ctx, cfg); err != nil {
				return err
			}
		}
		return nil
	})
}
