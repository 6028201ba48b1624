package server

import "github.com/sluicemq/sluice/broker/remoting"

// getTopicsByCluster serves GET_TOPICS_BY_CLUSTER (224). Another cluster than
// this one has no topics. An account is shown what it has a permission for.
func getTopicsByCluster(s *Server, c *conn, req, resp *remoting.Command) error {
	d := remoting.ReadFields("get topics by cluster", req.Fields)
	cluster := d.Text("cluster")
	if err := d.Err(); err != nil {
		return err
	}
	names := s.topicList(func(t topicConfig) bool { return cluster == s.cfg.Cluster && c.sees(topicKind, t.Name) })
	resp.Body = remoting.TopicList{Topics: names}.AppendTo(nil)
	return nil
}
