package server

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// A file with a code in its name serves that code, and no code is served twice.
func TestHandlers_Table(t *testing.T) {
	t.Parallel()
	served := map[int]bool{}
	for _, h := range handlers() {
		if served[h.code] {
			t.Errorf("code %d is in the table twice", h.code)
		}
		served[h.code] = true
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`^(\d{3,6})_[a-z0-9_]+\.go$`)
	for _, f := range files {
		m := name.FindStringSubmatch(f.Name())
		if m == nil || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		if code, _ := strconv.Atoi(m[1]); !served[code] {
			t.Errorf("%s: code %d is not in the table", f.Name(), code)
		}
	}
}

func TestTopicAdmin(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.wantCode(remoting.ResSuccess, createTopicRequest("T", 4, 8, "attributes", "+message.type=FIFO", "topicSysFlag", "1"))
	get := request(remoting.ReqGetTopicConfig, "topic", "T")
	p.wantBody(`{"attributes":{"message.type":"FIFO"},"order":false,"perm":6,"readQueueNums":4,`+
		`"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":1,"writeQueueNums":8}`, get)
	if stored, ok := b.store.Topic("T"); !ok || stored.Queues != 8 {
		t.Errorf("the store has %+v, %v, want 8 queues", stored, ok)
	}

	// Fewer queues hide some, more show them again; attributes stay unless
	// they are changed.
	p.wantCode(remoting.ResSuccess, createTopicRequest("T", 2, 1))
	p.wantBody(`{"attributes":{"message.type":"FIFO"},"order":false,"perm":6,"readQueueNums":2,`+
		`"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":1}`, get)
	p.wantCode(remoting.ResSuccess, createTopicRequest("T", 8, 16, "attributes", "-message.type,+cleanup.policy=DELETE"))
	p.wantBody(`{"attributes":{"cleanup.policy":"DELETE"},"order":false,"perm":6,"readQueueNums":8,`+
		`"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":16}`, get)

	list := remoting.TopicConfigList{Topics: []remoting.TopicConfig{
		{Name: "U", ReadQueues: 1, WriteQueues: 1, Perm: 4, FilterType: "SINGLE_TAG", Attributes: remoting.Fields{{Name: "+queue.type", Value: "SimpleCQ"}}},
		{Name: "V", ReadQueues: 2, WriteQueues: 2, Perm: 6, FilterType: "SINGLE_TAG", Order: true},
	}}
	many := request(remoting.ReqCreateTopics)
	many.Body = list.AppendTo(nil)
	p.wantCode(remoting.ResSuccess, many)
	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetAllTopicConfig))
	table, err := remoting.DecodeTopicConfigTable(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]remoting.TopicConfig{}
	for _, c := range table.Topics {
		seen[c.Name] = c
	}
	if u := seen["U"]; u.Perm != 4 || u.Attributes.Get("queue.type") != "SimpleCQ" || !seen["V"].Order || seen["T"].WriteQueues != 16 {
		t.Errorf("the table has %+v", seen)
	}
	if _, ok := a.Fields.Lookup("totalTopicNum"); ok {
		t.Error("totalTopicNum makes clients ask for further pages")
	}

	p.wantCode(remoting.ResSuccess, request(remoting.ReqDeleteTopicInBroker, "topic", "T"))
	p.wantCode(remoting.ResTopicNotExist, get)
	p.wantCode(remoting.ResSuccess, request(remoting.ReqDeleteTopicInBroker, "topic", "T"))
	p.wantCode(remoting.ResSystemError, request(remoting.ReqDeleteTopicInBroker))
}

// What is created again begins anew.
func TestTopicAdmin_Recreate(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.topic("T", 1)
	b.put(t, "T", 0, 5, "")
	b.commit(t, "G", "T", 0, 5)
	b.countPut("T", 5, 50)
	p.wantCode(remoting.ResSuccess, request(remoting.ReqDeleteTopicInBroker, "topic", "T"))
	p.topic("T", 1)
	p.wantBody(`{"consumeTps":0.0,"offsetTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:`+
		`{"brokerOffset":0,"consumerOffset":0,"lastTimestamp":0,"pullOffset":0}}}`,
		request(remoting.ReqGetConsumeStats, "consumerGroup", "G", "topic", "T"))
	p.wantCode(remoting.ResSystemError, request(remoting.ReqViewBrokerStats, "statsName", "TOPIC_PUT_NUMS", "statsKey", "T"))
}

func TestTopicAdmin_Refuses(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{Limits: Limits{Topics: 2}})
	p := b.dial(t)
	before := len(b.store.Topics())
	for _, bad := range []*remoting.Command{
		createTopicRequest("../../etc", 4, 4),
		createTopicRequest("", 4, 4),
		createTopicRequest("a b", 4, 4),
		createTopicRequest(strings.Repeat("x", 128), 4, 4),
		createTopicRequest(message.AutoCreateTopic, 4, 4),
		createTopicRequest(message.HalfTopic, 4, 4),
		createTopicRequest("rmq_sys_anything", 4, 4),
		createTopicRequest("DefaultCluster", 4, 4),
		createTopicRequest("T", 0, 0),
		createTopicRequest("T", -1, 4),
		createTopicRequest("T", 4, 1025),
		createTopicRequest("T", 4, 4, "perm", "8"),
		createTopicRequest("T", 4, 4, "topicFilterType", "SOME_TAG"),
		createTopicRequest("T", 4, 4, "topicSysFlag", "-1"),
		createTopicRequest("%RETRY%", 1, 1),
		createTopicRequest("%DLQ%", 1, 1),
		createTopicRequest("%DLQ%"+strings.Repeat("x", groupNameMost+1), 1, 1),
		createTopicRequest("T", 4, 4, "perm", "-1"),
		createTopicRequest("T", 4, 4, "attributes", "message.type=FIFO"),
		createTopicRequest("T", 4, 4, "attributes", "+message.type"),
		createTopicRequest("T", 4, 4, "attributes", "+message.type=SOMETHING"),
		createTopicRequest("T", 4, 4, "attributes", "+queue.type=BatchCQ"),
		createTopicRequest("T", 4, 4, "attributes", "+cleanup.policy=COMPACTION"),
		createTopicRequest("T", 4, 4, "attributes", "+unknown=1"),
		createTopicRequest("T", 4, 4, "attributes", ",,"),
		withBody(remoting.ReqCreateTopics, `{"topicConfigList":[{"topicName":"good","readQueueNums":1,"writeQueueNums":1,"perm":6},`+
			`{"topicName":"bad/","readQueueNums":1,"writeQueueNums":1,"perm":6}]}`),
		request(remoting.ReqDeleteTopicInBroker, "topic", message.ScheduleTopic),
		request(remoting.ReqDeleteTopicInBroker, "topic", "../T"),
	} {
		a := p.wantCode(remoting.ResInvalidParameter, bad)
		if a.Remark == "" || len(a.Remark) > 400 {
			t.Errorf("request %d %v: remark of %d characters %q", bad.Code, bad.Fields, len(a.Remark), a.Remark)
		}
	}
	p.wantCode(remoting.ResSystemError, request(remoting.ReqCreateTopic, "topic", "T"))
	p.wantCode(remoting.ResSystemError, withBody(remoting.ReqCreateTopics, `{"topicConfigList":[`))
	if after := len(b.store.Topics()); after != before {
		t.Errorf("%d topics were made by refused requests", after-before)
	}

	p.topic("T1", 1)
	p.topic("T2", 1)
	p.wantCode(remoting.ResSystemError, createTopicRequest("T3", 1, 1))
	p.topic("T2", 2)           // it is there already
	p.topic("%RETRY%group", 1) // it comes with its group
}

func TestTopicAdmin_InProcessMembersHoldTopics(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.topic("T", 2)
	b.inside(t, "in", "G", "T")
	a := p.wantCode(remoting.ResSystemError, request(remoting.ReqDeleteTopicInBroker, "topic", "T"))
	if !strings.Contains(a.Remark, "living members") {
		t.Errorf("remark %q", a.Remark)
	}
}

// No setting hides a queue of a retry topic: its redeliveries would stay there.
func TestTopicAdmin_RetryTopic(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.wantCode(remoting.ResSuccess, createTopicRequest("%RETRY%G", 1, 1, "perm", "4"))
	for i := range 3 {
		p.topic(fmt.Sprint("T", i), 1)
	}
	if err := b.store.EnsureRetry(t.Context(), "G", []string{"T0", "T1", "T2"}); err != nil {
		t.Fatal(err)
	}
	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetTopicConfig, "topic", "%RETRY%G"))
	c, err := remoting.DecodeTopicConfig(a.Body)
	if err != nil || c.ReadQueues != 3 || c.WriteQueues != 3 || c.Perm != 4 {
		t.Errorf("got %+v, %v, want 3 queues and permission 4", c, err)
	}
}

func TestGroupAdmin(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.wantCode(remoting.ResGroupNotExist, request(remoting.ReqGetGroupConfig, "group", "G"))
	p.wantCode(remoting.ResSuccess, withBody(remoting.ReqCreateGroup, `{"groupName":"G","retryMaxTimes":3,"consumeBroadcastEnable":false,"attributes":{"+k":"v"}}`))
	const want = `{"attributes":{"k":"v"},"brokerId":0,"consumeBroadcastEnable":false,"consumeEnable":true,"consumeFromMinEnable":true,` +
		`"consumeMessageOrderly":false,"consumeTimeoutMinute":15,"groupName":"G","groupRetryPolicy":{"type":"CUSTOMIZED"},` +
		`"groupSysFlag":0,"notifyConsumerIdsChangedEnable":true,"retryMaxTimes":3,"retryQueueNums":1,"whichBrokerWhenConsumeSlowly":1}`
	p.wantBody(want, request(remoting.ReqGetGroupConfig, "group", "G"))
	p.wantCode(remoting.ResSuccess, withBody(remoting.ReqCreateGroups, `{"groupConfigList":[{"groupName":"H"},{"groupName":"I","consumeEnable":false}]}`))
	if b.groups.find("I").Consume || !b.groups.find("H").Consume || b.groups.find("nobody").RetryMax != 16 {
		t.Errorf("got %+v", b.groups.all(nil))
	}

	p.topic("T", 1)
	b.commit(t, "J", "T", 0, 0) // a group by its position
	p.join("cid", "K", remoting.Clustering, "T")
	a := p.wantCode(remoting.ResSuccess, request(remoting.ReqGetAllGroupConfig))
	if !strings.Contains(string(a.Body), `"forbiddenTable":{}`) || !strings.Contains(string(a.Body), want) {
		t.Errorf("got %s", a.Body)
	}
	table, err := remoting.DecodeGroupTable(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, g := range table.Groups {
		names = append(names, g.Name)
	}
	if got := strings.Join(names, " "); got != "G H I J K" {
		t.Errorf("groups %s", got)
	}

	b.commit(t, "G", "T", 0, 0)
	p.wantCode(remoting.ResSuccess, request(remoting.ReqDeleteGroup, "groupName", "G"))
	if g, ok := b.store.Group("G"); !ok || len(g.Settings) > 0 || b.groups.find("G").RetryMax != 16 {
		t.Errorf("without cleanOffset: %+v, %v", g, ok)
	}
	p.wantCode(remoting.ResSuccess, request(remoting.ReqDeleteGroup, "groupName", "G", "cleanOffset", "true"))
	p.wantCode(remoting.ResGroupNotExist, request(remoting.ReqGetGroupConfig, "group", "G"))
	p.wantCode(remoting.ResSuccess, request(remoting.ReqDeleteGroup, "groupName", "nobody", "removeOffset", "true"))
	b.inside(t, "in", "L", "T")
	b.commit(t, "L", "T", 0, 0)
	p.wantCode(remoting.ResSuccess, withBody(remoting.ReqCreateGroup, `{"groupName":"L"}`))
	p.wantCode(remoting.ResSystemError, request(remoting.ReqDeleteGroup, "groupName", "L", "removeOffset", "true"))
}

func TestGroupAdmin_Refuses(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{Limits: Limits{Groups: 2}})
	p := b.dial(t)
	for _, bad := range []*remoting.Command{
		withBody(remoting.ReqCreateGroup, `{"groupName":"../G"}`),
		withBody(remoting.ReqCreateGroup, `{}`),
		withBody(remoting.ReqCreateGroup, fmt.Sprintf(`{"groupName":%q}`, strings.Repeat("x", 121))),
		withBody(remoting.ReqCreateGroup, `{"groupName":"G","retryQueueNums":1025}`),
		withBody(remoting.ReqCreateGroup, `{"groupName":"G","groupRetryPolicy":{1:2}}`),
		withBody(remoting.ReqCreateGroups, `{"groupConfigList":[{"groupName":"good"},{"groupName":"b/d"}]}`),
		request(remoting.ReqDeleteGroup, "groupName", "../G"),
		request(remoting.ReqGroupForbidden, "group", "../G", "topic", "T"),
	} {
		p.wantCode(remoting.ResInvalidParameter, bad)
	}
	if got := b.store.Groups(); len(got) > 0 {
		t.Errorf("refused requests made %+v", got)
	}
	p.wantCode(remoting.ResSuccess, withBody(remoting.ReqCreateGroup, `{"groupName":"G"}`))
	p.wantCode(remoting.ResSuccess, withBody(remoting.ReqCreateGroup, `{"groupName":"H"}`))
	p.wantCode(remoting.ResSystemError, withBody(remoting.ReqCreateGroup, `{"groupName":"I"}`))
	p.wantCode(remoting.ResSuccess, withBody(remoting.ReqCreateGroup, `{"groupName":"H","retryMaxTimes":1}`))
}

func TestGroupAdmin_Forbidden(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.topic("T", 1)
	ask := request(remoting.ReqGroupForbidden, "group", "G", "topic", "T")
	forbid := func(readable string) *remoting.Command {
		return request(remoting.ReqGroupForbidden, "group", "G", "topic", "T", "readable", readable)
	}
	const yes, no = `{"group":"G","readable":true,"topic":"T"}`, `{"group":"G","readable":false,"topic":"T"}`
	p.wantBody(yes, ask)
	if _, ok := b.store.Group("G"); ok {
		t.Error("a question made the group")
	}
	p.wantBody(no, forbid("false"))
	p.wantBody(no, ask)
	p.wantBody(no, forbid("false"))
	if b.groups.find("G").reads("T") || !b.groups.find("G").reads("U") {
		t.Errorf("got %+v", b.groups.find("G"))
	}
	a := p.wantCode(remoting.ResNoPermission, pullCommand(pulling("G", "T", 0, 0)))
	if a.Fields.Get("forbiddenType") != "5" {
		t.Errorf("a pull that is forbidden is answered with %v", a.Fields)
	}
	// Other settings do not touch it.
	p.wantCode(remoting.ResSuccess, withBody(remoting.ReqCreateGroup, `{"groupName":"G"}`))
	p.wantBody(no, ask)
	p.wantBody(yes, forbid("true"))
	p.wantBody(yes, ask)
	p.wantCode(remoting.ResTopicNotExist, request(remoting.ReqGroupForbidden, "group", "G", "topic", "nothing"))
}

// Settings are there after a restart of the server over the same store.
func TestAdmin_SettingsAreDurable(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	p.wantCode(remoting.ResSuccess, createTopicRequest("T", 2, 3, "perm", "4"))
	p.wantCode(remoting.ResSuccess, withBody(remoting.ReqCreateGroup, `{"groupName":"G","retryMaxTimes":5}`))
	topic, _ := newTopics(b.store, b.cfg).find("T")
	if topic.Perm != 4 || topic.ReadQueues != 2 || topic.WriteQueues != 3 {
		t.Errorf("got %+v", topic)
	}
	if g := newGroupConfigs(b.store).find("G"); g.RetryMax != 5 {
		t.Errorf("got %+v", g)
	}
}

func TestRefusedCodes(t *testing.T) {
	t.Parallel()
	b := serveOn(t, Config{})
	p := b.dial(t)
	for _, test := range []struct {
		want  int
		codes []int
	}{
		{remoting.ResNoPermission, []int{25}},
		{remoting.ResSystemError, []int{323}},
		{remoting.ResUnsupported, slices.Concat([]int{45, 50, 51, 52, 53, 54, 370, 401, 402}, []int{3001, 3002, 3003, 3004, 3005, 3006, 3007, 3008, 3009, 3010},
			[]int{200050, 200051, 200052, 200053, 200054, 200055, 200056, 200151})},
	} {
		for _, code := range test.codes {
			if a := p.wantCode(test.want, request(code)); len(a.Remark) < 20 {
				t.Errorf("code %d: remark %q says nothing", code, a.Remark)
			}
		}
	}
	for _, code := range []int{306, 316, 329} {
		p.wantCode(remoting.ResSuccess, request(code))
	}
}
