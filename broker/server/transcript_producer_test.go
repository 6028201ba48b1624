package server

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/remoting/message"
)

// place is the physical offset that an offset id names.
func (k *talker) place(id string) int64 {
	k.t.Helper()
	const host = "7F00000100002694" // 127.0.0.1, and 9876 in four bytes
	at, ok := strings.CutPrefix(id, host)
	pos, err := strconv.ParseInt(at, 16, 64)
	if !ok || len(id) != 32 || err != nil || strings.ToUpper(id) != id {
		k.t.Fatalf("%s: %q is no offset id of the server", k.d.name, id)
	}
	return pos
}

// A producer, from its start to its end (§6.2 of the protocol): it makes a topic
// by its first message, sends one by one, in a batch and one-way, and leaves.
func TestTranscript_Producer(t *testing.T) {
	t.Parallel()
	inBubble(t, []*dialect{&java5, &java4, &javaBinary, &goV2}, func(t *testing.T, d *dialect) {
		s := servePipes(t, Config{AutoCreate: true})
		k := s.talk(t, d, "10.0.0.9:50000")
		k.exactly(routeBody(7, 8), nil, 105, "", "topic", "TBW102")
		k.beat(`{"clientID":"10.0.0.9@4242#1","consumerDataSet":[],"producerDataSet":[{"groupName":"PG"},{"groupName":"CLIENT_INNER_PRODUCER"}]}`)
		if x := k.call(17, 105, "", "topic", "TopicTest"); !strings.Contains(x.Remark, "TopicTest") || len(x.body) != 0 {
			t.Errorf("no route: %q", x.Remark)
		}

		const unique = "0A00000910922A139A5500000B0A0001"
		properties := "KEYS\x01k1 k2\x02UNIQ_KEY\x01" + unique + "\x02WAIT\x01true\x02TAGS\x01TagA"
		first := k.sent("PG", "TopicTest", 1, "hello", properties)
		if first["queueOffset"] != "0" || first["transactionId"] != unique {
			t.Errorf("answer to the first send: %v", first)
		}
		at := k.place(first["msgId"])
		k.exactly(routeBody(6, 4), nil, 105, "", "topic", "TopicTest")
		if again := k.sent("PG", "TopicTest", 1, "more", "UNIQ_KEY\x01U2\x02"); again["queueOffset"] != "1" || k.place(again["msgId"]) <= at {
			t.Errorf("answer to the second send: %v", again)
		}
		k.batch("10.0.0.9:50000")

		// One-way: nothing comes back to who says so, and an answer that is dropped
		// to who does not. What follows is answered all the same.
		code, ext := k.sending("PG", "TopicTest", 3, "UNIQ_KEY\x01U9\x02")
		if opaque := k.oneWay(code, "quiet", ext...); d.marks {
			k.silence("a one-way send")
		} else {
			k.answer(opaque)
		}

		// What is stored, as tools see it: by position, with everything that the
		// broker says of itself.
		m := k.records(k.call(0, 33, "", "offset", strconv.FormatInt(at, 10)).body)[0]
		want := properties + "\x02MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02CLUSTER\x01DefaultCluster\x02"
		if m.Properties != want || m.Topic != "TopicTest" || m.QueueID != 1 || m.QueueOffset != 0 || m.PhysicalOffset != at ||
			m.BornHost.String() != "10.0.0.9:50000" || m.StoreHost.String() != "127.0.0.1:9876" || m.BornTimestamp != 1700000000000 ||
			m.StoreTimestamp != time.Now().UnixMilli() || m.SysFlag != 0 || string(m.Body) != "hello" {
			t.Errorf("stored %+v\nwant the properties %q", m, want)
		}

		k.refusals()
		k.exactly("", nil, 35, "", "clientID", "10.0.0.9@4242#1", "producerGroup", "PG")
		k.exactly("", nil, 35, "", "clientID", "10.0.0.9@4242#1", "producerGroup", "CLIENT_INNER_PRODUCER")
		if x := k.call(1, 204, "", "producerGroup", "PG", "topic", "TopicTest"); x.Remark != "the producer group[PG] not exist" {
			t.Errorf("connections of a group that has left: %q", x.Remark)
		}
		k.silence("the end")
	})
}

// batch sends two messages in one request, as every client does: with short
// names.
func (k *talker) batch(born string) {
	k.t.Helper()
	element := func(body, properties string) string {
		b := fmt.Sprintf("%08x000000000000000000000007%08x", 22+len(body)+len(properties), len(body))
		b += hex.EncodeToString([]byte(body)) + fmt.Sprintf("%04x", len(properties)) + hex.EncodeToString([]byte(properties))
		raw, err := hex.DecodeString(b)
		if err != nil {
			k.t.Fatal(err)
		}
		return string(raw)
	}
	body := element("b1", "UNIQ_KEY\x01B1\x02TAGS\x01TagA\x02") + element("b2", "UNIQ_KEY\x01B2\x02WAIT\x01true")
	x := k.call(0, 320, body, "a", "PG", "b", "TopicTest", "c", "TBW102", "d", "4", "e", "2", "f", "0", "g", "1700000000000", "h", "0",
		"i", "WAIT\x01true\x02", "j", "0", "k", "false", "m", "true")
	k.fields(x, "msgId", "+", "queueId", "2", "queueOffset", "0", "MSG_REGION", "DefaultRegion", "TRACE_ON", "true")
	ids := strings.Split(x.Ext["msgId"], ",")
	if len(ids) != 2 || k.place(ids[0]) >= k.place(ids[1]) {
		k.t.Errorf("ids of a batch: %q", ids)
	}
	x = k.call(0, 11, "", k.pulling("TOOLS_CONSUMER", "TopicTest", 2, 0, 4, "subscription", "*")...)
	k.position(x, 0, "2", "0", "2")
	ms := k.records(x.body)
	marks := "\x02MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02CLUSTER\x01DefaultCluster\x02"
	if len(ms) != 2 || string(ms[0].Body) != "b1" || ms[0].Flag != 7 || ms[1].QueueOffset != 1 || ms[1].BornHost.String() != born ||
		ms[0].Properties != "UNIQ_KEY\x01B1\x02TAGS\x01TagA"+marks || ms[1].Properties != "UNIQ_KEY\x01B2\x02WAIT\x01true"+marks {
		k.t.Errorf("batch %+v", ms)
	}
}

// refusals are the answers to what is wrong: each request gets one.
func (k *talker) refusals() {
	k.t.Helper()
	if x := k.call(3, 9999, ""); x.Remark != " request type 9999 not supported" {
		k.t.Errorf("an unknown code is answered %q", x.Remark)
	}
	for _, c := range []struct {
		code  int
		topic string
		queue int
		body  int
		more  []string
	}{
		{code: 29, topic: "TopicTest", queue: 4},
		{code: 29, topic: "a/b"},
		{code: 16, topic: "SCHEDULE_TOPIC_XXXX"},
		{code: 16, topic: "RMQ_SYS_TRANS_HALF_TOPIC"},
		{code: 17, topic: "Other", more: []string{"defaultTopic", "TopicTest"}},
		{code: 13, topic: "TopicTest", body: 4<<20 + 1},
		{code: 13, topic: "TopicTest", more: []string{"properties", "TIMER_DELAY_SEC\x01300000\x02"}},
		{code: 13, topic: "TopicTest", more: []string{"properties", "x\x01" + strings.Repeat("y", 32<<10) + "\x02"}},
	} {
		code, ext := k.sending("PG", c.topic, c.queue, "", c.more...)
		x := k.call(c.code, code, strings.Repeat("z", max(c.body, 1)), ext...)
		k.fields(x, "MSG_REGION", "DefaultRegion", "TRACE_ON", "true")
		if x.Remark == "" {
			k.t.Errorf("%s: code %d without a remark", k.d.name, c.code)
		}
	}
	if x := k.call(1, 310, "b", "b", "TopicTest"); !strings.Contains(x.Remark, "missing a") {
		k.t.Errorf("a send without its fields is answered %q", x.Remark)
	}
}

// A transactional producer (§6.3): the sender of a half message dies, and
// another member of its group, which speaks otherwise, is asked and decides.
func TestTranscript_TransactionalProducer(t *testing.T) {
	t.Parallel()
	inBubble(t, []*dialect{&java5, &java4, &javaBinary, &goV2}, func(t *testing.T, d *dialect) {
		s := servePipes(t, Config{})
		s.makeTopic(t, "TopicTest", 4)
		other := &goV2
		if d == other {
			other = &java5
		}
		k := s.talk(t, d, "10.0.0.9:50000")
		k.beat(`{"clientID":"10.0.0.9@1#1","consumerDataSet":[],"producerDataSet":[{"groupName":"PG"}]}`)

		done := k.half("U-DONE", 1)
		k.ends(k.place(done["msgId"]), "PG", "U-DONE", "8", "false", 0)
		k.ends(k.place(done["msgId"]), "PG", "U-DONE", "8", "false", 0) // the client repeats it
		back := k.half("U-BACK", 1)
		k.ends(k.place(back["msgId"]), "PG", "U-BACK", "12", "false", 0)
		k.ends(k.place(back["msgId"]), "PG", "U-BACK", "8", "true", 604)
		open := k.half("U-OPEN", 3)
		at := k.place(open["msgId"])
		if again := k.half("U-OPEN", 3); again["msgId"] != open["msgId"] {
			t.Errorf("the same half message lies at %s and at %s", open["msgId"], again["msgId"])
		}
		k.unknown(at, "PG", "U-OPEN")
		k.ends(at, "OTHER", "U-OPEN", "8", "false", 1)
		k.ends(at+1, "PG", "U-OPEN", "8", "false", 1)
		k.leave()

		time.Sleep(10 * time.Minute) // nobody is there: no question counts
		peer := s.talk(t, other, "10.0.0.10:50000")
		peer.beat(`{"clientID":"10.0.0.10@2","producerDataSet":[{"groupName":"PG"}],"consumerDataSet":[]}`)
		peer.questioned(2*time.Second, at, "U-OPEN", 3, "1")
		peer.unknown(at, "PG", "U-OPEN") // it does not know yet
		x := peer.questioned(31*time.Second, at, "U-OPEN", 3, "2")
		peer.ends(at, "PG", "U-OPEN", "8", "true", 0)
		peer.silence("behind the decision")
		time.Sleep(100 * time.Second)
		peer.silence("a decided message is not asked for")

		ms := peer.records(x.body)
		got := peer.records(peer.call(0, 11, "", peer.pulling("TOOLS_CONSUMER", "TopicTest", 3, 0, 4, "subscription", "*")...).body)
		want := strings.ReplaceAll(ms[0].Properties, "\x02TRANSACTION_CHECK_TIMES\x012\x02WAIT\x01false\x02", "\x02")
		if len(got) != 1 || got[0].SysFlag != 8 || got[0].PreparedTransactionOffset != at || string(got[0].Body) != "body of U-OPEN" || got[0].Properties != want {
			t.Errorf("committed %+v, want the properties %q", got, want)
		}
		for queue, n := range []int{0, 1, 0} {
			x := peer.say(11, "", peer.pulling("TOOLS_CONSUMER", "TopicTest", queue, 0, 4, "subscription", "*")...)
			if ms := peer.records(peer.answer(x).body); len(ms) != n {
				t.Errorf("queue %d has %d messages, want %d", queue, len(ms), n)
			}
		}
		if n := s.Stats().Conflicts; n != 1 {
			t.Errorf("%d conflicts", n)
		}
	})
}

// half sends a half message and answers the fields of the answer.
func (k *talker) half(id string, queue int) map[string]string {
	k.t.Helper()
	x := k.sent("PG", "TopicTest", queue, "body of "+id, "PGROUP\x01PG\x02TRAN_MSG\x01true\x02UNIQ_KEY\x01"+id+"\x02", "sysFlag", "4")
	if x["transactionId"] != id {
		k.t.Errorf("%s: half message %s is answered %v", k.d.name, id, x)
	}
	return x
}

// ends sends a decision, one-way; who does not mark that is answered with code.
func (k *talker) ends(at int64, group, id, decision, fromCheck string, code int) {
	k.t.Helper()
	opaque := k.oneWay(37, "", "producerGroup", group, "tranStateTableOffset", "0", "commitLogOffset", strconv.FormatInt(at, 10),
		"commitOrRollback", decision, "fromTransactionCheck", fromCheck, "msgId", id, "transactionId", id)
	if k.d.marks {
		k.silence("a decision that is one-way")
		return
	}
	if x := k.answer(opaque); x.Code != code {
		k.t.Errorf("%s: decision %s of %s is answered %d %q, want %d", k.d.name, decision, id, x.Code, x.Remark, code)
	}
}

// unknown says that an outcome is not known. RocketMQ does not answer that.
func (k *talker) unknown(at int64, group, id string) {
	k.t.Helper()
	k.oneWay(37, "", "producerGroup", group, "tranStateTableOffset", "0", "commitLogOffset", strconv.FormatInt(at, 10),
		"commitOrRollback", "0", "fromTransactionCheck", "false", "msgId", id, "transactionId", id)
	k.silence("an unknown outcome")
}

// questioned waits for the question about a half message (39).
func (k *talker) questioned(within time.Duration, at int64, id string, queue int, times string) heard {
	k.t.Helper()
	time.Sleep(within)
	x := k.hear()
	if x.Code != 39 || x.Flag != 2 {
		k.t.Fatalf("%s: got code %d with flag %d, want a question", k.d.name, x.Code, x.Flag)
	}
	k.fields(x, "tranStateTableOffset", "0", "commitLogOffset", strconv.FormatInt(at, 10), "msgId", id, "transactionId", id,
		"offsetMsgId", fmt.Sprintf("7F00000100002694%016X", at), "topic", "TopicTest", "bname", "broker-a")
	ms := k.records(x.body)
	want := map[string]string{
		"PGROUP": "PG", "TRAN_MSG": "true", "UNIQ_KEY": id, "__transactionId__": id, "REAL_TOPIC": "TopicTest", "REAL_QID": strconv.Itoa(queue),
		"TRANSACTION_CHECK_TIMES": times, "WAIT": "false", "CLUSTER": "DefaultCluster", "MSG_REGION": "DefaultRegion", "TRACE_ON": "true",
	}
	if len(ms) != 1 || ms[0].Topic != "TopicTest" || int(ms[0].QueueID) != queue || ms[0].PhysicalOffset != at || ms[0].SysFlag != 0 ||
		fmt.Sprint(message.ParseProperties(ms[0].Properties)) != fmt.Sprint(want) {
		k.t.Errorf("%s: the half message in the question: %+v\nwant the properties %v", k.d.name, ms, want)
	}
	return x
}

// A client that asks for nothing but a topic is nobody: no question goes there.
func TestTranscript_QuestionsGoToProducers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := servePipes(t, Config{})
		s.makeTopic(t, "TopicTest", 4)
		k := s.talk(t, &java5, "10.0.0.9:50000")
		k.half("U", 0)
		time.Sleep(30 * time.Second)
		k.silence("a sender that has not registered")
		if n := s.store.Stats().Halves; n != 1 {
			t.Errorf("%d half messages", n)
		}
		k.beat(`{"clientID":"c","producerDataSet":[{"groupName":"PG"}]}`)
		time.Sleep(time.Second)
		if x := k.hear(); x.Code != 39 {
			t.Errorf("got %d", x.Code)
		}
	})
}
