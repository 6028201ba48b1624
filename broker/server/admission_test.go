package server

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Whatever leaves something of a group behind takes a place, and made-up groups
// get no further than that.
func TestAdmission(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{Limits: Limits{Groups: 4}})
	s.topic(t, "T", 1)
	p := s.dial(t)
	sent := p.mustSend(outgoing("T", 0, "b", ""))
	_, pos, err := message.ParseOffsetID(sent.MsgID)
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]func(group string) *remoting.Command{
		"commit": func(g string) *remoting.Command {
			return request(remoting.ReqUpdateConsumerOffset, "consumerGroup", g, "topic", "T", "queueId", "0", "commitOffset", "1")
		},
		"pull": func(g string) *remoting.Command {
			x := pulling(g, "T", 0, 0)
			x.SysFlag |= remoting.PullCommit
			return pullCommand(x)
		},
		"send back": func(g string) *remoting.Command {
			return request(remoting.ReqSendBack, "group", g, "offset", fmt.Sprint(pos), "delayLevel", "0")
		},
		"retry":       func(g string) *remoting.Command { return outgoing("%RETRY%"+g, 0, "b", "") },
		"dead letter": func(g string) *remoting.Command { return outgoing("%DLQ%"+g, 0, "b", "") },
		"settings":    func(g string) *remoting.Command { return withBody(remoting.ReqCreateGroup, `{"groupName":"`+g+`"}`) },
		"heartbeat":   func(g string) *remoting.Command { return beat("me", g, subTo("T", "*", 1)) },
		"clone": func(g string) *remoting.Command {
			return request(remoting.ReqCloneGroupOffset, "srcGroup", "G1", "destGroup", g, "topic", "T", "offline", "true")
		},
	}
	for _, way := range []string{"commit", "send back", "dead letter", "heartbeat"} {
		if a := p.ask(ways[way](strings.ReplaceAll("known by "+way, " ", "-"))); a.Code != remoting.ResSuccess {
			t.Fatalf("%s: %d %s", way, a.Code, a.Remark)
		}
	}
	topics := len(s.store.Topics())
	for name, way := range ways {
		a := p.ask(way("one-too-many"))
		if a.Code != remoting.ResSystemError || !strings.Contains(a.Remark, "Limits.Groups") {
			t.Errorf("%s of one group too many: %d %s", name, a.Code, a.Remark)
		}
		if a := p.ask(way("known-by-commit")); a.Code != remoting.ResSuccess {
			t.Errorf("%s of a group that is known: %d %s", name, a.Code, a.Remark)
		}
	}
	if n := len(s.store.Topics()); n > topics+2 { // those of the group that is known
		t.Errorf("there are %d topics, %d before", n, topics)
	}
	if _, known := s.store.Cursor("one-too-many", "T", 0).Position(); known {
		t.Error("a group that was refused has a position")
	}
	// What only asks needs no place.
	for _, cmd := range []*remoting.Command{
		pullCommand(pulling("asking", "T", 0, 0)),
		request(remoting.ReqQueryConsumerOffset, "consumerGroup", "asking", "topic", "T", "queueId", "0"),
	} {
		if a := p.ask(cmd); a.Code != remoting.ResSuccess {
			t.Errorf("%d: %d %s", cmd.Code, a.Code, a.Remark)
		}
	}
}

// A deleted group makes room.
func TestAdmission_Again(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{Limits: Limits{Groups: 1}})
	s.topic(t, "T", 1)
	p := s.dial(t)
	commit := func(g string) *remoting.Command {
		return request(remoting.ReqUpdateConsumerOffset, "consumerGroup", g, "topic", "T", "queueId", "0", "commitOffset", "0")
	}
	p.must(withBody(remoting.ReqCreateGroup, `{"groupName":"first"}`))
	p.wantCode(remoting.ResSystemError, commit("second"))
	p.must(request(remoting.ReqDeleteGroup, "groupName", "first", "cleanOffset", "true"))
	eventually(t, func() bool { return p.ask(commit("second")).Code == remoting.ResSuccess })
	p.wantCode(remoting.ResSystemError, commit("third"))
}

// A group that is refused leaves no topic behind, however many come at once.
func TestAdmission_RefusedGroupLeavesNothing(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	p := s.dial(t)
	var all []remoting.ConsumerData
	for i := range enrolledMost + 100 {
		all = append(all, remoting.ConsumerData{Group: fmt.Sprintf("G%d", i), MessageModel: remoting.Clustering})
	}
	p.wantCode(remoting.ResSystemError, beatOf("me", all...))
	if n := len(s.store.Topics()); n == 0 || n > enrolledMost {
		t.Errorf("there are %d topics; the client may be in %d groups", n, enrolledMost)
	}
}

// What an operator asked for and did not get is said by the line about it.
func TestAudit_Outcome(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	s := serveOn(t, Config{Limits: Limits{Topics: 1}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p := s.dial(t)
	p.must(createTopicRequest("T", 1, 1))
	p.wantCode(remoting.ResSystemError, createTopicRequest("another", 1, 1))
	p.wantCode(remoting.ResNoPermission, request(remoting.ReqUpdateBrokerConfig)) // which nobody gets
	for _, want := range []string{
		`target="topic=T" allowed=true answer=0 remark=""`,
		`target="topic=another" allowed=true answer=1 remark="there are 1 topics, as many as may be created by clients (Limits.Topics)"`,
		`request=UPDATE_BROKER_CONFIG access_key="" address=` + p.LocalAddr().String() + ` target="" allowed=true answer=16 remark="the configuration of this server`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no line %q:\n%s", want, log.String())
		}
	}
}

// Where accounts tell operators from clients, the limits on what clients create
// are none of the operators'. The log tells what is refused, but not each time.
func TestAdmission_OperatorsGoOn(t *testing.T) {
	t.Parallel()
	var log syncBuffer
	s := serveOn(t, Config{
		ACL: testACL(t), AutoCreate: true, Limits: Limits{Topics: 1, Groups: 1}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	s.topic(t, "T", 1)
	p := s.dial(t)
	admin := func(cmd *remoting.Command) *remoting.Command {
		remoting.SignCommand(adminKey, adminSecret, cmd)
		return cmd
	}
	for i := range 3 {
		p.must(admin(createTopicRequest(fmt.Sprintf("T%d", i), 1, 1)))
		p.must(admin(withBody(remoting.ReqCreateGroup, fmt.Sprintf(`{"groupName":"G%d"}`, i))))
	}
	for i := range 3 {
		p.wantCode(remoting.ResSystemError, admin(outgoing(fmt.Sprintf("new%d", i), 0, "b", "")))
		p.wantCode(remoting.ResSystemError, admin(request(remoting.ReqUpdateConsumerOffset,
			"consumerGroup", fmt.Sprintf("new%d", i), "topic", "T", "queueId", "0", "commitOffset", "0")))
	}
	for _, line := range []string{"a topic was refused", "a consumer group was refused"} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("%q is %d times in the log:\n%s", line, n, log.String())
		}
	}
}

func TestHeartbeat_Sizes(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	p := s.dial(t)
	long := remoting.ConsumerData{Group: "G", MessageModel: remoting.Broadcasting}
	for i := range 3 {
		long.Subscriptions = append(long.Subscriptions, subTo(fmt.Sprintf("T%d", i), strings.Repeat("t", expressionsSize/2), 1))
	}
	if a := p.ask(beatOf("me", long)); a.Code != remoting.ResSystemError || !strings.Contains(a.Remark, "more than") {
		t.Errorf("long expressions: %d %s", a.Code, a.Remark)
	}
	var producers []string
	for i := range enrolledMost + 1 {
		producers = append(producers, fmt.Sprintf("P%d", i))
	}
	many := request(remoting.ReqHeartbeat)
	many.Body = remoting.Heartbeat{ClientID: "me", Producers: producers}.AppendTo(nil)
	for range 2 { // the same again takes no further place
		if a := p.ask(many); a.Code != remoting.ResSystemError || !strings.Contains(a.Remark, "is in 512 groups") {
			t.Errorf("many groups: %d %s", a.Code, a.Remark)
		}
	}
	p.must(request(remoting.ReqUnregisterClient, "clientID", "me", "producerGroup", "P0"))
	p.must(beatOf("me"))
}

// A heartbeat that is still being served when its connection ends registers
// nobody.
func TestRegistry_BarsTheDead(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	c := newConn(s.Server, far)
	s.unregister(c) // as when it ends
	_ = far.Close()
	cmd := beat("late", "G", subTo("T", "*", 1))
	if err := heartBeat(s.Server, c, cmd, &remoting.Command{}); err == nil {
		t.Error("a heartbeat of a connection that has ended is a success")
	}
	if ids := s.clients.ids("G"); len(ids) > 0 {
		t.Errorf("members %q", ids)
	}
	if got := s.clients.producersOf("CLIENT_INNER_PRODUCER"); len(got) > 0 {
		t.Errorf("producers %v", got)
	}
}

// One held pull too many is refused by a code that its client waits after.
func TestPull_HeldTooMany(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{Limits: Limits{HeldPulls: 1}})
	s.topic(t, "T", 1)
	p := s.dial(t)
	x := pulling("G", "T", 0, 0)
	x.SysFlag |= remoting.PullSuspend
	x.SuspendMillis = 15_000
	held := p.send(pullCommand(x))
	if a := p.ask(pullCommand(x)); a.Code != remoting.ResSystemBusy {
		t.Errorf("a second pull is answered %d %s", a.Code, a.Remark)
	}
	other := s.dial(t)
	other.mustSend(outgoing("T", 0, "b", ""))
	if a := p.next(); a.Opaque != held || a.Code != remoting.ResSuccess {
		t.Errorf("got %+v", a)
	}
}

// Clients that hang keep no heartbeat back.
func TestApart_RelaysHaveTheirOwnPlaces(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{Limits: Limits{Apart: 1}})
	hangs, asks := s.dial(t), s.dial(t)
	hangs.join("hangs", "G", remoting.Clustering, "T")
	info := request(remoting.ReqGetConsumerRunningInfo, "consumerGroup", "G", "clientId", "hangs")
	first := asks.send(info)
	for {
		if x := hangs.next(); x.Code == remoting.ReqGetConsumerRunningInfo {
			break
		}
	}
	if a := asks.ask(request(remoting.ReqGetConsumerRunningInfo, "consumerGroup", "G", "clientId", "hangs")); a.Code != remoting.ResSystemBusy {
		t.Errorf("one relay too many: %d %s", a.Code, a.Remark)
	}
	asks.must(beat("asks", "H", subTo("T", "*", 1)))
	_ = hangs.Close()
	if a := asks.next(); a.Opaque != first || a.Code != remoting.ResSystemError {
		t.Errorf("got %+v", a)
	}
}

// A topic that everybody sees from the start is there for who subscribes to it:
// its pulls are held, and not refused.
func TestHeartbeat_TopicsThatAreShown(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{})
	p, q := s.dial(t), s.dial(t)
	p.join("c", "G", remoting.Clustering, message.TraceTopic, message.ScheduleTopic)
	x := pulling("G", message.TraceTopic, 0, 0)
	x.SysFlag |= remoting.PullSuspend
	x.SuspendMillis = 15_000
	held := p.send(pullCommand(x))
	q.mustSend(outgoing(message.TraceTopic, 0, "trace", ""))
	if a := p.next(); a.Opaque != held || a.Code != remoting.ResSuccess {
		t.Errorf("got %+v", a)
	}
	if _, ok := s.store.Topic(message.ScheduleTopic); ok {
		t.Error("a topic that nobody may send to was made")
	}
}

// What a position leads to takes the right to its topic, whatever the request
// says of it.
func TestACL_ByPosition(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{ACL: testACL(t)})
	s.topic(t, "read", 1)
	s.topic(t, "foreign", 1)
	own, foreign := s.put(t, "read", 0, 1, "")[0].Pos, s.put(t, "foreign", 0, 1, "")[0].Pos
	p := s.dial(t)
	for pos, code := range map[int64]int{own: remoting.ResSuccess, foreign: remoting.ResNoPermission} {
		at := fmt.Sprint(pos)
		p.wantCode(code, signed(request(remoting.ReqViewMessageByID, "offset", at)))
		p.wantCode(code, signed(request(remoting.ReqViewMessageByID, "offset", at, "topic", "read")))
		p.wantCode(code, signed(request(remoting.ReqSendBack, "group", "member", "offset", at, "delayLevel", "1")))
	}
}

func TestLocks_Bounds(t *testing.T) {
	t.Parallel()
	l := newLocks(newClock())
	free := func(queueKey) bool { return true }
	take := func(group, client string, n int) int {
		queues := make([]remoting.MessageQueue, n)
		for i := range queues {
			queues[i] = remoting.MessageQueue{Topic: "T", Queue: i}
		}
		return len(l.take(group, client, queues, free))
	}
	if n := take("G", "c", locksMost-1); n != locksMost-1 {
		t.Fatalf("%d locks", n)
	}
	if n := take("H", "c", 2); n != 1 {
		t.Errorf("%d locks beyond the bound", n-1)
	}
	if n := take("G", "c", 2); n != 2 {
		t.Errorf("%d of 2 locks are renewed", n)
	}
	l.release("G", "c", []remoting.MessageQueue{{Topic: "T", Queue: 0}, {Topic: "T", Queue: locksMost}})
	if n := take("H", "c", 2); n != 2 {
		t.Errorf("%d locks when there is room", n)
	}
	if l.total != locksMost {
		t.Errorf("%d locks are counted", l.total)
	}
}

func TestStatistics_Bounds(t *testing.T) {
	t.Parallel()
	const most = 20
	st := newStatistics(newClock().started, most)
	for i := range 2 * most {
		for k := range 2 * most {
			st.group(fmt.Sprintf("T%d", i), fmt.Sprintf("G%d", k))
		}
	}
	count := func() (n int) {
		for _, t := range *st.topics.Load() {
			n += len(*t.groups.Load())
		}
		return n
	}
	if n := count(); n != groupsPerTopic*most || n != st.groups {
		t.Errorf("%d groups are counted, the count says %d", n, st.groups)
	}
	st.forgetGroup("G0")
	st.forgetTopic("T0")
	if n := count(); n >= groupsPerTopic*most-most || n != st.groups {
		t.Errorf("%d groups are counted after some were forgotten, the count says %d", n, st.groups)
	}
	if st.group("T1", "new") == nil {
		t.Error("there is no room behind what was forgotten")
	}
}
