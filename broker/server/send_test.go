package server

import (
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// outgoing is a send with what most tests do not care about.
func outgoing(topic string, queue int, body, properties string) *remoting.Command {
	x := remoting.SendMessage{
		ProducerGroup: "PG", Topic: topic, DefaultTopic: "TBW102", DefaultTopicQueues: 4, QueueID: int32(queue),
		BornTimestamp: 1_700_000_000_000, Flag: 7, Properties: properties, MaxReconsumeTimes: -1,
	}
	return sending(remoting.ReqSendMessageV2, x, body)
}

func sending(code int, x remoting.SendMessage, body string) *remoting.Command {
	cmd := &remoting.Command{Code: code, Version: remoting.Version, Body: []byte(body)}
	x.AppendTo(code, &cmd.Fields)
	return cmd
}

func props(pairs ...string) string {
	var b []byte
	for i := 0; i+1 < len(pairs); i += 2 {
		b = message.AppendProperty(b, pairs[i], pairs[i+1])
	}
	return string(b)
}

// mustSend sends and answers what the broker said of the message.
func (p *peer) mustSend(cmd *remoting.Command) remoting.SendResult {
	p.t.Helper()
	a := p.ask(cmd)
	if a.Code != remoting.ResSuccess {
		p.t.Fatalf("send: %d %s", a.Code, a.Remark)
	}
	r, err := remoting.DecodeSendResult(a.Fields)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// pulling is a pull that carries its own subscription.
func pulling(group, topic string, queue int, offset int64) remoting.PullMessage {
	return remoting.PullMessage{
		Group: group, Topic: topic, QueueID: int32(queue), QueueOffset: offset, MaxMessages: 32, SysFlag: remoting.PullSubscription,
		Subscription: "*", ExpressionType: remoting.ExpressionTag,
	}
}

func pullCommand(x remoting.PullMessage) *remoting.Command {
	cmd := &remoting.Command{Code: remoting.ReqPullMessage, Version: remoting.Version}
	x.AppendTo(&cmd.Fields)
	return cmd
}

// pulled reads an answer to a pull.
func pulled(t *testing.T, a *remoting.Command) (remoting.PullResult, []message.Stored) {
	t.Helper()
	r, err := remoting.DecodePullResult(a.Fields)
	if err != nil {
		t.Fatalf("answer %d %s: %v", a.Code, a.Remark, err)
	}
	var ms []message.Stored
	for b := a.Body; len(b) > 0; {
		m, n, err := message.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
		b = b[n:]
	}
	return r, ms
}

func (p *peer) pull(x remoting.PullMessage) (code int, r remoting.PullResult, ms []message.Stored) {
	p.t.Helper()
	a := p.ask(pullCommand(x))
	r, ms = pulled(p.t, a)
	return a.Code, r, ms
}

func (b *bundle) topic(t *testing.T, name string, queues int) {
	t.Helper()
	if err := b.store.PutTopic(t.Context(), embedded.Topic{Name: name, Queues: queues}); err != nil {
		t.Fatal(err)
	}
}

// What a producer sends is what a consumer pulls, byte for byte, with what the
// broker adds.
func TestSend_RoundTrip(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 4)
	p := s.dial(t)
	r := p.mustSend(outgoing("T", 2, "hello", props("UNIQ_KEY", "0A01", "TAGS", "TagA", "KEYS", "k1 k2", "WAIT", "true", "a", "b")))
	if r.QueueID != 2 || r.QueueOffset != 0 || r.Region != region || r.TraceOn != "true" || r.TransactionID != "0A01" {
		t.Errorf("answer %+v", r)
	}
	code, x, ms := p.pull(pulling("G", "T", 2, 0))
	if code != remoting.ResSuccess || len(ms) != 1 || x.NextBeginOffset != 1 || x.MaxOffset != 1 {
		t.Fatalf("pull: %d %+v %d messages", code, x, len(ms))
	}
	m := ms[0]
	if string(m.Body) != "hello" || m.Topic != "T" || m.QueueID != 2 || m.Flag != 7 || m.BornTimestamp != 1_700_000_000_000 || m.SysFlag != 0 {
		t.Errorf("message %+v", m)
	}
	if got := m.BornHost.String(); got != p.LocalAddr().String() {
		t.Errorf("born host %s, the producer is %s", got, p.LocalAddr())
	}
	if got := m.StoreHost.String(); got != s.Addr().String() {
		t.Errorf("store host %s, the broker is %s", got, s.Addr())
	}
	want := map[string]string{
		"UNIQ_KEY": "0A01", "TAGS": "TagA", "KEYS": "k1 k2", "WAIT": "true", "a": "b",
		"CLUSTER": "DefaultCluster", "MSG_REGION": region, "TRACE_ON": "true",
	}
	got := message.ParseProperties(m.Properties)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("property %s = %q, want %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("properties %v, want %v", got, want)
	}
	if id := message.OffsetID(m.StoreHost, m.PhysicalOffset); id != r.MsgID {
		t.Errorf("offset id %s, the producer was told %s", id, r.MsgID)
	}
	// The id leads back to the message.
	_, pos, err := message.ParseOffsetID(r.MsgID)
	if err != nil {
		t.Fatal(err)
	}
	a := p.ask(request(remoting.ReqViewMessageByID, "offset", strconv.FormatInt(pos, 10)))
	if v, _, err := message.Decode(a.Body); err != nil || string(v.Body) != "hello" {
		t.Errorf("view: %d %v %s", a.Code, err, v.Body)
	}
}

func TestSend_LongNamesAndOpenProperties(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 1)
	p := s.dial(t)
	x := remoting.SendMessage{ProducerGroup: "PG", Topic: "T", DefaultTopic: "TBW102", DefaultTopicQueues: 4, QueueID: -1, Properties: "TAGS\x01A", MaxReconsumeTimes: -1}
	r := p.mustSend(sending(remoting.ReqSendMessage, x, "b"))
	if r.QueueID != 0 || len(r.TransactionID) != 32 {
		t.Errorf("answer %+v, want queue 0 and a unique id made by the broker", r)
	}
	_, _, ms := p.pull(pulling("G", "T", 0, 0))
	got := message.ParseProperties(ms[0].Properties)
	if got["TAGS"] != "A" || got["UNIQ_KEY"] != r.TransactionID || got["CLUSTER"] != "DefaultCluster" {
		t.Errorf("properties %q", ms[0].Properties)
	}
}

func TestSend_Refused(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 2)
	p := s.dial(t)
	element, err := message.AppendBatch(nil, message.BatchElement{Body: []byte("b")})
	if err != nil {
		t.Fatal(err)
	}
	oneElement := string(element)
	for name, c := range map[string]struct {
		cmd  *remoting.Command
		code int
		text string
	}{
		"unknown topic":   {outgoing("nope", 0, "b", ""), remoting.ResTopicNotExist, "nope"},
		"queue":           {outgoing("T", 2, "b", ""), remoting.ResInvalidParameter, "0 to 1"},
		"name":            {outgoing("../etc", 0, "b", ""), remoting.ResInvalidParameter, "../etc"},
		"protected":       {outgoing("SCHEDULE_TOPIC_XXXX", 0, "b", ""), remoting.ResNoPermission, "forbidden"},
		"template":        {outgoing("TBW102", 0, "b", ""), remoting.ResNoPermission, "forbidden"},
		"retry name":      {outgoing("%RETRY%../x", 0, "b", ""), remoting.ResInvalidParameter, "holds"},
		"half, no group":  {outgoing("T", 0, "b", props("TRAN_MSG", "true")), remoting.ResMessageIllegal, "producer group"},
		"timer too far":   {outgoing("T", 0, "b", props("TIMER_DELIVER_MS", strconv.FormatInt(time.Now().Add(100*time.Hour).UnixMilli(), 10))), remoting.ResMessageIllegal, "max delay"},
		"body":            {outgoing("T", 0, strings.Repeat("x", 4<<20+1), ""), remoting.ResMessageIllegal, "bytes"},
		"properties":      {outgoing("T", 0, "b", props("a", strings.Repeat("x", 32760))), remoting.ResMessageIllegal, "bytes"},
		"missing field":   {request(remoting.ReqSendMessageV2, "b", "T"), remoting.ResSystemError, "missing a"},
		"empty batch":     {sending(remoting.ReqSendBatch, remoting.SendMessage{Topic: "T", Batch: true, MaxReconsumeTimes: -1}, ""), remoting.ResMessageIllegal, "no message"},
		"delayed batch":   {sending(remoting.ReqSendBatch, remoting.SendMessage{Topic: "T", Batch: true, Properties: props("DELAY", "3"), MaxReconsumeTimes: -1}, oneElement), remoting.ResMessageIllegal, "delayed"},
		"half batch":      {sending(remoting.ReqSendBatch, remoting.SendMessage{Topic: "T", Batch: true, Properties: props("TRAN_MSG", "true", "PGROUP", "g"), MaxReconsumeTimes: -1}, oneElement), remoting.ResMessageIllegal, "transactional"},
		"marked batch":    {sending(remoting.ReqSendBatch, remoting.SendMessage{Topic: "T", Batch: true, SysFlag: message.SysPrepared, MaxReconsumeTimes: -1}, oneElement), remoting.ResMessageIllegal, "transactional"},
		"no group":        {outgoing("%RETRY%", 0, "b", ""), remoting.ResInvalidParameter, "after the prefix"},
		"no dead group":   {outgoing("%DLQ%", 0, "b", ""), remoting.ResInvalidParameter, "after the prefix"},
		"malformed batch": {sending(remoting.ReqSendBatch, remoting.SendMessage{Topic: "T", Batch: true, MaxReconsumeTimes: -1}, "\x00\x00\x00\x05x"), remoting.ResMessageIllegal, "batch"},
	} {
		a := p.ask(c.cmd)
		if a.Code != c.code || !strings.Contains(a.Remark, c.text) {
			t.Errorf("%s: %d %q, want %d with %q", name, a.Code, a.Remark, c.code, c.text)
		}
	}
	if _, ok := s.store.Topic("nope"); ok {
		t.Error("a refused send has made its topic")
	}
}

// A topic is made by its first message, with as many queues as client and
// template agree on.
func TestSend_AutoCreate(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{AutoCreate: true, Limits: Limits{Topics: 2}})
	p := s.dial(t)
	p.mustSend(outgoing("A", 3, "b", ""))
	if got, _ := s.store.Topic("A"); got.Queues != 4 {
		t.Errorf("%d queues, want 4", got.Queues)
	}
	x := remoting.SendMessage{Topic: "B", DefaultTopic: "TBW102", DefaultTopicQueues: 99, MaxReconsumeTimes: -1}
	p.mustSend(sending(remoting.ReqSendMessage, x, "b"))
	if got, _ := s.store.Topic("B"); got.Queues != templateQueues {
		t.Errorf("%d queues, want %d", got.Queues, templateQueues)
	}
	if a := p.ask(outgoing("C", 0, "b", "")); a.Code == remoting.ResSuccess || !strings.Contains(a.Remark, "Limits.Topics") {
		t.Errorf("beyond the limit: %d %s", a.Code, a.Remark)
	}
}

// What waits is bounded: further half messages and delayed ones are refused
// until some are decided or due.
func TestSend_WaitingIsBounded(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	s := serveOn(t, Config{Limits: Limits{Halves: 1, Delayed: 1}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.topic(t, "T", 1)
	p := s.dial(t)
	pos := p.half("A")
	p.mustSend(outgoing("T", 0, "b", props("DELAY", "18")))
	half := outgoing("T", 0, "b", props("TRAN_MSG", "true", "PGROUP", "PG", "UNIQ_KEY", "B"))
	for name, cmd := range map[string]*remoting.Command{"Limits.Halves": half, "Limits.Delayed": outgoing("T", 0, "b", props("DELAY", "18"))} {
		if a := p.ask(cmd); a.Code != remoting.ResSystemBusy || !strings.Contains(a.Remark, name) {
			t.Errorf("%s: %d %s", name, a.Code, a.Remark)
		}
		p.wantCode(remoting.ResSystemBusy, cmd)
	}
	for _, want := range []string{
		`level=WARN msg="a half message was refused" topic=T reason="[OVERLOAD] 1 half messages are undecided, as many as may be (Limits.Halves) (code 2)"`,
		`level=WARN msg="a delayed message was refused" topic=T reason="[OVERLOAD] 1 messages are not due yet, as many as may be (Limits.Delayed) (code 2)"`,
	} {
		if n := strings.Count(log.String(), want); n != 1 { // not each time
			t.Errorf("the log has %d lines %q:\n%s", n, want, log.String())
		}
	}
	p.ask(ending("A", "PG", pos, remoting.DecisionRollback))
	p.half("B")
}

func TestSend_Batch(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.topic(t, "T", 2)
	p := s.dial(t)
	var body []byte
	for i := range 3 {
		body, _ = message.AppendBatch(body, message.BatchElement{Flag: int32(i), Body: []byte("b" + strconv.Itoa(i)), Properties: props("UNIQ_KEY", "id"+strconv.Itoa(i), "TAGS", "A")})
	}
	r := p.mustSend(sending(remoting.ReqSendBatch, remoting.SendMessage{ProducerGroup: "PG", Topic: "T", QueueID: 1, Batch: true, Properties: props("WAIT", "true"), MaxReconsumeTimes: -1}, string(body)))
	if ids := strings.Split(r.MsgID, ","); len(ids) != 3 || r.QueueOffset != 0 || r.QueueID != 1 {
		t.Errorf("answer %+v", r)
	}
	_, x, ms := p.pull(pulling("G", "T", 1, 0))
	if len(ms) != 3 || x.NextBeginOffset != 3 {
		t.Fatalf("%d messages, next %d", len(ms), x.NextBeginOffset)
	}
	for i, m := range ms {
		if string(m.Body) != "b"+strconv.Itoa(i) || m.Flag != int32(i) || m.QueueOffset != int64(i) || message.Property(m.Properties, "UNIQ_KEY") != "id"+strconv.Itoa(i) {
			t.Errorf("element %d: %+v", i, m)
		}
	}
}

// Sends of one connection are staged in its order although nobody waits for the
// answers, and in the mode that syncs they are answered after the sync.
func TestSend_Pipelined(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *bundle{
		"memory": func(t *testing.T) *bundle { return serveOn(t, Config{}) },
		"synced": func(t *testing.T) *bundle { return serveSynced(t, Config{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			s.topic(t, "T", 1)
			p := s.dial(t)
			const n = 300
			first := p.opaque + 1
			for i := range n {
				p.send(outgoing("T", 0, strconv.Itoa(i), ""))
			}
			offsets := map[int32]int64{}
			for range n {
				a := p.next()
				r, err := remoting.DecodeSendResult(a.Fields)
				if err != nil {
					t.Fatal(a.Code, a.Remark, err)
				}
				offsets[a.Opaque] = r.QueueOffset
			}
			for i := range n {
				if got := offsets[first+int32(i)]; got != int64(i) {
					t.Fatalf("message %d has offset %d", i, got)
				}
			}
		})
	}
}

func TestSend_DelayLevelsAndTimers(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{DelayLevels: []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}})
	s.topic(t, "T", 2)
	p := s.dial(t)
	at := s.store.NowMs()
	p.mustSend(outgoing("T", 1, "level", props("DELAY", "99", "TIMER_DELAY_MS", "1")))
	p.mustSend(outgoing("T", 1, "timer", props("TIMER_DELAY_MS", "120", "a", "b")))
	p.mustSend(outgoing("T", 1, "past", props("TIMER_DELIVER_MS", strconv.FormatInt(at-1000, 10))))
	var got []message.Stored
	for next := int64(0); len(got) < 3; {
		x := pulling("G", "T", 1, next)
		x.SysFlag |= remoting.PullSuspend
		x.SuspendMillis = 20_000
		_, r, ms := p.pull(x)
		got = append(got, ms...)
		next = r.NextBeginOffset
	}
	for i, want := range []struct {
		body  string
		after int64
	}{{"past", 0}, {"timer", 120}, {"level", 200}} {
		m := got[i]
		if string(m.Body) != want.body || m.StoreTimestamp < at+want.after {
			t.Errorf("message %d is %s after %d ms, want %s after %d", i, m.Body, m.StoreTimestamp-at, want.body, want.after)
		}
		if m.PreparedTransactionOffset != 0 {
			t.Errorf("%s names the position %d of its waiting copy", m.Body, m.PreparedTransactionOffset)
		}
	}
	if q := message.ParseProperties(got[2].Properties); q["REAL_TOPIC"] != "T" || q["REAL_QID"] != "1" || q["TIMER_DELAY_MS"] != "" {
		t.Errorf("properties of a delayed message: %q", got[2].Properties)
	}
}
