package remoting

import "cmp"

// Bits of [PullMessage.SysFlag].
const (
	// PullCommit: CommitOffset is valid.
	PullCommit int32 = 1
	// PullSuspend: the broker may hold the request.
	PullSuspend int32 = 2
	// PullSubscription: the expression in the request counts, whether or not
	// the group is registered.
	PullSubscription int32 = 4
	// PullClassFilter is obsolete.
	PullClassFilter int32 = 8
	// PullLite marks the lite pull consumer.
	PullLite int32 = 16
)

// Kinds of filter expressions.
const (
	// ExpressionTag is the default.
	ExpressionTag = "TAG"
	// ExpressionSQL92 selects by properties.
	ExpressionSQL92 = "SQL92"
)

// PullMessage are the fields of [ReqPullMessage] and [ReqLitePullMessage].
type PullMessage struct {
	Group       string
	Topic       string
	QueueID     int32
	QueueOffset int64
	MaxMessages int32
	SysFlag     int32
	// CommitOffset counts with [PullCommit].
	CommitOffset int64
	// SuspendMillis is how long the broker may hold the request.
	SuspendMillis int64
	Subscription  string
	// SubVersion is the subscription that the client has; 0 from Apache's Go
	// client.
	SubVersion int64
	// ExpressionType defaults to [ExpressionTag].
	ExpressionType string
	// MaxBytes is a soft limit, 0 for none.
	MaxBytes   int32
	BrokerName string
}

// DecodePullMessage reads the fields of a pull. The error is a [*FieldError].
func DecodePullMessage(f Fields) (PullMessage, error) {
	d := ReadFields("pull message", f)
	x := PullMessage{
		Group: d.Text("consumerGroup"), Topic: d.Text("topic"), QueueID: d.Int32("queueId"), QueueOffset: d.Int64("queueOffset"),
		MaxMessages: d.Int32("maxMsgNums"), SysFlag: d.Int32("sysFlag"), CommitOffset: d.Int64("commitOffset"),
		SuspendMillis: d.Int64("suspendTimeoutMillis"), Subscription: d.OptText("subscription"), SubVersion: d.Int64("subVersion"),
		ExpressionType: d.OptText("expressionType"), MaxBytes: d.OptInt32("maxMsgBytes", 0), BrokerName: d.OptText("bname"),
	}
	if x.ExpressionType == "" {
		x.ExpressionType = ExpressionTag
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x PullMessage) AppendTo(f *Fields) {
	f.Add("consumerGroup", x.Group)
	f.Add("topic", x.Topic)
	f.AddInt("queueId", int64(x.QueueID))
	f.AddInt("queueOffset", x.QueueOffset)
	f.AddInt("maxMsgNums", int64(x.MaxMessages))
	f.AddInt("sysFlag", int64(x.SysFlag))
	f.AddInt("commitOffset", x.CommitOffset)
	f.AddInt("suspendTimeoutMillis", x.SuspendMillis)
	f.addText("subscription", x.Subscription)
	f.AddInt("subVersion", x.SubVersion)
	f.Add("expressionType", cmp.Or(x.ExpressionType, ExpressionTag))
	if x.MaxBytes > 0 {
		f.AddInt("maxMsgBytes", int64(x.MaxBytes))
	}
	f.addText("bname", x.BrokerName)
}

// PullResult are the fields of the response to a pull. Java clients fail if
// one of the first four is missing, whatever the code of the four good ones.
type PullResult struct {
	// SuggestBroker is the id of the broker to pull from next; 0, the master,
	// unless there are replicas.
	SuggestBroker   int64
	NextBeginOffset int64
	MinOffset       int64
	MaxOffset       int64
	// ForbiddenType says with [ResNoPermission] who forbids: 1 broker, 2
	// group, 3 topic, 4 broadcasting, 5 subscription. 0 is left out.
	ForbiddenType int32
}

// DecodePullResult reads the response to a pull. The error is a [*FieldError].
func DecodePullResult(f Fields) (PullResult, error) {
	d := ReadFields("pull result", f)
	x := PullResult{
		SuggestBroker: d.Int64("suggestWhichBrokerId"), NextBeginOffset: d.Int64("nextBeginOffset"),
		MinOffset: d.Int64("minOffset"), MaxOffset: d.Int64("maxOffset"), ForbiddenType: d.OptInt32("forbiddenType", 0),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x PullResult) AppendTo(f *Fields) {
	f.AddInt("suggestWhichBrokerId", x.SuggestBroker)
	f.AddInt("nextBeginOffset", x.NextBeginOffset)
	f.AddInt("minOffset", x.MinOffset)
	f.AddInt("maxOffset", x.MaxOffset)
	if x.ForbiddenType != 0 {
		f.AddInt("forbiddenType", int64(x.ForbiddenType))
	}
}

// QueryMessage are the fields of [ReqQueryMessage].
type QueryMessage struct {
	Topic string
	// Key is one business key, or with UniqueKey a unique id.
	Key        string
	MaxNum     int32
	Begin, End int64 // milliseconds, both inclusive
	UniqueKey  bool
}

// DecodeQueryMessage reads the fields of [ReqQueryMessage]. The error is a
// [*FieldError].
func DecodeQueryMessage(f Fields) (QueryMessage, error) {
	d := ReadFields("query message", f)
	x := QueryMessage{
		Topic: d.Text("topic"), Key: d.Text("key"), MaxNum: d.Int32("maxNum"),
		Begin: d.Int64("beginTimestamp"), End: d.Int64("endTimestamp"), UniqueKey: d.OptBool(UniqueKeyQuery, false),
	}
	return x, d.Err()
}

// UniqueKeyQuery is the field that makes a query one for a unique id. It has a
// part of its own in signatures; see [Sign].
const UniqueKeyQuery = "_UNIQUE_KEY_QUERY"

// AppendTo appends the fields.
func (x QueryMessage) AppendTo(f *Fields) {
	f.Add("topic", x.Topic)
	f.Add("key", x.Key)
	f.AddInt("maxNum", int64(x.MaxNum))
	f.AddInt("beginTimestamp", x.Begin)
	f.AddInt("endTimestamp", x.End)
	if x.UniqueKey {
		f.AddBool(UniqueKeyQuery, true)
	}
}

// QueryResult are the fields of the response to [ReqQueryMessage].
type QueryResult struct {
	LastUpdate       int64 // milliseconds
	LastUpdateOffset int64 // physical
}

// DecodeQueryResult reads the response to [ReqQueryMessage]. The error is a
// [*FieldError].
func DecodeQueryResult(f Fields) (QueryResult, error) {
	d := ReadFields("query result", f)
	x := QueryResult{LastUpdate: d.Int64("indexLastUpdateTimestamp"), LastUpdateOffset: d.Int64("indexLastUpdatePhyoffset")}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x QueryResult) AppendTo(f *Fields) {
	f.AddInt("indexLastUpdateTimestamp", x.LastUpdate)
	f.AddInt("indexLastUpdatePhyoffset", x.LastUpdateOffset)
}

// ViewMessage are the fields of [ReqViewMessageByID].
type ViewMessage struct {
	Offset int64 // physical
	Topic  string
}

// DecodeViewMessage reads the fields of [ReqViewMessageByID]. The error is a
// [*FieldError].
func DecodeViewMessage(f Fields) (ViewMessage, error) {
	d := ReadFields("view message", f)
	x := ViewMessage{Offset: d.Int64("offset"), Topic: d.OptText("topic")}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x ViewMessage) AppendTo(f *Fields) {
	f.AddInt("offset", x.Offset)
	f.addText("topic", x.Topic)
}
