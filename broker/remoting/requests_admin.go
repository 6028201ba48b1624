package remoting

import "cmp"

// Bits of [CreateTopic.Perm] and of the queues in a route.
const (
	// PermInherit allows topics to be created after this one.
	PermInherit int32 = 1
	// PermWrite allows sends.
	PermWrite int32 = 2
	// PermRead allows pulls.
	PermRead int32 = 4
)

// CreateTopic are the fields of [ReqCreateTopic].
type CreateTopic struct {
	Topic        string
	DefaultTopic string
	ReadQueues   int32
	WriteQueues  int32
	Perm         int32
	// FilterType is SINGLE_TAG, the default, or MULTI_TAG.
	FilterType string
	SysFlag    int32
	Order      bool
	// Attributes is a list +key=value,-key of changes, "" for none.
	Attributes string
}

// FilterSingleTag is the filter type of topics unless they say otherwise.
const FilterSingleTag = "SINGLE_TAG"

// FilterMultiTag is that of a topic whose messages may carry several tags.
const FilterMultiTag = "MULTI_TAG"

// DecodeCreateTopic reads the fields of [ReqCreateTopic]. The error is a
// [*FieldError].
func DecodeCreateTopic(f Fields) (CreateTopic, error) {
	d := ReadFields("create topic", f)
	x := CreateTopic{
		Topic: d.Text("topic"), DefaultTopic: d.OptText("defaultTopic"),
		ReadQueues: d.Int32("readQueueNums"), WriteQueues: d.Int32("writeQueueNums"), Perm: d.Int32("perm"),
		FilterType: d.OptText("topicFilterType"), SysFlag: d.OptInt32("topicSysFlag", 0), Order: d.OptBool("order", false),
		Attributes: d.OptText("attributes"),
	}
	if x.FilterType == "" {
		x.FilterType = FilterSingleTag
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x CreateTopic) AppendTo(f *Fields) {
	f.Add("topic", x.Topic)
	f.Add("defaultTopic", x.DefaultTopic)
	f.AddInt("readQueueNums", int64(x.ReadQueues))
	f.AddInt("writeQueueNums", int64(x.WriteQueues))
	f.AddInt("perm", int64(x.Perm))
	f.Add("topicFilterType", cmp.Or(x.FilterType, FilterSingleTag))
	f.AddInt("topicSysFlag", int64(x.SysFlag))
	f.AddBool("order", x.Order)
	f.addText("attributes", x.Attributes)
}

// UnregisterClient are the fields of [ReqUnregisterClient]; normally one of
// the groups is empty.
type UnregisterClient struct {
	ClientID      string
	ProducerGroup string
	ConsumerGroup string
}

// DecodeUnregisterClient reads the fields of [ReqUnregisterClient]. The error
// is a [*FieldError].
func DecodeUnregisterClient(f Fields) (UnregisterClient, error) {
	d := ReadFields("unregister client", f)
	x := UnregisterClient{ClientID: d.Text("clientID"), ProducerGroup: d.OptText("producerGroup"), ConsumerGroup: d.OptText("consumerGroup")}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x UnregisterClient) AppendTo(f *Fields) {
	f.Add("clientID", x.ClientID)
	f.addText("producerGroup", x.ProducerGroup)
	f.addText("consumerGroup", x.ConsumerGroup)
}

// ConsumeDirectly are the fields of [ReqConsumeMessageDirectly].
type ConsumeDirectly struct {
	Group    string
	ClientID string
	// MsgID is an offset id.
	MsgID      string
	Topic      string
	BrokerName string
}

// DecodeConsumeDirectly reads the fields of [ReqConsumeMessageDirectly]. The
// error is a [*FieldError].
func DecodeConsumeDirectly(f Fields) (ConsumeDirectly, error) {
	d := ReadFields("consume directly", f)
	x := ConsumeDirectly{
		Group: d.Text("consumerGroup"), ClientID: d.OptText("clientId"), MsgID: d.Text("msgId"),
		Topic: d.OptText("topic"), BrokerName: d.OptText("brokerName"),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x ConsumeDirectly) AppendTo(f *Fields) {
	f.Add("consumerGroup", x.Group)
	f.addText("clientId", x.ClientID)
	f.Add("msgId", x.MsgID)
	f.addText("topic", x.Topic)
	f.addText("brokerName", x.BrokerName)
}

// CloneOffset are the fields of [ReqCloneGroupOffset].
type CloneOffset struct {
	From, To string
	// Topic is one topic, or "" for all.
	Topic   string
	Offline bool
}

// DecodeCloneOffset reads the fields of [ReqCloneGroupOffset]. The error is a
// [*FieldError].
func DecodeCloneOffset(f Fields) (CloneOffset, error) {
	d := ReadFields("clone group offset", f)
	x := CloneOffset{From: d.Text("srcGroup"), To: d.Text("destGroup"), Topic: d.OptText("topic"), Offline: d.OptBool("offline", false)}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x CloneOffset) AppendTo(f *Fields) {
	f.Add("srcGroup", x.From)
	f.Add("destGroup", x.To)
	f.addText("topic", x.Topic)
	f.AddBool("offline", x.Offline)
}
