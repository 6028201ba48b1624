package server

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// beat makes a heartbeat of a clustering push consumer.
func beat(id, group string, subs ...remoting.SubscriptionData) *remoting.Command {
	return beatOf(id, remoting.ConsumerData{
		Group: group, ConsumeType: remoting.ConsumePassively, MessageModel: remoting.Clustering,
		ConsumeFromWhere: remoting.FromLastOffset, Subscriptions: subs,
	})
}

func beatOf(id string, consumers ...remoting.ConsumerData) *remoting.Command {
	cmd := request(remoting.ReqHeartbeat)
	cmd.Body = remoting.Heartbeat{ClientID: id, Consumers: consumers, Producers: []string{"CLIENT_INNER_PRODUCER"}}.AppendTo(nil)
	return cmd
}

func subTo(topic, text string, version int64) remoting.SubscriptionData {
	return remoting.SubscriptionData{Topic: topic, SubString: text, ExpressionType: remoting.ExpressionTag, SubVersion: version}
}

func (p *peer) must(cmd *remoting.Command) *remoting.Command {
	p.t.Helper()
	a := p.ask(cmd)
	if a.Code != remoting.ResSuccess {
		p.t.Fatalf("%s answers %d %q", remoting.RequestName(cmd.Code), a.Code, a.Remark)
	}
	return a
}

// noticed reads a notice about a group.
func (p *peer) noticed(group string) {
	p.t.Helper()
	n := p.next()
	if n.Code != remoting.ReqNotifyConsumerIDsChanged || n.IsResponse() || !n.IsOneWay() || n.Fields.Get("consumerGroup") != group {
		p.t.Fatalf("got %+v, want a notice about group %s", n, group)
	}
}

func (p *peer) list(group string) []string {
	p.t.Helper()
	list, err := remoting.DecodeConsumerList(p.must(request(remoting.ReqGetConsumerListByGroup, "consumerGroup", group)).Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return list.ClientIDs
}

func (b *bundle) makeTopic(t *testing.T, name string, queues int) {
	t.Helper()
	if err := b.store.PutTopic(t.Context(), embedded.Topic{Name: name, Queues: queues}); err != nil {
		t.Fatal(err)
	}
}

// TestHeartbeat_PushConsumers follows two push consumers from their start to
// their end, as in the sequences of the protocol.
func TestHeartbeat_PushConsumers(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.makeTopic(t, "TopicTest", 4)
	a, b := s.dial(t), s.dial(t)

	route := request(remoting.ReqGetRoute, "topic", "%RETRY%CG")
	if got := a.ask(route); got.Code != remoting.ResTopicNotExist {
		t.Fatalf("route of a retry topic before its group: %d", got.Code)
	}
	cmd := beat("10.0.0.9@1#1", "CG", subTo("TopicTest", "TagA || TagB", 10), subTo("%RETRY%CG", "*", 10))
	opaque := a.send(cmd)
	a.noticed("CG")
	if got := a.next(); got.Code != 0 || got.Opaque != opaque || got.Version != remoting.Version {
		t.Fatalf("heartbeat answers %+v", got)
	}
	got, err := remoting.DecodeRoute(a.must(route).Body)
	if err != nil || len(got.Queues) != 1 || got.Queues[0].ReadQueues != 1 || got.Queues[0].Perm != 6 {
		t.Fatalf("route of the retry topic: %+v, %v", got, err)
	}
	a.quietly(cmd) // nothing has changed: no notice comes before the answer

	sub, model, ok := s.clients.subscription("CG", "TopicTest")
	if !ok || model != remoting.Clustering || len(sub.tags) != 2 || sub.version != 10 {
		t.Fatalf("subscription %+v %q %v", sub, model, ok)
	}

	b.send(beat("10.0.0.10@1#1", "CG", subTo("TopicTest", "*", 9), subTo("%RETRY%CG", "*", 9)))
	b.noticed("CG")
	if got := b.next(); got.Code != 0 {
		t.Fatalf("heartbeat answers %+v", got)
	}
	a.noticed("CG")
	want := []string{"10.0.0.10@1#1", "10.0.0.9@1#1"}
	for _, p := range []*peer{a, b} {
		if got := p.list("CG"); !slices.Equal(got, want) {
			t.Fatalf("members %q, want %q", got, want)
		}
	}
	if sub, _, _ := s.clients.subscription("CG", "TopicTest"); sub.version != 10 {
		t.Fatal("an older subscription has replaced a newer one")
	}

	b.must(request(remoting.ReqUnregisterClient, "clientID", "10.0.0.10@1#1", "consumerGroup", "CG"))
	a.noticed("CG")
	if got := a.list("CG"); !slices.Equal(got, want[1:]) {
		t.Fatalf("members %q after one left", got)
	}
	b.send(beat("10.0.0.10@1#1", "CG", subTo("TopicTest", "*", 11), subTo("%RETRY%CG", "*", 11)))
	a.noticed("CG")
	_ = b.Close() // as Apache's Go client leaves
	a.noticed("CG")
	if got := a.list("CG"); !slices.Equal(got, want[1:]) {
		t.Fatalf("members %q after one's connection ended", got)
	}
	a.must(request(remoting.ReqUnregisterClient, "clientID", "10.0.0.9@1#1", "consumerGroup", "CG"))
	if got := a.ask(request(remoting.ReqGetConsumerListByGroup, "consumerGroup", "CG")); got.Code != 1 || got.Remark != "no consumer for this group, CG" {
		t.Fatalf("members of an empty group: %d %q", got.Code, got.Remark)
	}
}

func TestHeartbeat_Refusals(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{Limits: Limits{Groups: 3, Subscriptions: 2}})
	p := s.dial(t)
	broken := request(remoting.ReqHeartbeat)
	broken.Body = []byte(`{"clientID":`)
	for _, test := range []struct {
		name, remark string
		cmd          *remoting.Command
	}{
		{"no body", "", request(remoting.ReqHeartbeat)},
		{"broken body", "", broken},
		{"no client id", "client id of 0 characters, it takes 1 to 255", beat("", "G")},
		{"long client id", "client id of 256 characters", beat(strings.Repeat("x", 256), "G")},
		{"a path as group", `group name "../../etc" holds '.'`, beat("me", "../../etc")},
		{"a long group", "at most 120 are allowed", beat("me", strings.Repeat("g", 121))},
		{"a path as topic", `topic name "a/b" holds '/'`, beat("me", "G", subTo("a/b", "*", 1))},
		{"many topics", "group G subscribes to 3 topics, at most 2", beat("me", "G", subTo("a", "*", 1), subTo("b", "*", 1), subTo("c", "*", 1))},
	} {
		a := p.ask(test.cmd)
		if a.Code == 0 || !strings.Contains(a.Remark, test.remark) {
			t.Errorf("%s: answer %d %q, want a remark with %q", test.name, a.Code, a.Remark, test.remark)
		}
	}
	trace := request(remoting.ReqHeartbeat)
	trace.Body = remoting.Heartbeat{ClientID: "me", Producers: []string{"_INNER_TRACE_PRODUCER-" + strings.Repeat("g", 120) + "-CONSUME-1"}}.AppendTo(nil)
	p.must(trace)
	if n := len(s.store.Topics()); n != 0 {
		t.Errorf("refused heartbeats have made %d topics", n)
	}
	for i := range 3 {
		p.must(beatOf("me", remoting.ConsumerData{Group: fmt.Sprintf("G%d", i), MessageModel: remoting.Broadcasting}))
	}
	if a := p.ask(beat("me", "G3")); a.Code != remoting.ResSystemError || !strings.Contains(a.Remark, "Limits.Groups") {
		t.Errorf("a fourth group: %d %q", a.Code, a.Remark)
	}
	good := beatOf("me", remoting.ConsumerData{Group: "a.b"}, remoting.ConsumerData{Group: "G0", MessageModel: remoting.Broadcasting, Subscriptions: []remoting.SubscriptionData{subTo("T", "*", 1)}})
	if a := p.ask(good); a.Code == 0 {
		t.Error("a heartbeat with a wrong group is a success")
	}
	if sub, _, ok := s.clients.subscription("G0", "T"); !ok || sub == nil {
		t.Error("a wrong group keeps the others of a heartbeat out")
	}
}

// TestHeartbeat_Broadcasting: members that share nothing need not hear of each
// other, as in RocketMQ 5.
func TestHeartbeat_Broadcasting(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	a, b := s.dial(t), s.dial(t)
	for _, p := range []*peer{a, b} {
		p.quietly(beatOf("me", remoting.ConsumerData{Group: "G", MessageModel: remoting.Broadcasting, Subscriptions: []remoting.SubscriptionData{subTo("T", "*", 1)}}))
	}
	a.quietly(request(remoting.ReqGetClusterInfo))
	_ = b.Close()
	for s.Stats().Connections > 1 {
		runtime.Gosched()
	}
	a.quietly(request(remoting.ReqGetClusterInfo))
}

func TestHeartbeat_Expires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := servePipes(t, Config{})
		silent, other := s.dial(t), s.dial(t)
		silent.send(beat("a", "G", subTo("T", "*", 1)))
		silent.noticed("G")
		silent.next()
		other.send(beat("b", "G", subTo("T", "*", 1)))
		silent.noticed("G") // to whom it goes first is open, but pipes wait for their readers
		other.noticed("G")
		other.next()
		for range 4 {
			time.Sleep(30 * time.Second)
			silent.must(request(remoting.ReqGetClusterInfo)) // the connection lives, the client does not
			other.must(beat("b", "G", subTo("T", "*", 1)))
		}
		other.noticed("G")
		if got := other.list("G"); !slices.Equal(got, []string{"b"}) {
			t.Errorf("members %q after one has expired", got)
		}
		_ = other.Close()
		_ = silent.Close()
		synctest.Wait()
	})
}

// TestMembers_InThisProcess: clients elsewhere and members in this process see
// each other.
func TestMembers_InThisProcess(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	s.makeTopic(t, "T", 4)
	p := s.dial(t)
	p.send(beat("b-remote", "G", subTo("T", "*", 1), subTo("%RETRY%G", "*", 1)))
	p.noticed("G")
	p.next()

	local := s.broker.Connect("a-local")
	lanes := make(laneCount, 8)
	member, err := local.Subscribe(t.Context(), driver.SubscribeSpec{Group: "G", Topic: "T"}, lanes)
	if err != nil {
		t.Fatal(err)
	}
	p.noticed("G")
	if got := p.list("G"); !slices.Equal(got, []string{"a-local", "b-remote"}) {
		t.Fatalf("members %q", got)
	}
	if err := member.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.noticed("G")
	if got := p.list("G"); !slices.Equal(got, []string{"b-remote"}) {
		t.Fatalf("members %q", got)
	}
	if err := local.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// laneCount takes lanes and does nothing with them.
type laneCount chan driver.Lane

func (c laneCount) Assigned(l driver.Lane)               { c <- l }
func (c laneCount) Revoked(context.Context, driver.Lane) {}
func (c laneCount) Lost(driver.Lane)                     {}

func TestCheckClientConfig(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	p := s.dial(t)
	for _, test := range []struct {
		kind, text string
		want       int
	}{
		{remoting.ExpressionTag, "*", 0},
		{remoting.ExpressionTag, "a || b", 0},
		{remoting.ExpressionTag, "||", remoting.ResSubscriptionParseFailed},
		{remoting.ExpressionSQL92, "a > 1 AND b IS NOT NULL", 0},
		{remoting.ExpressionSQL92, "a > > 1", remoting.ResSubscriptionParseFailed},
		{remoting.ExpressionSQL92, "", remoting.ResSubscriptionParseFailed},
		{"JAVA", "x", remoting.ResSubscriptionParseFailed},
	} {
		cmd := request(remoting.ReqCheckClientConfig)
		cmd.Body = remoting.CheckClient{ClientID: "me", Group: "G", Subscription: remoting.SubscriptionData{Topic: "T", ExpressionType: test.kind, SubString: test.text}}.AppendTo(nil)
		if a := p.ask(cmd); a.Code != test.want || a.Code != 0 && a.Remark == "" {
			t.Errorf("%s %q: answer %d %q, want %d", test.kind, test.text, a.Code, a.Remark, test.want)
		}
	}
}
