package server

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// step is one request of a transcript.
type step struct {
	cmd    *remoting.Command
	code   int
	answer string // the body, or the remark of a refusal
	fields string
}

// nameServerSteps are what clients and operators ask a name server.
func nameServerSteps() []step {
	route := func(queues int, perm, flag int) string {
		return routeOf(queues, queues, perm, flag)
	}
	const system = `"DefaultCluster","DefaultCluster_REPLY_TOPIC","OFFSET_MOVED_EVENT","RMQ_SYS_TRACE_TOPIC","RMQ_SYS_TRANS_HALF_TOPIC","RMQ_SYS_TRANS_OP_HALF_TOPIC","SCHEDULE_TOPIC_XXXX","SELF_TEST_TOPIC","TBW102","TRANS_CHECK_MAX_TIME_TOPIC"`
	all := strings.Replace(system, `"OFFSET`, `"Narrow","OFFSET`, 1)
	all = strings.Replace(all, `"TRANS_CHECK_MAX_TIME_TOPIC"`, `"TRANS_CHECK_MAX_TIME_TOPIC","TopicTest","broker-a"`, 1)
	return []step{
		{cmd: request(105, "topic", "TopicTest"), answer: route(4, 6, 0)},
		{cmd: request(105, "topic", "TopicTest", "acceptStandardJsonOnly", "true"), answer: route(4, 6, 0)},
		{cmd: request(105, "topic", "TBW102"), answer: route(8, 7, 0)},
		{cmd: request(105, "topic", "DefaultCluster"), answer: route(16, 7, 0)},
		{cmd: request(105, "topic", "broker-a"), answer: route(1, 7, 0)},
		{cmd: request(105, "topic", "DefaultCluster_REPLY_TOPIC"), answer: route(1, 6, 0)},
		{cmd: request(105, "topic", "RMQ_SYS_TRACE_TOPIC"), answer: route(1, 6, 0)},
		{cmd: request(105, "topic", "SCHEDULE_TOPIC_XXXX"), answer: route(18, 6, 0)},
		{cmd: request(105, "topic", "Narrow"), answer: routeOf(6, 2, 4, 3)},
		{cmd: request(105, "topic", "Nowhere"), code: 17, answer: "No topic route info in name server for the topic: Nowhere"},
		{cmd: request(105), code: 1, answer: "read fields of get route: missing topic"},
		{cmd: request(106), answer: `{"brokerAddrTable":{"broker-a":{"brokerAddrs":{0:"ADDR"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}},"clusterAddrTable":{"DefaultCluster":["broker-a"]}}`},
		{cmd: request(206), answer: `{"topicList":[` + all + `]}`},
		{cmd: request(224, "cluster", "DefaultCluster"), answer: `{"topicList":[` + all + `]}`},
		{cmd: request(224, "cluster", "Another"), answer: `{"topicList":[]}`},
		{cmd: request(304), answer: `{"brokerAddr":"ADDR","topicList":["DefaultCluster","broker-a"]}`},
		{cmd: request(305), answer: `{"topicList":[` + system + `,"broker-a"]}`},
		{cmd: request(311), answer: `{"topicList":["Narrow"]}`},
		{cmd: request(312), answer: `{"topicList":["Narrow"]}`},
		{cmd: request(313), answer: `{"topicList":[]}`},

		{cmd: request(101, "namespace", "SLUICE", "key", "halves"), fields: "value=once"},
		{cmd: request(101, "namespace", "N", "key", "k"), code: 22, answer: "No config item, Namespace: N Key: k"},
		{cmd: request(219, "namespace", "N"), code: 22, answer: "No config item, Namespace: N"},
		{cmd: request(100, "namespace", "N", "key", "k2", "value", "v2")},
		{cmd: request(100, "namespace", "N", "key", "k", "value", "v")},
		{cmd: request(101, "namespace", "N", "key", "k"), fields: "value=v"},
		{cmd: request(219, "namespace", "N"), answer: `{"table":{"k":"v","k2":"v2"}}`},
		{cmd: request(102, "namespace", "N", "key", "k")},
		{cmd: request(102, "namespace", "N", "key", "k")},
		{cmd: request(101, "namespace", "N", "key", "k"), code: 22, answer: "No config item, Namespace: N Key: k"},
		{cmd: request(102, "namespace", "N"), code: 1, answer: "read fields of delete a value: missing key"},
		{cmd: request(100, "namespace", "", "key", "k", "value", "v"), code: 1, answer: "namespace, key and value take 1, 1 and 0 to 4096 bytes"},

		{cmd: request(205, "brokerName", "broker-b"), fields: "wipeTopicCount=0"},
		{cmd: request(205, "brokerName", "broker-a"), fields: "wipeTopicCount=12"},
		{cmd: request(205, "brokerName", "broker-a"), fields: "wipeTopicCount=0"},
		{cmd: request(105, "topic", "TopicTest"), answer: route(4, 4, 0)},
		{cmd: request(327, "brokerName", "broker-a"), fields: "addTopicCount=12"},
		{cmd: request(105, "topic", "TopicTest"), answer: route(4, 6, 0)},

		{cmd: request(216, "topic", "TopicTest")},
		{cmd: request(319), answer: "deleteTopicWithBrokerRegistration=false\nlistenPort=PORT\norderMessageEnable=false\nreturnOrderTopicConfigToBroker=true\nsupportActingMaster=false\n"},
		{cmd: request(318), code: 16, answer: "the configuration of this server cannot be changed by clients; restart it with other flags"},
		{cmd: request(103), code: 1, answer: "this name server has its own broker in the same process and takes no others"},
		{cmd: request(104), code: 1, answer: "this name server has its own broker in the same process and takes no others"},
		{cmd: request(322), code: 1, answer: "this name server has its own broker in the same process and takes no others"},
		{cmd: request(904), code: 1, answer: "this name server has its own broker in the same process and takes no others"},
		{cmd: request(901), code: 3, answer: " request type 901 not supported"},
	}
}

// TestNameServer is a transcript of what clients and operators ask a name
// server: request, code, body with the address left out.
func TestNameServer(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{AutoCreate: true})
	s.makeTopic(t, "TopicTest", 4)
	cfg := defaultTopic("Narrow", 8)
	cfg.ReadQueues, cfg.WriteQueues, cfg.Perm, cfg.SysFlag = 6, 2, 4, unitTopic|unitSubscription
	settings, err := cfg.settings()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.PutTopic(t.Context(), embedded.Topic{Name: "Narrow", Queues: 8, Settings: settings}); err != nil {
		t.Fatal(err)
	}
	p := s.dial(t)
	for _, step := range nameServerSteps() {
		a := p.ask(step.cmd)
		got := string(a.Body)
		if a.Code != 0 {
			got = a.Remark
		}
		addr := s.Addr().String()
		got = strings.ReplaceAll(got, addr, "ADDR")
		got = strings.ReplaceAll(got, "listenPort="+addr[strings.LastIndex(addr, ":")+1:], "listenPort=PORT")
		var fields []string
		for _, f := range a.Fields {
			fields = append(fields, f.Name+"="+f.Value)
		}
		if a.Code != step.code || got != step.answer || strings.Join(fields, " ") != step.fields {
			t.Errorf("%d %v:\n got %d %q %v\nwant %d %q %s", step.cmd.Code, step.cmd.Fields, a.Code, got, fields, step.code, step.answer, step.fields)
		}
	}
}

func routeOf(read, write, perm, flag int) string {
	return fmt.Sprintf(`{"brokerDatas":[{"brokerAddrs":{"0":"ADDR"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},`+
		`"queueDatas":[{"brokerName":"broker-a","perm":%d,"readQueueNums":%d,"topicSysFlag":%d,"writeQueueNums":%d}]}`, perm, read, flag, write)
}

func TestNameServer_WithoutAutoCreate(t *testing.T) {
	t.Parallel()
	s := serveOn(t, Config{Advertise: "localhost:10911"})
	p := s.dial(t)
	if a := p.ask(request(105, "topic", "TBW102")); a.Code != 17 || !strings.Contains(a.Remark, "Config.AutoCreate") {
		t.Errorf("route of the template: %d %q", a.Code, a.Remark)
	}
	if a := p.must(request(106)); !strings.Contains(string(a.Body), `{0:"localhost:10911"}`) {
		t.Errorf("cluster info %s does not advertise what was configured", a.Body)
	}
}

func TestKV_IsBounded(t *testing.T) {
	t.Parallel()
	var table kvTable
	for i := range kvEntriesMost {
		if err := table.put("n", strconv.Itoa(i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	if table.put("m", "k", "v") == nil {
		t.Error("there is no bound on the values")
	}
	if err := table.put("n", "7", "new"); err != nil {
		t.Errorf("replacing a value in a full table: %v", err)
	}
	table.delete("n", "8")
	if err := table.put("m", "k", "v"); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
	if table.put("m", "k", strings.Repeat("v", kvTextMost+1)) == nil {
		t.Error("there is no bound on a value")
	}
}

// TestTable_HasEveryHandlerFile: a file NNN_name.go whose code is not in the
// table would never be called.
func TestTable_HasEveryHandlerFile(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("[0-9]*_*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	table := newLookup(handlers())
	var codes []int
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		m := regexp.MustCompile(`^(\d{3,6})_[a-z0-9_]+\.go$`).FindStringSubmatch(f)
		if m == nil {
			t.Errorf("%s is not NNN_name.go", f)
			continue
		}
		code, _ := strconv.Atoi(m[1])
		if table.find(code) == nil {
			t.Errorf("%s: code %d is not in the table", f, code)
		}
		codes = append(codes, code)
	}
	seen := map[int]bool{}
	for _, h := range handlers() {
		if seen[h.code] {
			t.Errorf("code %d is in the table twice", h.code)
		}
		seen[h.code] = true
	}
	for _, h := range refused() {
		if slices.Contains(codes, h.code) {
			t.Errorf("code %d is refused and has a file", h.code)
		}
	}
}
