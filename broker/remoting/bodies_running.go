package remoting

// Properties of [RunningInfo] that admin tools look at.
const (
	PropConsumeType    = "PROP_CONSUME_TYPE"             // PropConsumeType: a word of [ConsumerData].
	PropOrderly        = "PROP_CONSUMEORDERLY"           // PropOrderly: true or false.
	PropStartTimestamp = "PROP_CONSUMER_START_TIMESTAMP" // PropStartTimestamp: milliseconds.
	PropClientVersion  = "PROP_CLIENT_VERSION"           // PropClientVersion: such as V5_3_3.
)

// RunningInfo is the body of the response to [ReqGetConsumerRunningInfo]. A
// broker that relays one need not read it.
type RunningInfo struct {
	Properties    Fields
	Subscriptions []SubscriptionData
	Queues        []QueueRunning
	Topics        []TopicStatus
	// Stack is a dump of threads, "" if none was asked for.
	Stack string
}

// QueueRunning is what a client has of a queue. Times are in milliseconds.
type QueueRunning struct {
	MessageQueue
	CommitOffset     int64
	CachedMin        int64
	CachedMax        int64
	CachedCount      int32
	CachedMiB        int32
	TransactionMin   int64
	TransactionMax   int64
	TransactionCount int32
	Locked           bool
	TryUnlockTimes   int64
	LastLock         int64
	Dropped          bool
	LastPull         int64
	LastConsume      int64
}

// TopicStatus are rates of a topic, a second, and times, in milliseconds.
type TopicStatus struct {
	Topic         string
	PullRT        float64
	PullTPS       float64
	ConsumeRT     float64
	ConsumeOKTPS  float64
	ConsumeErrTPS float64
	ConsumeFailed int64
}

// DecodeRunningInfo reads the response to [ReqGetConsumerRunningInfo].
func DecodeRunningInfo(b []byte) (RunningInfo, error) {
	return decodeBody("running info", b, func(s *scanner, x *RunningInfo) {
		for name := range s.members() {
			switch name {
			case "jstack":
				x.Stack = s.text()
			case "mqTable":
				for key := range s.members() {
					q := QueueRunning{MessageQueue: s.queueName(key)}
					s.queueRunning(&q)
					appendTo(s, &x.Queues, q)
				}
			case "properties":
				x.Properties = s.table()
			case "statusTable":
				for key := range s.members() {
					t := TopicStatus{Topic: key}
					s.topicStatus(&t)
					appendTo(s, &x.Topics, t)
				}
			case "subscriptionSet":
				x.Subscriptions = list(s, (*scanner).subscription)
			default:
				s.skip()
			}
		}
	})
}

func (s *scanner) queueRunning(x *QueueRunning) {
	for name := range s.members() {
		switch name {
		case "cachedMsgCount":
			x.CachedCount = s.int32()
		case "cachedMsgMaxOffset":
			x.CachedMax = s.int64()
		case "cachedMsgMinOffset":
			x.CachedMin = s.int64()
		case "cachedMsgSizeInMiB":
			x.CachedMiB = s.int32()
		case "commitOffset":
			x.CommitOffset = s.int64()
		case "droped": // spelt like this
			x.Dropped = s.flag()
		case "lastConsumeTimestamp":
			x.LastConsume = s.int64()
		case "lastLockTimestamp":
			x.LastLock = s.int64()
		case "lastPullTimestamp":
			x.LastPull = s.int64()
		case "locked":
			x.Locked = s.flag()
		case "transactionMsgCount":
			x.TransactionCount = s.int32()
		case "transactionMsgMaxOffset":
			x.TransactionMax = s.int64()
		case "transactionMsgMinOffset":
			x.TransactionMin = s.int64()
		case "tryUnlockTimes":
			x.TryUnlockTimes = s.int64()
		default:
			s.skip()
		}
	}
}

func (s *scanner) topicStatus(x *TopicStatus) {
	for name := range s.members() {
		switch name {
		case "consumeFailedMsgs":
			x.ConsumeFailed = s.int64()
		case "consumeFailedTPS":
			x.ConsumeErrTPS = s.float()
		case "consumeOKTPS":
			x.ConsumeOKTPS = s.float()
		case "consumeRT":
			x.ConsumeRT = s.float()
		case "pullRT":
			x.PullRT = s.float()
		case "pullTPS":
			x.PullTPS = s.float()
		default:
			s.skip()
		}
	}
}

// AppendTo appends the body.
func (x RunningInfo) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.optText("jstack", x.Stack)
	w.table("mqPopTable", nil)
	w.name("mqTable")
	w.open('{')
	for i := range x.Queues {
		w.queueName(x.Queues[i].MessageQueue)
		w.queueRunning(&x.Queues[i])
	}
	w.close('}')
	w.table("properties", x.Properties)
	w.name("statusTable")
	w.open('{')
	for i := range x.Topics {
		w.name(x.Topics[i].Topic)
		w.topicStatus(&x.Topics[i])
	}
	w.close('}')
	array(&w, "subscriptionSet", x.Subscriptions, writeSubscription)
	w.table("userConsumerInfo", nil)
	w.close('}')
	return w.b
}

func (w *writer) queueRunning(q *QueueRunning) {
	w.open('{')
	w.int("cachedMsgCount", int64(q.CachedCount))
	w.int("cachedMsgMaxOffset", q.CachedMax)
	w.int("cachedMsgMinOffset", q.CachedMin)
	w.int("cachedMsgSizeInMiB", int64(q.CachedMiB))
	w.int("commitOffset", q.CommitOffset)
	w.bool("droped", q.Dropped)
	w.int("lastConsumeTimestamp", q.LastConsume)
	w.int("lastLockTimestamp", q.LastLock)
	w.int("lastPullTimestamp", q.LastPull)
	w.bool("locked", q.Locked)
	w.int("transactionMsgCount", int64(q.TransactionCount))
	w.int("transactionMsgMaxOffset", q.TransactionMax)
	w.int("transactionMsgMinOffset", q.TransactionMin)
	w.int("tryUnlockTimes", q.TryUnlockTimes)
	w.close('}')
}

func (w *writer) topicStatus(t *TopicStatus) {
	w.open('{')
	w.int("consumeFailedMsgs", t.ConsumeFailed)
	w.float("consumeFailedTPS", t.ConsumeErrTPS)
	w.float("consumeOKTPS", t.ConsumeOKTPS)
	w.float("consumeRT", t.ConsumeRT)
	w.float("pullRT", t.PullRT)
	w.float("pullTPS", t.PullTPS)
	w.close('}')
}

// The words of [DirectResult].
const (
	DirectSuccess   = "CR_SUCCESS"         // DirectSuccess: consumed.
	DirectLater     = "CR_LATER"           // DirectLater: to be tried again.
	DirectRollback  = "CR_ROLLBACK"        // DirectRollback: an ordered one was rolled back.
	DirectCommit    = "CR_COMMIT"          // DirectCommit: an ordered one was committed.
	DirectException = "CR_THROW_EXCEPTION" // DirectException: the listener failed.
	DirectNull      = "CR_RETURN_NULL"     // DirectNull: the listener answered nothing.
)

// DirectResult is the body of the response to [ReqConsumeMessageDirectly].
type DirectResult struct {
	AutoCommit bool
	Order      bool
	Result     string // [DirectSuccess] and its neighbours
	Remark     string
	// SpentMillis is how long the listener took.
	SpentMillis int64
}

// DecodeDirectResult reads the response to [ReqConsumeMessageDirectly].
func DecodeDirectResult(b []byte) (DirectResult, error) {
	return decodeBody("direct result", b, func(s *scanner, x *DirectResult) {
		x.AutoCommit = true
		for name := range s.members() {
			switch name {
			case "autoCommit":
				x.AutoCommit = s.flag()
			case "consumeResult":
				x.Result = s.enum(DirectSuccess, DirectLater, DirectRollback, DirectCommit, DirectException, DirectNull)
			case "order":
				x.Order = s.flag()
			case "remark":
				x.Remark = s.text()
			case "spentTimeMills":
				x.SpentMillis = s.int64()
			default:
				s.skip()
			}
		}
	})
}

// AppendTo appends the body.
func (x DirectResult) AppendTo(b []byte) []byte {
	w := writer{b}
	w.open('{')
	w.bool("autoCommit", x.AutoCommit)
	w.text("consumeResult", x.Result)
	w.bool("order", x.Order)
	w.optText("remark", x.Remark)
	w.int("spentTimeMills", x.SpentMillis)
	w.close('}')
	return w.b
}
