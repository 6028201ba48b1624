package remoting

import (
	"math"
	"strconv"
)

// Route is the body of the response to [ReqGetRoute], TopicRouteData in
// RocketMQ's words.
type Route struct {
	Brokers []BrokerData
	Queues  []QueueData
	// OrderTopicConf fixes the queues of an ordered topic: broker:queues, with
	// ; between several. Normally empty.
	OrderTopicConf string
}

// BrokerData says where the brokers of one name are.
type BrokerData struct {
	Name    string
	Cluster string
	// Zone is normally empty.
	Zone string
	// Addrs are the addresses by broker id; 0 is the master, without which
	// nothing is sent to the broker.
	Addrs              []BrokerAddr
	EnableActingMaster bool
}

// BrokerAddr is one address of a broker.
type BrokerAddr struct {
	ID   int64
	Addr string // host:port
}

// QueueData is the share that a broker has in a topic.
type QueueData struct {
	Broker      string
	Perm        int32 // [PermRead] and its neighbours
	ReadQueues  int32
	WriteQueues int32
	SysFlag     int32
}

// DecodeRoute reads the response to [ReqGetRoute], in the standard and in the
// legacy form.
func DecodeRoute(b []byte) (Route, error) {
	return decodeBody("route", b, func(s *scanner, x *Route) {
		for name := range s.members() {
			switch name {
			case "brokerDatas":
				x.Brokers = list(s, (*scanner).broker)
			case "orderTopicConf":
				x.OrderTopicConf = s.text()
			case "queueDatas":
				x.Queues = list(s, (*scanner).queueData)
			default:
				s.skip()
			}
		}
	})
}

func (s *scanner) broker(x *BrokerData) {
	for name := range s.members() {
		switch name {
		case "brokerAddrs":
			for id := range s.members() {
				a := BrokerAddr{ID: s.ordinal(id, math.MaxInt64), Addr: s.text()}
				appendTo(s, &x.Addrs, a)
			}
		case "brokerName":
			x.Name = s.text()
		case "cluster":
			x.Cluster = s.text()
		case "enableActingMaster":
			x.EnableActingMaster = s.flag()
		case "zoneName":
			x.Zone = s.text()
		default:
			s.skip()
		}
	}
}

func (s *scanner) queueData(x *QueueData) {
	for name := range s.members() {
		switch name {
		case "brokerName":
			x.Broker = s.text()
		case "perm":
			x.Perm = s.int32()
		case "readQueueNums":
			x.ReadQueues = s.int32()
		case "topicSysFlag":
			x.SysFlag = s.int32()
		case "writeQueueNums":
			x.WriteQueues = s.int32()
		default:
			s.skip()
		}
	}
}

// AppendTo appends the body in standard JSON, which every client reads.
func (x Route) AppendTo(b []byte) []byte { return x.appendTo(b, false) }

// AppendLegacy appends the body in the form of old name servers, in which the
// broker ids are not quoted.
func (x Route) AppendLegacy(b []byte) []byte { return x.appendTo(b, true) }

func (x Route) appendTo(b []byte, bare bool) []byte {
	w := writer{b}
	w.open('{')
	array(&w, "brokerDatas", x.Brokers, func(w *writer, x *BrokerData) {
		w.open('{')
		w.broker(x, bare)
		w.bool("enableActingMaster", x.EnableActingMaster)
		w.optText("zoneName", x.Zone)
		w.close('}')
	})
	w.table("filterServerTable", nil)
	w.optText("orderTopicConf", x.OrderTopicConf)
	array(&w, "queueDatas", x.Queues, func(w *writer, x *QueueData) {
		w.open('{')
		w.text("brokerName", x.Broker)
		w.int("perm", int64(x.Perm))
		w.int("readQueueNums", int64(x.ReadQueues))
		w.int("topicSysFlag", int64(x.SysFlag))
		w.int("writeQueueNums", int64(x.WriteQueues))
		w.close('}')
	})
	w.close('}')
	return w.b
}

// broker writes the members that every release has.
func (w *writer) broker(x *BrokerData, bare bool) {
	w.name("brokerAddrs")
	w.open('{')
	for _, a := range x.Addrs {
		if bare {
			w.bare(a.ID)
		} else {
			w.name(strconv.FormatInt(a.ID, 10))
		}
		w.b = appendQuoted(w.b, a.Addr)
	}
	w.close('}')
	w.text("brokerName", x.Name)
	w.text("cluster", x.Cluster)
}

// ClusterInfo is the body of the response to [ReqGetClusterInfo].
type ClusterInfo struct {
	Brokers  []BrokerData
	Clusters []Cluster
}

// Cluster names the brokers of a cluster.
type Cluster struct {
	Name    string
	Brokers []string
}

// DecodeClusterInfo reads the response to [ReqGetClusterInfo].
func DecodeClusterInfo(b []byte) (ClusterInfo, error) {
	return decodeBody("cluster info", b, func(s *scanner, x *ClusterInfo) {
		for name := range s.members() {
			switch name {
			case "brokerAddrTable":
				for key := range s.members() {
					d := BrokerData{Name: key}
					s.broker(&d)
					appendTo(s, &x.Brokers, d)
				}
			case "clusterAddrTable":
				for key := range s.members() {
					c := Cluster{key, s.texts()}
					appendTo(s, &x.Clusters, c)
				}
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body as name servers send it, with broker ids that are
// not quoted.
func (x ClusterInfo) AppendTo(b []byte) []byte { return x.appendTo(b, true) }

// AppendStandard appends the body in standard JSON.
func (x ClusterInfo) AppendStandard(b []byte) []byte { return x.appendTo(b, false) }

func (x ClusterInfo) appendTo(b []byte, bare bool) []byte {
	w := writer{b}
	w.open('{')
	w.name("brokerAddrTable")
	w.open('{')
	for i := range x.Brokers {
		w.name(x.Brokers[i].Name)
		w.open('{')
		w.broker(&x.Brokers[i], bare)
		w.bool("enableActingMaster", x.Brokers[i].EnableActingMaster)
		w.close('}')
	}
	w.close('}')
	w.name("clusterAddrTable")
	w.open('{')
	for _, c := range x.Clusters {
		w.texts(c.Name, c.Brokers)
	}
	w.close('}')
	w.close('}')
	return w.b
}

// RegisterBroker is the body with which a broker registers at a name server.
type RegisterBroker struct {
	FilterServers []string
	Topics        TopicConfigTable
}

// DecodeRegisterBroker reads the body of [ReqRegisterBroker] in its form
// without compression.
func DecodeRegisterBroker(b []byte) (RegisterBroker, error) {
	return decodeBody("register broker", b, func(s *scanner, x *RegisterBroker) {
		for name := range s.members() {
			switch name {
			case "filterServerList":
				x.FilterServers = s.texts()
			case "topicConfigSerializeWrapper":
				s.topicTable(&x.Topics)
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x RegisterBroker) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.texts("filterServerList", x.FilterServers)
	w.name("topicConfigSerializeWrapper")
	w.topicTable(&x.Topics)
	w.close('}')
	return w.b
}
