package remoting

import "strconv"

// The words of [ConsumerData].
const (
	ConsumeActively  = "CONSUME_ACTIVELY"  // ConsumeActively: the application pulls.
	ConsumePassively = "CONSUME_PASSIVELY" // ConsumePassively: the client pulls and pushes.
	ConsumePop       = "CONSUME_POP"       // ConsumePop: POP.

	Broadcasting = "BROADCASTING" // Broadcasting: each member gets every message.
	Clustering   = "CLUSTERING"   // Clustering: the members share the messages.

	FromLastOffset  = "CONSUME_FROM_LAST_OFFSET"  // FromLastOffset: a new group begins at the end.
	FromFirstOffset = "CONSUME_FROM_FIRST_OFFSET" // FromFirstOffset: a new group begins at the beginning.
	FromTimestamp   = "CONSUME_FROM_TIMESTAMP"    // FromTimestamp: a new group begins at a time.
)

func (s *scanner) consumeType() string  { return s.enum(ConsumeActively, ConsumePassively, ConsumePop) }
func (s *scanner) messageModel() string { return s.enum(Broadcasting, Clustering) }

func (s *scanner) fromWhere() string {
	return s.enum(FromLastOffset, "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST", "CONSUME_FROM_MIN_OFFSET",
		"CONSUME_FROM_MAX_OFFSET", FromFirstOffset, FromTimestamp)
}

// Heartbeat is the body of [ReqHeartbeat].
type Heartbeat struct {
	ClientID string
	// Producers are the names of groups.
	Producers []string
	Consumers []ConsumerData
	// Fingerprint is 0 unless the second form of heartbeats is on.
	Fingerprint int32
	// WithoutSub: the subscriptions were left out, as those of the fingerprint.
	WithoutSub bool
}

// ConsumerData is one consumer group in a [Heartbeat].
type ConsumerData struct {
	Group            string
	ConsumeType      string // [ConsumeActively] and its neighbours
	MessageModel     string // [Clustering] or [Broadcasting]
	ConsumeFromWhere string // [FromLastOffset] and its neighbours
	Subscriptions    []SubscriptionData
	UnitMode         bool
}

// SubscriptionData is a subscription of one topic.
type SubscriptionData struct {
	Topic string
	// SubString is an expression: "*", tags with || between them, or SQL.
	SubString string
	// ExpressionType is [ExpressionTag], the default, or [ExpressionSQL92].
	ExpressionType string
	Tags           []string
	// Codes are the hashes of Tags as the client computed them, which Apache's
	// Go client does wrongly outside ASCII. What is no number is left out.
	Codes []int32
	// SubVersion is a time: milliseconds from Java clients, nanoseconds from
	// Apache's Go client.
	SubVersion      int64
	ClassFilterMode bool
}

// DecodeHeartbeat reads the body of [ReqHeartbeat].
func DecodeHeartbeat(b []byte) (Heartbeat, error) {
	return decodeBody("heartbeat", b, func(s *scanner, x *Heartbeat) {
		for name := range s.members() {
			switch name {
			case "clientID":
				x.ClientID = s.text()
			case "consumerDataSet":
				x.Consumers = list(s, (*scanner).consumer)
			case "heartbeatFingerprint":
				x.Fingerprint = s.int32()
			case "producerDataSet":
				x.Producers = list(s, (*scanner).producer)
			case "withoutSub":
				x.WithoutSub = s.flag()
			default:
				s.skip()
			}
		}
	})
}

func (s *scanner) producer(x *string) {
	for name := range s.members() {
		if name == "groupName" {
			*x = s.text()
			continue
		}
		s.skip()
	}
}

func (s *scanner) consumer(x *ConsumerData) {
	for name := range s.members() {
		switch name {
		case "consumeFromWhere":
			x.ConsumeFromWhere = s.fromWhere()
		case "consumeType":
			x.ConsumeType = s.consumeType()
		case "groupName":
			x.Group = s.text()
		case "messageModel":
			x.MessageModel = s.messageModel()
		case "subscriptionDataSet":
			x.Subscriptions = list(s, (*scanner).subscription)
		case "unitMode":
			x.UnitMode = s.flag()
		default:
			s.skip()
		}
	}
}

func (s *scanner) subscription(x *SubscriptionData) {
	x.ExpressionType = ExpressionTag
	for name := range s.members() {
		switch name {
		case "classFilterMode":
			x.ClassFilterMode = s.flag()
		case "codeSet":
			for range s.elements() {
				v := s.text()
				if n, ok := parseInt(v); ok {
					appendTo(s, &x.Codes, int32(n))
				}
			}
		case "expressionType":
			if v, ok := s.scalar(); ok {
				x.ExpressionType = v
			}
		case "subString":
			x.SubString = s.text()
		case "subVersion":
			x.SubVersion = s.int64()
		case "tagsSet":
			x.Tags = s.texts()
		case "topic":
			x.Topic = s.text()
		default:
			s.skip()
		}
	}
}

// AppendTo appends the body.
func (x Heartbeat) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.text("clientID", x.ClientID)
	array(&w, "consumerDataSet", x.Consumers, writeConsumer)
	w.int("heartbeatFingerprint", int64(x.Fingerprint))
	array(&w, "producerDataSet", x.Producers, func(w *writer, x *string) {
		w.open('{')
		w.text("groupName", *x)
		w.close('}')
	})
	w.bool("withoutSub", x.WithoutSub)
	w.close('}')
	return w.b
}

func writeConsumer(w *writer, x *ConsumerData) {
	w.open('{')
	w.text("consumeFromWhere", x.ConsumeFromWhere)
	w.text("consumeType", x.ConsumeType)
	w.text("groupName", x.Group)
	w.text("messageModel", x.MessageModel)
	array(w, "subscriptionDataSet", x.Subscriptions, writeSubscription)
	w.bool("unitMode", x.UnitMode)
	w.close('}')
}

func writeSubscription(w *writer, x *SubscriptionData) {
	w.open('{')
	w.bool("classFilterMode", x.ClassFilterMode)
	array(w, "codeSet", x.Codes, func(w *writer, n *int32) { w.b = strconv.AppendInt(w.b, int64(*n), 10) })
	w.text("expressionType", x.ExpressionType)
	w.text("subString", x.SubString)
	w.int("subVersion", x.SubVersion)
	w.texts("tagsSet", x.Tags)
	w.text("topic", x.Topic)
	w.close('}')
}

// LockBatch is the body of [ReqLockBatch] and [ReqUnlockBatch].
type LockBatch struct {
	ClientID       string
	Group          string
	Queues         []MessageQueue
	OnlyThisBroker bool
}

// DecodeLockBatch reads the body of [ReqLockBatch] and [ReqUnlockBatch].
func DecodeLockBatch(b []byte) (LockBatch, error) {
	return decodeBody("lock batch", b, func(s *scanner, x *LockBatch) {
		for name := range s.members() {
			switch name {
			case "clientId":
				x.ClientID = s.text()
			case "consumerGroup":
				x.Group = s.text()
			case "mqSet":
				x.Queues = list(s, (*scanner).queue)
			case "onlyThisBroker":
				x.OnlyThisBroker = s.flag()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x LockBatch) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.text("clientId", x.ClientID)
	w.text("consumerGroup", x.Group)
	array(&w, "mqSet", x.Queues, writeQueue)
	w.bool("onlyThisBroker", x.OnlyThisBroker)
	w.close('}')
	return w.b
}

// LockedQueues is the body of the response to [ReqLockBatch]: what the client
// holds now, each queue spelt as it was asked for.
type LockedQueues struct{ Queues []MessageQueue }

// DecodeLockedQueues reads the response to [ReqLockBatch].
func DecodeLockedQueues(b []byte) (LockedQueues, error) {
	return decodeBody("locked queues", b, func(s *scanner, x *LockedQueues) {
		for name := range s.members() {
			if name == "lockOKMQSet" {
				x.Queues = list(s, (*scanner).queue)
				continue
			}
			s.skip()
		}
	})
}

// AppendTo appends the body.
func (x LockedQueues) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	array(&w, "lockOKMQSet", x.Queues, writeQueue)
	w.close('}')
	return w.b
}

// decodeTexts reads a body whose one member that counts is a list of texts.
func decodeTexts(what, member string, b []byte) ([]string, error) {
	return decodeBody(what, b, func(s *scanner, x *[]string) {
		for name := range s.members() {
			if name == member {
				*x = s.texts()
				continue
			}
			s.skip()
		}
	})
}

func appendTexts(b []byte, member string, list []string) []byte {
	w := writer{b}
	w.open('{')
	w.texts(member, list)
	w.close('}')
	return w.b
}

// ConsumerList is the body of the response to [ReqGetConsumerListByGroup].
type ConsumerList struct{ ClientIDs []string }

// DecodeConsumerList reads the response to [ReqGetConsumerListByGroup].
func DecodeConsumerList(b []byte) (ConsumerList, error) {
	ids, err := decodeTexts("consumer list", "consumerIdList", b)
	return ConsumerList{ids}, err
}

// AppendTo appends the body.
func (x ConsumerList) AppendTo(b []byte) []byte { return appendTexts(b, "consumerIdList", x.ClientIDs) }

// CheckClient is the body of [ReqCheckClientConfig].
type CheckClient struct {
	ClientID     string
	Group        string
	Namespace    string
	Subscription SubscriptionData
}

// DecodeCheckClient reads the body of [ReqCheckClientConfig].
func DecodeCheckClient(b []byte) (CheckClient, error) {
	return decodeBody("check client", b, func(s *scanner, x *CheckClient) {
		for name := range s.members() {
			switch name {
			case "clientId":
				x.ClientID = s.text()
			case "group":
				x.Group = s.text()
			case "namespace":
				x.Namespace = s.text()
			case "subscriptionData":
				s.subscription(&x.Subscription)
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x CheckClient) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.text("clientId", x.ClientID)
	w.text("group", x.Group)
	w.optText("namespace", x.Namespace)
	w.name("subscriptionData")
	writeSubscription(&w, &x.Subscription)
	w.close('}')
	return w.b
}
