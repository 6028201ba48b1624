package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

// An operator's tool and the Dashboard (§6.8), with a consumer to be looked at:
// topics, groups, lag, connections, offsets, messages. Bodies whose maps are
// keyed by objects are compared byte for byte.
func TestTranscript_Admin(t *testing.T) {
	t.Parallel()
	inBubble(t, []*dialect{&java5, &java4, &javaBinary}, func(t *testing.T, d *dialect) {
		s := servePipes(t, Config{})
		k, c := s.talk(t, d, "10.0.0.7:50000"), s.talk(t, &goV2, "10.0.0.9:50000")
		k.call(17, 105, "", "topic", "TBW102") // there is no template unless topics are made by messages
		k.beat(`{"clientID":"10.0.0.7@1700000000000","consumerDataSet":[],"producerDataSet":[{"groupName":"CLIENT_INNER_PRODUCER"}]}`)
		k.exactly(`{"brokerAddrTable":{"broker-a":{"brokerAddrs":{0:"127.0.0.1:9876"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}},`+
			`"clusterAddrTable":{"DefaultCluster":["broker-a"]}}`, nil, 106, "")

		k.exactly("", nil, 17, "", "topic", "TopicTest", "defaultTopic", "TBW102", "readQueueNums", "2", "writeQueueNums", "2", "perm", "6",
			"topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "order", "false")
		k.exactly(routeBody(6, 2), nil, 105, "", "topic", "TopicTest")
		k.exactly(`{"attributes":{},"order":false,"perm":6,"readQueueNums":2,"topicFilterType":"SINGLE_TAG","topicName":"TopicTest","topicSysFlag":0,"writeQueueNums":2}`,
			nil, 351, "", "topic", "TopicTest")
		for _, code := range []int{206, 224} {
			if x := k.call(0, code, "", "cluster", "DefaultCluster"); !strings.Contains(string(x.body), `"TopicTest"`) {
				t.Errorf("%d: %s", code, x.body)
			}
		}
		k.exactly(`{"brokerAddr":"127.0.0.1:9876","topicList":["DefaultCluster","broker-a"]}`, nil, 304, "")
		if x := k.call(0, 305, ""); !strings.Contains(string(x.body), `"SCHEDULE_TOPIC_XXXX"`) || strings.Contains(string(x.body), "TopicTest") {
			t.Errorf("system topics: %s", x.body)
		}
		for code, want := range map[int]string{28: `"brokerVersionDesc":"V5_3_3"`, 26: "brokerName=broker-a\n"} {
			if x := k.call(0, code, ""); !strings.Contains(string(x.body), want) {
				t.Errorf("%d: %s", code, x.body)
			}
		}
		k.groups(c)
		k.consumption(c)
		k.lookups(c)
		k.exactly("", nil, 215, "", "topic", "TopicTest")
		k.exactly("", nil, 216, "", "topic", "TopicTest")
		k.call(17, 105, "", "topic", "TopicTest")
		k.exactly("", nil, 35, "", "clientID", "10.0.0.7@1700000000000", "producerGroup", "CLIENT_INNER_PRODUCER")
	})
}

// groups makes a group, and sees a consumer come.
func (k *talker) groups(c *talker) {
	k.t.Helper()
	k.call(26, 352, "", "group", "CG")
	k.exactly("", nil, 200, `{"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"groupName":"CG",`+
		`"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":5,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}`)
	k.exactly(`{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,"consumeMessageOrderly":false,`+
		`"consumeTimeoutMinute":15,"groupName":"CG","groupRetryPolicy":{"type":"CUSTOMIZED"},"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,`+
		`"retryMaxTimes":5,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}`, nil, 352, "", "group", "CG")
	if x := k.call(206, 203, "", "consumerGroup", "CG"); len(x.body) != 0 {
		k.t.Errorf("connections of nobody: %s", x.body)
	}
	c.joins("10.0.0.9@7", "CG", "CLUSTERING", "TopicTest", "TagA", "%RETRY%CG", "*")
	// codeSet came as texts, and is computed anew.
	subscribed := func(topic, text, codes, tags string) string {
		return fmt.Sprintf(`%q:{"classFilterMode":false,"codeSet":[%s],"expressionType":"TAG","subString":%q,"subVersion":1700000000000000000,"tagsSet":[%s],"topic":%[1]q}`, topic, codes, text, tags)
	}
	k.exactly(`{"connectionSet":[{"clientAddr":"10.0.0.9:50000","clientId":"10.0.0.9@7","language":"GO","version":317}],"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET",`+
		`"consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","subscriptionTable":{`+subscribed("%RETRY%CG", "*", "", "")+`,`+
		subscribed("TopicTest", "TagA", "2598919", `"TagA"`)+`}}`, nil, 203, "", "consumerGroup", "CG")
	k.exactly(`{"groupList":["CG"]}`, nil, 300, "", "topic", "TopicTest")
	k.call(1, 307, "", "consumerGroup", "CG", "clientId", "nobody", "jstackEnable", "false")
	opaque := k.say(307, "", "consumerGroup", "CG", "clientId", "10.0.0.9@7", "jstackEnable", "false")
	x := c.hear()
	if x.Code != 307 || x.Flag != 0 || x.Ext["clientId"] != "10.0.0.9@7" {
		k.t.Fatalf("the client is asked %+v", x)
	}
	c.reply(x, 0, `{"properties":{}}`)
	if x := k.answer(opaque); x.Code != 0 || string(x.body) != `{"properties":{}}` {
		k.t.Errorf("running information %+v", x)
	}
}

// consumption looks at lag, and resets the group while it is online: its next
// pull hears of it, and its commits do not count until then.
func (k *talker) consumption(c *talker) {
	k.t.Helper()
	began := time.Now().UnixMilli()
	for range 3 {
		k.sent("PG", "TopicTest", 0, "m", "TAGS\x01TagA\x02KEYS\x01key\x02UNIQ_KEY\x01U\x02")
	}
	queue := func(topic string, n int) string {
		return fmt.Sprintf(`{"brokerName":"broker-a","queueId":%d,"topic":%q}`, n, topic)
	}
	c.answer(c.oneWay(15, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "0", "commitOffset", "2"))
	k.exactly(fmt.Sprintf(`{"offsetTable":{%s:{"lastUpdateTimestamp":%d,"maxOffset":3,"minOffset":0},%s:{"lastUpdateTimestamp":0,"maxOffset":0,"minOffset":0}},"topicPutTps":3.0}`,
		queue("TopicTest", 0), began, queue("TopicTest", 1)), nil, 202, "", "topic", "TopicTest")
	k.exactly(fmt.Sprintf(`{"consumeTps":0.0,"offsetTable":{%s:{"brokerOffset":3,"consumerOffset":2,"lastTimestamp":%d,"pullOffset":2},`+
		`%s:{"brokerOffset":0,"consumerOffset":0,"lastTimestamp":0,"pullOffset":0}}}`, queue("TopicTest", 0), began, queue("TopicTest", 1)),
		nil, 208, "", "consumerGroup", "CG", "topic", "TopicTest")

	held := c.say(11, "", c.pulling("CG", "TopicTest", 1, 0, 2)...)
	c.silence("queue 1 is empty")
	k.exactly(fmt.Sprintf(`{"offsetTable":{%s:0,%s:0}}`, queue("TopicTest", 0), queue("TopicTest", 1)), nil, 222, "",
		"topic", "TopicTest", "group", "CG", "timestamp", "0", "isForce", "true")
	c.position(c.answer(held), 21, "0", "0", "0")
	c.answer(c.oneWay(15, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "0", "commitOffset", "3"))
	c.exactly("", []string{"offset", "0"}, 14, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "0")
	c.position(c.call(21, 11, "", c.pulling("CG", "TopicTest", 0, 2, 2)...), 21, "0", "0", "3")
	c.exactly("", []string{"offset", "0"}, 14, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "0") // the commit meanwhile was none
	c.position(c.call(0, 11, "", c.pulling("CG", "TopicTest", 0, 0, 2)...), 0, "3", "0", "3")
	c.answer(c.oneWay(15, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "0", "commitOffset", "3"))
	c.exactly("", []string{"offset", "3"}, 14, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "0")
}

// lookups finds messages by key, by unique id and by position.
func (k *talker) lookups(c *talker) {
	k.t.Helper()
	x := k.call(0, 12, "", "topic", "TopicTest", "key", "key", "maxNum", "32", "beginTimestamp", "0", "endTimestamp", "9223372036854775807")
	k.fields(x, "indexLastUpdateTimestamp", "+", "indexLastUpdatePhyoffset", "+")
	ms := k.records(x.body)
	if len(ms) != 3 || ms[0].QueueOffset != 2 {
		k.t.Errorf("by key: %+v", ms)
	}
	x = k.call(0, 12, "", "topic", "TopicTest", "key", "U", "maxNum", "32", "beginTimestamp", "0", "endTimestamp", "9223372036854775807", "_UNIQUE_KEY_QUERY", "true")
	if ms := k.records(x.body); len(ms) != 3 {
		k.t.Errorf("by unique id: %d messages", len(ms))
	}
	x = k.call(22, 12, "", "topic", "TopicTest", "key", "none", "maxNum", "32", "beginTimestamp", "0", "endTimestamp", "9223372036854775807")
	k.fields(x, "indexLastUpdateTimestamp", "0", "indexLastUpdatePhyoffset", "0")
	at := fmt.Sprint(ms[0].PhysicalOffset)
	if one := k.records(k.call(0, 33, "", "offset", at).body); len(one) != 1 || one[0].PhysicalOffset != ms[0].PhysicalOffset {
		k.t.Errorf("by position: %+v", one)
	}
	if x := k.call(1, 33, "", "offset", "7"); x.Remark != "can not find message by the offset, 7" {
		k.t.Errorf("by a wrong position: %q", x.Remark)
	}
	// Once more, at one client (309): it sees the record, and whose it is.
	opaque := k.say(309, "", "consumerGroup", "CG", "clientId", "10.0.0.9@7", "msgId", fmt.Sprintf("7F00000100002694%016X", ms[0].PhysicalOffset), "topic", "TopicTest")
	ask := c.hear()
	if got := c.records(ask.body); ask.Code != 309 || ask.Ext["brokerName"] != "broker-a" || len(got) != 1 || message.Property(got[0].Properties, "UNIQ_KEY") != "U" {
		k.t.Errorf("the client is asked %+v", ask)
	}
	const result = `{"autoCommit":true,"consumeResult":0,"order":false,"remark":"","spentTimeMills":3}`
	c.reply(ask, 0, result)
	if x := k.answer(opaque); x.Code != 0 || string(x.body) != result {
		k.t.Errorf("the result of consuming %+v", x)
	}
}
