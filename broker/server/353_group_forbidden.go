package server

import (
	"context"
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// groupForbidden serves UPDATE_AND_GET_GROUP_FORBIDDEN (353): whether a group
// may read a topic. Without the field readable it only asks.
func groupForbidden(s *Server, _ *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("update group forbidden", req.Fields)
	x := remoting.GroupForbidden{Group: d.Text("group"), Topic: d.Text("topic"), Readable: d.OptBool("readable", true)}
	if err := d.Err(); err != nil {
		return err
	}
	if err := validGroup(x.Group); err != nil {
		return err
	}
	if _, err := s.known(x.Topic); err != nil {
		return err
	}
	err := s.change(func(ctx context.Context) error {
		cfg := s.groups.find(x.Group)
		if _, asked := req.Fields.Lookup("readable"); !asked || cfg.reads(x.Topic) == x.Readable {
			x.Readable = cfg.reads(x.Topic)
			return nil
		}
		cfg.Forbidden = slices.DeleteFunc(slices.Clone(cfg.Forbidden), func(t string) bool { return t == x.Topic })
		if !x.Readable {
			cfg.Forbidden = append(cfg.Forbidden, x.Topic)
		}
		return s.putGroup(ctx, cfg)
	})
	if err != nil {
		return err
	}
	resp.Body = x.AppendTo(nil)
	return nil
}

// reads reports whether no operator has forbidden the group to read a topic.
func (c groupConfig) reads(topic string) bool { return !slices.Contains(c.Forbidden, topic) }
