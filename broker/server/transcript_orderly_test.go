package server

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// locking is the body of 41 and 42.
func (k *talker) locking(id string, queues ...int) string {
	var list []string
	for _, n := range queues {
		list = append(list, lockedQueue(n))
	}
	only := ""
	if k.d.version == 479 {
		only = `,"onlyThisBroker":false`
	}
	return fmt.Sprintf(`{"clientId":%q,"consumerGroup":"OG","mqSet":[%s]%s}`, id, strings.Join(list, ","), only)
}

// lockedQueue names a queue; the broker's name is the client's, who uses the
// answer as a key.
func lockedQueue(n int) string {
	return fmt.Sprintf(`{"brokerName":"broker-as-the-client-knows-it","queueId":%d,"topic":"TopicTest"}`, n)
}

// locks asks for queues and fails unless it gets just those.
func (k *talker) locks(id string, ask []int, get ...int) {
	k.t.Helper()
	var list []string
	for _, n := range get {
		list = append(list, lockedQueue(n))
	}
	k.exactly(`{"lockOKMQSet":[`+strings.Join(list, ",")+`]}`, nil, 41, k.locking(id, ask...))
}

// An orderly push consumer (§6.5): it locks queues and renews the locks; they
// go to another one when they are given up, or not renewed for a minute.
func TestTranscript_OrderlyConsumer(t *testing.T) {
	t.Parallel()
	inBubble(t, []*dialect{&java5, &java4, &javaBinary, &goV2}, func(t *testing.T, d *dialect) {
		s := servePipes(t, Config{})
		s.makeTopic(t, "TopicTest", 4)
		k, o := s.talk(t, d, "10.0.0.9:50000"), s.talk(t, otherThan(d), "10.0.0.10:50000")
		const mine, others = "10.0.0.9@1#1", "10.0.0.10@2"
		subs := []string{"TopicTest", "*", "%RETRY%OG", "*"}
		k.joins(mine, "OG", "CLUSTERING", subs...)
		o.joins(others, "OG", "CLUSTERING", subs...)
		k.told("OG")

		k.locks(mine, []int{0, 1}, 0, 1)
		o.locks(others, []int{1, 2, 3, 4}, 2, 3) // one is taken, one does not exist
		k.locks(mine, []int{0, 1, 2}, 0, 1)
		// Before the first pull behind a lock the position is asked for anew.
		k.fields(k.call(22, 14, "", "consumerGroup", "OG", "topic", "TopicTest", "queueId", "0"))
		pull := k.say(11, "", k.pulling("OG", "TopicTest", 0, 0, 2)...)
		o.sent("PG", "TopicTest", 0, "poison", "UNIQ_KEY\x01U1\x02")
		k.position(k.answer(pull), 0, "1", "0", "1")
		k.givesUp()

		// Whoever renews keeps its queues, the other one loses them.
		for range 4 {
			time.Sleep(20 * time.Second)
			o.locks(others, []int{0}) // until a minute has passed since the last time
			k.locks(mine, []int{0, 1}, 0, 1)
			k.beat(k.beating(mine, "OG", passive, "CLUSTERING", fromLast, subs...))
			o.beat(o.beating(others, "OG", passive, "CLUSTERING", fromLast, subs...))
		}
		k.locks(mine, []int{2, 3}, 2, 3)

		if opaque := k.oneWay(42, k.locking(mine, 0, 2)); d.marks {
			k.silence("a queue is given up one-way")
		} else if x := k.answer(opaque); x.Code != 0 || len(x.body) != 0 || len(x.Ext) != 0 {
			t.Errorf("a queue is given up: %+v", x)
		}
		o.locks(others, []int{0, 1, 2, 3}, 0, 2)
		o.exactly("", nil, 42, o.locking(others, 1)) // not its own
		o.locks(others, []int{1})
		k.exactly("", nil, 42, k.locking(mine, 1, 3)) // two-way at the end
		k.exactly("", nil, 35, "", "clientID", mine, "consumerGroup", "OG")
		o.told("OG")
		o.locks(others, []int{0, 1, 2, 3}, 0, 1, 2, 3)
	})
}

// givesUp sends a message that failed too often to the retry topic, by which it
// becomes a dead letter: there is a lock, so the group consumes in order.
func (k *talker) givesUp() {
	k.t.Helper()
	code, ext := k.sending("CLIENT_INNER_PRODUCER", "%RETRY%OG", 0, "RETRY_TOPIC\x01TopicTest\x02DELAY\x013\x02UNIQ_KEY\x01U1\x02",
		"reconsumeTimes", "2", "maxReconsumeTimes", "2147483647")
	x := k.call(0, code, "poison", ext...)
	k.fields(x, "msgId", "+", "queueId", "0", "queueOffset", "0", "transactionId", "U1", "MSG_REGION", "DefaultRegion", "TRACE_ON", "true")
	x = k.call(0, 11, "", k.pulling("TOOLS_CONSUMER", "%DLQ%OG", 0, 0, 4, "subscription", "*")...)
	if ms := k.records(x.body); len(ms) != 1 || ms[0].ReconsumeTimes != 2 || strings.Contains(ms[0].Properties, "DELAY") ||
		!strings.Contains(ms[0].Properties, "RETRY_TOPIC\x01TopicTest\x02") {
		k.t.Errorf("dead letters %+v", ms)
	}
}

// A lite pull consumer (§6.7): of 4.9 with code 11, of 5.x with 361. What it
// wants comes with each pull.
func TestTranscript_LitePullConsumer(t *testing.T) {
	t.Parallel()
	four, five, packed := java4, java5, javaBinary
	four.name, five.name, packed.name = "4.9, code 11", "5.x, code 361", "5.x, binary"
	for _, d := range []*dialect{&four, &five, &packed} {
		d.always = append(d.always, "ReqT", "0")
		d.suspend = "20000"
	}
	inBubble(t, []*dialect{&four, &five, &packed}, func(t *testing.T, d *dialect) {
		code := 361
		if d.version == 409 {
			code = 11
		}
		s := servePipes(t, Config{})
		s.makeTopic(t, "TopicTest", 2)
		k, p := s.talk(t, d, "10.0.0.9:50000"), s.talk(t, &goV2, "10.0.0.8:50000")
		const id = "10.0.0.9@4242#1@STREAM"
		// In assign mode nobody is registered, and pulls are served all the same.
		pull := func(queue int, offset int64, more ...string) []string {
			return k.pulling("LG", "TopicTest", queue, offset, 22, append([]string{"maxMsgNums", "10", "subscription", "TagA || TagB"}, more...)...)
		}
		first := k.say(code, "", pull(0, 0)...)
		k.silence("nothing is there")

		opaque := k.say(34, k.beating(id, "LG", "CONSUME_ACTIVELY", "CLUSTERING", "CONSUME_FROM_FIRST_OFFSET", "TopicTest", "*"))
		k.told("LG")
		k.answer(opaque)
		k.exactly(`{"consumerIdList":["`+id+`"]}`, nil, 38, "", "consumerGroup", "LG")
		k.fields(k.call(22, 14, "", "consumerGroup", "LG", "topic", "TopicTest", "queueId", "0"))
		p.sent("PG", "TopicTest", 0, "other", "TAGS\x01TagC\x02")
		k.silence("the subscription in the request counts, not the registered one")
		before := time.Now()
		time.Sleep(time.Second)
		for i := range 12 {
			p.sent("PG", "TopicTest", 0, fmt.Sprint(i), "TAGS\x01TagB\x02")
		}
		x := k.answer(first) // with the first that came
		if ms := k.records(x.body); len(ms) == 0 || ms[0].QueueOffset != 1 || x.Ext["nextBeginOffset"] != fmt.Sprint(len(ms)+1) {
			t.Errorf("pulled %d messages, go on at %s", len(ms), x.Ext["nextBeginOffset"])
		}
		x = k.call(0, code, "", pull(0, 1)...)
		k.position(x, 0, "11", "0", "13")
		if ms := k.records(x.body); len(ms) != 10 {
			t.Errorf("pulled %d messages, asked for 10", len(ms))
		}
		// What a seek asks for.
		k.exactly("", []string{"offset", "13"}, 30, "", "topic", "TopicTest", "queueId", "0")
		k.exactly("", []string{"offset", "0"}, 31, "", "topic", "TopicTest", "queueId", "0")
		k.exactly("", []string{"offset", "1"}, 29, "", "topic", "TopicTest", "queueId", "0", "timestamp", fmt.Sprint(before.UnixMilli()+1))
		k.exactly("", []string{"offset", "13"}, 29, "", "topic", "TopicTest", "queueId", "0", "timestamp", fmt.Sprint(time.Now().UnixMilli()+1))
		k.exactly("", []string{"timestamp", fmt.Sprint(before.UnixMilli())}, 32, "", "topic", "TopicTest", "queueId", "0")

		k.oneWay(15, "", "consumerGroup", "LG", "topic", "TopicTest", "queueId", "0", "commitOffset", "11")
		k.exactly("", []string{"offset", "11"}, 14, "", "consumerGroup", "LG", "topic", "TopicTest", "queueId", "0")
		last := k.say(code, "", pull(1, 0)...)
		time.Sleep(19 * time.Second)
		k.silence("20 s are asked for")
		time.Sleep(3 * time.Second)
		k.position(k.answer(last), 19, "0", "0", "0")
		k.exactly("", nil, 35, "", "clientID", id, "consumerGroup", "LG")
		k.silence("the end")
	})
}
