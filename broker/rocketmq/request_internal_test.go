package rocketmq

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// outcome is how a request ended.
type outcome struct {
	m   *driver.Message
	err error
}

// ask sends a request that waits for a second.
func ask(t *testing.T, c *conn) <-chan outcome {
	t.Helper()
	ended := make(chan outcome, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	go func() {
		defer cancel()
		m, err := c.Extensions().Requests.Request(ctx, &driver.Message{Topic: "t", Body: []byte("ask"), Properties: map[string]string{"p": "v"}})
		ended <- outcome{m, err}
	}()
	return ended
}

// introducing is a client of a broker that answers heartbeats, and keeps what
// else it is sent.
func introducing(t *testing.T) (*conn, *wire, <-chan *remoting.Command, *[]remoting.Heartbeat) {
	t.Helper()
	sent := make(chan *remoting.Command, 16)
	var beats []remoting.Heartbeat
	c, w := openWire(t, Config{}, func(w *wire, a asking) {
		a.frame = slices.Clone(a.frame)
		req := a.command(t)
		if req.Code != remoting.ReqHeartbeat {
			sent <- req
			return
		}
		h, err := remoting.DecodeHeartbeat(req.Body)
		if err != nil {
			t.Error(err)
		}
		beats = append(beats, h)
		w.reply(a, remoting.ResSuccess, "", nil)
	})
	return c, w, sent, &beats
}

// properties of a send.
func properties(t *testing.T, req *remoting.Command) map[string]string {
	t.Helper()
	h, err := remoting.DecodeSend(req.Code, req.Fields)
	if err != nil {
		t.Fatal(err)
	}
	return message.ParseProperties(h.Properties)
}

// push brings a reply.
func (w *wire) push(t *testing.T, id, body string) {
	t.Helper()
	x := remoting.PushReply{
		SendMessage: remoting.SendMessage{
			ProducerGroup: "g", Topic: "c_REPLY_TOPIC", Properties: string(message.AppendProperties(nil, map[string]string{
				message.CorrelationID: id, message.MsgType: "reply", message.ReplyToClient: "client", message.TTL: "1", message.UniqKey: "R", "q": "w",
			})),
		}, BornHost: "127.0.0.1:1", StoreHost: wireAddr,
	}
	req := &remoting.Command{Code: remoting.ReqPushReply, Opaque: 77, Body: []byte(body)}
	x.AppendTo(&req.Fields)
	w.say(t, req)
}

// respond answers a request; what is no send does not mind the fields.
func (w *wire) respond(t *testing.T, req *remoting.Command, code int, remark string, fields ...remoting.Field) {
	t.Helper()
	a := &remoting.Command{Code: code, Opaque: req.Opaque, Flag: remoting.FlagResponse, Remark: remark, Fields: fields}
	remoting.SendResult{MsgID: "7F00000100002A9F0000000000000000", QueueOffset: 7}.AppendTo(&a.Fields)
	w.say(t, a)
}

// A broker knows who waits before it gets the request, and what comes back is
// the answer to it.
func TestRequest_OnTheWire(t *testing.T) { synctest.Test(t, testRequestWire) }

func testRequestWire(t *testing.T) {
	c, w, sent, beats := introducing(t)
	for i := range 2 {
		ended := ask(t, c)
		req := <-sent
		got := properties(t, req)
		if req.Code != remoting.ReqSendMessageV2 || got[message.ReplyToClient] != "client" || got[message.TTL] != "1000" || got["p"] != "v" || got[message.CorrelationID] == "" {
			t.Errorf("the request is code %d with the properties %v", req.Code, got)
		}
		if len(*beats) != 1 || (*beats)[0].ClientID != "client" || !slices.Equal((*beats)[0].Producers, []string{requesterGroup}) {
			t.Errorf("before request %d the broker got the heartbeats %+v", i, *beats)
		}
		if i == 0 { // the reply overtakes the broker's answer
			w.push(t, got[message.CorrelationID], "answer")
		}
		synctest.Wait()
		w.respond(t, req, remoting.ResSuccess, "")
		if i == 1 {
			w.push(t, "of another", "wrong")
			w.push(t, got[message.CorrelationID], "answer")
		}
		o := <-ended
		if o.err != nil || string(o.m.Body) != "answer" || o.m.Topic != "t" || o.m.ID != "R" || len(o.m.Properties) != 1 || o.m.Properties["q"] != "w" {
			t.Errorf("got %+v, %v", o.m, o.err)
		}
		for range 1 + i { // also the one that nobody waits for
			if a := <-sent; !a.IsResponse() || a.Code != remoting.ResSuccess || a.Opaque != 77 {
				t.Errorf("the broker is answered %+v", a)
			}
		}
	}
}

// An error says whether somebody may act on the request.
func TestRequest_Fails(t *testing.T) { synctest.Test(t, testRequestFails) }

func testRequestFails(t *testing.T) {
	c, w, sent, _ := introducing(t)
	want := func(what string, o outcome, code driver.Code, maybe bool) {
		t.Helper()
		var e *driver.Error
		if !errors.As(o.err, &e) || e.Code != code || e.MaybeDone != maybe {
			t.Errorf("%s: got %v, want %s, maybe done %v", what, o.err, code, maybe)
		}
	}
	ended := ask(t, c)
	w.respond(t, <-sent, remoting.ResMessageIllegal, "no")
	want("refused", <-ended, driver.InvalidArgument, false)

	began := time.Now()
	ended = ask(t, c)
	<-sent // nothing comes back
	want("no answer", <-ended, driver.Timeout, true)
	ended = ask(t, c)
	w.respond(t, <-sent, remoting.ResSuccess, "")
	want("no reply", <-ended, driver.Timeout, true)
	if took := time.Since(began); took != 2*time.Second {
		t.Errorf("two requests with a second each took %v", took)
	}

	ended = ask(t, c)
	w.respond(t, <-sent, remoting.ResSuccess, "")
	synctest.Wait()
	began = time.Now()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	want("closed", <-ended, driver.Closed, true)
	if time.Since(began) > 0 || len(c.asks.waiting) > 0 {
		t.Errorf("Close took %v and left %d that wait", time.Since(began), len(c.asks.waiting))
	}
}

// delivered is a delivery of a queue with properties.
func delivered(c *conn, props map[string]string) *driver.Delivery {
	e := &entry{stored: message.Stored{Topic: "t", Properties: string(message.AppendProperties(nil, props))}}
	return &driver.Delivery{Token: &flight{e: e, lane: &lane{f: &feed{c: c, queue: Queue{"t", "b", 0}}}}}
}

// A reply goes by the broker of the request, and its error says what became of it.
func TestReply_OnTheWire(t *testing.T) { synctest.Test(t, testReplyWire) }

func testReplyWire(t *testing.T) {
	c, w, sent, _ := introducing(t)
	if r := make(chan driver.SendResult, 1); true { // finds the broker
		go func() { r <- one(t.Context(), c, "m") }()
		w.respond(t, <-sent, remoting.ResSuccess, "")
		<-r
	}
	asked := map[string]string{message.CorrelationID: "c-1", message.ReplyToClient: "asker", message.TTL: "3000", message.Cluster: "c"}
	for _, x := range []struct {
		code   int
		remark string
		want   driver.Code
		maybe  bool
	}{
		{code: remoting.ResSuccess},
		{code: remoting.ResFlushSlaveTimeout},
		{remoting.ResSystemError, "push reply message fail, channel of <asker> not found.", driver.NotFound, false},
		{remoting.ResSystemError, "push reply message to asker fail.", driver.Unavailable, true},
		{remoting.ResSystemBusy, "busy", driver.ResourceExhausted, false},
	} {
		ended := make(chan error, 1)
		go func() {
			ended <- c.Extensions().Requests.Reply(t.Context(), delivered(c, asked), &driver.Message{Body: []byte("answer"), Properties: map[string]string{"q": "w"}})
		}()
		req := <-sent
		h, err := remoting.DecodeSend(req.Code, req.Fields)
		got := message.ParseProperties(h.Properties)
		if err != nil || req.Code != remoting.ReqSendReplyV2 || h.Topic != "c_REPLY_TOPIC" || got[message.MsgType] != "reply" || got["q"] != "w" ||
			got[message.CorrelationID] != "c-1" || got[message.ReplyToClient] != "asker" || got[message.TTL] != "3000" || string(req.Body) != "answer" {
			t.Errorf("the reply is code %d to %s with %v, %v", req.Code, h.Topic, got, err)
		}
		w.respond(t, req, x.code, x.remark)
		err = <-ended
		if x.want == driver.Unknown {
			if err != nil {
				t.Errorf("code %d: %v", x.code, err)
			}
			continue
		}
		var e *driver.Error
		if !errors.As(err, &e) || e.Code != x.want || e.MaybeDone != x.maybe {
			t.Errorf("code %d %q: got %v, want %s, maybe done %v", x.code, x.remark, err, x.want, x.maybe)
		}
	}
	delete(asked, message.Cluster)
	err := c.Extensions().Requests.Reply(t.Context(), delivered(c, asked), &driver.Message{})
	if driver.CodeOf(err) != driver.Unsupported || !strings.Contains(err.Error(), "4.7") {
		t.Errorf("a broker that does not say its cluster: got %v", err)
	}
}

// What a broker says of a recall.
func TestRecall_OnTheWire(t *testing.T) { synctest.Test(t, testRecallWire) }

func testRecallWire(t *testing.T) {
	c, w, sent, _ := introducing(t)
	due := time.Now().Add(time.Hour)
	handle := message.RecallHandle{Topic: "t", Broker: "b", Due: due.UnixMilli(), UniqueID: "U"}.String()
	results := make(chan driver.SendResult, 1)
	go func() {
		results <- c.Send(t.Context(), driver.SendRequest{Messages: []*driver.Message{{Topic: "t", DeliverAt: due}}})[0]
	}()
	for {
		req := <-sent
		if req.Code == remoting.ReqSendMessageV2 {
			w.respond(t, req, remoting.ResSuccess, "", remoting.Field{Name: "recallHandle", Value: handle})
			break
		}
		w.respond(t, req, remoting.ResUnsupported, "") // what the driver asks of brokers before it delays
	}
	if r := <-results; r.Err != nil || r.Recall != handle {
		t.Fatalf("a delayed message has the result %+v", r)
	}
	for _, x := range []struct {
		code   int
		remark string
		want   driver.Code
		says   string
	}{
		{code: remoting.ResSuccess},
		{remoting.ResNoPermission, "recall failed, operation is forbidden", driver.Unsupported, "recallMessageEnable"},
		{remoting.ResNoPermission, "no right", driver.PermissionDenied, "no right"},
		{remoting.ResIllegalOperation, "recall failed, timestamp invalid", driver.FailedPrecondition, "timestamp"},
		{remoting.ResUnsupported, "code 370", driver.Unsupported, ""},
	} {
		ended := make(chan error, 1)
		go func() { ended <- c.Extensions().Recall.Recall(t.Context(), "t", handle) }()
		req := <-sent
		if req.Code != remoting.ReqRecallMessage || req.Fields.Get("topic") != "t" || req.Fields.Get("recallHandle") != handle || req.Fields.Get("bname") != "b" {
			t.Errorf("the request is %+v", req)
		}
		w.respond(t, req, x.code, x.remark)
		err := <-ended
		var e *driver.Error
		if x.want == driver.Unknown && err != nil ||
			x.want != driver.Unknown && (!errors.As(err, &e) || e.Code != x.want || e.Retryable || e.MaybeDone || !strings.Contains(err.Error(), x.says)) {
			t.Errorf("code %d %q: got %v", x.code, x.remark, err)
		}
	}
}
