package server

import (
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/remoting"
)

// nameServer is what a name server knows beside the topics, which it reads
// where the broker keeps them.
type nameServer struct {
	kv kvTable
	// noWrites: clients are told not to send to this broker. Like at a name
	// server of RocketMQ it lasts until the next start.
	noWrites atomic.Bool
}

// route is the route of one topic.
func (s *Server) route(c topicConfig) remoting.Route {
	return remoting.Route{
		Brokers: []remoting.BrokerData{s.brokerData()},
		Queues: []remoting.QueueData{{
			Broker: s.cfg.Broker, Perm: int32(s.routed(c.Perm)), SysFlag: int32(c.SysFlag),
			ReadQueues: int32(c.ReadQueues), WriteQueues: int32(c.WriteQueues),
		}},
	}
}

// routed is a permission as routes show it: a broker without write permission
// keeps new sends away while reads go on.
func (s *Server) routed(perm int) int {
	if s.names.noWrites.Load() {
		perm &^= int(remoting.PermWrite)
	}
	return perm
}

// brokerData says where this broker is; it is the master of its name.
func (s *Server) brokerData() remoting.BrokerData {
	return remoting.BrokerData{
		Name: s.cfg.Broker, Cluster: s.cfg.Cluster, Addrs: []remoting.BrokerAddr{{ID: 0, Addr: s.advertise}},
	}
}

// topicList answers the names of the topics that pick picks.
func (s *Server) topicList(pick func(topicConfig) bool) []string {
	names := []string{}
	for _, c := range s.topics.all() {
		if pick(c) {
			names = append(names, c.Name)
		}
	}
	return names
}

// setWrites serves WIPE_WRITE_PERM_OF_BROKER and ADD_WRITE_PERM_OF_BROKER: it
// answers how many topics are now routed otherwise. Another broker has none.
func (s *Server) setWrites(command string, req, resp *remoting.Command, allowed bool, count string) error {
	d := remoting.ReadFields(command, req.Fields)
	broker := d.Text("brokerName")
	if err := d.Err(); err != nil {
		return err
	}
	changed := 0
	if broker == s.cfg.Broker && s.names.noWrites.Swap(!allowed) == allowed {
		changed = len(s.topicList(topicConfig.writable))
	}
	resp.Fields.AddInt(count, int64(changed))
	return nil
}
