package server

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
)

// A topic of two queues with 3 and 0 messages, of which G has consumed 2, H 1.
func lagging(t *testing.T) (*bundle, *peer) {
	t.Helper()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.topic("T", 2)
	b.put(t, "T", 0, 3, "TAGS\x01TagA\x02")
	b.commit(t, "G", "T", 0, 2)
	b.commit(t, "G", "T", 1, 0)
	b.commit(t, "H", "T", 0, 1)
	return b, p
}

func TestTopicStats(t *testing.T) {
	t.Parallel()
	b, p := lagging(t)
	ms := b.storedMs("T", 0, 2)
	if ms == 0 {
		t.Fatal("the last message has no time")
	}
	p.wantBody(fmt.Sprintf(`{"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:{"lastUpdateTimestamp":%d,"maxOffset":3,"minOffset":0},`+
		`{"brokerName":"broker-a","queueId":1,"topic":"T"}:{"lastUpdateTimestamp":0,"maxOffset":0,"minOffset":0}},"topicPutTps":0.0}`, ms),
		request(remoting.ReqGetTopicStats, "topic", "T"))
	// Hidden queues are not listed, those that can only be written are.
	p.wantCode(remoting.ResSuccess, createTopicRequest("T", 1, 1))
	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetTopicStats, "topic", "T"))
	if n := strings.Count(string(a.Body), `"topic":"T"`); n != 1 {
		t.Errorf("%d queues of one: %s", n, a.Body)
	}
	p.wantCode(remoting.ResTopicNotExist, request(remoting.ReqGetTopicStats, "topic", "nothing"))
	p.wantCode(remoting.ResSystemError, request(remoting.ReqGetTopicStats))
}

func TestConsumeStats(t *testing.T) {
	t.Parallel()
	b, p := lagging(t)
	queues := func(consumed int64) string {
		return fmt.Sprintf(`"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:`+
			`{"brokerOffset":3,"consumerOffset":%d,"lastTimestamp":%d,"pullOffset":%d},{"brokerName":"broker-a","queueId":1,"topic":"T"}:`+
			`{"brokerOffset":0,"consumerOffset":0,"lastTimestamp":0,"pullOffset":0}}`, consumed, b.storedMs("T", 0, consumed-1), consumed)
	}
	want := `{"consumeTps":0.0,` + queues(2) + `}`
	p.wantBody(want, request(remoting.ReqGetConsumeStats, "consumerGroup", "G"))
	p.wantBody(want, request(remoting.ReqGetConsumeStats, "consumerGroup", "G", "topic", "T"))
	p.wantBody(want, request(remoting.ReqGetConsumeStats, "consumerGroup", "G", "topic", "", "topicList", "nothing;T;"))
	p.wantBody(`{"consumeTps":0.0,"offsetTable":{}}`, request(remoting.ReqGetConsumeStats, "consumerGroup", "nobody"))
	p.wantBody(fmt.Sprintf(`{"brokerAddr":%q,"consumeStatsList":[{"G":[{"consumeTps":0.0,%s}]},{"H":[{"consumeTps":0.0,%s}]}],"totalDiff":3,"totalInflightDiff":0}`,
		b.advertise, queues(2), queues(1)), request(remoting.ReqGetBrokerConsumeStats, "isOrder", "false"))
	p.wantBody(fmt.Sprintf(`{"brokerAddr":%q,"consumeStatsList":[],"totalDiff":0,"totalInflightDiff":0}`, b.advertise),
		request(remoting.ReqGetBrokerConsumeStats, "isOrder", "true"))

	// A look at a group that does not exist leaves nothing behind.
	p.wantCode(remoting.ResSuccess, request(remoting.ReqGetConsumeStats, "consumerGroup", "nobody", "topic", "T"))
	if b.groupExists("nobody") {
		t.Error("a look has made a group")
	}

	// While it is online, what a group does not subscribe to any more is not
	// its lag.
	p.topic("U", 1)
	p.join("cid", "G", remoting.Clustering, "U")
	p.wantBody(`{"consumeTps":0.0,"offsetTable":{}}`, request(remoting.ReqGetConsumeStats, "consumerGroup", "G"))

	// What was committed a moment ago shows.
	b.store.Cursor("G", "U", 0).Commit(0)
	p.wantBody(`{"consumeTps":0.0,"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"U"}:`+
		`{"brokerOffset":0,"consumerOffset":0,"lastTimestamp":0,"pullOffset":0}}}`, request(remoting.ReqGetConsumeStats, "consumerGroup", "G"))
}

// Redeliveries are lag of the retry topic.
func TestConsumeStats_RetryTopic(t *testing.T) {
	t.Parallel()
	b, p := lagging(t)
	if err := b.store.EnsureRetry(t.Context(), "G", []string{"T"}); err != nil {
		t.Fatal(err)
	}
	b.put(t, "%RETRY%G", 0, 4, "")
	b.commit(t, "G", "%RETRY%G", 0, 1)
	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetConsumeStats, "consumerGroup", "G"))
	stats, err := remoting.DecodeConsumeStats(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range stats.Queues {
		if q.Topic == "%RETRY%G" {
			if q.BrokerOffset != 4 || q.ConsumerOffset != 1 {
				t.Errorf("got %+v", q)
			}
			return
		}
	}
	t.Errorf("no retry topic in %s", a.Body)
}

func TestQueriesOfGroupsAndTopics(t *testing.T) {
	t.Parallel()
	b, p := lagging(t)
	p.wantBody(`{"groupList":["G","H"]}`, request(remoting.ReqQueryTopicConsumeByWho, "topic", "T"))
	p.wantBody(`{"groupList":[]}`, request(remoting.ReqQueryTopicConsumeByWho, "topic", "nothing"))
	p.wantBody(fmt.Sprintf(`{"brokerAddr":%q,"topicList":["T"]}`, b.advertise), request(remoting.ReqQueryTopicsByConsumer, "group", "G"))
	ask := request(remoting.ReqQuerySubscriptionByConsumer, "group", "I", "topic", "T")
	p.wantBody(`{"group":"I","topic":"T"}`, ask)
	p.join("cid", "I", remoting.Clustering, "T")
	p.wantBody(`{"group":"I","subscriptionData":{"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":"TagA || TagB",`+
		`"subVersion":7,"tagsSet":["TagA","TagB"],"topic":"T"},"topic":"T"}`, ask)
	p.wantBody(`{"groupList":["G","H","I"]}`, request(remoting.ReqQueryTopicConsumeByWho, "topic", "T"))

	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqQueryConsumeTimeSpan, "topic", "T", "group", "G"))
	span, err := remoting.DecodeConsumeTimeSpan(a.Body)
	if err != nil || len(span.Queues) != 2 {
		t.Fatalf("got %s, %v", a.Body, err)
	}
	q := span.Queues[0]
	if q.Min != b.storedMs("T", 0, 0) || q.Max != b.storedMs("T", 0, 2) || q.Consumed != b.storedMs("T", 0, 1) || q.Delay > b.store.NowMs()-q.Max {
		t.Errorf("got %+v", q)
	}
	if e := span.Queues[1]; e.Min != -1 || e.Max != -1 || e.Consumed != -1 || e.Delay != 0 {
		t.Errorf("the empty queue has %+v", e)
	}
	p.wantCode(remoting.ResTopicNotExist, request(remoting.ReqQueryConsumeTimeSpan, "topic", "nothing", "group", "G"))

	correct := func(compare, filter string) *remoting.Command {
		return request(remoting.ReqQueryCorrectionOffset, "topic", "T", "compareGroup", compare, "filterGroups", filter)
	}
	p.wantBody(`{"correctionOffsets":{0:1,1:0}}`, correct("G", ""))
	p.wantBody(`{"correctionOffsets":{0:2,1:0}}`, correct("G", "H"))
	p.wantBody(fmt.Sprintf(`{"correctionOffsets":{0:%d,1:0}}`, int64(math.MaxInt64)), correct("H", "H"))
	p.wantBody(`{"correctionOffsets":{}}`, correct("G", "G, H"))

	a = p.wantCode(remoting.ResSuccess, request(remoting.ReqGetAllConsumerOffset))
	if !strings.HasSuffix(string(a.Body), `"offsetTable":{"T@G":{0:2,1:0},"T@H":{0:1}}}`) {
		t.Errorf("got %s", a.Body)
	}
}

func TestQueryConsumeQueue(t *testing.T) {
	t.Parallel()
	b, p := lagging(t)
	put := b.put(t, "T", 0, 1, "TAGS\x01TagC\x02")
	p.join("cid", "G", remoting.Clustering, "T")
	ask := func(pairs ...string) *remoting.Command {
		return request(remoting.ReqQueryConsumeQueue, append([]string{"topic", "T"}, pairs...)...)
	}
	a := p.wantCode(remoting.ResSuccess, ask("queueId", "0", "index", "2", "count", "10", "consumerGroup", "G"))
	var look queueLook
	if err := json.Unmarshal(a.Body, &look); err != nil {
		t.Fatal(err)
	}
	if look.Min != 0 || look.Max != 4 || len(look.Entries) != 2 || !look.Entries[0].Wanted || look.Entries[1].Wanted ||
		look.Entries[0].Tags != 2598919 || look.Entries[1].Offset != put[0].Pos || look.Entries[1].Size < 91 {
		t.Errorf("got %s", a.Body)
	}
	a = p.wantCode(remoting.ResSuccess, ask("queueId", "0", "index", "0", "count", "-5"))
	if err := json.Unmarshal(a.Body, &look); err != nil || len(look.Entries) != 1 {
		t.Errorf("got %s, %v", a.Body, err)
	}
	p.wantCode(remoting.ResInvalidParameter, ask("queueId", "7", "index", "0", "count", "1"))
	p.wantCode(remoting.ResInvalidParameter, ask("queueId", "-1", "index", "0", "count", "1"))
	p.wantCode(remoting.ResTopicNotExist, ask("topic", "nothing", "queueId", "0", "index", "0", "count", "1"))
}

func TestViewBrokerStats(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	view := func(name, key string) *remoting.Command {
		return request(remoting.ReqViewBrokerStats, "statsName", name, "statsKey", key)
	}
	for _, name := range []string{"TOPIC_PUT_NUMS", "TOPIC_PUT_SIZE", "GROUP_GET_NUMS", "GROUP_GET_SIZE", "SNDBCK_PUT_NUMS", "BROKER_PUT_NUMS", "BROKER_GET_NUMS", "WHAT"} {
		p.wantCode(remoting.ResSystemError, view(name, "T@G"))
	}
	b.countPut("T", 6, 600)
	b.countPut("T", 2, 200)
	b.countGet("G", "T", 3, 300)
	b.countGet("G", "T", 0, 0)
	b.countSendBack("G", "T")
	for _, test := range []struct {
		name, key string
		sum       int64
		each      float64
	}{
		{"TOPIC_PUT_NUMS", "T", 8, 4},
		{"TOPIC_PUT_SIZE", "T", 800, 400},
		{"GROUP_GET_NUMS", "T@G", 3, 3},
		{"GROUP_GET_SIZE", "T@G", 300, 300},
		{"SNDBCK_PUT_NUMS", "T@G", 1, 1},
		{"BROKER_PUT_NUMS", "DefaultCluster", 8, 4},
		{"BROKER_GET_NUMS", "DefaultCluster", 3, 3},
	} {
		a := p.wantCode(remoting.ResSuccess, view(test.name, test.key))
		stats, err := remoting.DecodeBrokerStats(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range []remoting.BrokerStat{stats.Minute, stats.Hour, stats.Day} {
			if w.Sum != test.sum || w.Avgpt != test.each || w.Tps <= 0 || w.Tps > float64(test.sum) {
				t.Errorf("%s of %s: got %s", test.name, test.key, a.Body)
			}
		}
	}
	p.wantCode(remoting.ResSystemError, view("TOPIC_PUT_NUMS", "T@G"))
	p.wantCode(remoting.ResSystemError, view("GROUP_GET_NUMS", "T"))
}

func TestRuntimeInfo(t *testing.T) {
	t.Parallel()
	b, p := lagging(t)
	b.countPut("T", 3, 30)
	b.countGet("G", "T", 2, 20)
	b.countGet("G", "T", 0, 0)
	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetBrokerRuntimeInfo))
	info, err := remoting.DecodeKVTable(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"brokerVersionDesc": "V5_3_3", "brokerVersion": "479", "brokerActive": "true", "msgPutTotalTodayNow": "3", "msgGetTotalTodayNow": "2",
		"msgPutTotalTodayMorning": "0", "putMessageTimesTotal": "1", "putMessageSizeTotal": "30", "putMessageAverageSize": "10",
		"commitLogMaxOffset":       fmt.Sprint(b.store.Stats().End),
		"earliestMessageTimeStamp": fmt.Sprint(b.storedMs("T", 0, 0)),
		"putTps":                   "3.00 3.00 3.00", "getTransferredTps": "2.00 2.00 2.00", "getTransferedTps": "2.00 2.00 2.00",
		"getTotalTps": "2.00 2.00 2.00", "getFoundTps": "1.00 1.00 1.00", "getMissTps": "1.00 1.00 1.00",
	} {
		got := info.Table.Get(name)
		if strings.HasSuffix(name, "Tps") {
			// They were counted within the last second or two.
			if f := strings.Fields(got); len(f) != 3 || f[0] == "0.00" || f[2] == "0.00" {
				t.Errorf("%s: got %q, want about %q", name, got, want)
			}
			continue
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	// Everything that the tools read is there.
	for _, name := range []string{
		"bootTimestamp", "runtime", "msgPutTotalYesterdayMorning", "msgGetTotalYesterdayMorning", "sendThreadPoolQueueSize", "pullThreadPoolQueueCapacity",
		"queryThreadPoolQueueHeadWaitTimeMills", "pageCacheLockTimeMills", "commitLogDiskRatio", "commitLogDirCapacity", "commitLogMinOffset",
		"consumeQueueDiskRatio", "dispatchBehindBytes", "remainHowManyDataToFlush", "remainTransientStoreBufferNumbs", "putMessageEntireTimeMax",
		"getMessageEntireTimeMax", "putMessageDistributeTime", "startAcceptSendRequestTimeStamp", "timerReadBehind", "timerOffsetBehind",
		"timerCongestNum", "timerEnqueueTps", "timerDequeueTps",
	} {
		if _, ok := info.Table.Lookup(name); !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestBrokerConfig(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{AutoCreate: true})
	p := b.dial(t)
	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetBrokerConfig))
	got := map[string]string{}
	for line := range strings.Lines(string(a.Body)) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			t.Errorf("line %q", line)
		}
		got[name] = value
	}
	for name, want := range map[string]string{
		"brokerName": "broker-a", "brokerClusterName": "DefaultCluster", "brokerIP1": "127.0.0.1", "listenPort": port(t, b.Addr().String()),
		"autoCreateTopicEnable": "true", "aclEnable": "false", "flushDiskType": "ASYNC_FLUSH", "maxMessageSize": "4194304",
		"messageDelayLevel": "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	if v, err := remoting.DecodeDataVersion([]byte(a.Fields.Get("version"))); err != nil || v.Timestamp == 0 {
		t.Errorf("version %+v, %v", v, err)
	}
	if strings.Contains(string(a.Body), "ecret") {
		t.Error("there is a secret in the configuration")
	}
}
