package remoting

// DataVersion counts the changes of a table.
type DataVersion struct {
	Counter      int64
	StateVersion int64
	Timestamp    int64 // milliseconds
}

func (s *scanner) dataVersion(x *DataVersion) {
	for name := range s.members() {
		switch name {
		case "counter":
			x.Counter = s.int64()
		case "stateVersion":
			x.StateVersion = s.int64()
		case "timestamp":
			x.Timestamp = s.int64()
		default:
			s.skip()
		}
	}
}

func (w *writer) dataVersion(x DataVersion) {
	w.open('{')
	w.int("counter", x.Counter)
	w.int("stateVersion", x.StateVersion)
	w.int("timestamp", x.Timestamp)
	w.close('}')
}

// DecodeDataVersion reads a data version.
func DecodeDataVersion(b []byte) (DataVersion, error) {
	return decodeBody("data version", b, (*scanner).dataVersion)
}

// AppendTo appends the body.
func (x DataVersion) AppendTo(b []byte) []byte {
	w := writer{b}
	w.dataVersion(x)
	return w.b
}

// TopicConfig is the configuration of a topic on a broker.
type TopicConfig struct {
	Name        string
	ReadQueues  int32
	WriteQueues int32
	Perm        int32  // [PermRead] and its neighbours
	FilterType  string // [FilterSingleTag], the default, or [FilterMultiTag]
	SysFlag     int32
	Order       bool
	Attributes  Fields
}

func (s *scanner) topic(x *TopicConfig) {
	x.FilterType = FilterSingleTag
	for name := range s.members() {
		switch name {
		case "attributes":
			x.Attributes = s.table()
		case "order":
			x.Order = s.flag()
		case "perm":
			x.Perm = s.int32()
		case "readQueueNums":
			x.ReadQueues = s.int32()
		case "topicFilterType":
			x.FilterType = s.enum(FilterSingleTag, FilterMultiTag)
		case "topicName":
			x.Name = s.text()
		case "topicSysFlag":
			x.SysFlag = s.int32()
		case "writeQueueNums":
			x.WriteQueues = s.int32()
		default:
			s.skip()
		}
	}
}

func writeTopic(w *writer, x *TopicConfig) {
	w.open('{')
	w.table("attributes", x.Attributes)
	w.bool("order", x.Order)
	w.int("perm", int64(x.Perm))
	w.int("readQueueNums", int64(x.ReadQueues))
	w.text("topicFilterType", x.FilterType)
	w.text("topicName", x.Name)
	w.int("topicSysFlag", int64(x.SysFlag))
	w.int("writeQueueNums", int64(x.WriteQueues))
	w.close('}')
}

// DecodeTopicConfig reads the response to [ReqGetTopicConfig].
func DecodeTopicConfig(b []byte) (TopicConfig, error) {
	return decodeBody("topic config", b, (*scanner).topic)
}

// AppendTo appends the body.
func (x TopicConfig) AppendTo(b []byte) []byte {
	w := writer{b}
	writeTopic(&w, &x)
	return w.b
}

// TopicConfigList is the body of [ReqCreateTopics].
type TopicConfigList struct{ Topics []TopicConfig }

// DecodeTopicConfigList reads the body of [ReqCreateTopics].
func DecodeTopicConfigList(b []byte) (TopicConfigList, error) {
	return decodeBody("topic config list", b, func(s *scanner, x *TopicConfigList) {
		for name := range s.members() {
			if name == "topicConfigList" {
				x.Topics = list(s, (*scanner).topic)
				continue
			}
			s.skip()
		}
	})
}

// AppendTo appends the body.
func (x TopicConfigList) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	array(&w, "topicConfigList", x.Topics, writeTopic)
	w.close('}')
	return w.b
}

// TopicConfigTable is the body of the response to [ReqGetAllTopicConfig].
type TopicConfigTable struct {
	Version DataVersion
	Topics  []TopicConfig
}

func (s *scanner) topicTable(x *TopicConfigTable) {
	for name := range s.members() {
		switch name {
		case "dataVersion":
			s.dataVersion(&x.Version)
		case "topicConfigTable":
			for key := range s.members() {
				var t TopicConfig
				s.topic(&t)
				if t.Name == "" {
					t.Name = key
				}
				appendTo(s, &x.Topics, t)
			}
		default:
			s.skip()
		}
	}
}

func (w *writer) topicTable(x *TopicConfigTable) {
	w.open('{')
	w.name("dataVersion")
	w.dataVersion(x.Version)
	// The three members about static topics say that there are none.
	w.name("mappingDataVersion")
	w.dataVersion(x.Version)
	w.name("topicConfigTable")
	w.open('{')
	for i := range x.Topics {
		w.name(x.Topics[i].Name)
		writeTopic(w, &x.Topics[i])
	}
	w.close('}')
	w.table("topicQueueMappingDetailMap", nil)
	w.table("topicQueueMappingInfoMap", nil)
	w.close('}')
}

// DecodeTopicConfigTable reads the response to [ReqGetAllTopicConfig].
func DecodeTopicConfigTable(b []byte) (TopicConfigTable, error) {
	return decodeBody("topic config table", b, (*scanner).topicTable)
}

// AppendTo appends the body.
func (x TopicConfigTable) AppendTo(b []byte) []byte {
	w := writer{b}
	w.topicTable(&x)
	return w.b
}

// TopicStats is the body of the response to [ReqGetTopicStats].
type TopicStats struct {
	Queues []QueueStats
	PutTps float64 // messages a second
}

// QueueStats is the extent of a queue.
type QueueStats struct {
	MessageQueue
	LastUpdate int64 // milliseconds
	Min, Max   int64
}

// DecodeTopicStats reads the response to [ReqGetTopicStats].
func DecodeTopicStats(b []byte) (TopicStats, error) {
	return decodeBody("topic stats", b, func(s *scanner, x *TopicStats) {
		for name := range s.members() {
			switch name {
			case "offsetTable":
				for key := range s.members() {
					q := QueueStats{MessageQueue: s.queueName(key)}
					s.queueStats(&q)
					appendTo(s, &x.Queues, q)
				}
			case "topicPutTps":
				x.PutTps = s.float()
			default:
				s.skip()
			}
		}
	})
}

func (s *scanner) queueStats(x *QueueStats) {
	for name := range s.members() {
		switch name {
		case "lastUpdateTimestamp":
			x.LastUpdate = s.int64()
		case "maxOffset":
			x.Max = s.int64()
		case "minOffset":
			x.Min = s.int64()
		default:
			s.skip()
		}
	}
}

// AppendTo appends the body.
func (x TopicStats) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.name("offsetTable")
	w.open('{')
	for _, q := range x.Queues {
		w.queueName(q.MessageQueue)
		w.open('{')
		w.int("lastUpdateTimestamp", q.LastUpdate)
		w.int("maxOffset", q.Max)
		w.int("minOffset", q.Min)
		w.close('}')
	}
	w.close('}')
	w.float("topicPutTps", x.PutTps)
	w.close('}')
	return w.b
}

// TopicList is the body of the responses that name topics.
type TopicList struct {
	// BrokerAddr is where a client is to ask for more; left out when empty.
	BrokerAddr string
	Topics     []string
}

// DecodeTopicList reads a list of topics.
func DecodeTopicList(b []byte) (TopicList, error) {
	return decodeBody("topic list", b, func(s *scanner, x *TopicList) {
		for name := range s.members() {
			switch name {
			case "brokerAddr":
				x.BrokerAddr = s.text()
			case "topicList":
				x.Topics = s.texts()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x TopicList) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.optText("brokerAddr", x.BrokerAddr)
	w.texts("topicList", x.Topics)
	w.close('}')
	return w.b
}
