package server

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// errLater says that a handler has taken the request over and will call
// [conn.respond] itself, from any goroutine, exactly once.
var errLater = errors.New("the answer comes later")

// errSilent says that there is no answer at all, because RocketMQ gives none.
var errSilent = errors.New("there is no answer")

// handler serves one request code. Handlers live in one file for each code,
// with the code in its name.
type handler struct {
	code int
	// serve fills in resp, which is prepared: it has the opaque of the request
	// and is a success. nil sends resp, a *refusal sends its code and remark,
	// errLater sends nothing yet, any other error sends code 1 with its text.
	// req and its Body belong to the connection and are valid until serve
	// returns; the strings of its fields may be kept. A Body of resp is not
	// copied from 4 KiB on, so it must not change any more.
	serve func(s *Server, c *conn, req, resp *remoting.Command) error
	// apart: serve may wait for somebody else, such as a disk or another
	// client, so it runs in a goroutine of its own, with memory of its own.
	apart bool
	// relays: what it waits for is another client, which may take as long as
	// it likes. Such requests have places of their own, so that a client that
	// hangs keeps no heartbeat back.
	relays bool
	// right is what a request needs to be let through when there is an ACL.
	right right
}

// refusal is an answer that is no success, for a reason which is not a failure
// of this server.
type refusal struct {
	code   int
	remark string
	fields remoting.Fields
}

// refuse answers a request with code and a remark for people.
func refuse(code int, format string, args ...any) error {
	return &refusal{code: code, remark: fmt.Sprintf(format, args...)}
}

// Error is the remark, with the code.
func (r *refusal) Error() string { return fmt.Sprintf("%s (code %d)", r.remark, r.code) }

// smallCodes is above every code that is asked for often; they are found
// without hashing.
const smallCodes = 512

// lookup finds the handler of a code.
type lookup struct {
	small [smallCodes]*handler
	other map[int]*handler
}

func newLookup(table []handler) *lookup {
	l := &lookup{other: map[int]*handler{}}
	for i := range table {
		h := &table[i]
		if h.code >= 0 && h.code < smallCodes {
			l.small[h.code] = h
		} else {
			l.other[h.code] = h
		}
	}
	return l
}

// find answers nil for a code that is not served.
func (l *lookup) find(code int) *handler {
	if code >= 0 && code < smallCodes {
		return l.small[code]
	}
	return l.other[code]
}

// handlers is the table of everything that is served.
func handlers() []handler {
	return slices.Concat(dataHandlers(), []handler{
		{code: remoting.ReqHeartbeat, serve: heartBeat, right: heartBeatRight(), apart: true},
		{code: remoting.ReqUnregisterClient, serve: unregisterClient, apart: true, right: needs(onGroup("consumerGroup"))},
		{code: remoting.ReqGetConsumerListByGroup, serve: getConsumerList, right: needs(onGroup("consumerGroup"))},
		{code: remoting.ReqCheckClientConfig, serve: checkClientConfig, right: checkClientRight()},

		{code: remoting.ReqPutKVConfig, serve: putKVConfig, right: adminOnly()},
		{code: remoting.ReqGetKVConfig, serve: getKVConfig, right: anyAccount()},
		{code: remoting.ReqDeleteKVConfig, serve: deleteKVConfig, right: adminOnly()},
		{code: remoting.ReqGetRoute, serve: getRoute, right: needs(seesTopic("topic"))},
		{code: remoting.ReqGetClusterInfo, serve: getClusterInfo, right: anyAccount()},
		{code: remoting.ReqWipeWritePerm, serve: wipeWritePerm, right: adminOnly()},
		{code: remoting.ReqGetAllTopicList, serve: getAllTopicList, right: anyAccount()},
		{code: remoting.ReqDeleteTopicInNameServer, serve: deleteTopicInNameServer, right: adminOnly()},
		{code: remoting.ReqGetKVList, serve: getKVList, right: anyAccount()},
		{code: remoting.ReqGetTopicsByCluster, serve: getTopicsByCluster, right: anyAccount()},
		{code: remoting.ReqGetSystemTopicListFromNameServer, serve: getSystemTopics, right: anyAccount()},
		{code: remoting.ReqGetSystemTopicListFromBroker, serve: getBrokerSystemTopics, right: anyAccount()},
		{code: remoting.ReqGetUnitTopicList, serve: getUnitTopics, right: anyAccount()},
		{code: remoting.ReqGetHasUnitSubTopicList, serve: getUnitSubTopics, right: anyAccount()},
		{code: remoting.ReqGetHasUnitSubNoUnitTopicList, serve: getUnitSubUnunitTopics, right: anyAccount()},
		{code: remoting.ReqGetNameServerConfig, serve: getNamesrvConfig, right: anyAccount()},
		{code: remoting.ReqAddWritePerm, serve: addWritePerm, right: adminOnly()},
	}, adminHandlers(), refused())
}

// dataHandlers are those that every message passes.
func dataHandlers() []handler {
	sendLong := needs(onTopic("topic", pub))
	sendShort := needs(onTopic("b", pub))
	readTopic := needs(onTopic("topic", sub))
	position := needs(onTopic("topic", sub), onGroup("consumerGroup"))
	return []handler{
		{code: remoting.ReqSendMessage, serve: handleSend, right: sendLong},
		{code: remoting.ReqSendMessageV2, serve: handleSend, right: sendShort},
		{code: remoting.ReqSendBatch, serve: handleSend, right: sendShort},
		{code: remoting.ReqSendReply, serve: handleSendReply, right: sendLong, apart: true, relays: true},
		{code: remoting.ReqSendReplyV2, serve: handleSendReply, right: sendShort, apart: true, relays: true},
		{code: remoting.ReqSendBack, serve: handleSendBack, right: needs(onGroup("group"))},
		{code: remoting.ReqEndTransaction, serve: handleEndTransaction, right: sendLong},
		{code: remoting.ReqPullMessage, serve: handlePull, right: position},
		{code: remoting.ReqLitePullMessage, serve: handlePull, right: position},
		{code: remoting.ReqQueryMessage, serve: handleQueryMessage, right: readTopic, apart: true},
		{code: remoting.ReqViewMessageByID, serve: handleViewMessage, right: readTopic},
		{code: remoting.ReqQueryConsumerOffset, serve: handleQueryOffset, right: position},
		{code: remoting.ReqUpdateConsumerOffset, serve: handleUpdateOffset, right: position},
		{code: remoting.ReqSearchOffsetByTimestamp, serve: handleSearchOffset, right: anyAccount()},
		{code: remoting.ReqGetMaxOffset, serve: handleMaxOffset, right: anyAccount()},
		{code: remoting.ReqGetMinOffset, serve: handleMinOffset, right: anyAccount()},
		{code: remoting.ReqGetEarliestStoreTime, serve: handleEarliestStoreTime, right: anyAccount()},
		{code: remoting.ReqLockBatch, serve: handleLockBatch, right: lockRight()},
		{code: remoting.ReqUnlockBatch, serve: handleUnlockBatch, right: lockRight()},
	}
}
