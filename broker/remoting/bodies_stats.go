package remoting

// ConsumeStats is the body of the response to [ReqGetConsumeStats].
type ConsumeStats struct {
	Tps    float64 // messages a second
	Queues []QueueProgress
}

// QueueProgress is how far a group is on a queue.
type QueueProgress struct {
	MessageQueue
	BrokerOffset   int64
	ConsumerOffset int64
	// PullOffset is how far the group has pulled.
	PullOffset int64
	// LastTimestamp is when the message before ConsumerOffset was stored, in
	// milliseconds; 0 if there is none.
	LastTimestamp int64
}

func (s *scanner) consumeStats(x *ConsumeStats) {
	for name := range s.members() {
		switch name {
		case "consumeTps":
			x.Tps = s.float()
		case "offsetTable":
			for key := range s.members() {
				q := QueueProgress{MessageQueue: s.queueName(key)}
				s.queueProgress(&q)
				appendTo(s, &x.Queues, q)
			}
		default:
			s.skip()
		}
	}
}

func (s *scanner) queueProgress(x *QueueProgress) {
	for name := range s.members() {
		switch name {
		case "brokerOffset":
			x.BrokerOffset = s.int64()
		case "consumerOffset":
			x.ConsumerOffset = s.int64()
		case "lastTimestamp":
			x.LastTimestamp = s.int64()
		case "pullOffset":
			x.PullOffset = s.int64()
		default:
			s.skip()
		}
	}
}

func writeConsumeStats(w *writer, x *ConsumeStats) {
	w.open('{')
	w.float("consumeTps", x.Tps)
	w.name("offsetTable")
	w.open('{')
	for _, q := range x.Queues {
		w.queueName(q.MessageQueue)
		w.open('{')
		w.int("brokerOffset", q.BrokerOffset)
		w.int("consumerOffset", q.ConsumerOffset)
		w.int("lastTimestamp", q.LastTimestamp)
		w.int("pullOffset", q.PullOffset)
		w.close('}')
	}
	w.close('}')
	w.close('}')
}

// DecodeConsumeStats reads the response to [ReqGetConsumeStats].
func DecodeConsumeStats(b []byte) (ConsumeStats, error) {
	return decodeBody("consume stats", b, (*scanner).consumeStats)
}

// AppendTo appends the body.
func (x ConsumeStats) AppendTo(b []byte) []byte {
	w := writer{b}
	writeConsumeStats(&w, &x)
	return w.b
}

// ConsumeStatsList is the body of the response to [ReqGetBrokerConsumeStats].
type ConsumeStatsList struct {
	BrokerAddr        string
	Groups            []GroupStats
	TotalDiff         int64
	TotalInflightDiff int64
}

// GroupStats are the statistics of one group, one element for each topic.
type GroupStats struct {
	Group string
	Stats []ConsumeStats
}

// DecodeConsumeStatsList reads the response to [ReqGetBrokerConsumeStats].
func DecodeConsumeStatsList(b []byte) (ConsumeStatsList, error) {
	return decodeBody("consume stats list", b, func(s *scanner, x *ConsumeStatsList) {
		for name := range s.members() {
			switch name {
			case "brokerAddr":
				x.BrokerAddr = s.text()
			case "consumeStatsList":
				for range s.elements() {
					for group := range s.members() {
						g := GroupStats{group, list(s, (*scanner).consumeStats)}
						appendTo(s, &x.Groups, g)
					}
				}
			case "totalDiff":
				x.TotalDiff = s.int64()
			case "totalInflightDiff":
				x.TotalInflightDiff = s.int64()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x ConsumeStatsList) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.text("brokerAddr", x.BrokerAddr)
	array(&w, "consumeStatsList", x.Groups, func(w *writer, g *GroupStats) {
		w.open('{')
		array(w, g.Group, g.Stats, writeConsumeStats)
		w.close('}')
	})
	w.int("totalDiff", x.TotalDiff)
	w.int("totalInflightDiff", x.TotalInflightDiff)
	w.close('}')
	return w.b
}

// ConsumeTimeSpan is the body of the response to [ReqQueryConsumeTimeSpan].
type ConsumeTimeSpan struct{ Queues []QueueTimeSpan }

// QueueTimeSpan are times of a queue, all in milliseconds.
type QueueTimeSpan struct {
	MessageQueue
	Min, Max, Consumed int64
	Delay              int64
}

// DecodeConsumeTimeSpan reads the response to [ReqQueryConsumeTimeSpan].
func DecodeConsumeTimeSpan(b []byte) (ConsumeTimeSpan, error) {
	return decodeBody("consume time span", b, func(s *scanner, x *ConsumeTimeSpan) {
		for name := range s.members() {
			if name == "consumeTimeSpanSet" {
				x.Queues = list(s, (*scanner).timeSpan)
				continue
			}
			s.skip()
		}
	})
}

func (s *scanner) timeSpan(x *QueueTimeSpan) {
	for name := range s.members() {
		switch name {
		case "consumeTimeStamp":
			x.Consumed = s.int64()
		case "delayTime":
			x.Delay = s.int64()
		case "maxTimeStamp":
			x.Max = s.int64()
		case "messageQueue":
			s.queue(&x.MessageQueue)
		case "minTimeStamp":
			x.Min = s.int64()
		default:
			s.skip()
		}
	}
}

// AppendTo appends the body.
func (x ConsumeTimeSpan) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	array(&w, "consumeTimeSpanSet", x.Queues, func(w *writer, q *QueueTimeSpan) {
		w.open('{')
		w.int("consumeTimeStamp", q.Consumed)
		w.int("delayTime", q.Delay)
		w.int("maxTimeStamp", q.Max)
		w.name("messageQueue")
		w.queue(q.MessageQueue)
		w.int("minTimeStamp", q.Min)
		w.close('}')
	})
	w.close('}')
	return w.b
}

// BrokerStats is the body of the response to [ReqViewBrokerStats].
type BrokerStats struct{ Day, Hour, Minute BrokerStat }

// BrokerStat is a sum over a time.
type BrokerStat struct {
	Sum   int64
	Tps   float64 // a second
	Avgpt float64 // of one, as its unit is
}

func (s *scanner) brokerStat(x *BrokerStat) {
	for name := range s.members() {
		switch name {
		case "avgpt":
			x.Avgpt = s.float()
		case "sum":
			x.Sum = s.int64()
		case "tps":
			x.Tps = s.float()
		default:
			s.skip()
		}
	}
}

func (w *writer) brokerStat(name string, x BrokerStat) {
	w.name(name)
	w.open('{')
	w.float("avgpt", x.Avgpt)
	w.int("sum", x.Sum)
	w.float("tps", x.Tps)
	w.close('}')
}

// DecodeBrokerStats reads the response to [ReqViewBrokerStats].
func DecodeBrokerStats(b []byte) (BrokerStats, error) {
	return decodeBody("broker stats", b, func(s *scanner, x *BrokerStats) {
		for name := range s.members() {
			switch name {
			case "statsDay":
				s.brokerStat(&x.Day)
			case "statsHour":
				s.brokerStat(&x.Hour)
			case "statsMinute":
				s.brokerStat(&x.Minute)
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x BrokerStats) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.brokerStat("statsDay", x.Day)
	w.brokerStat("statsHour", x.Hour)
	w.brokerStat("statsMinute", x.Minute)
	w.close('}')
	return w.b
}

// KVTable is a table of texts: the body of the response to
// [ReqGetBrokerRuntimeInfo] and [ReqGetKVList].
type KVTable struct{ Table Fields }

// DecodeKVTable reads a table of texts.
func DecodeKVTable(b []byte) (KVTable, error) {
	return decodeBody("table", b, func(s *scanner, x *KVTable) {
		for name := range s.members() {
			if name == "table" {
				x.Table = s.table()
				continue
			}
			s.skip()
		}
	})
}

// AppendTo appends the body.
func (x KVTable) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.table("table", x.Table)
	w.close('}')
	return w.b
}
