package interop

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluicemq/sluice/integration/internal/wire"
)

var (
	clientID = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+@[^\s",]*`)
	loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	hexID    = regexp.MustCompile(`\b[0-9A-Fa-f]{32,}\b`)
	timeText = regexp.MustCompile(`\d{4}-\d\d-\d\d[# ]\d\d:\d\d:\d\d([:,.]\d{3})?`)
)

// plain is a text of an answer without what differs from run to run.
func (x *cell) plain(text string) string {
	text = strings.ReplaceAll(text, x.target.Broker(), "BROKER")
	text = strings.ReplaceAll(text, x.target.NameServer(), "NAMES")
	text = clientID.ReplaceAllString(text, "CLIENT")
	text = loopback.ReplaceAllString(text, "ADDRESS")
	text = hexID.ReplaceAllString(text, "ID")
	text = timeText.ReplaceAllString(text, "TIME")
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 1e12 {
		return "ms"
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && strings.Contains(text, ".") && f >= 0 {
		return "a number"
	}
	return text
}

// noteBody notes a JSON body: each scalar by its path, or only those whose path
// begins with one of the given ones.
func (x *cell) noteBody(event string, body []byte, only ...string) {
	if len(body) == 0 {
		x.rec.Note(event, "body", "none")
		return
	}
	v, err := wire.Parse(body)
	if err != nil {
		x.rec.Note(event, "body", "not JSON: "+err.Error())
		return
	}
	unordered(v)
	wire.Leaves(v, func(path, value string) {
		path = x.plain(path)
		if strings.HasSuffix(path, ".delayTime") {
			value = "a while"
		}
		if len(only) == 0 {
			x.rec.Note(event, "body."+path, x.plain(value))
		}
		for _, o := range only {
			if strings.HasPrefix(path, o) {
				x.rec.Note(event, "body."+path, x.plain(value))
			}
		}
	})
}

// unordered sorts the lists inside a value that come from hash tables: those of
// texts, and those of statements about queues.
func unordered(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, item := range v {
			unordered(item)
		}
	case []any:
		slices.SortStableFunc(v, func(a, b any) int {
			ma, _ := a.(map[string]any)
			mb, _ := b.(map[string]any)
			if ma != nil && mb != nil {
				return strings.Compare(fmt.Sprint(ma["messageQueue"]), fmt.Sprint(mb["messageQueue"]))
			}
			return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
		})
		for _, item := range v {
			unordered(item)
		}
	}
}

// question is a raw request whose answer is compared.
type question struct {
	name   string
	code   int
	names  bool // asked of the name server
	fields []string
	body   string
	only   []string // of the body; all if it is empty
	keys   bool     // only the names of the members of the first level, not their values
	size   bool     // only whether there is a body
}

func (x *cell) question(q question) {
	addr := x.target.Broker()
	if q.names {
		addr = x.target.NameServer()
	}
	a := x.askAt(addr, q.code, []byte(q.body), q.fields...)
	event := fmt.Sprintf("%d %s", q.code, q.name)
	x.rec.Note(event, "code", strconv.Itoa(a.Code))
	for name, value := range a.Fields {
		if name == "indexLastUpdatePhyoffset" && value != "0" {
			value = "set"
		}
		x.rec.Note(event, "field."+name, x.plain(value))
	}
	switch {
	case q.size:
		x.rec.Note(event, "body", fmt.Sprint(len(a.Body) > 0))
	case q.code == 307 && x.client == goClient && a.Code == 0:
		// What this client answers is empty now and then.
	case q.keys:
		v, err := wire.Parse(a.Body)
		m, ok := v.(map[string]any)
		if err != nil || !ok {
			x.rec.Note(event, "body", fmt.Sprintf("no object: %.80q", a.Body))
			return
		}
		if t, ok := m["table"].(map[string]any); ok && len(m) == 1 {
			m = t
		}
		for _, k := range wire.Keys(m) {
			k, _, _ = strings.Cut(k, "_/") // some end with a folder
			x.rec.Note(event, "has "+k, "yes")
		}
	default:
		x.noteBody(event, a.Body, q.only...)
	}
}

// answers compares what the servers tell to tools while a client of each kind is
// there: a producer and a push consumer that has consumed everything.
func answers(x *cell) {
	s := x.known()
	var want []string
	var id string
	for i := range 8 {
		body := fmt.Sprint("m", i)
		l := x.send(body, "queue", strconv.Itoa(i%4), "keys", "key-"+body, "tags", "T")
		if i == 5 {
			id = l.Text("offsetMsgId")
		}
		want = append(want, body)
	}
	x.deliveries(s, want...)
	for q := range 4 {
		x.eventually("the commits", func() bool { return x.committed(x.group(), x.name(), q) == "2" })
	}
	x.retryCommitted()
	x.eventually("the index", func() bool {
		return x.ask(12, "topic", x.name(), "key", "key-m5", "maxNum", "9", "beginTimestamp", "0", "endTimestamp", "9000000000000").Code == 0
	})
	for _, q := range slices.Concat(x.aboutTopics(id), x.aboutGroups(id)) {
		x.question(q)
	}
	x.topicsAndGroups()
	x.close("c", "p")
}

// retryCommitted waits until there is a position on the retry topic of the group:
// what tools tell is not the same before and after that.
func (x *cell) retryCommitted() {
	x.eventually("the commit of the retry topic", func() bool {
		return strings.Contains(string(x.ask(343, "group", x.group()).Body), "%RETRY%")
	})
}

// aboutTopics asks about topics, queues, messages and the server itself; id is the
// offset id of a message.
func (x *cell) aboutTopics(id string) []question {
	t := x.name()
	physical, _ := strconv.ParseInt(id[max(0, len(id)-16):], 16, 64)
	return []question{
		{name: "route", code: 105, names: true, fields: []string{"topic", t}},
		{name: "route of no topic", code: 105, names: true, fields: []string{"topic", "no-such-topic"}},
		{name: "route of the template", code: 105, names: true, fields: []string{"topic", "TBW102"}},
		{name: "cluster", code: 106, names: true},
		{name: "topic statistics", code: 202, fields: []string{"topic", t}},
		{name: "statistics of no topic", code: 202, fields: []string{"topic", "no-such-topic"}},
		{name: "who consumes", code: 300, fields: []string{"topic", t}},
		{name: "topic configuration", code: 351, fields: []string{"topic", t}},
		{name: "configuration of no topic", code: 351, fields: []string{"topic", "no-such-topic"}},
		{name: "offset by time", code: 29, fields: []string{"topic", t, "queueId", "1", "timestamp", "0"}},
		{name: "offset by a future time", code: 29, fields: []string{"topic", t, "queueId", "1", "timestamp", "9000000000000"}},
		{name: "highest offset", code: 30, fields: []string{"topic", t, "queueId", "1"}},
		{name: "highest offset of no topic", code: 30, fields: []string{"topic", "no-such-topic", "queueId", "1"}},
		{name: "lowest offset", code: 31, fields: []string{"topic", t, "queueId", "1"}},
		{name: "earliest time", code: 32, fields: []string{"topic", t, "queueId", "1"}},
		{name: "by key", code: 12, fields: []string{"topic", t, "key", "key-m5", "maxNum", "9", "beginTimestamp", "0", "endTimestamp", "9000000000000"}, size: true},
		{name: "by an unknown key", code: 12, fields: []string{"topic", t, "key", "none", "maxNum", "9", "beginTimestamp", "0", "endTimestamp", "9000000000000"}, size: true},
		{name: "by place", code: 33, fields: []string{"offset", strconv.FormatInt(physical, 10)}, size: true},
		{name: "by a wrong place", code: 33, fields: []string{"offset", "7777777777"}, size: true},
		{name: "runtime", code: 28, keys: true},
		{name: "statistics", code: 315, fields: []string{"statsName", "TOPIC_PUT_NUMS", "statsKey", t}, keys: true},
		{name: "no statistics", code: 315, fields: []string{"statsName", "NO_SUCH_THING", "statsKey", t}},
		{name: "all topics", code: 206, names: true, keys: true},
		{name: "topics of the cluster", code: 224, names: true, fields: []string{"cluster", "C"}, keys: true},
		{name: "system topics", code: 304, names: true, keys: true},
		{name: "topic configurations", code: 21, only: []string{"topicConfigTable." + t + "."}},
		{name: "a code that does not exist", code: 9999},
	}
}

// aboutGroups asks about groups, their members and positions.
func (x *cell) aboutGroups(id string) []question {
	t, g := x.name(), x.group()
	return []question{
		{name: "consumption", code: 208, fields: []string{"consumerGroup", g}},
		{name: "consumption of a topic", code: 208, fields: []string{"consumerGroup", g, "topic", t}},
		{name: "consumption of nobody", code: 208, fields: []string{"consumerGroup", "no-such-group"}},
		{name: "consumers", code: 203, fields: []string{"consumerGroup", g}},
		{name: "no consumers", code: 203, fields: []string{"consumerGroup", "no-such-group"}},
		{name: "producers", code: 204, fields: []string{"producerGroup", x.group("p")}},
		{name: "no producers", code: 204, fields: []string{"producerGroup", "no-such-group"}},
		{name: "group configuration", code: 352, fields: []string{"group", g}},
		{name: "members", code: 38, fields: []string{"consumerGroup", g}},
		{name: "members of nothing", code: 38, fields: []string{"consumerGroup", "no-such-group"}},
		{name: "committed offset", code: 14, fields: []string{"consumerGroup", g, "topic", t, "queueId", "1"}},
		{name: "committed offset of an old topic's stranger", code: 14, fields: []string{"consumerGroup", "no-such-group", "topic", t, "queueId", "1"}},
		{name: "the same without the default", code: 14, fields: []string{"consumerGroup", "no-such-group", "topic", t, "queueId", "1", "setZeroIfNotFound", "false"}},
		{name: "time span", code: 303, fields: []string{"topic", t, "group", g}},
		{name: "correction", code: 308, fields: []string{"topic", t, "compareGroup", g}},
		{name: "clone", code: 314, fields: []string{"srcGroup", g, "destGroup", x.group("clone"), "topic", t, "offline", "false"}},
		{name: "offset of the clone", code: 14, fields: []string{"consumerGroup", x.group("clone"), "topic", t, "queueId", "3"}},
		{name: "topics of the group", code: 343, fields: []string{"group", g}},
		{name: "subscription", code: 345, fields: []string{"group", g, "topic", t}, only: []string{"group", "topic", "subscriptionData.subString", "subscriptionData.topic", "subscriptionData.expressionType"}},
		{name: "positions in the clients", code: 223, fields: []string{"topic", t, "group", g}},
		{name: "running information", code: 307, fields: []string{"consumerGroup", g, "clientId", x.member(g)}, keys: true},
		{name: "running information of nobody", code: 307, fields: []string{"consumerGroup", g, "clientId", "nobody"}},
		{name: "consume directly", code: 309, fields: []string{"consumerGroup", g, "clientId", x.member(g), "msgId", id, "brokerName", "b1", "topic", t}, only: []string{"consumeResult", "order", "autoCommit"}},
		{name: "check a subscription", code: 46, body: `{"clientId":"x","group":"` + g + `","subscriptionData":{"topic":"` + t + `","subString":"a > 1","expressionType":"SQL92","tagsSet":[],"codeSet":[],"subVersion":1,"classFilterMode":false}}`},
		{name: "check a bad subscription", code: 46, body: `{"clientId":"x","group":"` + g + `","subscriptionData":{"topic":"` + t + `","subString":"a >","expressionType":"SQL92","tagsSet":[],"codeSet":[],"subVersion":1,"classFilterMode":false}}`},
		{name: "group configurations", code: 201, only: []string{"subscriptionGroupTable." + g + "."}},
		{name: "all offsets", code: 43, only: []string{"offsetTable." + t + "@" + g + "."}},
		{name: "all producers", code: 328, keys: true},
	}
}

// member is the client id of the only member of a group.
func (x *cell) member(group string) string {
	v, err := wire.Parse(x.ask(38, "consumerGroup", group).Body)
	m, _ := v.(map[string]any)
	ids, _ := m["consumerIdList"].([]any)
	if err != nil || len(ids) != 1 {
		x.fatal("members of %s: %v %v", group, v, err)
	}
	return fmt.Sprint(ids[0])
}

// topicsAndGroups makes, changes and removes some.
func (x *cell) topicsAndGroups() {
	t, g := x.name("made"), x.group("made")
	create := func(name, topic string, read, write, perm string) question {
		return question{name: name, code: 17, fields: []string{"topic", topic, "defaultTopic", "TBW102", "readQueueNums", read, "writeQueueNums", write,
			"perm", perm, "topicFilterType", "SINGLE_TAG", "topicSysFlag", "0", "order", "false"}}
	}
	config := question{name: "made topic", code: 351, fields: []string{"topic", t}}
	for i, q := range []question{
		create("make a topic", t, "2", "2", "6"), config,
		create("grow it", t, "8", "8", "6"), config,
		create("read only", t, "8", "8", "4"), config,
		create("name with a blank", "bad name", "2", "2", "6"),
		create("name of the system", "SELF_TEST_TOPIC", "2", "2", "6"),
		create("name with dots", "../up", "2", "2", "6"),
		create("name too long", strings.Repeat("x", 200), "2", "2", "6"),
		{name: "send to a read-only topic", code: 310, body: "x", fields: []string{"a", "raw", "b", t, "c", "TBW102", "d", "4", "e", "0", "f", "0", "g", "1700000000000", "h", "0", "i", "", "j", "0", "k", "false", "l", "16", "m", "false"}},
		{name: "send to a queue that is not there", code: 310, body: "x", fields: []string{"a", "raw", "b", x.name(), "c", "TBW102", "d", "4", "e", "99", "f", "0", "g", "1700000000000", "h", "0", "i", "", "j", "0", "k", "false", "l", "16", "m", "false"}},
		{name: "remove it", code: 215, fields: []string{"topic", t}}, config,
		{name: "remove it again", code: 215, fields: []string{"topic", t}},
		{name: "make a group", code: 200, body: `{"groupName":"` + g + `","consumeEnable":true,"consumeBroadcastEnable":true,"consumeFromMinEnable":true,"retryQueueNums":1,"retryMaxTimes":5,"brokerId":0,"whichBrokerWhenConsumeSlowly":1,"notifyConsumerIdsChangedEnable":true}`},
		{name: "made group", code: 352, fields: []string{"group", g}},
		{name: "remove the group", code: 207, fields: []string{"groupName", g}},
		{name: "make a group with a bad name", code: 200, body: `{"groupName":"bad group","retryMaxTimes":5}`},
	} {
		if q.code == 351 || q.code == 352 {
			q.name = fmt.Sprintf("%s, step %d", q.name, i)
		}
		x.question(q)
	}
}

func adminClient(x *cell) {
	t := x.name("t")
	at := []string{"ns", x.target.NameServer(), "broker", x.target.Broker(), "topic", t}
	do := func(what string, more ...string) {
		l, err := x.try("topic", append(append([]string{"do", what}, at...), more...)...)
		said, code := failure(err)
		event := what + " " + strings.Join(more, " ")
		x.rec.Note(event, "client", strings.TrimSpace(said+" "+code))
		switch what {
		case "list":
			x.rec.Note(event, "has it", fmt.Sprint(strings.Contains(fmt.Sprint(l["topics"]), t)))
		case "queues":
			x.rec.Note(event, "queues", l.Text("queues"))
		case "groups":
			x.rec.Note(event, "some", fmt.Sprint(l.Int("groups") > 0))
		}
	}
	do("create", "queues", "3")
	x.eventually("the route", func() bool { return x.askAt(x.target.NameServer(), 105, nil, "topic", t).Code == 0 })
	do("list")
	do("queues")
	do("groups")
	do("delete")
}
