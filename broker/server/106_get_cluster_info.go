package server

import "github.com/sluicemq/sluice/broker/remoting"

// getClusterInfo serves GET_BROKER_CLUSTER_INFO (106) of name servers: which
// brokers there are. Like RocketMQ's it does not quote the broker ids, whatever
// the version of the client.
func getClusterInfo(s *Server, _ *conn, _, resp *remoting.Command) error {
	resp.Body = remoting.ClusterInfo{
		Brokers:  []remoting.BrokerData{s.brokerData()},
		Clusters: []remoting.Cluster{{Name: s.cfg.Cluster, Brokers: []string{s.cfg.Broker}}},
	}.AppendTo(nil)
	return nil
}
