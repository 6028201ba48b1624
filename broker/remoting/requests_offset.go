package remoting

import "strings"

// QueryOffset are the fields of [ReqQueryConsumerOffset].
type QueryOffset struct {
	Group   string
	Topic   string
	QueueID int32
	// ZeroIfNotFound is true unless the client says otherwise.
	ZeroIfNotFound bool
}

// DecodeQueryOffset reads the fields of [ReqQueryConsumerOffset]. The error is
// a [*FieldError].
func DecodeQueryOffset(f Fields) (QueryOffset, error) {
	d := ReadFields("query consumer offset", f)
	x := QueryOffset{
		Group: d.Text("consumerGroup"), Topic: d.Text("topic"), QueueID: d.Int32("queueId"),
		ZeroIfNotFound: d.OptBool("setZeroIfNotFound", true),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x QueryOffset) AppendTo(f *Fields) {
	f.Add("consumerGroup", x.Group)
	f.Add("topic", x.Topic)
	f.AddInt("queueId", int64(x.QueueID))
	if !x.ZeroIfNotFound {
		f.AddBool("setZeroIfNotFound", false)
	}
}

// UpdateOffset are the fields of [ReqUpdateConsumerOffset].
type UpdateOffset struct {
	Group        string
	Topic        string
	QueueID      int32
	CommitOffset int64
}

// DecodeUpdateOffset reads the fields of [ReqUpdateConsumerOffset]. The error
// is a [*FieldError].
func DecodeUpdateOffset(f Fields) (UpdateOffset, error) {
	d := ReadFields("update consumer offset", f)
	x := UpdateOffset{
		Group: d.Text("consumerGroup"), Topic: d.Text("topic"), QueueID: d.Int32("queueId"), CommitOffset: d.Int64("commitOffset"),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x UpdateOffset) AppendTo(f *Fields) {
	f.Add("consumerGroup", x.Group)
	f.Add("topic", x.Topic)
	f.AddInt("queueId", int64(x.QueueID))
	f.AddInt("commitOffset", x.CommitOffset)
}

// SearchOffset are the fields of [ReqSearchOffsetByTimestamp].
type SearchOffset struct {
	Topic     string
	QueueID   int32
	Timestamp int64 // milliseconds
	// Upper asks for the last offset of that time, not the first one.
	Upper bool
}

// DecodeSearchOffset reads the fields of [ReqSearchOffsetByTimestamp]. The
// error is a [*FieldError].
func DecodeSearchOffset(f Fields) (SearchOffset, error) {
	d := ReadFields("search offset", f)
	x := SearchOffset{
		Topic: d.Text("topic"), QueueID: d.Int32("queueId"), Timestamp: d.Int64("timestamp"),
		Upper: strings.EqualFold(d.OptText("boundaryType"), "upper"),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x SearchOffset) AppendTo(f *Fields) {
	f.Add("topic", x.Topic)
	f.AddInt("queueId", int64(x.QueueID))
	f.AddInt("timestamp", x.Timestamp)
	if x.Upper {
		f.Add("boundaryType", "UPPER")
	}
}

// QueueOffset are the fields of [ReqGetMaxOffset], [ReqGetMinOffset] and
// [ReqGetEarliestStoreTime].
type QueueOffset struct {
	Topic   string
	QueueID int32
	// Committed, of [ReqGetMaxOffset] only, is true unless the client says
	// otherwise.
	Committed bool
}

// DecodeQueueOffset reads a topic and a queue. The error is a [*FieldError].
func DecodeQueueOffset(f Fields) (QueueOffset, error) {
	d := ReadFields("queue offset", f)
	x := QueueOffset{Topic: d.Text("topic"), QueueID: d.Int32("queueId"), Committed: d.OptBool("committed", true)}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x QueueOffset) AppendTo(f *Fields) {
	f.Add("topic", x.Topic)
	f.AddInt("queueId", int64(x.QueueID))
	if !x.Committed {
		f.AddBool("committed", false)
	}
}

// ResetOffset are the fields of [ReqInvokeBrokerToResetOffset] and of
// [ReqResetConsumerClientOffset], which has the first four only.
type ResetOffset struct {
	Topic string
	Group string
	// Timestamp in milliseconds; -1 is the end of the queue.
	Timestamp int64
	// Force allows positions to move forward.
	Force bool
	// QueueID is one queue, or -1 for all.
	QueueID int32
	// Offset is where to, or -1 for what Timestamp says.
	Offset int64
}

// DecodeResetOffset reads the fields of a reset. The error is a [*FieldError].
func DecodeResetOffset(f Fields) (ResetOffset, error) {
	d := ReadFields("reset offset", f)
	x := ResetOffset{
		Topic: d.Text("topic"), Group: d.Text("group"), Timestamp: d.Int64("timestamp"), Force: d.OptBool("isForce", false),
		QueueID: d.OptInt32("queueId", -1), Offset: d.OptInt64("offset", -1),
	}
	return x, d.Err()
}

// AppendTo appends the fields.
func (x ResetOffset) AppendTo(f *Fields) {
	f.Add("topic", x.Topic)
	f.Add("group", x.Group)
	f.AddInt("timestamp", x.Timestamp)
	f.AddBool("isForce", x.Force)
	if x.QueueID >= 0 {
		f.AddInt("queueId", int64(x.QueueID))
	}
	if x.Offset >= 0 {
		f.AddInt("offset", x.Offset)
	}
}
