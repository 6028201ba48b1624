package server

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Request and reply (C10 of the semantics): the requester is found by its
// client id, and the responder is answered when the requester has accepted.
func TestTranscript_RequestReply(t *testing.T) {
	t.Parallel()
	inBubble(t, []*dialect{&java5, &java4, &javaBinary, &goV2}, func(t *testing.T, d *dialect) {
		s := servePipes(t, Config{})
		s.makeTopic(t, "TopicTest", 1)
		asks, answers := s.talk(t, d, "10.0.0.9:50000"), s.talk(t, otherThan(d), "10.0.0.10:50000")
		const id = "10.0.0.9@4242#1"
		asks.exactly(routeBody(6, 1), nil, 105, "", "topic", "DefaultCluster_REPLY_TOPIC")
		asks.beat(`{"clientID":"` + id + `","consumerDataSet":[],"producerDataSet":[{"groupName":"PG"}]}`)
		answers.joins("10.0.0.10@7", "CG", "CLUSTERING", "TopicTest", "*")

		pull := answers.say(11, "", answers.pulling("CG", "TopicTest", 0, 0, 2)...)
		asks.sent("PG", "TopicTest", 0, "question", "CORRELATION_ID\x01c-1\x02REPLY_TO_CLIENT\x01"+id+"\x02TTL\x013000\x02UNIQ_KEY\x01U1\x02")
		m := answers.records(answers.answer(pull).body)[0]
		got := message.ParseProperties(m.Properties)
		if got["CLUSTER"] != "DefaultCluster" || got["REPLY_TO_CLIENT"] != id || got["CORRELATION_ID"] != "c-1" || got["TTL"] != "3000" {
			t.Fatalf("the request has the properties %q", m.Properties)
		}

		// The reply is with the requester before its sender has an answer.
		properties := "CORRELATION_ID\x01c-1\x02MSG_TYPE\x01reply\x02REPLY_TO_CLIENT\x01" + id + "\x02TTL\x013000\x02UNIQ_KEY\x01U2\x02"
		waiting := answers.replies("DefaultCluster_REPLY_TOPIC", properties)
		answers.silence("the requester has not accepted")
		push := asks.hear()
		if push.Code != 326 || push.Flag != 0 || string(push.body) != "answer" {
			t.Fatalf("got %+v, want the reply", push)
		}
		asks.pushed(push, properties)
		asks.reply(push, 0, "")
		x := answers.answer(waiting)
		answers.fields(x, "msgId", "+", "queueId", "0", "queueOffset", "0", "transactionId", "U2", "MSG_REGION", "DefaultRegion", "TRACE_ON", "true")
		if x.Code != 0 {
			t.Errorf("the responder is answered %d %q", x.Code, x.Remark)
		}
		x = answers.call(0, 33, "", "offset", fmt.Sprint(answers.place(x.Ext["msgId"])))
		if ms := answers.records(x.body); len(ms) != 1 || ms[0].Topic != "DefaultCluster_REPLY_TOPIC" || string(ms[0].Body) != "answer" {
			t.Errorf("stored %+v", ms)
		}
		answers.repliesThatFail(asks, properties)
	})
}

// replies sends a reply.
func (k *talker) replies(topic, properties string) int32 {
	k.t.Helper()
	_, ext := k.sending("CLIENT_INNER_PRODUCER", topic, 0, properties)
	if k.d.long {
		return k.say(324, "answer", ext...)
	}
	return k.say(325, "answer", ext...)
}

// pushed checks the fields of a reply that is pushed to who has asked.
func (k *talker) pushed(x heard, properties string) {
	k.t.Helper()
	now := fmt.Sprint(time.Now().UnixMilli())
	want := properties + "MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02PUSH_REPLY_TIME\x01" + now + "\x02"
	if x.Ext["maxReconsumeTimes"] == "0" {
		delete(x.Ext, "maxReconsumeTimes") // Go v2 sends it always
	}
	k.fields(x, "producerGroup", "CLIENT_INNER_PRODUCER", "topic", "DefaultCluster_REPLY_TOPIC", "defaultTopic", "TBW102", "defaultTopicQueueNums", "4",
		"queueId", "0", "sysFlag", "0", "bornTimestamp", "1700000000000", "flag", "0", "properties", want, "reconsumeTimes", "0", "unitMode", "false",
		"batch", "false", "bornHost", "10.0.0.10:50000", "storeHost", "127.0.0.1:9876", "storeTimestamp", now)
}

// repliesThatFail: whatever goes wrong, the responder hears of it.
func (k *talker) repliesThatFail(asks *talker, properties string) {
	k.t.Helper()
	failed := func(opaque int32, why string) {
		k.t.Helper()
		if x := k.answer(opaque); x.Code != 1 || x.Remark == "" {
			k.t.Errorf("%s: %s: the responder is answered %d %q", k.d.name, why, x.Code, x.Remark)
		}
	}
	opaque := k.replies("DefaultCluster_REPLY_TOPIC", properties)
	asks.reply(asks.hear(), 1, "")
	failed(opaque, "the requester refuses")
	opaque = k.replies("DefaultCluster_REPLY_TOPIC", properties)
	asks.hear()
	time.Sleep(9 * time.Second)
	k.silence("the requester has ten seconds")
	time.Sleep(2 * time.Second)
	failed(opaque, "the requester says nothing")
	opaque = k.replies("DefaultCluster_REPLY_TOPIC", properties)
	asks.hear()
	asks.leave()
	failed(opaque, "the requester is gone meanwhile")
	failed(k.replies("DefaultCluster_REPLY_TOPIC", properties), "the requester is gone")
	failed(k.replies("DefaultCluster_REPLY_TOPIC", "MSG_TYPE\x01reply\x02"), "nobody is named")
	synctest.Wait()
}
