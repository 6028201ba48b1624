package message

import "strings"

// Names of the properties that RocketMQ's clients and brokers give a meaning.
const (
	// Keys holds the business keys, separated by blanks.
	Keys = "KEYS"
	// Tags holds the one tag.
	Tags = "TAGS"
	// UniqKey holds the unique id; see [UniqueIDs].
	UniqKey = "UNIQ_KEY"
	// Wait is "true" when the sender waits for the flush, the default.
	Wait = "WAIT"
	// Delay holds a delay level, 1 to 18.
	Delay = "DELAY"
	// TimerDeliverMs holds an absolute due time in milliseconds.
	TimerDeliverMs = "TIMER_DELIVER_MS"
	// TimerDelaySec holds a delay in seconds.
	TimerDelaySec = "TIMER_DELAY_SEC"
	// TimerDelayMs holds a delay in milliseconds.
	TimerDelayMs = "TIMER_DELAY_MS"
	// RealTopic and RealQueueID name the destination of a message that waits
	// elsewhere: delayed, or half.
	RealTopic   = "REAL_TOPIC"
	RealQueueID = "REAL_QID"
	// RetryTopic holds the topic a message was first sent to, on its copies in
	// retry topics and among the dead letters.
	RetryTopic = "RETRY_TOPIC"
	// OriginMessageID holds the offset id of the first stored copy.
	OriginMessageID = "ORIGIN_MESSAGE_ID"
	// ReconsumeTime and MaxReconsumeTimes travel with a message that a client
	// sends back by itself.
	ReconsumeTime     = "RECONSUME_TIME"
	MaxReconsumeTimes = "MAX_RECONSUME_TIMES"
	// DLQOriginTopic and DLQOriginMessageID say where a dead letter came from.
	DLQOriginTopic     = "DLQ_ORIGIN_TOPIC"
	DLQOriginMessageID = "DLQ_ORIGIN_MESSAGE_ID"
	// TranMsg is "true" on a half message.
	TranMsg = "TRAN_MSG"
	// ProducerGroup holds the group that answers check-backs.
	ProducerGroup = "PGROUP"
	// TransactionID equals the unique id of a transactional message.
	TransactionID = "__transactionId__"
	// TransactionCheckTimes counts the check-backs so far.
	TransactionCheckTimes = "TRANSACTION_CHECK_TIMES"
	// TranPreparedQueueOffset holds the first queue offset of a half message.
	TranPreparedQueueOffset = "TRAN_PREPARED_QUEUE_OFFSET"
	// CheckImmunitySeconds keeps check-backs away for a while.
	CheckImmunitySeconds = "CHECK_IMMUNITY_TIME_IN_SECONDS"
	// MinOffset and MaxOffset are added by clients to what they pulled.
	MinOffset = "MIN_OFFSET"
	MaxOffset = "MAX_OFFSET"
	// ConsumeStartTime is added by clients, in milliseconds.
	ConsumeStartTime = "CONSUME_START_TIME"
	// Cluster, MsgRegion and TraceOn are added by brokers.
	Cluster   = "CLUSTER"
	MsgRegion = "MSG_REGION"
	TraceOn   = "TRACE_ON"
	// InstanceID holds the namespace of old clients.
	InstanceID = "INSTANCE_ID"
	// CorrelationID, ReplyToClient, TTL, MsgType, ArriveTime and PushReplyTime
	// belong to request and reply.
	CorrelationID = "CORRELATION_ID"
	ReplyToClient = "REPLY_TO_CLIENT"
	TTL           = "TTL"
	MsgType       = "MSG_TYPE"
	ArriveTime    = "ARRIVE_TIME"
	PushReplyTime = "PUSH_REPLY_TIME"
	// ShardingKey holds the ordering key as Java clients write it,
	// ShardingKeyGo as the official Go client does.
	ShardingKey   = "__SHARDINGKEY"
	ShardingKeyGo = "SHARDING_KEY"
	// InnerNum and InnerBase describe a record that holds a whole batch.
	InnerNum  = "INNER_NUM"
	InnerBase = "INNER_BASE"
	// PopCK, PopCKOffset and FirstPopTime belong to POP consumption.
	PopCK        = "POP_CK"
	PopCKOffset  = "POP_CK_OFFSET"
	FirstPopTime = "1ST_POP_TIME"
	// BornHostName and BornTimestampName hold the client behind a proxy.
	BornHostName      = "__BORNHOST"
	BornTimestampName = "BORN_TIMESTAMP"
	// CRC32Name holds the checksum that newer brokers append.
	CRC32Name = "__CRC32#"
	// TransientPrefix begins the names of properties that are never stored.
	TransientPrefix = "__RMQ.TRANSIENT."
)

// Names of topics and groups with a meaning of their own.
const (
	// ToolsGroup is the consumer group that RocketMQ's brokers keep for tools: it
	// consumes nothing, and a pull in it moves nobody.
	ToolsGroup = "TOOLS_CONSUMER"
	// AutoCreateTopic is the template of topics that a send creates.
	AutoCreateTopic = "TBW102"
	// ScheduleTopic holds delayed messages, one queue for each level.
	ScheduleTopic = "SCHEDULE_TOPIC_XXXX"
	// HalfTopic and OpHalfTopic hold half messages and their ends.
	HalfTopic   = "RMQ_SYS_TRANS_HALF_TOPIC"
	OpHalfTopic = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
	// CheckMaxTimeTopic holds half messages that stayed undecided.
	CheckMaxTimeTopic = "TRANS_CHECK_MAX_TIME_TOPIC"
	// TimerTopic holds messages with a due time of their own.
	TimerTopic = "rmq_sys_wheel_timer"
	// TraceTopic holds message traces.
	TraceTopic = "RMQ_SYS_TRACE_TOPIC"
)

// Bits of the system flag.
const (
	// SysCompressed: the body is compressed; see [SysCompressionShift].
	SysCompressed int32 = 0x1
	// SysMultiTags: the message carries several tags.
	SysMultiTags int32 = 0x2
	// SysPrepared, SysCommit, SysRollback are the values under SysTransaction.
	SysPrepared    int32 = 0x4
	SysCommit      int32 = 0x8
	SysRollback    int32 = 0xC
	SysTransaction int32 = 0xC
	// SysBornHostV6 and SysStoreHostV6: the host has 16 bytes. The encoder
	// sets them from the addresses.
	SysBornHostV6  int32 = 0x10
	SysStoreHostV6 int32 = 0x20
	// SysNeedUnwrap and SysInnerBatch, both: the body is a batch.
	SysNeedUnwrap int32 = 0x40
	SysInnerBatch int32 = 0x80
	// SysCompressionShift and SysCompressionMask give the compression type:
	// 0 and 3 zlib, 1 LZ4, 2 zstd.
	SysCompressionShift = 8
	SysCompressionMask  = 0x7
	// SysLZ4, SysZSTD and SysZLIB are the types in their place, beside
	// [SysCompressed]. Old clients write zlib without its type.
	SysLZ4  int32 = 1 << SysCompressionShift
	SysZSTD int32 = 2 << SysCompressionShift
	SysZLIB int32 = 3 << SysCompressionShift
)

// replySuffix ends the names of topics of replies.
const replySuffix = "_REPLY_TOPIC"

// ReplyTopic is the topic that replies to requests in a cluster go to.
func ReplyTopic(cluster string) string { return cluster + replySuffix }

// IsReplyTopic reports whether a topic is that of the replies in some cluster.
func IsReplyTopic(topic string) bool { return strings.HasSuffix(topic, replySuffix) }
