package server

import (
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	passive  = "CONSUME_PASSIVELY"
	fromLast = "CONSUME_FROM_LAST_OFFSET"
)

// subVersion is what a client says of its subscription in a pull.
func (k *talker) subVersion() string {
	if k.d == &goV2 {
		return "0"
	}
	return "1700000000000"
}

// joins sends the heartbeat of a new member, which hears of itself before it
// has its answer. Others have to be asked by told.
func (k *talker) joins(id, group, model string, subs ...string) {
	k.t.Helper()
	opaque := k.say(34, k.beating(id, group, passive, model, fromLast, subs...))
	k.told(group)
	x := k.answer(opaque)
	if k.fields(x); x.Code != 0 || len(x.body) != 0 {
		k.t.Fatalf("%s: a heartbeat is answered %d %q %q", k.d.name, x.Code, x.Remark, x.body)
	}
}

// otherThan is a dialect that is not d.
func otherThan(d *dialect) *dialect {
	if d == &goV2 {
		return &java5
	}
	return &goV2
}

// A concurrent push consumer (§6.4), from before its group exists to its end,
// with a member of another language.
func TestTranscript_PushConsumer(t *testing.T) {
	t.Parallel()
	inBubble(t, []*dialect{&java5, &java4, &javaBinary, &goV2}, func(t *testing.T, d *dialect) {
		s := servePipes(t, Config{})
		s.makeTopic(t, "TopicTest", 2)
		s.makeTopic(t, "Unsubscribed", 1)
		k, p := s.talk(t, d, "10.0.0.9:50000"), s.talk(t, &java5, "10.0.0.8:50000")
		const id, version = "10.0.0.9@4242#1", "subVersion"

		k.call(17, 105, "", "topic", "%RETRY%CG")
		k.exactly(routeBody(6, 2), nil, 105, "", "topic", "TopicTest")
		k.joins(id, "CG", "CLUSTERING", "TopicTest", "TagA || TagB", "%RETRY%CG", "*")
		k.exactly(routeBody(6, 1), nil, 105, "", "topic", "%RETRY%CG")
		k.beat(k.beating(id, "CG", passive, "CLUSTERING", fromLast, "TopicTest", "TagA || TagB", "%RETRY%CG", "*"))
		k.silence("nothing has changed")
		k.exactly(`{"consumerIdList":["`+id+`"]}`, nil, 38, "", "consumerGroup", "CG")
		for _, topic := range []string{"TopicTest", "%RETRY%CG"} {
			x := k.call(22, 14, "", "consumerGroup", "CG", "topic", topic, "queueId", "0")
			k.fields(x) // no offset: the client begins where it was told to
		}
		k.exactly("", []string{"offset", "0"}, 30, "", "topic", "TopicTest", "queueId", "0")

		// Two held pulls, answered in the order in which messages come.
		first := k.say(11, "", k.pulling("CG", "TopicTest", 0, 0, 2, version, k.subVersion())...)
		second := k.say(11, "", k.pulling("CG", "TopicTest", 1, 0, 2, version, k.subVersion())...)
		k.silence("there is no message")
		k.exactly(`{"consumerIdList":["`+id+`"]}`, nil, 38, "", "consumerGroup", "CG") // nothing is kept back
		p.sent("PG", "TopicTest", 1, "one", "TAGS\x01TagA\x02UNIQ_KEY\x01U1\x02")
		x := k.answer(second)
		k.position(x, 0, "1", "0", "1")
		one := k.records(x.body)[0]
		p.sent("PG", "TopicTest", 0, "none", "TAGS\x01TagC\x02UNIQ_KEY\x01U2\x02")
		k.silence("a message that the filter does not pass")
		p.sent("PG", "TopicTest", 0, "two", "TAGS\x01TagB\x02UNIQ_KEY\x01U3\x02")
		x = k.answer(first)
		k.position(x, 0, "2", "0", "2")
		if ms := k.records(x.body); len(ms) != 1 || string(ms[0].Body) != "two" || ms[0].QueueOffset != 1 {
			t.Errorf("pulled %+v", ms)
		}
		k.heldFor(p)
		k.refusedPulls()
		k.sendsBack(p, &one)
		k.shares(s, id)
	})
}

// heldFor: a pull that finds nothing is held as long as it says, and commits
// when it comes.
func (k *talker) heldFor(p *talker) {
	k.t.Helper()
	ext := k.pulling("CG", "TopicTest", 1, 1, 3, "subVersion", k.subVersion())
	ext = append(ext, "commitOffset", "1")
	empty := k.say(11, "", ext...)
	filtered := k.say(11, "", k.pulling("CG", "TopicTest", 0, 2, 2, "subVersion", k.subVersion())...)
	k.exactly("", []string{"offset", "1"}, 14, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "1")
	p.sent("PG", "TopicTest", 0, "none", "TAGS\x01TagC\x02UNIQ_KEY\x01U4\x02")
	ms, err := strconv.Atoi(k.d.suspend)
	if err != nil {
		k.t.Fatal(err)
	}
	time.Sleep(time.Duration(ms)*time.Millisecond - time.Second)
	k.silence("a pull is held for as long as it says")
	time.Sleep(3 * time.Second)
	for range 2 {
		switch x := k.hear(); x.Opaque {
		case empty:
			k.position(x, 19, "1", "0", "1")
		case filtered: // what was looked at need not be looked at again
			k.position(x, 20, "3", "0", "3")
		default:
			k.t.Errorf("%s: got an answer to %d", k.d.name, x.Opaque)
		}
	}
	// A commit that comes late counts once, and by 15, too.
	if opaque := k.oneWay(15, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "0", "commitOffset", "2"); !k.d.marks {
		k.fields(k.answer(opaque))
	}
	k.exactly("", []string{"offset", "2"}, 14, "", "consumerGroup", "CG", "topic", "TopicTest", "queueId", "0")
}

// refusedPulls are those that cannot be served: a code for each reason.
func (k *talker) refusedPulls() {
	k.t.Helper()
	for _, c := range []struct {
		code int
		ext  []string
	}{
		{25, k.pulling("CG", "TopicTest", 0, 0, 2, "subVersion", "9000000000000000000")},
		{24, k.pulling("CG", "Unsubscribed", 0, 0, 2)},
		{24, k.pulling("OTHER", "TopicTest", 0, 0, 2)},
		{17, k.pulling("CG", "Unknown", 0, 0, 2)},
		{29, k.pulling("CG", "TopicTest", 2, 0, 2)},
		{23, k.pulling("CG", "TopicTest", 0, 0, 4, "expressionType", "SQL92", "subscription", "a LIKE 'b'")},
	} {
		if x := k.call(c.code, 11, "", c.ext...); x.Remark == "" || len(x.body) != 0 {
			k.t.Errorf("%s: %d with remark %q", k.d.name, c.code, x.Remark)
		}
	}
	for _, c := range []struct {
		offset int64
		next   string
	}{{9, "1"}, {-1, "0"}} {
		k.position(k.call(21, 11, "", k.pulling("CG", "TopicTest", 1, c.offset, 2, "subVersion", k.subVersion())...), 21, c.next, "0", "1")
	}
}

// sendsBack follows a message that is sent back twice, through the retry topic
// to the dead letters.
func (k *talker) sendsBack(p *talker, m *message.Stored) {
	k.t.Helper()
	back := func(m *message.Stored) {
		k.exactly("", nil, 36, "", "offset", strconv.FormatInt(m.PhysicalOffset, 10), "group", "CG", "delayLevel", "0", "originMsgId", "U1",
			"originTopic", "TopicTest", "unitMode", "false", "maxReconsumeTimes", "1")
	}
	retry := k.say(11, "", k.pulling("CG", "%RETRY%CG", 0, 0, 2)...)
	back(m)
	time.Sleep(9 * time.Second)
	k.silence("the third level is 10 s")
	time.Sleep(2 * time.Second)
	x := k.answer(retry)
	k.position(x, 0, "1", "0", "1")
	again := k.records(x.body)[0]
	origin := fmt.Sprintf("7F00000100002694%016X", m.PhysicalOffset)
	want := map[string]string{
		"TAGS": "TagA", "UNIQ_KEY": "U1", "RETRY_TOPIC": "TopicTest", "ORIGIN_MESSAGE_ID": origin, "WAIT": "false", "DELAY": "3",
		"REAL_TOPIC": "%RETRY%CG", "REAL_QID": "0", "CLUSTER": "DefaultCluster", "MSG_REGION": "DefaultRegion", "TRACE_ON": "true",
	}
	k.copied(&again, m, "%RETRY%CG", 1, want)
	back(&again)
	want["DELAY"] = "0"
	x = k.call(0, 11, "", k.pulling("TOOLS_CONSUMER", "%DLQ%CG", 0, 0, 4, "subscription", "*")...)
	k.copied(&k.records(x.body)[0], m, "%DLQ%CG", 2, want)
	k.exactly(routeBody(6, 1), nil, 105, "", "topic", "%DLQ%CG")
	if x := k.call(1, 36, "", "offset", "3", "group", "CG", "delayLevel", "0"); x.Remark != "look message by offset failed, 3" {
		k.t.Errorf("sending back nothing: %q", x.Remark)
	}
	// By itself, as when the broker did not answer.
	retry = k.say(11, "", k.pulling("CG", "%RETRY%CG", 0, 1, 2)...)
	code, ext := p.sending("CLIENT_INNER_PRODUCER", "%RETRY%CG", 0, "RETRY_TOPIC\x01TopicTest\x02DELAY\x011\x02UNIQ_KEY\x01U1\x02",
		"reconsumeTimes", "1", "maxReconsumeTimes", "16")
	p.call(0, code, "again", ext...)
	time.Sleep(2 * time.Second)
	x = k.answer(retry)
	if ms := k.records(x.body); len(ms) != 1 || ms[0].ReconsumeTimes != 1 || string(ms[0].Body) != "again" {
		k.t.Errorf("redelivered %+v", ms)
	}
}

// copied checks a copy of a message.
func (k *talker) copied(got, of *message.Stored, topic string, times int32, want map[string]string) {
	k.t.Helper()
	if got.Topic != topic || got.ReconsumeTimes != times || string(got.Body) != string(of.Body) || got.BornTimestamp != of.BornTimestamp ||
		got.BornHost != of.BornHost || fmt.Sprint(message.ParseProperties(got.Properties)) != fmt.Sprint(want) {
		k.t.Errorf("%s: copy in %s: %+v\nwant the properties %v", k.d.name, topic, got, want)
	}
}

// shares lets another member come, and both leave.
func (k *talker) shares(s *bundle, id string) {
	k.t.Helper()
	const second = "10.0.0.10@7"
	subs := []string{"TopicTest", "TagA || TagB", "%RETRY%CG", "*"}
	o := s.talk(k.t, otherThan(k.d), "10.0.0.10:50000")
	o.joins(second, "CG", "CLUSTERING", subs...)
	k.told("CG")
	for _, m := range []*talker{k, o} {
		m.exactly(`{"consumerIdList":["`+second+`","`+id+`"]}`, nil, 38, "", "consumerGroup", "CG")
	}
	o.leave() // Go v2 leaves without a word
	k.told("CG")
	o = s.talk(k.t, otherThan(k.d), "10.0.0.10:50001")
	o.joins(second, "CG", "CLUSTERING", subs...)
	k.told("CG")
	k.exactly("", nil, 35, "", "clientID", id, "consumerGroup", "CG")
	o.told("CG")
	k.silence("who has left hears nothing")
	o.exactly(`{"consumerIdList":["`+second+`"]}`, nil, 38, "", "consumerGroup", "CG")
	k.exactly("", nil, 35, "", "clientID", id, "producerGroup", "CLIENT_INNER_PRODUCER")
	o.leave()
	if x := k.call(1, 38, "", "consumerGroup", "CG"); x.Remark != "no consumer for this group, CG" || len(x.body) != 0 {
		k.t.Errorf("members of an empty group: %q %q", x.Remark, x.body)
	}
	k.silence("the end")
}

// SQL92 subscriptions are checked before the start (46), and clients refuse to
// pull unless the answer to the heartbeat has a version, which every answer is
// checked for.
func TestTranscript_PushConsumerSQL(t *testing.T) {
	t.Parallel()
	inBubble(t, []*dialect{&java5, &javaBinary}, func(t *testing.T, d *dialect) {
		s := servePipes(t, Config{})
		s.makeTopic(t, "TopicTest", 1)
		k, p := s.talk(t, d, "10.0.0.9:50000"), s.talk(t, &java5, "10.0.0.8:50000")
		check := func(expression string) string {
			return `{"clientId":"c","group":"CG","namespace":"","subscriptionData":{"classFilterMode":false,"codeSet":[],"expressionType":"SQL92","subString":"` +
				expression + `","subVersion":1700000000000,"tagsSet":[],"topic":"TopicTest"}}`
		}
		k.exactly("", nil, 46, check("n > 3 AND TAGS = 'TagA'"))
		if x := k.call(23, 46, check("n >> 3")); x.Remark == "" {
			t.Error("a refusal without a reason")
		}
		opaque := k.say(34, `{"clientID":"c","consumerDataSet":[{"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","groupName":"CG",`+
			`"messageModel":"CLUSTERING","subscriptionDataSet":[{"classFilterMode":false,"codeSet":[],"expressionType":"SQL92","subString":"n > 3 AND TAGS = 'TagA'",`+
			`"subVersion":1700000000000,"tagsSet":[],"topic":"TopicTest"}],"unitMode":false}],"producerDataSet":[]}`)
		k.told("CG")
		k.answer(opaque)
		pull := k.say(11, "", k.pulling("CG", "TopicTest", 0, 0, 2, "expressionType", "SQL92", "subVersion", "1700000000000")...)
		k.silence("there is no message")
		p.sent("PG", "TopicTest", 0, "few", "n\x013\x02TAGS\x01TagA\x02")
		p.sent("PG", "TopicTest", 0, "no number", "n\x01x\x02TAGS\x01TagA\x02")
		p.sent("PG", "TopicTest", 0, "no property", "TAGS\x01TagA\x02")
		k.silence("nothing matches")
		p.sent("PG", "TopicTest", 0, "many", "n\x0110\x02TAGS\x01TagA\x02")
		x := k.answer(pull)
		k.position(x, 0, "4", "0", "4")
		if ms := k.records(x.body); len(ms) != 1 || string(ms[0].Body) != "many" {
			t.Errorf("pulled %+v", ms)
		}
	})
}

// A broadcasting consumer (§6.6): members share nothing and hear nothing of
// each other.
func TestTranscript_Broadcasting(t *testing.T) {
	t.Parallel()
	inBubble(t, []*dialect{&java5, &java4, &javaBinary, &goV2}, func(t *testing.T, d *dialect) {
		s := servePipes(t, Config{})
		s.makeTopic(t, "TopicTest", 1)
		p := s.talk(t, &java5, "10.0.0.8:50000")
		p.sent("PG", "TopicTest", 0, "before", "UNIQ_KEY\x01U0\x02")
		var members []*talker
		for i, d := range []*dialect{d, otherThan(d)} {
			k := s.talk(t, d, fmt.Sprintf("10.0.0.9:5000%d", i))
			members = append(members, k)
			k.exactly(routeBody(6, 1), nil, 105, "", "topic", "TopicTest")
			k.beat(k.beating(fmt.Sprintf("10.0.0.9@DEFAULT%d", i), "BG", passive, "BROADCASTING", fromLast, "TopicTest", "*"))
			k.exactly("", []string{"offset", "1"}, 30, "", "topic", "TopicTest", "queueId", "0")
			k.exactly("", []string{"offset", "0"}, 29, "", "topic", "TopicTest", "queueId", "0", "timestamp", "0")
		}
		var held []int32
		for _, k := range members {
			held = append(held, k.say(11, "", k.pulling("BG", "TopicTest", 0, 1, 2)...))
			k.silence("a member of its own")
		}
		p.sent("PG", "TopicTest", 0, "for all", "UNIQ_KEY\x01U1\x02")
		for i, k := range members {
			x := k.answer(held[i])
			k.position(x, 0, "2", "0", "2")
			if ms := k.records(x.body); len(ms) != 1 || string(ms[0].Body) != "for all" {
				t.Errorf("pulled %+v", ms)
			}
		}
		members[1].leave()
		members[0].silence("another one has left")
		members[0].call(22, 14, "", "consumerGroup", "BG", "topic", "TopicTest", "queueId", "0", "setZeroIfNotFound", "false")
		synctest.Wait()
	})
}
