package remoting

// ConnectionList is the body of the responses to [ReqGetConsumerConnections]
// and [ReqGetProducerConnections]; the latter has Connections only.
type ConnectionList struct {
	Connections []Connection
	// ConsumeType, MessageModel and ConsumeFromWhere are the words of
	// [ConsumerData]. Without a ConsumeType only Connections is written.
	ConsumeType      string
	MessageModel     string
	ConsumeFromWhere string
	Subscriptions    []SubscriptionData
}

// Connection is a client at a broker.
type Connection struct {
	ClientAddr string // host:port
	ClientID   string
	Language   Language
	Version    int
}

func (s *scanner) connection(x *Connection) {
	x.Language = LanguageOther
	for name := range s.members() {
		switch name {
		case "clientAddr":
			x.ClientAddr = s.text()
		case "clientId":
			x.ClientID = s.text()
		case "language":
			x.Language = ParseLanguage(s.text())
		case "version":
			x.Version = int(s.int32())
		default:
			s.skip()
		}
	}
}

// DecodeConnectionList reads connections.
func DecodeConnectionList(b []byte) (ConnectionList, error) {
	return decodeBody("connection list", b, func(s *scanner, x *ConnectionList) {
		for name := range s.members() {
			switch name {
			case "connectionSet":
				x.Connections = list(s, (*scanner).connection)
			case "consumeFromWhere":
				x.ConsumeFromWhere = s.fromWhere()
			case "consumeType":
				x.ConsumeType = s.consumeType()
			case "messageModel":
				x.MessageModel = s.messageModel()
			case "subscriptionTable":
				for key := range s.members() {
					d := SubscriptionData{Topic: key}
					s.subscription(&d)
					appendTo(s, &x.Subscriptions, d)
				}
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x ConnectionList) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	array(&w, "connectionSet", x.Connections, func(w *writer, c *Connection) {
		w.open('{')
		w.text("clientAddr", c.ClientAddr)
		w.text("clientId", c.ClientID)
		w.text("language", c.Language.String())
		w.int("version", int64(c.Version))
		w.close('}')
	})
	if x.ConsumeType != "" {
		w.text("consumeFromWhere", x.ConsumeFromWhere)
		w.text("consumeType", x.ConsumeType)
		w.text("messageModel", x.MessageModel)
		w.name("subscriptionTable")
		w.open('{')
		for i := range x.Subscriptions {
			w.name(x.Subscriptions[i].Topic)
			writeSubscription(&w, &x.Subscriptions[i])
		}
		w.close('}')
	}
	w.close('}')
	return w.b
}

// ProducerTable is the body of the response to [ReqGetAllProducerInfo].
type ProducerTable struct{ Groups []ProducerGroup }

// ProducerGroup are the producers of a group.
type ProducerGroup struct {
	Group     string
	Producers []Producer
}

// Producer is a producer at a broker.
type Producer struct {
	ClientID   string
	Language   Language
	LastUpdate int64 // milliseconds
	RemoteIP   string
	Version    int
}

func (s *scanner) producerInfo(x *Producer) {
	x.Language = LanguageOther
	for name := range s.members() {
		switch name {
		case "clientId":
			x.ClientID = s.text()
		case "language":
			x.Language = ParseLanguage(s.text())
		case "lastUpdateTimestamp":
			x.LastUpdate = s.int64()
		case "remoteIP":
			x.RemoteIP = s.text()
		case "version":
			x.Version = int(s.int32())
		default:
			s.skip()
		}
	}
}

// DecodeProducerTable reads the response to [ReqGetAllProducerInfo].
func DecodeProducerTable(b []byte) (ProducerTable, error) {
	return decodeBody("producer table", b, func(s *scanner, x *ProducerTable) {
		for name := range s.members() {
			if name != "data" {
				s.skip()
				continue
			}
			for group := range s.members() {
				g := ProducerGroup{group, list(s, (*scanner).producerInfo)}
				appendTo(s, &x.Groups, g)
			}
		}
	})
}

// AppendTo appends the body.
func (x ProducerTable) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.name("data")
	w.open('{')
	for _, g := range x.Groups {
		array(&w, g.Group, g.Producers, func(w *writer, p *Producer) {
			w.open('{')
			w.text("clientId", p.ClientID)
			w.text("language", p.Language.String())
			w.int("lastUpdateTimestamp", p.LastUpdate)
			w.text("remoteIP", p.RemoteIP)
			w.int("version", int64(p.Version))
			w.close('}')
		})
	}
	w.close('}')
	w.close('}')
	return w.b
}

// Modes of an assignment.
const (
	// ModePull: the client pulls.
	ModePull = "PULL"
	// ModePop: the client uses POP.
	ModePop = "POP"
)

// QueryAssignment is the body of [ReqQueryAssignment].
type QueryAssignment struct {
	ClientID     string
	Group        string
	MessageModel string
	// Strategy is AVG or AVG_BY_CIRCLE.
	Strategy string
	Topic    string
}

// DecodeQueryAssignment reads the body of [ReqQueryAssignment].
func DecodeQueryAssignment(b []byte) (QueryAssignment, error) {
	return decodeBody("query assignment", b, func(s *scanner, x *QueryAssignment) {
		for name := range s.members() {
			switch name {
			case "clientId":
				x.ClientID = s.text()
			case "consumerGroup":
				x.Group = s.text()
			case "messageModel":
				x.MessageModel = s.messageModel()
			case "strategyName":
				x.Strategy = s.text()
			case "topic":
				x.Topic = s.text()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x QueryAssignment) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.text("clientId", x.ClientID)
	w.text("consumerGroup", x.Group)
	w.text("messageModel", x.MessageModel)
	w.text("strategyName", x.Strategy)
	w.text("topic", x.Topic)
	w.close('}')
	return w.b
}

// Assignments is the body of the response to [ReqQueryAssignment].
type Assignments struct{ Queues []Assignment }

// Assignment is a queue and how it is read.
type Assignment struct {
	MessageQueue
	Mode string // [ModePull] or [ModePop]
}

// DecodeAssignments reads the response to [ReqQueryAssignment].
func DecodeAssignments(b []byte) (Assignments, error) {
	return decodeBody("assignments", b, func(s *scanner, x *Assignments) {
		for name := range s.members() {
			if name == "messageQueueAssignments" {
				x.Queues = list(s, (*scanner).assignment)
				continue
			}
			s.skip()
		}
	})
}

func (s *scanner) assignment(x *Assignment) {
	for name := range s.members() {
		switch name {
		case "messageQueue":
			s.queue(&x.MessageQueue)
		case "mode":
			x.Mode = s.enum(ModePull, ModePop)
		default:
			s.skip()
		}
	}
}

// AppendTo appends the body.
func (x Assignments) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	array(&w, "messageQueueAssignments", x.Queues, func(w *writer, a *Assignment) {
		w.open('{')
		w.name("messageQueue")
		w.queue(a.MessageQueue)
		w.text("mode", a.Mode)
		w.close('}')
	})
	w.close('}')
	return w.b
}

// RequestMode is the body of [ReqSetMessageRequestMode].
type RequestMode struct {
	Group     string
	Topic     string
	Mode      string // [ModePull] or [ModePop]
	PopShares int32
}

// DecodeRequestMode reads the body of [ReqSetMessageRequestMode].
func DecodeRequestMode(b []byte) (RequestMode, error) {
	return decodeBody("request mode", b, func(s *scanner, x *RequestMode) {
		for name := range s.members() {
			switch name {
			case "consumerGroup":
				x.Group = s.text()
			case "mode":
				x.Mode = s.enum(ModePull, ModePop)
			case "popShareQueueNum":
				x.PopShares = s.int32()
			case "topic":
				x.Topic = s.text()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x RequestMode) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.text("consumerGroup", x.Group)
	w.text("mode", x.Mode)
	w.int("popShareQueueNum", int64(x.PopShares))
	w.text("topic", x.Topic)
	w.close('}')
	return w.b
}
