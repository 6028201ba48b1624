package remoting_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting"
)

type body interface{ AppendTo(b []byte) []byte }

// reader is a body's decoder without its type.
type reader func(b []byte) (body, error)

func untyped[X body](decode func([]byte) (X, error)) reader {
	return func(b []byte) (body, error) {
		x, err := decode(b)
		return x, err
	}
}

// Every decoder of a body.
var readers = map[string]reader{
	"assignments":        untyped(remoting.DecodeAssignments),
	"broker stats":       untyped(remoting.DecodeBrokerStats),
	"check client":       untyped(remoting.DecodeCheckClient),
	"cluster info":       untyped(remoting.DecodeClusterInfo),
	"connection list":    untyped(remoting.DecodeConnectionList),
	"consume stats":      untyped(remoting.DecodeConsumeStats),
	"consume stats list": untyped(remoting.DecodeConsumeStatsList),
	"consume time span":  untyped(remoting.DecodeConsumeTimeSpan),
	"consumer list":      untyped(remoting.DecodeConsumerList),
	"consumer offsets":   untyped(remoting.DecodeConsumerOffsets),
	"consumer status":    untyped(remoting.DecodeConsumerStatus),
	"correction offsets": untyped(remoting.DecodeCorrectionOffsets),
	"data version":       untyped(remoting.DecodeDataVersion),
	"delay offsets":      untyped(remoting.DecodeDelayOffsets),
	"direct result":      untyped(remoting.DecodeDirectResult),
	"group config":       untyped(remoting.DecodeSubscriptionGroupConfig),
	"group config list":  untyped(remoting.DecodeGroupConfigList),
	"group forbidden":    untyped(remoting.DecodeGroupForbidden),
	"group list":         untyped(remoting.DecodeGroupList),
	"group subscription": untyped(remoting.DecodeGroupSubscription),
	"group table":        untyped(remoting.DecodeGroupTable),
	"heartbeat":          untyped(remoting.DecodeHeartbeat),
	"kv table":           untyped(remoting.DecodeKVTable),
	"lock batch":         untyped(remoting.DecodeLockBatch),
	"locked queues":      untyped(remoting.DecodeLockedQueues),
	"offset table":       untyped(remoting.DecodeOffsetTable),
	"producer table":     untyped(remoting.DecodeProducerTable),
	"query assignment":   untyped(remoting.DecodeQueryAssignment),
	"register broker":    untyped(remoting.DecodeRegisterBroker),
	"request mode":       untyped(remoting.DecodeRequestMode),
	"route":              untyped(remoting.DecodeRoute),
	"running info":       untyped(remoting.DecodeRunningInfo),
	"topic config":       untyped(remoting.DecodeTopicConfig),
	"topic config list":  untyped(remoting.DecodeTopicConfigList),
	"topic config table": untyped(remoting.DecodeTopicConfigTable),
	"topic list":         untyped(remoting.DecodeTopicList),
	"topic stats":        untyped(remoting.DecodeTopicStats),
}

// unwrapped takes out the line breaks of the examples, which are not on the
// wire. None of their texts has two blanks in a row or begins a line.
func unwrapped(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		out.WriteString(strings.TrimSpace(line))
	}
	return out.String()
}

var (
	broker = remoting.BrokerData{
		Name: "broker-a", Cluster: "DefaultCluster",
		Addrs: []remoting.BrokerAddr{{ID: 0, Addr: "10.0.0.1:10911"}, {ID: 1, Addr: "10.0.0.2:10911"}},
	}
	queue0   = remoting.MessageQueue{Topic: "TopicTest", Broker: "broker-a", Queue: 0}
	position = []remoting.QueuePosition{{MessageQueue: queue0, Offset: 5}}
	tags     = remoting.SubscriptionData{
		Topic: "TopicTest", SubString: "TagA || TagB", ExpressionType: remoting.ExpressionTag,
		Tags: []string{"TagA", "TagB"}, Codes: []int32{2598919, 2598920}, SubVersion: 1700000000000,
	}
	topic = remoting.TopicConfig{Name: "TopicTest", ReadQueues: 4, WriteQueues: 4, Perm: 6, FilterType: remoting.FilterSingleTag}
	v4    = remoting.DataVersion{Counter: 4, Timestamp: 1700000000000}
)

const (
	tagsJSON = `{"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":"TagA || TagB",
		"subVersion":1700000000000,"tagsSet":["TagA","TagB"],"topic":"TopicTest"}`
	routeJSON = `{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},
		"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],
		"filterServerTable":{},
		"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}`
	groupJSON = `{"attributes":{},"brokerId":0,"consumeBroadcastEnable":true,"consumeEnable":true,"consumeFromMinEnable":true,
		"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"CG","groupRetryPolicy":{"type":"CUSTOMIZED"},
		"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":16,"retryQueueNums":1,
		"whichBrokerWhenConsumeSlowly":1}`
	topicJSON = `{"attributes":{},"order":false,"perm":6,"readQueueNums":4,
		"topicFilterType":"SINGLE_TAG","topicName":"TopicTest","topicSysFlag":0,"writeQueueNums":4}`
	topicsJSON = `{"dataVersion":{"counter":4,"stateVersion":0,"timestamp":1700000000000},
		"mappingDataVersion":{"counter":4,"stateVersion":0,"timestamp":1700000000000},
		"topicConfigTable":{"TopicTest":` + topicJSON + `},
		"topicQueueMappingDetailMap":{},"topicQueueMappingInfoMap":{}}`
	statsJSON = `{"consumeTps":1.5,
		"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:
		{"brokerOffset":10,"consumerOffset":7,"lastTimestamp":1700000000000,"pullOffset":9}}}`
	runningJSON = `{"jstack":"...optional...",
		"mqPopTable":{},
		"mqTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:
		{"cachedMsgCount":0,"cachedMsgMaxOffset":0,"cachedMsgMinOffset":0,"cachedMsgSizeInMiB":0,"commitOffset":7,
		"droped":false,"lastConsumeTimestamp":1700000000000,"lastLockTimestamp":0,"lastPullTimestamp":1700000000000,
		"locked":false,"transactionMsgCount":0,"transactionMsgMaxOffset":0,"transactionMsgMinOffset":0,"tryUnlockTimes":0}},
		"properties":{"PROP_NAMESERVER_ADDR":"10.0.0.5:9876;","PROP_THREADPOOL_CORE_SIZE":"20","PROP_CONSUMEORDERLY":"false",
		"PROP_CONSUME_TYPE":"CONSUME_PASSIVELY","PROP_CLIENT_VERSION":"V5_3_3","PROP_CONSUMER_START_TIMESTAMP":"1700000000000"},
		"statusTable":{"TopicTest":{"consumeFailedMsgs":0,"consumeFailedTPS":0.0,"consumeOKTPS":0.0,"consumeRT":0.0,"pullRT":0.0,"pullTPS":0.0}},
		"subscriptionSet":[` + tagsJSON + `],
		"userConsumerInfo":{}}`
)

// The examples of the protocol that we write as they stand there.
var examples = []struct {
	name, reader string
	json         string
	want         body
}{
	{"route", "route", routeJSON, remoting.Route{
		Brokers: []remoting.BrokerData{broker},
		Queues:  []remoting.QueueData{{Broker: "broker-a", Perm: 6, ReadQueues: 4, WriteQueues: 4}},
	}},
	{"cluster info", "cluster info", `{"brokerAddrTable":{"broker-a":{"brokerAddrs":{0:"10.0.0.1:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}},
		"clusterAddrTable":{"DefaultCluster":["broker-a"]}}`, remoting.ClusterInfo{
		Brokers:  []remoting.BrokerData{{Name: "broker-a", Cluster: "DefaultCluster", Addrs: broker.Addrs[:1]}},
		Clusters: []remoting.Cluster{{Name: "DefaultCluster", Brokers: []string{"broker-a"}}},
	}},
	{"heartbeat", "heartbeat", `{"clientID":"10.0.0.9@4242#1",
		"consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY",
		"groupName":"CG","messageModel":"CLUSTERING",
		"subscriptionDataSet":[` + tagsJSON + `,
		{"classFilterMode":false,"codeSet":[],"expressionType":"TAG","subString":"*",
		"subVersion":1700000000001,"tagsSet":[],"topic":"%RETRY%CG"}],
		"unitMode":false}],
		"heartbeatFingerprint":0,
		"producerDataSet":[{"groupName":"PG"},{"groupName":"CLIENT_INNER_PRODUCER"}],
		"withoutSub":false}`, remoting.Heartbeat{
		ClientID: "10.0.0.9@4242#1", Producers: []string{"PG", "CLIENT_INNER_PRODUCER"},
		Consumers: []remoting.ConsumerData{{
			Group: "CG", ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering, ConsumeFromWhere: remoting.FromLastOffset,
			Subscriptions: []remoting.SubscriptionData{
				tags, {Topic: "%RETRY%CG", SubString: "*", ExpressionType: remoting.ExpressionTag, SubVersion: 1700000000001},
			},
		}},
	}},
	{"lock batch", "lock batch", `{"clientId":"10.0.0.9@4242#1","consumerGroup":"CG",
		"mqSet":[{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}],"onlyThisBroker":false}`, remoting.LockBatch{
		ClientID: "10.0.0.9@4242#1", Group: "CG", Queues: []remoting.MessageQueue{queue0},
	}},
	{"locked queues", "locked queues", `{"lockOKMQSet":[{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}]}`, remoting.LockedQueues{Queues: []remoting.MessageQueue{queue0}}},
	{"consumer list", "consumer list", `{"consumerIdList":["10.0.0.9@4242#1","10.0.0.10@77#2"]}`, remoting.ConsumerList{ClientIDs: []string{"10.0.0.9@4242#1", "10.0.0.10@77#2"}}},
	{"topic stats", "topic stats", `{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:
		{"lastUpdateTimestamp":1700000000000,"maxOffset":10,"minOffset":0}},
		"topicPutTps":0.0}`, remoting.TopicStats{Queues: []remoting.QueueStats{{MessageQueue: queue0, LastUpdate: 1700000000000, Max: 10}}}},
	{"consume stats", "consume stats", statsJSON, stats},
	{"consume stats list", "consume stats list", `{"brokerAddr":"10.0.0.1:10911","consumeStatsList":[{"CG":[` + statsJSON + `]}],"totalDiff":0,"totalInflightDiff":0}`, remoting.ConsumeStatsList{
		BrokerAddr: "10.0.0.1:10911", Groups: []remoting.GroupStats{{Group: "CG", Stats: []remoting.ConsumeStats{stats}}},
	}},
	{"register broker", "register broker", `{"filterServerList":[],"topicConfigSerializeWrapper":` + topicsJSON + `}`, remoting.RegisterBroker{
		Topics: remoting.TopicConfigTable{Version: v4, Topics: []remoting.TopicConfig{topic}},
	}},
	{"topic config table", "topic config table", topicsJSON, remoting.TopicConfigTable{Version: v4, Topics: []remoting.TopicConfig{topic}}},
	{"topic config", "topic config", topicJSON, topic},
	{"topic config list", "topic config list", `{"topicConfigList":[` + topicJSON + `]}`, remoting.TopicConfigList{Topics: []remoting.TopicConfig{topic}}},
	{"group config", "group config", groupJSON, remoting.DefaultGroupConfig("CG")},
	{"group config list", "group config list", `{"groupConfigList":[` + groupJSON + `]}`, remoting.GroupConfigList{Groups: []remoting.SubscriptionGroupConfig{remoting.DefaultGroupConfig("CG")}}},
	{"group table", "group table", `{"dataVersion":{"counter":8,"stateVersion":0,"timestamp":1700000000000},"forbiddenTable":{},
		"subscriptionGroupTable":{"CG":` + groupJSON + `}}`, remoting.GroupTable{
		Version: remoting.DataVersion{Counter: 8, Timestamp: 1700000000000}, Groups: []remoting.SubscriptionGroupConfig{remoting.DefaultGroupConfig("CG")},
	}},
	{"reset offsets", "offset table", `{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:5}}`, remoting.OffsetTable{Queues: position}},
	{"status of a client", "consumer status", `{"consumerTable":{},"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:5}}`, remoting.ConsumerStatus{Queues: position}},
	{"status of clients", "consumer status", `{"consumerTable":{"cid":{{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"}:5}},"messageQueueTable":{}}`, remoting.ConsumerStatus{Clients: []remoting.ClientPositions{{ClientID: "cid", Queues: position}}}},
	{"correction offsets", "correction offsets", `{"correctionOffsets":{0:5}}`, remoting.CorrectionOffsets{Offsets: []remoting.NumberedOffset{{Number: 0, Offset: 5}}}},
	{"consumer offsets", "consumer offsets", `{"offsetTable":{"TopicTest@CG":{0:5,1:6}}}`, remoting.ConsumerOffsets{
		Groups: []remoting.GroupOffsets{{Topic: "TopicTest", Group: "CG", Queues: []remoting.NumberedOffset{{Number: 0, Offset: 5}, {Number: 1, Offset: 6}}}},
	}},
	{"delay offsets", "delay offsets", `{"offsetTable":{1:10}}`, remoting.DelayOffsets{Levels: []remoting.NumberedOffset{{Number: 1, Offset: 10}}}},
	{"running info", "running info", runningJSON, remoting.RunningInfo{
		Stack:  "...optional...",
		Queues: []remoting.QueueRunning{{MessageQueue: queue0, CommitOffset: 7, LastConsume: 1700000000000, LastPull: 1700000000000}},
		Properties: remoting.Fields{
			{Name: "PROP_NAMESERVER_ADDR", Value: "10.0.0.5:9876;"},
			{Name: "PROP_THREADPOOL_CORE_SIZE", Value: "20"},
			{Name: remoting.PropOrderly, Value: "false"},
			{Name: remoting.PropConsumeType, Value: remoting.ConsumePassively},
			{Name: remoting.PropClientVersion, Value: "V5_3_3"},
			{Name: remoting.PropStartTimestamp, Value: "1700000000000"},
		},
		Topics: []remoting.TopicStatus{{Topic: "TopicTest"}}, Subscriptions: []remoting.SubscriptionData{tags},
	}},
	{"consumer connections", "connection list", `{"connectionSet":[{"clientAddr":"10.0.0.9:5555","clientId":"10.0.0.9@4242#1","language":"GO","version":317}],
		"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING",
		"subscriptionTable":{"TopicTest":` + tagsJSON + `}}`, remoting.ConnectionList{
		Connections: connections, ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering, ConsumeFromWhere: remoting.FromLastOffset,
		Subscriptions: []remoting.SubscriptionData{tags},
	}},
	{"producer connections", "connection list", `{"connectionSet":[{"clientAddr":"10.0.0.9:5555","clientId":"10.0.0.9@4242#1","language":"GO","version":317}]}`, remoting.ConnectionList{Connections: connections}},
	{"topic list", "topic list", `{"brokerAddr":"10.0.0.1:10911","topicList":["TopicTest"]}`, remoting.TopicList{BrokerAddr: "10.0.0.1:10911", Topics: []string{"TopicTest"}}},
	{"group list", "group list", `{"groupList":["CG"]}`, remoting.GroupList{Groups: []string{"CG"}}},
	{"kv table", "kv table", `{"table":{"k":"v"}}`, remoting.KVTable{Table: remoting.Fields{{Name: "k", Value: "v"}}}},
	{"check client", "check client", `{"clientId":"cid","group":"CG","subscriptionData":` + tagsJSON + `}`, remoting.CheckClient{ClientID: "cid", Group: "CG", Subscription: tags}},
	{"data version", "data version", `{"counter":4,"stateVersion":0,"timestamp":1700000000000}`, v4},
	{"consume time span", "consume time span", `{"consumeTimeSpanSet":[{"consumeTimeStamp":3,"delayTime":4,"maxTimeStamp":2,
		"messageQueue":{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"},"minTimeStamp":1}]}`, remoting.ConsumeTimeSpan{
		Queues: []remoting.QueueTimeSpan{{MessageQueue: queue0, Min: 1, Max: 2, Consumed: 3, Delay: 4}},
	}},
	{"broker stats", "broker stats", `{"statsDay":{"avgpt":0.0,"sum":0,"tps":0.0},"statsHour":{"avgpt":1.0,"sum":2,"tps":0.25},"statsMinute":{"avgpt":0.0,"sum":0,"tps":0.0}}`, remoting.BrokerStats{
		Hour: remoting.BrokerStat{Sum: 2, Tps: 0.25, Avgpt: 1},
	}},
	{"producer table", "producer table", `{"data":{"group":[{"clientId":"cid","language":"JAVA","lastUpdateTimestamp":1700000000000,"remoteIP":"10.0.0.9","version":479}]}}`, remoting.ProducerTable{
		Groups: []remoting.ProducerGroup{{Group: "group", Producers: []remoting.Producer{{ClientID: "cid", Language: remoting.LanguageJava, LastUpdate: 1700000000000, RemoteIP: "10.0.0.9", Version: 479}}}},
	}},
	{"direct result", "direct result", `{"autoCommit":true,"consumeResult":"CR_SUCCESS","order":false,"spentTimeMills":3}`, remoting.DirectResult{AutoCommit: true, Result: remoting.DirectSuccess, SpentMillis: 3}},
	{"group forbidden", "group forbidden", `{"group":"CG","readable":true,"topic":"TopicTest"}`, remoting.GroupForbidden{Group: "CG", Topic: "TopicTest", Readable: true}},
	{"group subscription", "group subscription", `{"group":"CG","subscriptionData":` + tagsJSON + `,"topic":"TopicTest"}`, remoting.GroupSubscription{Group: "CG", Topic: "TopicTest", Subscription: tags}},
	{"query assignment", "query assignment", `{"clientId":"cid","consumerGroup":"CG","messageModel":"CLUSTERING","strategyName":"AVG","topic":"TopicTest"}`, remoting.QueryAssignment{
		ClientID: "cid", Group: "CG", MessageModel: remoting.Clustering, Strategy: "AVG", Topic: "TopicTest",
	}},
	{"assignments", "assignments", `{"messageQueueAssignments":[{"messageQueue":{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"},"mode":"PULL"}]}`, remoting.Assignments{
		Queues: []remoting.Assignment{{MessageQueue: queue0, Mode: remoting.ModePull}},
	}},
	{"request mode", "request mode", `{"consumerGroup":"CG","mode":"POP","popShareQueueNum":2,"topic":"TopicTest"}`, remoting.RequestMode{Group: "CG", Topic: "TopicTest", Mode: remoting.ModePop, PopShares: 2}},
}

var (
	connections = []remoting.Connection{{ClientAddr: "10.0.0.9:5555", ClientID: "10.0.0.9@4242#1", Language: remoting.LanguageGo, Version: 317}}
	stats       = remoting.ConsumeStats{Tps: 1.5, Queues: []remoting.QueueProgress{{MessageQueue: queue0, BrokerOffset: 10, ConsumerOffset: 7, LastTimestamp: 1700000000000, PullOffset: 9}}}
)

func TestBodies_Examples(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, e := range examples {
		seen[e.reader] = true
		for form, text := range map[string]string{"on the wire": unwrapped(e.json), "with white space": e.json} {
			if got, err := readers[e.reader]([]byte(text)); err != nil || !reflect.DeepEqual(got, e.want) {
				t.Errorf("%s, %s: got %+v, %v\nwant %+v", e.name, form, got, err, e.want)
			}
		}
		if got := string(e.want.AppendTo([]byte("{"))); got != "{"+unwrapped(e.json) {
			t.Errorf("%s: wrote %s\nwant %s", e.name, got, unwrapped(e.json))
		}
	}
	for name := range readers {
		if !seen[name] {
			t.Errorf("%s has no example", name)
		}
	}
}

// Forms that others write and we do not.
func TestBodies_ForeignForms(t *testing.T) {
	t.Parallel()
	legacy := strings.NewReplacer(`"0":`, "0:", `"1":`, "1:").Replace(unwrapped(routeJSON))
	want := examples[0].want.(remoting.Route)
	if got := string(want.AppendLegacy(nil)); got != legacy {
		t.Errorf("legacy route: got %s\nwant %s", got, legacy)
	}
	clusters := examples[1].want.(remoting.ClusterInfo)
	if got := string(clusters.AppendStandard(nil)); got != strings.Replace(unwrapped(examples[1].json), "0:", `"0":`, 1) {
		t.Errorf("standard cluster info: got %s", got)
	}
	const cpp = `{"offsetTable":[{"brokerName":"broker-a","offset":5,"queueId":0,"topic":"TopicTest"}]}`
	if got := string(remoting.OffsetTable{Queues: position}.AppendList(nil)); got != cpp {
		t.Errorf("offsets for C++: got %s", got)
	}
	escaped := `{\"brokerName\":\"broker-a\",\"queueId\":0,\"topic\":\"TopicTest\"}`
	goHeartbeat := `{"clientID":"c","producerDataSet":[],"consumerDataSet":[{"groupName":"CG","consumeType":1,"messageModel":1,"consumeFromWhere":0,
		"subscriptionDataSet":[{"classFilterMode":false,"topic":"T","subString":"TagA","tagsSet":["TagA"],"codeSet":["2598919","x"],"subVersion":"1700000000000000000","expressionType":null}],"unitMode":0}]}`
	for name, c := range map[string]struct {
		reader, json string
		want         body
	}{
		"legacy route":               {"route", legacy, want},
		"unknown members":            {"route", `{"zone":{"a":[1,{"b":null}]},` + routeJSON[1:], want},
		"trailing commas":            {"route", strings.NewReplacer("}]", ",}, ]").Replace(routeJSON), want},
		"offsets for C++":            {"offset table", cpp, remoting.OffsetTable{Queues: position}},
		"offsets as pairs":           {"offset table", `{"offsetTable":[[{"brokerName":"broker-a","queueId":0,"topic":"TopicTest"},5]]}`, remoting.OffsetTable{Queues: position}},
		"queues as text":             {"offset table", `{"offsetTable":{"` + escaped + `":5}}`, remoting.OffsetTable{Queues: position}},
		"queues in another order":    {"offset table", `{"offsetTable":{{"topic" : "TopicTest", "queueId":"0","x":{},"brokerName":"broker-a",}:"5"}}`, remoting.OffsetTable{Queues: position}},
		"two objects as names":       {"offset table", `{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:1,{"brokerName":"b","queueId":1,"topic":"t"}:2}}`, remoting.OffsetTable{Queues: []remoting.QueuePosition{{MessageQueue: remoting.MessageQueue{Topic: "t", Broker: "b"}, Offset: 1}, {MessageQueue: remoting.MessageQueue{Topic: "t", Broker: "b", Queue: 1}, Offset: 2}}}},
		"heartbeat of other clients": {"heartbeat", goHeartbeat, goWant},
		"null":                       {"route", ` null `, remoting.Route{}},
		"ordinal of a result":        {"direct result", `{"consumeResult":4,"order":true,"remark":null}`, remoting.DirectResult{AutoCommit: true, Order: true, Result: remoting.DirectException}},
		"old group":                  {"group config", `{"groupName":"CG","brokerId":0,"retryMaxTimes":3}`, oldGroup},
		"tagged strings":             {"topic list", "{\"topicList\":[\"a\x01b\\u0002\\/\\'\\\"\\\\\\b\\f\\n\\r\\t标\\u6807\\uD83D\\ude00\\uD83D\\u0041\"]}", remoting.TopicList{Topics: []string{"a\x01b\x02/'\"\\\b\f\n\r\t标标😀\uFFFDA"}}},
		"not UTF-8":                  {"topic list", "{\"topicList\":[\"a\xff\xfeb\xe6\xa0\"]}", remoting.TopicList{Topics: []string{"a\uFFFD\uFFFDb\uFFFD\uFFFD"}}},
	} {
		if got, err := readers[c.reader]([]byte(c.json)); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", name, got, err, c.want)
		}
	}
}

var (
	goWant = remoting.Heartbeat{ClientID: "c", Consumers: []remoting.ConsumerData{{
		Group: "CG", ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering, ConsumeFromWhere: remoting.FromLastOffset,
		Subscriptions: []remoting.SubscriptionData{{
			Topic: "T", SubString: "TagA", ExpressionType: remoting.ExpressionTag, Tags: []string{"TagA"}, Codes: []int32{2598919}, SubVersion: 1700000000000000000,
		}},
	}}}
	oldGroup = func() remoting.SubscriptionGroupConfig {
		g := remoting.DefaultGroupConfig("CG")
		g.RetryMaxTimes = 3
		return g
	}()
)

func TestBodies_Malformed(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 31) + "1" + strings.Repeat("}", 31)
	if _, err := remoting.DecodeRoute([]byte(`{"x":` + deep + `}`)); err != nil {
		t.Errorf("32 levels: got %v", err)
	}
	for name, c := range map[string]struct{ reader, json, want string }{
		"nothing":               {"route", ``, "decode route: no { at byte 0"},
		"a list":                {"route", `[]`, "decode route: no { at byte 0"},
		"text behind":           {"route", `{} x`, "decode route: text behind the value at byte 3"},
		"no end":                {"route", `{"a":1`, "decode route: no comma at byte 6"},
		"no end of a text":      {"route", `{"a":"1`, "decode route: text without an end at byte 5"},
		"no colon":              {"route", `{"a" 1}`, "decode route: no colon at byte 5"},
		"no comma":              {"route", `{"a":1 "b":2}`, "decode route: no comma at byte 7"},
		"two commas":            {"route", `{"a":1,,}`, "decode route: no name at byte 7"},
		"a comma first":         {"route", `{,}`, "decode route: no name at byte 1"},
		"the wrong bracket":     {"route", `{"a":1]`, "decode route: no comma at byte 6"},
		"33 levels":             {"route", `{"x":{"x":` + deep + `}}`, "decode route: too many levels at byte 160"},
		"a bad word":            {"route", `{"a":nullx}`, "decode route: no value at byte 5"},
		"a bad escape":          {"route", `{"a":"\x"}`, "decode route: bad escape at byte 6"},
		"half an escape":        {"route", `{"a":"\u12"}`, "decode route: bad escape at byte 6"},
		"an escape at the end":  {"route", `{"a":"\`, "decode route: bad escape at byte 6"},
		"no number":             {"route", `{"a":-}`, "decode route: no number at byte 6"},
		"no exponent":           {"route", `{"a":1e}`, "decode route: no number at byte 7"},
		"an object for a text":  {"route", `{"orderTopicConf":{}}`, "decode route: an object or array where a text is due at byte 18"},
		"a number out of range": {"offset table", `{"offsetTable":{{"queueId":2147483648}:1}}`, "decode offset table: no message queue as a name at byte 39"},
		"too large":             {"offset table", `{"offsetTable":{{}:9223372036854775808}}`, "decode offset table: no integer in its range at byte 38"},
		"a fraction":            {"offset table", `{"offsetTable":{{}:1.5}}`, "decode offset table: no integer in its range at byte 22"},
		"a text for a queue":    {"offset table", `{"offsetTable":{"null":1}}`, "decode offset table: no message queue as a name at byte 23"},
		"half a pair":           {"offset table", `{"offsetTable":[[{}]]}`, "decode offset table: less than a pair at byte 20"},
		"more than a pair":      {"offset table", `{"offsetTable":[[{},1,2]]}`, "decode offset table: more than a pair at byte 22"},
		"a broker without id":   {"route", `{"brokerDatas":[{"brokerAddrs":{"a":"b"}}]}`, "decode route: no number as a name at byte 36"},
		"a topic without group": {"consumer offsets", `{"offsetTable":{"a":{}}}`, "decode consumer offsets: no topic@group as a name at byte 20"},
		"an ordinal":            {"direct result", `{"consumeResult":6}`, "decode direct result: no such ordinal at byte 18"},
		"a truth value":         {"direct result", `{"order":"perhaps"}`, "decode direct result: no truth value at byte 18"},
	} {
		got, err := readers[c.reader]([]byte(c.json))
		var e *remoting.SyntaxError
		if err == nil || err.Error() != c.want || !errors.As(err, &e) {
			t.Errorf("%s: got %+v, %v\nwant %s", name, got, err, c.want)
		}
	}
}

// What is written reads the same: for arbitrary values of each type.
func TestBodies_RoundTrip(t *testing.T) {
	t.Parallel()
	for _, e := range examples {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			kind := reflect.TypeOf(e.want)
			rapid.Check(t, func(t *rapid.T) {
				x := reflect.New(kind).Elem()
				draw(t, x)
				text := x.Interface().(body).AppendTo(nil)
				got, err := readers[e.reader](text)
				if err != nil {
					t.Fatalf("read %s: %v", text, err)
				}
				if again := got.AppendTo(nil); string(again) != string(text) {
					t.Fatalf("got  %s\nwant %s", again, text)
				}
			})
		})
	}
}

// draw fills x with arbitrary values as they may occur: numbers of queues are
// not negative, names of enumerations are no numbers.
func draw(t *rapid.T, x reflect.Value) {
	switch x.Interface().(type) {
	case remoting.Language:
		x.SetUint(rapid.Uint64Range(0, 13).Draw(t, "language"))
		return
	case remoting.NumberedOffset:
		x.Set(reflect.ValueOf(remoting.NumberedOffset{Number: rapid.IntRange(0, 1<<31-1).Draw(t, "number"), Offset: rapid.Int64().Draw(t, "offset")}))
		return
	}
	switch x.Kind() {
	case reflect.Struct:
		for i := range x.NumField() {
			switch x.Type().Field(i).Name {
			case "RetryPolicy":
				x.Field(i).SetString(`{"type":"CUSTOMIZED"}`)
			case "ID":
				x.Field(i).SetInt(rapid.Int64Range(0, 1<<62).Draw(t, "id"))
			case "ConsumeType", "MessageModel", "ConsumeFromWhere", "FilterType", "Mode", "Result":
				x.Field(i).SetString(rapid.StringMatching("[A-Z_]+").Draw(t, "word"))
			case "Topic", "Name":
				// As names of members these have no @, and are not empty.
				x.Field(i).SetString(rapid.StringMatching(`[^@]+`).Draw(t, "name"))
			default:
				draw(t, x.Field(i))
			}
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 3).Draw(t, "length")
		if n > 0 {
			x.Set(reflect.MakeSlice(x.Type(), n, n))
		}
		for i := range n {
			draw(t, x.Index(i))
		}
	case reflect.String:
		x.SetString(rapid.String().Draw(t, "text"))
	case reflect.Bool:
		x.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int32:
		x.SetInt(int64(rapid.Int32().Draw(t, "number")))
	case reflect.Int64:
		x.SetInt(rapid.Int64().Draw(t, "number"))
	case reflect.Float64:
		x.SetFloat(rapid.Float64().Draw(t, "number"))
	default:
		t.Fatalf("no values of type %v", x.Type())
	}
}
