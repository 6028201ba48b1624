package remoting_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

var signTime = time.UnixMilli(1700000000000)

// Texts that are made to cost more than they are worth, or to confuse.
var hostile = []string{
	"", "{", "[", "null", "nul", "\x00", "{}{}", `{"":""}`, `{"a":{"a":{"a":{"a":[[[[[]]]]]}}}}`,
	strings.Repeat("[", 100), strings.Repeat(`{"a":`, 100), `{{}:{},{}:{}}`, `{{{{}:1}:2}:3}`, `{1:2,-3:4}`,
	"{\"a\":\"\xff\xfe\"}", `{"a":"\ud800\udfff\udfff"}`, `{"a":1e999,"b":-0.0e-0}`,
}

// bomb repeats an element n times in the list or object that a decoder reads.
func bomb(open, element, end string, n int) string {
	return open + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + end
}

// Many small elements are refused before they cost more than the body allows,
// and the largest body that others send is not. Not parallel: it counts what
// the process allocates.
func TestBodies_Memory(t *testing.T) {
	for name, c := range map[string]struct{ reader, json string }{
		"topics":         {"topic list", bomb(`{"topicList":[`, `""`, `]}`, 200000)},
		"numbers":        {"topic list", bomb(`{"topicList":[`, `1`, `]}`, 200000)},
		"consumers":      {"heartbeat", bomb(`{"consumerDataSet":[`, `{}`, `]}`, 200000)},
		"producers":      {"heartbeat", bomb(`{"producerDataSet":[`, `{}`, `]}`, 200000)},
		"subscriptions":  {"heartbeat", bomb(`{"consumerDataSet":[{"subscriptionDataSet":[`, `{}`, `]}]}`, 200000)},
		"lists in lists": {"heartbeat", bomb(`{"consumerDataSet":[`, `{"subscriptionDataSet":[{"tagsSet":[0]}]}`, `]}`, 20000)},
		"empty lists":    {"heartbeat", bomb(`{"consumerDataSet":[{"subscriptionDataSet":[{`, `"tagsSet":[]`, `}]}]}`, 50000)},
		"one-tag lists":  {"heartbeat", bomb(`{"consumerDataSet":[{"subscriptionDataSet":[{`, `"tagsSet":[1]`, `}]}]}`, 50000)},
		"codes":          {"heartbeat", bomb(`{"consumerDataSet":[{"subscriptionDataSet":[{"codeSet":[`, `1`, `]}]}]}`, 200000)},
		"queues":         {"lock batch", bomb(`{"mqSet":[`, `{}`, `]}`, 200000)},
		"named queues":   {"offset table", bomb(`{"offsetTable":{`, `{}:1`, `}}`, 200000)},
		"pairs":          {"offset table", bomb(`{"offsetTable":[`, `[{},1]`, `]}`, 200000)},
		"escaped queues": {"offset table", bomb(`{"offsetTable":{`, `"{\"\\u0041\":1}":1`, `}}`, 50000)},
		"running":        {"running info", bomb(`{"mqTable":{`, `{}:{}`, `}}`, 100000)},
		"groups":         {"group table", bomb(`{"subscriptionGroupTable":{`, `"":{}`, `}}`, 100000)},
		"attributes":     {"topic config", bomb(`{"attributes":{`, `"":""`, `}}`, 100000)},
		"clusters":       {"cluster info", bomb(`{"clusterAddrTable":{`, `"":[]`, `}}`, 100000)},
		"brokers":        {"cluster info", bomb(`{"brokerAddrTable":{`, `"":{"brokerAddrs":{0:0}}`, `}}`, 50000)},
		"stats":          {"consume stats list", bomb(`{"consumeStatsList":[{"":[`, `{"offsetTable":{{}:{}}}`, `]}]}`, 50000)},
		"groups of list": {"consume stats list", bomb(`{"consumeStatsList":[`, `{}`, `]}`, 200000)},
		"data versions":  {"topic config table", bomb(`{`, `"dataVersion":{}`, `}`, 100000)},
		"not UTF-8":      {"topic list", `{"topicList":["` + strings.Repeat("\xff", 500000) + `"]}`},
		"escapes":        {"topic list", bomb(`{"topicList":["\n",`, `"\n"`, `]}`, 100000)},
		"skipped":        {"topic list", bomb(`{"x":[`, `{"":{}}`, `]}`, 200000)},
		"names":          {"topic list", bomb(`{`, `{"a":{}}:{}`, `}`, 100000)},
	} {
		read := readers[c.reader]
		got := allocated(func() { _, _ = read([]byte(c.json)) })
		// The conversion of the text in the line above counts once.
		if most := uint64(64<<10 + 9*len(c.json)); got > most {
			t.Errorf("%s: %d bytes allocated for %d of input, %.1f times", name, got, len(c.json), float64(got)/float64(len(c.json)))
		}
	}
}

// Bodies of a large installation are read.
func TestBodies_Large(t *testing.T) {
	t.Parallel()
	var hb remoting.Heartbeat
	var table remoting.OffsetTable
	var ids remoting.ConsumerList
	var kv remoting.KVTable
	for i := range 5000 {
		n := string(rune('a'+i%26)) + strings.Repeat("x", i%3)
		hb.Consumers = append(hb.Consumers, remoting.ConsumerData{
			Group: n, ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering, ConsumeFromWhere: remoting.FromLastOffset,
			Subscriptions: []remoting.SubscriptionData{{Topic: n, SubString: n, ExpressionType: remoting.ExpressionTag, Tags: []string{n}, Codes: []int32{97}}},
		})
		table.Queues = append(table.Queues, remoting.QueuePosition{MessageQueue: remoting.MessageQueue{Topic: n, Broker: "b", Queue: i}, Offset: int64(i)})
		ids.ClientIDs = append(ids.ClientIDs, "10.0.0.1@1#1")
		kv.Table.Add("k"+n, n)
	}
	for name, x := range map[string]body{"heartbeat": hb, "offset table": table, "consumer list": ids, "kv table": kv} {
		text := x.AppendTo(nil)
		got, err := readers[name](text)
		if err != nil || string(got.AppendTo(nil)) != string(text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := string(table.AppendList(nil)); !strings.Contains(got, `"queueId":4999`) {
		t.Error("the list is cut")
	}
}
