package main

import (
	"fmt"
	"hash/crc32"
	"maps"
	"net"

	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// shown is how much of a long body is told.
const shown = 64

func body(b []byte) string { return bodyUpTo(b, shown) }

func bodyUpTo(b []byte, shown int) string {
	if len(b) <= shown {
		return string(b)
	}
	return fmt.Sprintf("%s#%d#%08x", b[:shown], len(b), crc32.ChecksumIEEE(b))
}

// seen is what an application can see of a message.
func seen(m *primitive.MessageExt) fields {
	host, _, err := net.SplitHostPort(m.BornHost)
	if err != nil {
		host = m.BornHost
	}
	return fields{
		"topic": m.Topic, "tags": m.GetTags(), "keys": m.GetKeys(), "body": body(m.Body), "flag": m.Flag,
		"props": maps.Clone(m.GetProperties()), "queue": m.Queue.QueueId, "offset": m.QueueOffset,
		"reconsume": m.ReconsumeTimes, "sysFlag": m.SysFlag, "born": m.BornTimestamp, "bornHost": host,
		"store": m.StoreTimestamp, "storeHost": m.StoreHost, "msgId": m.MsgId, "offsetMsgId": m.OffsetMsgId,
		"prepared": m.PreparedTransactionOffset, "transactionId": m.TransactionId,
	}
}

var statuses = map[primitive.SendStatus]string{
	primitive.SendOK: "SEND_OK", primitive.SendFlushDiskTimeout: "FLUSH_DISK_TIMEOUT", primitive.SendFlushSlaveTimeout: "FLUSH_SLAVE_TIMEOUT",
	primitive.SendSlaveNotAvailable: "SLAVE_NOT_AVAILABLE", primitive.SendUnknownError: "UNKNOWN",
}

// sent is what an application can see of the result of a send.
func sent(r *primitive.SendResult) fields {
	return fields{
		"status": statuses[r.Status], "msgId": r.MsgID, "offsetMsgId": r.OffsetMsgID, "queue": r.MessageQueue.QueueId,
		"broker": r.MessageQueue.BrokerName, "topic": r.MessageQueue.Topic, "offset": r.QueueOffset,
		"transactionId": r.TransactionID, "region": r.RegionID, "traceOn": r.TraceOn,
	}
}
