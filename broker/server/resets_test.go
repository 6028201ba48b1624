package server

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// resetRequest makes a 222 by time.
func resetRequest(group, topic string, timestamp int64, more ...string) *remoting.Command {
	return request(remoting.ReqInvokeBrokerToResetOffset, append([]string{
		"topic", topic, "group", group, "timestamp", fmt.Sprint(timestamp), "isForce", "true",
	}, more...)...)
}

func (b *bundle) at(group, topic string, queue int) int64 {
	at, ok := b.position(group, topic, queue)
	if !ok {
		return -1
	}
	return at
}

func table(offsets ...int64) string {
	s := `{"offsetTable":{`
	for n, at := range offsets {
		if n > 0 {
			s += ","
		}
		s += fmt.Sprintf(`{"brokerName":"broker-a","queueId":%d,"topic":"T"}:%d`, n, at)
	}
	return s + "}}"
}

func TestResetOffset_Offline(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.topic("T", 2)
	b.put(t, "T", 0, 4, "")
	b.put(t, "T", 1, 2, "")
	b.commit(t, "G", "T", 0, 3)
	p.wantBody(table(4, 2), resetRequest("G", "T", -1))
	if b.at("G", "T", 0) != 4 || b.at("G", "T", 1) != 2 {
		t.Errorf("positions %d and %d", b.at("G", "T", 0), b.at("G", "T", 1))
	}
	p.wantBody(table(0, 0), resetRequest("G", "T", 0))
	p.wantBody(table(4, 2), resetRequest("G", "T", b.store.NowMs()+1000))
	p.wantBody(`{"offsetTable":{{"brokerName":"broker-a","queueId":1,"topic":"T"}:1}}`, resetRequest("G", "T", 0, "queueId", "1", "offset", "1"))
	if b.at("G", "T", 0) != 4 || b.at("G", "T", 1) != 1 {
		t.Errorf("positions %d and %d", b.at("G", "T", 0), b.at("G", "T", 1))
	}
	// One past the end is taken as the end, as RocketMQ does.
	p.wantBody(`{"offsetTable":{{"brokerName":"broker-a","queueId":1,"topic":"T"}:2}}`, resetRequest("G", "T", 0, "queueId", "1", "offset", "3"))
	// Without force nobody moves forward.
	b.commit(t, "G", "T", 0, 1)
	p.wantBody(table(1, 2), resetRequest("G", "T", -1, "isForce", "false"))
	p.wantBody(table(0, 0), resetRequest("G", "T", 0, "isForce", "false"))
	// Nobody holds the queue, so there is nobody to tell.
	if got, ok := b.pendingReset("G", "T", 0); ok {
		t.Errorf("a reset to %d is pending for a group that is offline", got)
	}
	// C++ tools read a list.
	cpp := resetRequest("G", "T", -1, "queueId", "1")
	cpp.Language = remoting.LanguageCPP
	p.wantBody(`{"offsetTable":[{"brokerName":"broker-a","offset":2,"queueId":1,"topic":"T"}]}`, cpp)
}

func TestResetOffset_Refuses(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.topic("T", 1)
	b.put(t, "T", 0, 2, "")
	b.commit(t, "G", "T", 0, 1)
	p.join("cid", "B", remoting.Broadcasting, "T")
	for _, test := range []struct {
		want int
		req  *remoting.Command
	}{
		{remoting.ResGroupNotExist, resetRequest("nobody", "T", -1)},
		{remoting.ResTopicNotExist, resetRequest("G", "nothing", -1)},
		{remoting.ResInvalidParameter, resetRequest("../G", "T", -1)},
		{remoting.ResInvalidParameter, resetRequest("G", "T", -1, "queueId", "1")},
		{remoting.ResInvalidParameter, resetRequest("G", "T", -1, "queueId", "0", "offset", "4")},
		{remoting.ResBroadcastConsumption, resetRequest("B", "T", -1)},
		{remoting.ResSystemError, request(remoting.ReqInvokeBrokerToResetOffset, "topic", "T", "group", "G")},
	} {
		p.wantCode(test.want, test.req)
	}
	if b.at("G", "T", 0) != 1 {
		t.Errorf("a refused reset has moved the group to %d", b.at("G", "T", 0))
	}
}

// A client elsewhere hears of a reset by its next pull. Until then it is
// pending; the position has moved already.
func TestResetOffset_Online(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	var told []laneKey
	b.resets.moved = func(group, topic string, queue int) { told = append(told, laneKey{group, topic, queue}) }
	p := b.dial(t)
	p.topic("T", 2)
	b.put(t, "T", 0, 4, "")
	b.put(t, "T", 1, 4, "")
	p.join("cid", "G", remoting.Clustering, "T")
	b.commit(t, "G", "T", 0, 3)
	p.wantBody(table(0, 0), resetRequest("G", "T", 0))
	if got, ok := b.pendingReset("G", "T", 0); !ok || got != 0 || b.at("G", "T", 0) != 0 {
		t.Errorf("pending %d, %v, position %d", got, ok, b.at("G", "T", 0))
	}
	if len(told) != 2 || told[0] != (laneKey{"G", "T", 0}) {
		t.Errorf("told %v", told)
	}
	for _, other := range []laneKey{{"H", "T", 0}, {"G", "U", 0}, {"G", "T", 2}} {
		if _, ok := b.pendingReset(other.group, other.topic, other.queue); ok {
			t.Errorf("a reset is pending for %v", other)
		}
	}
	// A later one replaces it.
	p.wantCode(remoting.ResSuccess, resetRequest("G", "T", 0, "queueId", "0", "offset", "2"))
	if got, ok := b.takeReset("G", "T", 0); !ok || got != 2 {
		t.Errorf("taken %d, %v, want 2", got, ok)
	}
	if _, ok := b.takeReset("G", "T", 0); ok {
		t.Error("it was taken twice")
	}
	if _, ok := b.pendingReset("G", "T", 1); !ok {
		t.Error("the other queue's is gone, too")
	}
	b.clearReset("G", "T", 1)
	if n := b.resets.count.Load(); n != 0 {
		t.Errorf("%d are counted, want none", n)
	}
	// What goes with a topic and with a group.
	p.wantCode(remoting.ResSuccess, resetRequest("G", "T", 0))
	p.wantCode(remoting.ResSuccess, request(remoting.ReqDeleteGroup, "groupName", "G", "cleanOffset", "true"))
	if n := b.resets.count.Load(); n != 0 {
		t.Errorf("%d are pending for a group that was deleted", n)
	}
	p.wantCode(remoting.ResSuccess, resetRequest("G", "T", 0))
	p.wantCode(remoting.ResSuccess, request(remoting.ReqDeleteTopicInBroker, "topic", "T"))
	if n := b.resets.count.Load(); n != 0 {
		t.Errorf("%d are pending for a topic that was deleted", n)
	}
}

// Members in this process are not told, they are moved, also in a group that has
// clients elsewhere.
func TestResetOffset_InProcess(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p, far := b.dial(t), b.dial(t)
	p.topic("T", 2)
	b.put(t, "T", 0, 4, "")
	b.put(t, "T", 1, 3, "")
	b.inside(t, "a", "G", "T")
	far.join("b", "G", remoting.Clustering, "T")
	eventually(t, func() bool {
		return b.store.Cursor("G", "T", 0).Held() && !b.store.Cursor("G", "T", 1).Held()
	})
	p.wantBody(table(4, 3), resetRequest("G", "T", -1))
	if _, ok := b.pendingReset("G", "T", 0); ok || b.at("G", "T", 0) != 4 {
		t.Errorf("in this process: pending %v, position %d, want 4", ok, b.at("G", "T", 0))
	}
	if got, ok := b.pendingReset("G", "T", 1); !ok || got != 3 || b.at("G", "T", 1) != 3 {
		t.Errorf("elsewhere: pending %d, %v, position %d, want 3", got, ok, b.at("G", "T", 1))
	}
}

// What nobody pulls for is forgotten once the clients are long gone, and not
// before: a client that comes back after a moment still holds its queues.
func TestResets_Expire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := servePipes(t, Config{Limits: Limits{ClientExpiry: time.Minute}})
		p := b.dial(t)
		p.topic("T", 1)
		pending := func() bool {
			_, ok := b.pendingReset("G", "T", 0)
			return ok
		}
		member := b.dial(t)
		member.answering(func(*remoting.Command) *remoting.Command { return nil })
		beat := request(remoting.ReqHeartbeat)
		beat.Body = remoting.Heartbeat{ClientID: "cid", Consumers: []remoting.ConsumerData{{Group: "G", MessageModel: remoting.Clustering}}}.AppendTo(nil)
		member.send(beat)
		synctest.Wait()
		p.wantCode(remoting.ResSuccess, resetRequest("G", "T", -1))
		for range 8 {
			time.Sleep(30 * time.Second)
			member.send(beat)
			p.ask(request(remoting.ReqGetClusterInfo))
		}
		if !pending() {
			t.Fatal("it was forgotten while the group was online")
		}
		member.Close()
		for range 3 {
			if !pending() {
				t.Fatal("it was forgotten although a client may come back that holds the queue")
			}
			p.ask(request(remoting.ReqGetClusterInfo))
			time.Sleep(30 * time.Second)
		}
		for range 3 {
			p.ask(request(remoting.ReqGetClusterInfo))
			time.Sleep(30 * time.Second)
		}
		if pending() {
			t.Error("no client can hold the queue any more, and it is still there")
		}
	})
}

func TestCloneGroupOffset(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	for _, topic := range []string{"T", "U"} {
		p.topic(topic, 1)
		b.put(t, topic, 0, 9, "")
	}
	b.commit(t, "G", "T", 0, 3)
	b.commit(t, "G", "U", 0, 4)
	clone := func(dest, topic, offline string) *remoting.Command {
		return request(remoting.ReqCloneGroupOffset, "srcGroup", "G", "destGroup", dest, "topic", topic, "offline", offline)
	}
	p.wantCode(remoting.ResSuccess, clone("H", "T", "false"))
	if b.at("H", "T", 0) != 3 || b.at("H", "U", 0) != -1 {
		t.Errorf("positions %d and %d, want 3 and none", b.at("H", "T", 0), b.at("H", "U", 0))
	}
	// Online, a group gets what it subscribes to, and its members are told.
	p.join("cid", "I", remoting.Clustering, "U")
	p.wantCode(remoting.ResSuccess, clone("I", "", "false"))
	if got, ok := b.pendingReset("I", "U", 0); !ok || got != 4 || b.at("I", "U", 0) != 4 || b.at("I", "T", 0) != -1 {
		t.Errorf("pending %d, %v; positions %d and %d", got, ok, b.at("I", "U", 0), b.at("I", "T", 0))
	}
	p.wantCode(remoting.ResSuccess, clone("I", "", "true"))
	if b.at("I", "T", 0) != 3 {
		t.Errorf("position %d, want 3", b.at("I", "T", 0))
	}
	p.wantCode(remoting.ResInvalidParameter, clone("../I", "", "true"))
	p.wantCode(remoting.ResSuccess, request(remoting.ReqCloneGroupOffset, "srcGroup", "nobody", "destGroup", "J", "topic", "T"))
	if b.groupExists("J") {
		t.Error("a group was made of nothing")
	}
}
