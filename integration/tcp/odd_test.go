package tcp

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// prey is a topic, and a group, of the hostile peers; what they do to it is
// nobody's harm.
const prey = "prey"

// names are topics, groups, clusters, brokers and keys that nobody may be given.
var names = []string{
	"../../../sluice-escaped", "..", ".", "../", "/", "/tmp/sluice-escaped", "a/../../sluice-escaped", `..\..\sluice-escaped`,
	`C:\sluice-escaped`, "%RETRY%../../sluice-escaped", "%DLQ%../../../sluice-escaped", "%2e%2e%2fsluice-escaped", "sluice\x00escaped",
	"sluice\nescaped", "", " ", "$(touch sluice-escaped)", "`touch sluice-escaped`", "；rm", "\u202esluice", "\xff\xfe../x",
	strings.Repeat("../", 80) + "sluice-escaped", strings.Repeat("x", 300), strings.Repeat("n", 5000),
}

// fieldNames are the names of fields that hold names, of all commands.
var fieldNames = []string{
	"topic", "b", "a", "c", "defaultTopic", "consumerGroup", "producerGroup", "group", "groupName", "subscriptionGroup", "originTopic",
	"srcGroup", "destGroup", "cluster", "clusterName", "brokerName", "bname", "n", "namespace", "key", "value", "clientId", "clientID",
	"consumerId", "topicName", "lastTopic", "originMsgId", "msgId", "transactionId", "statsName", "statsKey", "configNamespace",
}

// fieldNumbers are the names of fields that hold numbers and truth values.
var fieldNumbers = []string{
	"queueId", "e", "d", "f", "g", "h", "j", "k", "l", "m", "queueOffset", "offset", "maxMsgNums", "sysFlag", "commitOffset", "subVersion",
	"suspendTimeoutMillis", "commitLogOffset", "tranStateTableOffset", "commitOrRollback", "delayLevel", "maxReconsumeTimes", "timestamp",
	"beginTimestamp", "endTimestamp", "maxNum", "readQueueNums", "writeQueueNums", "perm", "defaultTopicQueueNums", "bornTimestamp",
	"flag", "reconsumeTimes", "topicSysFlag", "order", "isForce", "index", "count", "maxMsgBytes", "cleanOffset", "queueIds",
}

var numbers = []string{
	"0", "1", "-1", "2", "100", "2147483647", "-2147483648", "9223372036854775807", "-9223372036854775808", "99999999999999999999",
	"1e9", "NaN", "0x10", "", "true", "false", "١", " 1", "1 ", "+1", "--1",
}

// codes are all that a peer may try: everything small, and what is known above.
func codes() []int {
	var all []int
	for code := -2; code <= 1000; code++ {
		all = append(all, code)
	}
	for code := 3001; code <= 3010; code++ {
		all = append(all, code)
	}
	for code := remoting.ReqPopMessage; code <= remoting.ReqPopRollback; code++ {
		all = append(all, code)
	}
	return append(all, remoting.ReqBatchAckMessage, 1<<15, 1<<16, 1<<30)
}

// odd is a request that a server has to answer, whatever it holds; nothing comes
// back of what is silent.
type odd struct {
	cmd    remoting.Command
	silent bool
}

// oddKinds are ways to make one.
var oddKinds = []func(r *rand.Rand) odd{
	func(r *rand.Rand) odd { return odd{cmd: remoting.Command{Code: int(int32(r.Uint32()))}} },
	func(r *rand.Rand) odd { return odd{cmd: remoting.Command{Code: pick(r, codes())}} },
	garbage, garbage, garbage, garbage,
	func(r *rand.Rand) odd { // one field again and again, up to the limit
		o := garbage(r)
		for o.cmd.Fields = o.cmd.Fields[:min(len(o.cmd.Fields), 8)]; len(o.cmd.Fields) < remoting.DefaultFields; {
			o.cmd.Fields = append(o.cmd.Fields, o.cmd.Fields[r.IntN(len(o.cmd.Fields))])
		}
		return o
	},
	func(r *rand.Rand) odd { // an answer that nobody waits for
		o := garbage(r)
		o.cmd.Flag, o.silent = remoting.FlagResponse, true
		return o
	},
	func(r *rand.Rand) odd { // nobody wants an answer
		o := garbage(r)
		o.cmd.Flag, o.silent = remoting.FlagOneWay, true
		return o
	},
	oddSend, oddSend, oddBatch, oddBatch, oddPull,
	func(r *rand.Rand) odd {
		o := odd{cmd: remoting.Command{Code: pick(r, []int{
			remoting.ReqHeartbeat, remoting.ReqLockBatch, remoting.ReqUnlockBatch, remoting.ReqCheckClientConfig, remoting.ReqCreateTopics,
			remoting.ReqCreateGroup, remoting.ReqCreateGroups, remoting.ReqQueryAssignment, remoting.ReqConsumeMessageDirectly,
			remoting.ReqGroupForbidden, remoting.ReqInvokeBrokerToResetOffset,
		}), Body: oddBody(r)}}
		return o
	},
	func(r *rand.Rand) odd {
		x := remoting.EndTransaction{
			ProducerGroup: pick(r, names), CommitLogOffset: int64(r.Uint64()), Decision: pick(r, []int32{8, 12, 7, -1}), TransactionID: pick(r, names),
		}
		return odd{cmd: *request(remoting.ReqEndTransaction, x)}
	},
	func(r *rand.Rand) odd {
		x := remoting.SendBack{Offset: int64(r.Uint64()) >> r.IntN(64), Group: pick(r, append(names, prey)), DelayLevel: int32(r.Uint32()), OriginTopic: pick(r, names)}
		return odd{cmd: *request(remoting.ReqSendBack, x)}
	},
	func(r *rand.Rand) odd {
		x := remoting.ViewMessage{Offset: int64(r.Uint64()) >> r.IntN(64), Topic: prey}
		return odd{cmd: *request(remoting.ReqViewMessageByID, x)}
	},
	func(r *rand.Rand) odd {
		x := remoting.QueryMessage{Topic: prey, Key: pick(r, names), MaxNum: int32(r.Uint32()), Begin: int64(r.Uint64()), End: int64(r.Uint64())}
		return odd{cmd: *request(remoting.ReqQueryMessage, x)}
	},
}

func pick[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

// garbage is a command of any code with any fields and any body.
func garbage(r *rand.Rand) odd {
	c := remoting.Command{
		Code: pick(r, codes()), Language: remoting.Language(r.IntN(256)), Version: int(int16(r.Uint32())), Remark: pick(r, names), Binary: r.IntN(4) == 0,
	}
	if r.IntN(2) == 0 { // most of the first hundreds are known
		c.Code = r.IntN(362)
	}
	for range 1 + r.IntN(20) {
		switch r.IntN(3) {
		case 0:
			c.Fields.Add(pick(r, fieldNames), pick(r, append(names, prey)))
		case 1:
			c.Fields.Add(pick(r, fieldNumbers), pick(r, numbers))
		default:
			c.Fields.Add(pick(r, fieldNames), prey)
		}
	}
	if r.IntN(2) == 0 {
		c.Body = oddBody(r)
	}
	answerable(&c)
	return odd{cmd: c}
}

// answerable takes out of a command what would be answered late, or by RocketMQ's
// rules not at all.
func answerable(c *remoting.Command) {
	switch c.Code {
	case remoting.ReqPullMessage, remoting.ReqLitePullMessage:
		c.Fields.Set("suspendTimeoutMillis", "0")
	case remoting.ReqEndTransaction:
		c.Fields.Set("commitOrRollback", "8")
	}
}

func oddSend(r *rand.Rand) odd {
	x := remoting.SendMessage{
		ProducerGroup: prey, Topic: prey, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: 1, QueueID: int32(r.IntN(4)) - 2,
		SysFlag: int32(r.Uint32()), BornTimestamp: int64(r.Uint64()), Flag: int32(r.Uint32()), ReconsumeTimes: int32(r.Uint32()), MaxReconsumeTimes: -1,
	}
	switch r.IntN(6) {
	case 0:
		x.Topic = pick(r, names)
	case 1:
		x.DefaultTopicQueues = int32(r.Uint32())
	case 2:
		x.Properties = strings.Repeat(pick(r, []string{"\x01", "\x02", "a\x01\x02", "\x01\x02", "DELAY\x01"}), 1+r.IntN(4000))
	case 3:
		x.Properties = joined([]string{pick(r, []string{
			message.Delay, message.TimerDelayMs, message.TimerDelaySec, message.TimerDeliverMs, message.TranMsg, message.UniqKey, message.RealTopic,
			message.RealQueueID, message.RetryTopic, message.ReplyToClient, message.CheckImmunitySeconds, message.InnerNum, message.Keys,
		}), pick(r, append(numbers, names...))})
	case 4:
		x.Properties = joined([]string{message.Keys, strings.Repeat("k ", r.IntN(16000))})
	}
	code := pick(r, []int{remoting.ReqSendMessage, remoting.ReqSendMessageV2, remoting.ReqSendReply, remoting.ReqSendReplyV2})
	c := remoting.Command{Code: code, Body: oddBody(r)}
	x.AppendTo(code, &c.Fields)
	return odd{cmd: c}
}

// oddBatch sends a batch whose lengths lie.
func oddBatch(r *rand.Rand) odd {
	x := remoting.SendMessage{
		ProducerGroup: prey, Topic: prey, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: 1, MaxReconsumeTimes: -1, Batch: true,
	}
	var body []byte
	for range 1 + r.IntN(5) {
		if grown, err := message.AppendBatch(body, message.BatchElement{Body: []byte("x"), Properties: "a\x01b\x02"}); err == nil {
			body = grown
		}
	}
	for range 1 + r.IntN(3) { // negative and huge lengths among them
		at := r.IntN(len(body) - 4)
		binary.BigEndian.PutUint32(body[at:], r.Uint32()>>r.IntN(32))
	}
	c := remoting.Command{Code: remoting.ReqSendBatch, Body: body[:len(body)-r.IntN(4)]}
	x.AppendTo(c.Code, &c.Fields)
	return odd{cmd: c}
}

func oddPull(r *rand.Rand) odd {
	deep := strings.Repeat("(", 1+r.IntN(2000))
	x := remoting.PullMessage{
		Group: pick(r, append(names, prey)), Topic: pick(r, append(names, prey, prey, prey)), QueueID: int32(r.IntN(3)) - 1,
		QueueOffset: int64(r.Uint64()) >> r.IntN(64), MaxMessages: int32(r.Uint32()), SysFlag: int32(r.IntN(32)), CommitOffset: int64(r.Uint64()),
		Subscription: pick(r, []string{"*", "", deep, deep + "a", "a = ", "a LIKE '%' ESCAPE", strings.Repeat("a||", 3000), "a BETWEEN 1 AND", "1=1", "'"}),
		SubVersion:   int64(r.Uint64()), ExpressionType: pick(r, []string{"TAG", "SQL92", "XPATH", ""}), MaxBytes: int32(r.Uint32()),
	}
	return odd{cmd: *request(pick(r, []int{remoting.ReqPullMessage, remoting.ReqLitePullMessage}), x)}
}

// oddBody is JSON that is none, records that are none, and worse.
func oddBody(r *rand.Rand) []byte {
	switch r.IntN(9) {
	case 0:
		return []byte(strings.Repeat(pick(r, []string{"[", "{\"a\":", "{1:", "\"", "{"}), 1+r.IntN(20000)))
	case 1:
		return []byte(`{"clientID":"` + prey + `","clientID":7,"consumerDataSet":[` + strings.Repeat(`{"groupName":"`+prey+`","groupName":["x"],"subscriptionDataSet":[{"topic":"../x"}]},`, r.IntN(300)) + `]}`)
	case 2:
		return []byte(`{"clientID":"` + prey + `","producerDataSet":[{"groupName":"` + escaped(pick(r, names)) + `"}],"consumerDataSet":[{"groupName":"` + escaped(pick(r, names)) + `","subscriptionDataSet":[{"topic":"` + escaped(pick(r, names)) + `","subString":"*"}]}]}`)
	case 3:
		return []byte(`{"mqSet":[{"topic":"` + escaped(pick(r, names)) + `","brokerName":"` + escaped(pick(r, names)) + `","queueId":-1}],"consumerGroup":"` + escaped(pick(r, names)) + `","clientId":"x"}`)
	case 4:
		return []byte(`{"offsetTable":{{"topic":"` + prey + `","queueId":1e400}:99999999999999999999,}}`)
	case 5:
		return []byte(`{"topicConfigList":[{"topicName":"` + escaped(pick(r, names)) + `","readQueueNums":-5,"writeQueueNums":2147483647,"perm":99}],"groupName":"` + escaped(pick(r, names)) + `","retryQueueNums":-1}`)
	case 6: // a record, with holes
		s := message.Stored{Topic: prey, Body: []byte("x"), Properties: "a\x01b\x02"}
		b, err := s.AppendTo(nil)
		if err != nil {
			return nil
		}
		for range 1 + r.IntN(4) {
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
		return b[:len(b)-r.IntN(8)]
	default:
		b := make([]byte, r.IntN(2000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
}

// escaped makes a name fit into JSON.
func escaped(name string) string {
	q := strconv.QuoteToASCII(name)
	return strings.NewReplacer(`\x`, `\u00`, `\U`, `\u`).Replace(q[1 : len(q)-1])
}

// traversals are all names in all fields of all commands.
func traversals() []odd {
	var all []odd
	for _, code := range codes() {
		for _, name := range names {
			c := remoting.Command{Code: code}
			for _, f := range fieldNames {
				c.Fields.Add(f, name)
			}
			for _, f := range fieldNumbers {
				c.Fields.Add(f, "1")
			}
			for _, f := range []string{"order", "isForce", "m", "k"} {
				c.Fields.Set(f, "false")
			}
			if len(name) > 1000 { // all of them would be a header that is too long
				c.Fields = slices.DeleteFunc(c.Fields, func(f remoting.Field) bool {
					return f.Value == name && f.Name != "topic" && f.Name != "consumerGroup" && f.Name != "b"
				})
			}
			answerable(&c)
			all = append(all, odd{cmd: c})
		}
	}
	return all
}
