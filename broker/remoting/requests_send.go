package remoting

import (
	"math"
	"strconv"
)

// SendMessage are the fields of [ReqSendMessage], [ReqSendMessageV2],
// [ReqSendBatch] and of the two replies.
type SendMessage struct {
	ProducerGroup string
	Topic         string
	// DefaultTopic is the template of a topic that does not exist.
	DefaultTopic       string
	DefaultTopicQueues int32
	// QueueID is negative if the broker is to choose.
	QueueID       int32
	SysFlag       int32
	BornTimestamp int64 // milliseconds
	// Flag is the application's.
	Flag       int32
	Properties string
	// ReconsumeTimes is not 0 only on sends to a retry topic.
	ReconsumeTimes int32
	UnitMode       bool
	// MaxReconsumeTimes counts on sends to a retry topic only. -1 stands for
	// no such field.
	MaxReconsumeTimes int32
	Batch             bool
	// BrokerName is whom the client believes to talk to, "" if it does not say.
	BrokerName string
}

// The long names in the order of the short ones, which are a, b, c and so on.
var sendNames = [...]string{
	"producerGroup", "topic", "defaultTopic", "defaultTopicQueueNums", "queueId", "sysFlag", "bornTimestamp", "flag",
	"properties", "reconsumeTimes", "unitMode", "maxReconsumeTimes", "batch", "bname",
}

const (
	sendLetters  = "abcdefghijklmn"
	sendRequired = 1<<8 - 1 // a to h
)

func shortSend(code int) bool {
	return code == ReqSendMessageV2 || code == ReqSendBatch || code == ReqSendReplyV2
}

// DecodeSend reads the fields of a send, whose names are short with
// [ReqSendMessageV2], [ReqSendBatch] and [ReqSendReplyV2] and long with every
// other code. The error is a [*FieldError].
func DecodeSend(code int, f Fields) (SendMessage, error) {
	d := ReadFields("send message", f)
	x := decodeSend(&d, shortSend(code))
	return x, d.Err()
}

func decodeSend(d *FieldReader, short bool) SendMessage {
	x := SendMessage{MaxReconsumeTimes: -1}
	f := d.fields
	seen := 0
	for i := range f { // one pass and no lookups: this is the hottest command
		k := sendIndex(f[i].Name, short)
		if k < 0 {
			continue
		}
		if x.set(d, k, f[i]) {
			seen |= 1 << k
		} else {
			seen &^= 1 << k
		}
	}
	for k := 0; seen&sendRequired != sendRequired && k < 8; k++ {
		if seen&(1<<k) == 0 {
			d.missing(sendName(k, short))
		}
	}
	return x
}

func sendName(k int, short bool) string {
	if short {
		return sendLetters[k : k+1]
	}
	return sendNames[k]
}

func sendIndex(name string, short bool) int {
	if short {
		if len(name) == 1 && name[0] >= 'a' && name[0] <= 'n' {
			return int(name[0] - 'a')
		}
		return -1
	}
	for k := range sendNames {
		if sendNames[k] == name {
			return k
		}
	}
	return -1
}

// set gives field k its value; an empty number or truth value is as good as
// none and answers false.
func (x *SendMessage) set(d *FieldReader, k int, f Field) bool {
	switch k {
	case 0:
		x.ProducerGroup = f.Value
	case 1:
		x.Topic = f.Value
	case 2:
		x.DefaultTopic = f.Value
	case 8:
		x.Properties = f.Value
	case 13:
		x.BrokerName = f.Value
	default:
		return f.Value != "" && x.setParsed(d, k, f)
	}
	return true
}

// setParsed is set for what is not a text; it answers true.
func (x *SendMessage) setParsed(d *FieldReader, k int, f Field) bool {
	if k == 10 || k == 12 {
		b, ok := parseBool(f.Value)
		if !ok {
			d.bad(f.Name, f.Value)
		}
		if k == 10 {
			x.UnitMode = b
		} else {
			x.Batch = b
		}
		return true
	}
	n, ok := parseInt(f.Value)
	if !ok || k != 6 && (n < math.MinInt32 || n > math.MaxInt32) {
		d.bad(f.Name, f.Value)
		return true
	}
	switch k {
	case 3:
		x.DefaultTopicQueues = int32(n)
	case 4:
		x.QueueID = int32(n)
	case 5:
		x.SysFlag = int32(n)
	case 6:
		x.BornTimestamp = n
	case 7:
		x.Flag = int32(n)
	case 9:
		x.ReconsumeTimes = int32(n)
	case 11:
		x.MaxReconsumeTimes = int32(n)
	}
	return true
}

// AppendTo appends the fields with the names that code has.
func (x SendMessage) AppendTo(code int, f *Fields) {
	short := shortSend(code)
	add := func(k int, v string) { f.Add(sendName(k, short), v) }
	num := func(k int, v int64) { add(k, strconv.FormatInt(v, 10)) }
	add(0, x.ProducerGroup)
	add(1, x.Topic)
	add(2, x.DefaultTopic)
	num(3, int64(x.DefaultTopicQueues))
	num(4, int64(x.QueueID))
	num(5, int64(x.SysFlag))
	num(6, x.BornTimestamp)
	num(7, int64(x.Flag))
	add(8, x.Properties)
	num(9, int64(x.ReconsumeTimes))
	add(10, strconv.FormatBool(x.UnitMode))
	if x.MaxReconsumeTimes >= 0 {
		num(11, int64(x.MaxReconsumeTimes))
	}
	add(12, strconv.FormatBool(x.Batch))
	if x.BrokerName != "" {
		add(13, x.BrokerName)
	}
}

// SendResult are the fields of the response to a send.
type SendResult struct {
	// MsgID is the offset id of the message; those of a batch are joined by
	// commas. It must never be a unique id: clients take the offset of a half
	// message out of it.
	MsgID   string
	QueueID int32
	// QueueOffset is that of the first message of a batch.
	QueueOffset int64
	// TransactionID, BatchUniqID, RecallHandle, Region and TraceOn are left
	// out when empty. Without Region and TraceOn a Java client does not fail,
	// but without any field it does.
	TransactionID string
	BatchUniqID   string
	RecallHandle  string
	Region        string
	TraceOn       string
}

// DecodeSendResult reads the response to a send. The error is a [*FieldError].
func DecodeSendResult(f Fields) (SendResult, error) {
	d := ReadFields("send result", f)
	x := SendResult{
		MsgID: d.Text("msgId"), QueueID: d.Int32("queueId"), QueueOffset: d.Int64("queueOffset"),
		TransactionID: d.OptText("transactionId"), BatchUniqID: d.OptText("batchUniqId"), RecallHandle: d.OptText("recallHandle"),
		Region: d.OptText("MSG_REGION"), TraceOn: d.OptText("TRACE_ON"),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x SendResult) AppendTo(f *Fields) {
	f.Add("msgId", x.MsgID)
	f.AddInt("queueId", int64(x.QueueID))
	f.AddInt("queueOffset", x.QueueOffset)
	f.addText("transactionId", x.TransactionID)
	f.addText("batchUniqId", x.BatchUniqID)
	f.addText("recallHandle", x.RecallHandle)
	f.addText("MSG_REGION", x.Region)
	f.addText("TRACE_ON", x.TraceOn)
}

// addText appends a field unless it would be empty.
func (f *Fields) addText(name, value string) {
	if value != "" {
		f.Add(name, value)
	}
}

// SendBack are the fields of [ReqSendBack].
type SendBack struct {
	// Offset is the physical one of the message.
	Offset int64
	Group  string
	// DelayLevel is a level above 0; 0 leaves it to the broker, below 0 the
	// message becomes a dead letter.
	DelayLevel    int32
	OriginMsgID   string
	OriginTopic   string
	UnitMode      bool
	MaxReconsumes int32 // -1 if the client does not say
	BrokerName    string
}

// DecodeSendBack reads the fields of [ReqSendBack]. The error is a [*FieldError].
func DecodeSendBack(f Fields) (SendBack, error) {
	d := ReadFields("send back", f)
	x := SendBack{
		Offset: d.Int64("offset"), Group: d.Text("group"), DelayLevel: d.Int32("delayLevel"),
		OriginMsgID: d.OptText("originMsgId"), OriginTopic: d.OptText("originTopic"), UnitMode: d.OptBool("unitMode", false),
		MaxReconsumes: d.OptInt32("maxReconsumeTimes", -1), BrokerName: d.OptText("bname"),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x SendBack) AppendTo(f *Fields) {
	f.AddInt("offset", x.Offset)
	f.Add("group", x.Group)
	f.AddInt("delayLevel", int64(x.DelayLevel))
	f.addText("originMsgId", x.OriginMsgID)
	f.addText("originTopic", x.OriginTopic)
	f.AddBool("unitMode", x.UnitMode)
	if x.MaxReconsumes >= 0 {
		f.AddInt("maxReconsumeTimes", int64(x.MaxReconsumes))
	}
	f.addText("bname", x.BrokerName)
}

// The values of [EndTransaction.Decision].
const (
	// DecisionUnknown decides nothing: the broker asks again.
	DecisionUnknown int32 = 0
	// DecisionCommit and DecisionRollback decide.
	DecisionCommit   int32 = 8
	DecisionRollback int32 = 12
)

// EndTransaction are the fields of [ReqEndTransaction].
type EndTransaction struct {
	ProducerGroup string
	// TranStateTableOffset is the queue offset of the half message,
	// CommitLogOffset its physical one.
	TranStateTableOffset int64
	CommitLogOffset      int64
	Decision             int32
	// FromCheck: it answers a check-back.
	FromCheck bool
	// MsgID is the unique id. A decision without it still counts.
	MsgID         string
	TransactionID string
	Topic         string
	BrokerName    string
}

// DecodeEndTransaction reads the fields of [ReqEndTransaction]. The error is a
// [*FieldError].
func DecodeEndTransaction(f Fields) (EndTransaction, error) {
	d := ReadFields("end transaction", f)
	x := EndTransaction{
		ProducerGroup: d.Text("producerGroup"), TranStateTableOffset: d.Int64("tranStateTableOffset"),
		CommitLogOffset: d.Int64("commitLogOffset"), Decision: d.Int32("commitOrRollback"),
		FromCheck: d.OptBool("fromTransactionCheck", false), MsgID: d.OptText("msgId"),
		TransactionID: d.OptText("transactionId"), Topic: d.OptText("topic"), BrokerName: d.OptText("bname"),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x EndTransaction) AppendTo(f *Fields) {
	f.Add("producerGroup", x.ProducerGroup)
	f.AddInt("tranStateTableOffset", x.TranStateTableOffset)
	f.AddInt("commitLogOffset", x.CommitLogOffset)
	f.AddInt("commitOrRollback", int64(x.Decision))
	f.AddBool("fromTransactionCheck", x.FromCheck)
	f.Add("msgId", x.MsgID)
	f.addText("transactionId", x.TransactionID)
	f.addText("topic", x.Topic)
	f.addText("bname", x.BrokerName)
}

// CheckTransaction are the fields of [ReqCheckTransactionState], which a
// broker sends.
type CheckTransaction struct {
	// TranStateTableOffset and CommitLogOffset are what the answer must carry.
	TranStateTableOffset int64
	CommitLogOffset      int64
	MsgID                string // the unique id
	TransactionID        string
	OffsetMsgID          string
	Topic                string
	BrokerName           string
}

// DecodeCheckTransaction reads the fields of [ReqCheckTransactionState]. The
// error is a [*FieldError].
func DecodeCheckTransaction(f Fields) (CheckTransaction, error) {
	d := ReadFields("check transaction", f)
	x := CheckTransaction{
		TranStateTableOffset: d.Int64("tranStateTableOffset"), CommitLogOffset: d.Int64("commitLogOffset"),
		MsgID: d.OptText("msgId"), TransactionID: d.OptText("transactionId"), OffsetMsgID: d.OptText("offsetMsgId"),
		Topic: d.OptText("topic"), BrokerName: d.OptText("bname"),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x CheckTransaction) AppendTo(f *Fields) {
	f.AddInt("tranStateTableOffset", x.TranStateTableOffset)
	f.AddInt("commitLogOffset", x.CommitLogOffset)
	f.addText("msgId", x.MsgID)
	f.addText("transactionId", x.TransactionID)
	f.addText("offsetMsgId", x.OffsetMsgID)
	f.addText("topic", x.Topic)
	f.addText("bname", x.BrokerName)
}

// PushReply are the fields of [ReqPushReply], which a broker sends.
type PushReply struct {
	// SendMessage is what the responder sent.
	SendMessage
	// BornHost and StoreHost are address:port.
	BornHost, StoreHost string
	StoreTimestamp      int64 // milliseconds
}

// DecodePushReply reads the fields of [ReqPushReply]. The error is a
// [*FieldError].
func DecodePushReply(f Fields) (PushReply, error) {
	d := ReadFields("push reply", f)
	x := PushReply{SendMessage: decodeSend(&d, false)}
	x.BornHost, x.StoreHost, x.StoreTimestamp = d.Text("bornHost"), d.Text("storeHost"), d.Int64("storeTimestamp")
	return x, d.Err()
}

// AppendTo appends the fields.
func (x PushReply) AppendTo(f *Fields) {
	x.SendMessage.AppendTo(ReqPushReply, f)
	f.Add("bornHost", x.BornHost)
	f.Add("storeHost", x.StoreHost)
	f.AddInt("storeTimestamp", x.StoreTimestamp)
}
