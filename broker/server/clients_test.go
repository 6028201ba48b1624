package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

func TestConsumerConnections(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p, q := b.dial(t), b.dial(t)
	p.topic("T", 2)
	ask := request(remoting.ReqGetConsumerConnections, "consumerGroup", "G")
	p.wantCode(remoting.ResConsumerNotOnline, ask)
	q.join("cid-q", "G", remoting.Clustering, "T")
	p.wantBody(fmt.Sprintf(`{"connectionSet":[{"clientAddr":%q,"clientId":"cid-q","language":"GO","version":479}],`+
		`"consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING",`+
		`"subscriptionTable":{"T":{"classFilterMode":false,"codeSet":[2598919,2598920],"expressionType":"TAG","subString":"TagA || TagB",`+
		`"subVersion":7,"tagsSet":["TagA","TagB"],"topic":"T"}}}`, q.LocalAddr()), ask)
	b.inside(t, "in", "G", "T")
	b.inside(t, "in", "H", "T")
	for group, want := range map[string]int{"G": 2, "H": 1} {
		a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetConsumerConnections, "consumerGroup", group))
		list, err := remoting.DecodeConnectionList(a.Body)
		if err != nil || len(list.Connections) != want || list.Connections[want-1].ClientID != "in" || list.ConsumeType != remoting.ConsumePassively {
			t.Errorf("group %s: got %s, %v", group, a.Body, err)
		}
	}
}

func TestProducerConnections(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	ask := request(remoting.ReqGetProducerConnections, "producerGroup", "P", "topic", "T")
	if a := p.wantCode(remoting.ResSystemError, ask); a.Remark != "the producer group[P] not exist" {
		t.Errorf("remark %q", a.Remark)
	}
	p.wantBody(`{"data":{}}`, request(remoting.ReqGetAllProducerInfo))
	p.produce("cid", "P", "CLIENT_INNER_PRODUCER")
	p.wantBody(fmt.Sprintf(`{"connectionSet":[{"clientAddr":%q,"clientId":"cid","language":"JAVA","version":479}]}`, p.LocalAddr()), ask)
	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetAllProducerInfo))
	table, err := remoting.DecodeProducerTable(a.Body)
	if err != nil || len(table.Groups) != 2 || table.Groups[1].Group != "P" {
		t.Fatalf("got %s, %v", a.Body, err)
	}
	one := table.Groups[1].Producers[0]
	if one.ClientID != "cid" || one.RemoteIP != p.LocalAddr().String() || one.LastUpdate < b.clock.started.UnixMilli() || one.LastUpdate > b.store.NowMs()+2000 {
		t.Errorf("got %+v", one)
	}
}

// answering makes p answer what the server asks of it.
func (p *peer) answering(f func(req *remoting.Command) *remoting.Command) {
	go func() {
		for {
			frame, err := p.frames.Next()
			if err != nil {
				return
			}
			var req remoting.Command
			if remoting.Decode(frame, &req, remoting.Limits{}) != nil || req.IsResponse() || req.IsOneWay() {
				continue
			}
			a := f(clone(&req))
			if a == nil {
				continue
			}
			a.Opaque, a.Flag = req.Opaque, remoting.FlagResponse
			out, err := remoting.AppendFrame(nil, a)
			if err != nil {
				return
			}
			if _, err := p.Write(out); err != nil {
				return
			}
		}
	}()
}

func TestRelay(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p, member := b.dial(t), b.dial(t)
	p.topic("T", 1)
	put := b.put(t, "T", 0, 1, "")
	member.join("cid", "G", remoting.Clustering, "T")
	member.answering(func(req *remoting.Command) *remoting.Command {
		a := &remoting.Command{Code: 1, Remark: "as the client says", Body: []byte(fmt.Sprint(req.Code, " ", req.Fields, " ", len(req.Body)))}
		if req.Code == remoting.ReqConsumeMessageDirectly {
			m, _, err := message.Decode(req.Body)
			a.Body = fmt.Appendf(nil, "%v %s %s %v", req.Fields, m.Topic, m.Body, err)
		}
		return a
	})
	info := request(remoting.ReqGetConsumerRunningInfo, "consumerGroup", "G", "clientId", "cid", "jstackEnable", "true", "AccessKey", "k", "Signature", "s")
	info.Body = []byte("abc")
	a := p.wantCode(remoting.ResSystemError, info)
	if want := "307 [{consumerGroup G} {clientId cid} {jstackEnable true}] 3"; a.Remark != "as the client says" || string(a.Body) != want {
		t.Errorf("got %q %s, want %s", a.Remark, a.Body, want)
	}
	id := message.OffsetID(b.host(t), put[0].Pos)
	for _, client := range []string{"cid", ""} {
		a := p.ask(request(remoting.ReqConsumeMessageDirectly, "consumerGroup", "G", "clientId", client, "msgId", id))
		if want := " T body 0 <nil>"; !strings.HasSuffix(string(a.Body), want) || !strings.Contains(string(a.Body), "{brokerName broker-a}") || !strings.Contains(string(a.Body), "{clientId cid}") {
			t.Errorf("got %d %s %s", a.Code, a.Remark, a.Body)
		}
	}
	for _, bad := range []*remoting.Command{
		request(remoting.ReqGetConsumerRunningInfo, "consumerGroup", "G", "clientId", "other"),
		request(remoting.ReqGetConsumerRunningInfo, "consumerGroup", "G"),
		request(remoting.ReqConsumeMessageDirectly, "consumerGroup", "nobody", "msgId", id),
		request(remoting.ReqConsumeMessageDirectly, "consumerGroup", "G", "msgId", "no id"),
		request(remoting.ReqConsumeMessageDirectly, "consumerGroup", "G", "msgId", id[:16]+"00000000000FFFFF"),
	} {
		if a := p.wantCode(remoting.ResSystemError, bad); a.Remark == "as the client says" {
			t.Errorf("%v reached the client", bad.Fields)
		}
	}
}

// A half message is not consumed, whoever asks for it.
func TestRelay_HalfMessagesStay(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p, member := b.dial(t), b.dial(t)
	p.topic("T", 1)
	half := b.half(t, "T", "P", "tx")
	member.join("cid", "G", remoting.Clustering, "T")
	member.answering(func(*remoting.Command) *remoting.Command { return &remoting.Command{} })
	id := message.OffsetID(b.host(t), half)
	p.wantCode(remoting.ResSystemError, request(remoting.ReqConsumeMessageDirectly, "consumerGroup", "G", "msgId", id))
}

func TestRelay_Versions(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p, old := b.dial(t), b.dial(t)
	p.topic("T", 1)
	beat := request(remoting.ReqHeartbeat)
	beat.Version = 27
	beat.Body = remoting.Heartbeat{ClientID: "old", Consumers: []remoting.ConsumerData{{Group: "G", MessageModel: remoting.Clustering}}}.AppendTo(nil)
	old.wantCode(remoting.ResSuccess, beat)
	for _, req := range []*remoting.Command{
		request(remoting.ReqGetConsumerRunningInfo, "consumerGroup", "G", "clientId", "old"),
		request(remoting.ReqInvokeBrokerToGetConsumerStatus, "group", "G", "topic", "T"),
	} {
		if a := p.wantCode(remoting.ResSystemError, req); !strings.Contains(a.Remark, "version 27") {
			t.Errorf("request %d: remark %q", req.Code, a.Remark)
		}
	}
}

// A client that does not answer costs the operator ten seconds, not more, and
// nobody else anything.
func TestRelay_Timeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := servePipes(t, Config{})
		p, member := b.dial(t), b.dial(t)
		p.topic("T", 1)
		member.join("cid", "G", remoting.Clustering, "T")
		member.answering(func(*remoting.Command) *remoting.Command { return nil })
		for code, wait := range map[int]int64{
			remoting.ReqGetConsumerRunningInfo:          relayWait.Milliseconds(),
			remoting.ReqInvokeBrokerToGetConsumerStatus: statusWait.Milliseconds(),
		} {
			from := b.store.NowMs()
			p.wantCode(remoting.ResConsumeMessageTimeout, request(code, "consumerGroup", "G", "clientId", "cid", "group", "G", "topic", "T"))
			if took := b.store.NowMs() - from; took != wait {
				t.Errorf("request %d: answered after %d ms, want %d", code, took, wait)
			}
		}
	})
}

// The answer does not wait for a client that is gone.
func TestRelay_ClientLeaves(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p, member := b.dial(t), b.dial(t)
	p.topic("T", 1)
	member.join("cid", "G", remoting.Clustering, "T")
	member.answering(func(*remoting.Command) *remoting.Command { _ = member.Close(); return nil })
	p.wantCode(remoting.ResSystemError, request(remoting.ReqGetConsumerRunningInfo, "consumerGroup", "G", "clientId", "cid"))
}

func TestConsumerStatus(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.topic("T", 2)
	ask := request(remoting.ReqInvokeBrokerToGetConsumerStatus, "topic", "T", "group", "G")
	p.wantCode(remoting.ResConsumerNotOnline, ask)
	for i, id := range []string{"a", "b"} {
		m := b.dial(t)
		m.join(id, "G", remoting.Clustering, "T")
		m.answering(func(req *remoting.Command) *remoting.Command {
			if req.Code != remoting.ReqGetConsumerStatusFromClient || req.Fields.Get("topic") != "T" || req.Fields.Get("group") != "G" {
				return &remoting.Command{Code: 1, Remark: "what?"}
			}
			status := remoting.ConsumerStatus{Queues: []remoting.QueuePosition{{MessageQueue: b.messageQueue("T", i), Offset: int64(10 + i)}}}
			return &remoting.Command{Body: status.AppendTo(nil)}
		})
	}
	const a, bb = `"a":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:10}`, `"b":{{"brokerName":"broker-a","queueId":1,"topic":"T"}:11}`
	p.wantBody(`{"consumerTable":{`+a+`,`+bb+`},"messageQueueTable":{}}`, ask)
	ask.Fields.Add("clientAddr", "b")
	p.wantBody(`{"consumerTable":{`+bb+`},"messageQueueTable":{}}`, ask)
	p.wantCode(remoting.ResTopicNotExist, request(remoting.ReqInvokeBrokerToGetConsumerStatus, "topic", "nothing", "group", "G"))
}

func TestQueryAssignment(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.topic("T", 3)
	ask := func(id, model, strategy, topic string) *remoting.Command {
		cmd := request(remoting.ReqQueryAssignment)
		cmd.Body = remoting.QueryAssignment{ClientID: id, Group: "G", MessageModel: model, Strategy: strategy, Topic: topic}.AppendTo(nil)
		return cmd
	}
	queues := func(id, model, strategy string) string {
		t.Helper()
		a := p.wantCode(remoting.ResSuccess, ask(id, model, strategy, "T"))
		list, err := remoting.DecodeAssignments(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, q := range list.Queues {
			if q.Topic != "T" || q.Broker != "broker-a" || q.Mode != remoting.ModePull {
				t.Errorf("got %+v", q)
			}
			got = append(got, fmt.Sprint(q.Queue))
		}
		return strings.Join(got, " ")
	}
	p.wantBody(`{}`, ask("a", remoting.Clustering, "AVG", "T"))
	p.join("a", "G", remoting.Clustering, "T")
	p.wantBody(`{}`, ask("a", remoting.Clustering, "AVG", "nothing"))
	p.wantBody(`{"messageQueueAssignments":[{"messageQueue":{"brokerName":"broker-a","queueId":0,"topic":"T"},"mode":"PULL"},`+
		`{"messageQueue":{"brokerName":"broker-a","queueId":1,"topic":"T"},"mode":"PULL"},`+
		`{"messageQueue":{"brokerName":"broker-a","queueId":2,"topic":"T"},"mode":"PULL"}]}`, ask("a", remoting.Clustering, "AVG", "T"))
	b.inside(t, "b", "G", "T") // a member in this process takes its share
	for _, test := range [][4]string{
		{"a", remoting.Clustering, "AVG", "0 1"},
		{"b", remoting.Clustering, "AVG", "2"},
		{"a", remoting.Clustering, "AVG_BY_CIRCLE", "0 2"},
		{"b", remoting.Clustering, "AVG_BY_CIRCLE", "1"},
		{"c", remoting.Clustering, "AVG", ""},
		{"c", remoting.Clustering, "AVG_BY_CIRCLE", ""},
		{"a", remoting.Broadcasting, "AVG", "0 1 2"},
	} {
		if got := queues(test[0], test[1], test[2]); got != test[3] {
			t.Errorf("%v: got %q", test, got)
		}
	}
	p.wantCode(remoting.ResSystemError, ask("a", remoting.Clustering, "BY_LOT", "T"))
	p.wantCode(remoting.ResSystemError, withBody(remoting.ReqQueryAssignment, `{`))
}

// Whatever the strategy, each queue has one owner, and no client has two more
// than another. The averaging one is RocketMQ's formula to the letter.
func TestAssignment_Divides(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		queues := make([]int, rapid.IntRange(0, 40).Draw(t, "queues"))
		for i := range queues {
			queues[i] = i
		}
		ids := make([]string, rapid.IntRange(1, 12).Draw(t, "clients"))
		for i := range ids {
			ids[i] = fmt.Sprintf("c%02d", i)
		}
		for _, divide := range []func([]int, []string, string) []int{averagely, byCircle} {
			var all []int
			least, most := len(queues), 0
			for _, id := range ids {
				share := divide(queues, ids, id)
				all = append(all, share...)
				least, most = min(least, len(share)), max(most, len(share))
			}
			slices.Sort(all)
			if !slices.Equal(all, queues) || most-least > 1 {
				t.Fatalf("%d queues for %d clients: %v, %d to %d each", len(queues), len(ids), all, least, most)
			}
		}
		for index, id := range ids {
			if got, want := averagely(queues, ids, id), formula(len(queues), len(ids), index); !slices.Equal(got, want) {
				t.Fatalf("%d queues for client %d of %d: got %v, want %v", len(queues), index, len(ids), got, want)
			}
		}
	})
}

// formula is the averaging strategy as RocketMQ's clients compute it.
func formula(n, c, index int) []int {
	mod, size := n%c, 1
	if n > c {
		size = n / c
		if mod > 0 && index < mod {
			size++
		}
	}
	start := index*size + mod
	if mod > 0 && index < mod {
		start = index * size
	}
	var out []int
	for i := range min(size, n-start) {
		out = append(out, start+i)
	}
	return out
}
