package server

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// half sends a half message and answers its physical offset.
func (p *peer) half(id string) int64 {
	p.t.Helper()
	x := remoting.SendMessage{
		ProducerGroup: "PG", Topic: "T", DefaultTopic: "TBW102", DefaultTopicQueues: 4, SysFlag: message.SysPrepared,
		Properties: props("TRAN_MSG", "true", "PGROUP", "PG", "UNIQ_KEY", id), MaxReconsumeTimes: -1,
	}
	r := p.mustSend(sending(remoting.ReqSendMessageV2, x, "body of "+id))
	_, pos, err := message.ParseOffsetID(r.MsgID)
	if err != nil {
		p.t.Fatal(err)
	}
	return pos
}

func ending(id, group string, pos int64, decision int32) *remoting.Command {
	cmd := &remoting.Command{Code: remoting.ReqEndTransaction, Version: remoting.Version}
	remoting.EndTransaction{ProducerGroup: group, CommitLogOffset: pos, Decision: decision, MsgID: id}.AppendTo(&cmd.Fields)
	return cmd
}

func TestTransaction_Decisions(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 1)
	p := s.dial(t)
	a, b := p.half("A"), p.half("B")
	if again := p.half("A"); again != a {
		t.Errorf("a half message that is sent again lies at %d, the first one at %d", again, a)
	}
	if code, _, _ := p.pull(pulling("G", "T", 0, 0)); code != remoting.ResPullNotFound {
		t.Errorf("half messages are visible: %d", code)
	}
	for i, c := range []struct {
		cmd  *remoting.Command
		code int
	}{
		{ending("A", "OTHER", a, remoting.DecisionCommit), remoting.ResSystemError},
		{ending("A", "PG", b, remoting.DecisionCommit), remoting.ResSystemError},
		{ending("A", "PG", a, 5), remoting.ResInvalidParameter},
		{ending("A", "PG", a, remoting.DecisionCommit), remoting.ResSuccess},
		{ending("A", "PG", a, remoting.DecisionCommit), remoting.ResSuccess},
		{ending("A", "PG", a, remoting.DecisionRollback), remoting.ResIllegalOperation},
		{ending("B", "PG", b, remoting.DecisionRollback), remoting.ResSuccess},
		{ending("B", "PG", b, remoting.DecisionCommit), remoting.ResIllegalOperation},
	} {
		if got := p.ask(c.cmd); got.Code != c.code {
			t.Errorf("step %d: %d %s, want %d", i, got.Code, got.Remark, c.code)
		}
	}
	_, _, ms := p.pull(pulling("G", "T", 0, 0))
	if len(ms) != 1 || string(ms[0].Body) != "body of A" {
		t.Fatalf("%d messages are visible, want the committed one once", len(ms))
	}
	m := ms[0]
	if m.PreparedTransactionOffset != a || m.SysFlag&message.SysTransaction != message.SysCommit {
		t.Errorf("prepared offset %d, flag %x; want %d and the mark of a commit", m.PreparedTransactionOffset, m.SysFlag, a)
	}
	if got := message.ParseProperties(m.Properties); got["UNIQ_KEY"] != "A" || got["PGROUP"] != "PG" || got["TRAN_MSG"] != "true" || got["__transactionId__"] != "A" || got["REAL_TOPIC"] != "T" {
		t.Errorf("properties %q", m.Properties)
	}
	// An unknown outcome is not answered, and what comes behind it is.
	p.send(ending("C", "PG", 0, remoting.DecisionUnknown))
	if got := p.ask(request(remoting.ReqGetMaxOffset, "topic", "T", "queueId", "0")); got.Fields.Get("offset") != "1" {
		t.Errorf("max offset %+v", got)
	}
}

// A half message that nobody decides is asked for, of a member of its group; a
// member whose connection is gone is not.
func TestTransaction_CheckBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servePipes(t, Config{})
		s.topic(t, "T", 1)
		p, q := s.dial(t), s.dial(t)
		produce(t, p, "P1", "PG")
		produce(t, q, "P2", "PG")
		pos := p.half("A")
		_ = p.Close() // its sender dies
		began := time.Now()
		k := q.next()
		if k.Code != remoting.ReqCheckTransactionState || !k.IsOneWay() {
			t.Fatalf("request %d", k.Code)
		}
		if d := time.Since(began); d < 5*time.Second || d > 8*time.Second {
			t.Errorf("asked after %v, want about 6 s", d)
		}
		x, err := remoting.DecodeCheckTransaction(k.Fields)
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := message.Decode(k.Body)
		if err != nil || m.Topic != "T" || string(m.Body) != "body of A" {
			t.Fatalf("the half message in the question: %v %+v", err, m)
		}
		got := message.ParseProperties(m.Properties)
		if x.CommitLogOffset != pos || x.MsgID != "A" || got["PGROUP"] != "PG" || got["TRAN_MSG"] != "true" || got["TRANSACTION_CHECK_TIMES"] != "1" {
			t.Errorf("question %+v, properties %q", x, m.Properties)
		}
		end := ending(x.MsgID, "PG", x.CommitLogOffset, remoting.DecisionCommit)
		end.Fields.Set("fromTransactionCheck", "true")
		if a := q.ask(end); a.Code != remoting.ResSuccess {
			t.Fatalf("decision: %d %s", a.Code, a.Remark)
		}
		if _, _, ms := q.pull(pulling("G", "T", 0, 0)); len(ms) != 1 {
			t.Errorf("%d messages are visible", len(ms))
		}
	})
}

// produce registers a client as a producer.
func produce(t *testing.T, p *peer, id, group string) {
	t.Helper()
	cmd := &remoting.Command{Code: remoting.ReqHeartbeat, Version: remoting.Version}
	cmd.Body = remoting.Heartbeat{ClientID: id, Producers: []string{group}}.AppendTo(nil)
	if a := p.ask(cmd); a.Code != remoting.ResSuccess {
		t.Fatalf("heartbeat: %d %s", a.Code, a.Remark)
	}
}

// A message that is sent back comes again by the retry topic, and beyond the
// number of attempts it is a dead letter.
func TestSendBack(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{DelayLevels: []time.Duration{time.Millisecond}})
	s.topic(t, "T", 1)
	p := s.dial(t)
	sent := p.mustSend(outgoing("T", 0, "b", props("UNIQ_KEY", "U", "TAGS", "A", "KEYS", "k")))
	_, _, ms := p.pull(pulling("G", "T", 0, 0))
	back := func(m message.Stored, level, most int32) {
		t.Helper()
		cmd := &remoting.Command{Code: remoting.ReqSendBack, Version: remoting.Version}
		remoting.SendBack{Offset: m.PhysicalOffset, Group: "G", DelayLevel: level, OriginTopic: "T", MaxReconsumes: most}.AppendTo(&cmd.Fields)
		if a := p.ask(cmd); a.Code != remoting.ResSuccess {
			t.Fatalf("send back: %d %s", a.Code, a.Remark)
		}
	}
	back(ms[0], 0, 2)
	again := func(topic string, offset int64) message.Stored {
		t.Helper()
		x := pulling("G", topic, 0, offset)
		x.SysFlag |= remoting.PullSuspend
		x.SuspendMillis = 20_000
		_, _, ms := p.pull(x)
		if len(ms) != 1 {
			t.Fatalf("%d messages in %s", len(ms), topic)
		}
		return ms[0]
	}
	first := again("%RETRY%G", 0)
	got := message.ParseProperties(first.Properties)
	if first.ReconsumeTimes != 1 || got["RETRY_TOPIC"] != "T" || got["ORIGIN_MESSAGE_ID"] != sent.MsgID || got["UNIQ_KEY"] != "U" || got["TAGS"] != "A" || got["WAIT"] != "false" {
		t.Errorf("redelivery %d %q", first.ReconsumeTimes, first.Properties)
	}
	if first.BornTimestamp != ms[0].BornTimestamp || first.BornHost != ms[0].BornHost {
		t.Error("a redelivery was born elsewhere")
	}
	back(first, 1, 2)
	second := again("%RETRY%G", 1)
	if second.ReconsumeTimes != 2 || message.Property(second.Properties, "ORIGIN_MESSAGE_ID") != sent.MsgID {
		t.Errorf("second redelivery %d %q", second.ReconsumeTimes, second.Properties)
	}
	back(second, 1, 2)
	dead := again("%DLQ%G", 0)
	if got := message.ParseProperties(dead.Properties); got["RETRY_TOPIC"] != "T" || got["REAL_TOPIC"] != "%RETRY%G" || got["DELAY"] != "0" || got["DLQ_ORIGIN_TOPIC"] != "" {
		t.Errorf("dead letter %q", dead.Properties)
	}
	back(ms[0], -1, 16)
	cmd := &remoting.Command{Code: remoting.ReqSendBack, Version: remoting.Version}
	remoting.SendBack{Offset: 12345, Group: "G"}.AppendTo(&cmd.Fields)
	if a := p.ask(cmd); a.Code != remoting.ResSystemError || !strings.Contains(a.Remark, "12345") {
		t.Errorf("sending back what is not there: %d %s", a.Code, a.Remark)
	}
}

// What an orderly consumer gives up it sends to its retry topic by itself; the
// broker makes it a dead letter, since the group holds queue locks.
func TestSend_ToRetryTopic(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{DelayLevels: []time.Duration{time.Millisecond}})
	s.topic(t, "T", 1)
	p := s.dial(t)
	x := remoting.SendMessage{
		ProducerGroup: "CLIENT_INNER_PRODUCER", Topic: "%RETRY%G", DefaultTopic: "TBW102", DefaultTopicQueues: 4, ReconsumeTimes: 3,
		Properties: props("RETRY_TOPIC", "T", "DELAY", "1"), MaxReconsumeTimes: 3,
	}
	p.mustSend(sending(remoting.ReqSendMessageV2, x, "again"))
	x.ReconsumeTimes = 4
	p.mustSend(sending(remoting.ReqSendMessageV2, x, "dead by count"))
	x.ReconsumeTimes = 0
	b := remoting.LockBatch{ClientID: "C", Group: "G", Queues: []remoting.MessageQueue{{Topic: "T", Broker: "broker-a"}}}
	if a := p.ask(&remoting.Command{Code: remoting.ReqLockBatch, Body: b.AppendTo(nil)}); a.Code != remoting.ResSuccess {
		t.Fatalf("lock: %d %s", a.Code, a.Remark)
	}
	p.mustSend(sending(remoting.ReqSendMessageV2, x, "dead by order"))
	hold := pulling("G", "%RETRY%G", 0, 0)
	hold.SysFlag |= remoting.PullSuspend
	hold.SuspendMillis = 20_000
	if _, _, ms := p.pull(hold); len(ms) != 1 || string(ms[0].Body) != "again" || ms[0].ReconsumeTimes != 3 {
		t.Errorf("redeliveries: %d", len(ms))
	}
	_, _, ms := p.pull(pulling("G", "%DLQ%G", 0, 0))
	if len(ms) != 2 || string(ms[0].Body) != "dead by count" || string(ms[1].Body) != "dead by order" {
		t.Errorf("%d dead letters", len(ms))
	}
}

func TestQueueLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servePipes(t, Config{})
		s.topic(t, "T", 3)
		p := s.dial(t)
		queues := []remoting.MessageQueue{{Topic: "T", Broker: "b", Queue: 0}, {Topic: "T", Broker: "b", Queue: 1}, {Topic: "T", Broker: "b", Queue: 9}}
		lock := func(client string) int {
			a := p.ask(&remoting.Command{Code: remoting.ReqLockBatch, Body: remoting.LockBatch{ClientID: client, Group: "G", Queues: queues}.AppendTo(nil)})
			r, err := remoting.DecodeLockedQueues(a.Body)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range r.Queues {
				if q.Broker != "b" {
					t.Errorf("the name of the broker is not echoed: %+v", q)
				}
			}
			return len(r.Queues)
		}
		if n := lock("A"); n != 2 {
			t.Errorf("A has %d queues, want the two that exist", n)
		}
		if n := lock("B"); n != 0 {
			t.Errorf("B has %d queues that A holds", n)
		}
		p.ask(&remoting.Command{Code: remoting.ReqUnlockBatch, Body: remoting.LockBatch{ClientID: "B", Group: "G", Queues: queues}.AppendTo(nil)})
		if n := lock("B"); n != 0 {
			t.Error("B has unlocked what A holds")
		}
		p.ask(&remoting.Command{Code: remoting.ReqUnlockBatch, Body: remoting.LockBatch{ClientID: "A", Group: "G", Queues: queues[:1]}.AppendTo(nil)})
		if n := lock("B"); n != 1 {
			t.Errorf("B has %d queues, want the one that A gave up", n)
		}
		for range 4 { // a connection that is silent for longer is closed
			time.Sleep(20 * time.Second)
			p.ask(request(remoting.ReqGetMaxOffset, "topic", "T", "queueId", "0"))
		}
		if n := lock("C"); n != 2 {
			t.Errorf("C has %d queues after the locks have expired", n)
		}
	})
}

func TestQueryMessage(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 1)
	p := s.dial(t)
	p.mustSend(outgoing("T", 0, "one", props("UNIQ_KEY", "U1", "KEYS", "k1 k2")))
	p.mustSend(outgoing("T", 0, "two", props("UNIQ_KEY", "U2", "KEYS", "k2")))
	find := func(key string, unique bool) (int, []message.Stored) {
		cmd := &remoting.Command{Code: remoting.ReqQueryMessage}
		remoting.QueryMessage{Topic: "T", Key: key, MaxNum: 32, End: 1 << 62, UniqueKey: unique}.AppendTo(&cmd.Fields)
		a := p.ask(cmd)
		if a.Code != remoting.ResSuccess {
			return a.Code, nil
		}
		if _, err := remoting.DecodeQueryResult(a.Fields); err != nil {
			t.Error(err)
		}
		var ms []message.Stored
		for b := a.Body; len(b) > 0; {
			m, n, err := message.Decode(b)
			if err != nil {
				t.Fatal(err)
			}
			ms, b = append(ms, m), b[n:]
		}
		return a.Code, ms
	}
	if _, ms := find("k2", false); len(ms) != 2 || string(ms[0].Body) != "two" {
		t.Errorf("by key: %d messages, want both, the newest first", len(ms))
	}
	if _, ms := find("U1", true); len(ms) != 1 || string(ms[0].Body) != "one" {
		t.Errorf("by unique id: %d messages", len(ms))
	}
	if code, _ := find("U1", false); code != remoting.ResQueryNotFound {
		t.Errorf("a unique id as a key: %d", code)
	}
}
