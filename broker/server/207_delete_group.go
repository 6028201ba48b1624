package server

import (
	"context"

	"github.com/sluicemq/sluice/broker/remoting"
)

// deleteGroup serves DELETE_SUBSCRIPTIONGROUP (207): the settings of a group,
// and its positions if cleanOffset (removeOffset in 4.9) says so.
//
// Behavior: a group that does not exist is a success, as with RocketMQ. With
// positions and members in this process it is refused; members elsewhere go on,
// and their next commits make new positions.
func deleteGroup(s *Server, _ *conn, req, _ *remoting.Command) error {
	d := remoting.ReadFields("delete group", req.Fields)
	name := d.Text("groupName")
	positions := d.OptBool("cleanOffset", d.OptBool("removeOffset", false))
	if err := d.Err(); err != nil {
		return err
	}
	if err := validGroup(name); err != nil {
		return err
	}
	return s.change(func(ctx context.Context) error {
		if _, ok := s.store.Group(name); !ok {
			return nil
		}
		if err := s.groups.delete(ctx, name, positions); err != nil {
			return err
		}
		s.counts.forgetGroup(name)
		if positions {
			s.resets.forget(func(k laneKey) bool { return k.group == name })
		}
		s.changed("delete group", name)
		return nil
	})
}
