package server

import (
	"context"

	"github.com/sluicemq/sluice/broker/remoting"
)

// createTopics serves UPDATE_AND_CREATE_TOPIC_LIST (18). Nothing is done unless
// every topic is acceptable; a failure later leaves those before it in place.
func createTopics(s *Server, _ *conn, req, _ *remoting.Command) error {
	list, err := remoting.DecodeTopicConfigList(req.Body)
	if err != nil {
		return err
	}
	changes := make([]topicChange, 0, len(list.Topics))
	for _, t := range list.Topics {
		w, err := s.wantedTopic(t)
		if err != nil {
			return err
		}
		changes = append(changes, w)
	}
	return s.change(func(ctx context.Context) error {
		for _, w := range changes {
			if err := s.putTopic(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
}
