package server

import (
	"context"
	"math"
	"net"
	"runtime"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// FuzzServe gives the server frames of every kind: whatever is a request gets
// its one answer, no handler panics, and no name becomes a topic that is none.
// The server is the same for all, so what one leaves behind meets the next.
func FuzzServe(f *testing.F) {
	for _, cmd := range fuzzSeeds() {
		for _, binary := range []bool{false, true} {
			cmd.Binary = binary
			frame, err := remoting.AppendFrame(nil, cmd)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(frame[4:])
		}
	}
	b, err := embedded.Open("", embedded.Config{Retention: embedded.Retention{Bytes: 16 << 20}})
	if err != nil {
		f.Fatal(err)
	}
	s, err := Open(b, Config{AutoCreate: true, Listener: func() (net.Listener, error) { return newPipes(), nil }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		ctx := context.Background()
		if err := s.Close(ctx); err != nil {
			f.Error(err)
		}
		if err := b.Close(ctx); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, frame []byte) {
		var req remoting.Command
		if remoting.Decode(frame, &req, remoting.Limits{}) != nil || req.IsResponse() {
			return
		}
		if req.Fields.Get("suspendTimeoutMillis") != "" {
			req.Fields.Set("suspendTimeoutMillis", "0") // a held pull is answered too late for here
		}
		answers := s.fuzzed(&req)
		want := 1
		if x, err := remoting.DecodeEndTransaction(req.Fields); req.IsOneWay() ||
			req.Code == remoting.ReqEndTransaction && err == nil && x.Decision == remoting.DecisionUnknown {
			want = 0
		}
		if len(answers) != want || want == 1 && answers[0].Opaque != req.Opaque {
			t.Fatalf("request %d %v got %v", req.Code, req.Fields, answers)
		}
		if n := s.Stats().Panics; n > 0 {
			t.Fatalf("request %d %v %q: a handler panicked, %v", req.Code, req.Fields, req.Body, answers)
		}
		for _, topic := range s.store.Topics() {
			if err := driver.ValidTopic(topic.Name); err != nil {
				t.Fatalf("request %d %v %q made a topic: %v", req.Code, req.Fields, req.Body, err)
			}
		}
	})
}

// fuzzed serves a request on a connection of its own and takes the answers.
func (s *Server) fuzzed(req *remoting.Command) (answers []remoting.Command) {
	near, far := net.Pipe()
	defer near.Close()
	c := newConn(s, far)
	var resp remoting.Command
	s.serve(c, req, &resp)
	for c.later.Load()+c.held.Load() > 0 {
		runtime.Gosched()
	}
	c.out.mu.Lock()
	var all []byte
	for _, chunk := range append(c.out.chunks, c.out.arena[c.out.start:]) {
		all = append(all, chunk...)
	}
	c.out.mu.Unlock()
	c.end(errShutdown)
	s.drop(c)
	for len(all) > 0 {
		size := 4 + int(all[0])<<24 + int(all[1])<<16 + int(all[2])<<8 + int(all[3])
		var cmd remoting.Command
		// What is answered is not bound by what may be asked.
		err := remoting.Decode(all[4:size], &cmd, remoting.Limits{Header: 1 << 23, Fields: 1 << 16, Name: 1 << 16})
		if err != nil || cmd.IsResponse() { // else it is a notice to a member
			answers = append(answers, cmd)
		}
		all = all[size:]
	}
	return answers
}

// fuzzSeeds are a request for each file of this package that reads something.
func fuzzSeeds() []*remoting.Command {
	type header interface{ AppendTo(*remoting.Fields) }
	with := func(code int, h header, body string) *remoting.Command {
		cmd := &remoting.Command{Code: code, Version: remoting.Version, Opaque: 7, Body: []byte(body)}
		h.AppendTo(&cmd.Fields)
		return cmd
	}
	send := func(code int, properties, body string) *remoting.Command {
		x := remoting.SendMessage{
			ProducerGroup: "g", Topic: "t", DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: 4, MaxReconsumeTimes: -1,
			Properties: properties, Batch: code == remoting.ReqSendBatch,
		}
		cmd := &remoting.Command{Code: code, Version: remoting.Version, Opaque: 7, Body: []byte(body)}
		x.AppendTo(code, &cmd.Fields)
		return cmd
	}
	plain := func(code int, body string, pairs ...string) *remoting.Command {
		cmd := request(code, pairs...)
		cmd.Opaque, cmd.Body = 7, []byte(body)
		return cmd
	}
	batch, err := message.AppendBatch(nil, message.BatchElement{Body: []byte("x"), Properties: "a\x01b\x02"})
	if err != nil {
		return nil
	}
	sub := `{"topic":"t","subString":"a > 1","expressionType":"SQL92","subVersion":1}`
	return []*remoting.Command{
		send(remoting.ReqSendMessage, "KEYS\x01k\x02", "x"),
		send(remoting.ReqSendMessageV2, "DELAY\x013\x02", "x"),
		send(remoting.ReqSendMessageV2, "TRAN_MSG\x01true\x02PGROUP\x01g\x02UNIQ_KEY\x01u\x02", "x"),
		send(remoting.ReqSendMessageV2, "TIMER_DELIVER_MS\x0199999\x02", "x"),
		send(remoting.ReqSendReplyV2, "REPLY_TO_CLIENT\x01c\x02CORRELATION_ID\x01i\x02", "x"),
		send(remoting.ReqSendBatch, "", string(batch)),
		with(remoting.ReqPullMessage, remoting.PullMessage{Group: "g", Topic: "t", MaxMessages: 32, SysFlag: 7, Subscription: "a||b"}, ""),
		with(remoting.ReqLitePullMessage, remoting.PullMessage{
			Group: "g", Topic: "t", MaxMessages: 1, SysFlag: 4, Subscription: "a BETWEEN 1 AND 2", ExpressionType: remoting.ExpressionSQL92,
		}, ""),
		with(remoting.ReqQueryMessage, remoting.QueryMessage{Topic: "t", Key: "k", MaxNum: 8, End: 1 << 62}, ""),
		with(remoting.ReqViewMessageByID, remoting.ViewMessage{Offset: 100}, ""),
		with(remoting.ReqViewMessageByID, remoting.ViewMessage{Offset: math.MaxInt64}, ""),
		with(remoting.ReqQueryConsumerOffset, remoting.QueryOffset{Group: "g", Topic: "t"}, ""),
		with(remoting.ReqUpdateConsumerOffset, remoting.UpdateOffset{Group: "g", Topic: "t", CommitOffset: 1}, ""),
		with(remoting.ReqCreateTopic, remoting.CreateTopic{Topic: "t", ReadQueues: 4, WriteQueues: 4, Perm: 6, Attributes: "+a=b"}, ""),
		with(remoting.ReqSearchOffsetByTimestamp, remoting.SearchOffset{Topic: "t", Timestamp: 1}, ""),
		with(remoting.ReqGetMaxOffset, remoting.QueueOffset{Topic: "t"}, ""),
		with(remoting.ReqSendBack, remoting.SendBack{Offset: 100, Group: "g", DelayLevel: 1, OriginTopic: "t"}, ""),
		with(remoting.ReqSendBack, remoting.SendBack{Offset: math.MaxInt64, Group: "g", DelayLevel: 1, OriginTopic: "t"}, ""),
		with(remoting.ReqEndTransaction, remoting.EndTransaction{ProducerGroup: "g", CommitLogOffset: 100, Decision: 8, MsgID: "u"}, ""),
		with(remoting.ReqInvokeBrokerToResetOffset, remoting.ResetOffset{Topic: "t", Group: "g", Timestamp: -1, Force: true, QueueID: -1, Offset: -1}, ""),
		with(remoting.ReqUnregisterClient, remoting.UnregisterClient{ClientID: "c", ProducerGroup: "g", ConsumerGroup: "g"}, ""),
		with(remoting.ReqCloneGroupOffset, remoting.CloneOffset{}, ""),
		plain(remoting.ReqHeartbeat, `{"clientID":"c","producerDataSet":[{"groupName":"g"}],"consumerDataSet":[{"groupName":"g","messageModel":"CLUSTERING","subscriptionDataSet":[`+sub+`]}]}`),
		plain(remoting.ReqCheckClientConfig, `{"clientId":"c","group":"g","subscriptionData":`+sub+`}`),
		plain(remoting.ReqLockBatch, `{"clientId":"c","consumerGroup":"g","mqSet":[{"topic":"t","brokerName":"broker-a","queueId":0}]}`),
		plain(remoting.ReqCreateTopics, `{"topicConfigList":[{"topicName":"t","readQueueNums":4,"writeQueueNums":4,"perm":6}]}`),
		plain(remoting.ReqCreateGroup, `{"groupName":"g","consumeEnable":true,"retryQueueNums":1,"retryMaxTimes":16}`),
		plain(remoting.ReqQueryAssignment, `{"topic":"t","consumerGroup":"g","clientId":"c","strategyName":"AVG","messageModel":"CLUSTERING"}`),
		plain(remoting.ReqGetRoute, "", "topic", "t", "acceptStandardJsonOnly", "true"),
		plain(remoting.ReqPutKVConfig, "", "namespace", "n", "key", "k", "value", "v"),
		plain(remoting.ReqGetKVList, "", "namespace", "n"),
		plain(remoting.ReqGetConsumerListByGroup, "", "consumerGroup", "g"),
		plain(remoting.ReqGetConsumerConnections, "", "consumerGroup", "g"),
		plain(remoting.ReqGetConsumeStats, "", "consumerGroup", "g", "topic", "t"),
		plain(remoting.ReqGetTopicStats, "", "topic", "t"),
		plain(remoting.ReqQueryConsumeQueue, "", "topic", "t", "queueId", "0", "index", "0", "count", "8", "consumerGroup", "g"),
		plain(remoting.ReqQueryCorrectionOffset, "", "topic", "t", "compareGroup", "g", "filterGroups", "g"),
		plain(remoting.ReqViewBrokerStats, "", "statsName", "TOPIC_PUT_NUMS", "statsKey", "t"),
		plain(remoting.ReqGroupForbidden, "", "group", "g", "topic", "t", "readable", "false"),
		plain(remoting.ReqGetConsumerRunningInfo, "", "consumerGroup", "g", "clientId", "c"),
		plain(remoting.ReqConsumeMessageDirectly, "", "consumerGroup", "g", "clientId", "c", "msgId", "7F00000100002A9F0000000000000000"),
		plain(remoting.ReqDeleteTopicInBroker, "", "topic", "t"),
		plain(remoting.ReqDeleteGroup, "", "groupName", "g", "cleanOffset", "true"),
		plain(remoting.ReqWipeWritePerm, "", "brokerName", "broker-a"),
	}
}
