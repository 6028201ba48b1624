package server

import (
	"context"
	"errors"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
)

// deleteTopic serves DELETE_TOPIC_IN_BROKER (215): the topic, its messages, the
// positions of every group on it and what waits for its time to go there.
//
// Behavior: a topic that does not exist is a success, as with RocketMQ. Clients
// elsewhere do not hold a topic, their next pull is answered with 17; members in
// this process do, and the request is refused.
func deleteTopic(s *Server, _ *conn, req, _ *remoting.Command) error {
	name, err := readName("delete topic", "topic", req)
	if err != nil {
		return err
	}
	if err := validTopic(name); err != nil {
		return refuse(remoting.ResInvalidParameter, "%s", remarkOf(err))
	}
	if s.topics.isSystem(name) {
		return refuse(remoting.ResInvalidParameter, "topic %s belongs to the broker", name)
	}
	return s.change(func(ctx context.Context) error {
		err := s.store.DeleteTopic(ctx, name)
		if e, ok := errors.AsType[*driver.Error](err); ok && e.Code == driver.NotFound {
			return nil
		}
		if err != nil {
			return err
		}
		s.topics.forget(name)
		s.counts.forgetTopic(name)
		s.resets.forget(func(k laneKey) bool { return k.topic == name })
		s.changed("delete topic", name)
		return nil
	})
}
