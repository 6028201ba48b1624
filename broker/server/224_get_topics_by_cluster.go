package server

import "github.com/sluicemq/sluice/broker/remoting"

// getTopicsByCluster serves GET_TOPICS_BY_CLUSTER (224). Another cluster than
// this one has no topics.
func getTopicsByCluster(s *Server, _ *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("get topics by cluster", req.Fields)
	cluster := d.Text("cluster")
	if err := d.Err(); err != nil {
		return err
	}
	names := s.topicList(func(topicConfig) bool { return cluster == s.cfg.Cluster })
	resp.Body = remoting.TopicList{Topics: names}.AppendTo(nil)
	return nil
}
