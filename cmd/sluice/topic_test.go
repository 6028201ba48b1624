package main

import (
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/server"
)

func TestTopic(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.prints("there are no topics\n", "topic", "list")
	k.prints("created topic orders: 2 queues, rw, on broker-a\n", "topic", "create", "orders", "-queues", "2")
	k.prints("created topic audit: 4 queues, w, on broker-a\n", "topic", "create", "audit", "-perm", "w", "-broker", "broker-a")
	k.refuses(exitRefused, "topic orders is there already; sluice topic update", "topic", "create", "orders")
	k.refuses(exitRefused, "there is no broker broker-b (did you mean broker-a?), there is broker-a", "topic", "create", "x", "-broker", "broker-b")
	k.prints(`
TOPIC   KIND    QUEUES  PERM  BROKERS
audit   normal  4       w     broker-a
orders  normal  2       rw    broker-a
`, "topic", "list")
	k.ok("message", "send", "orders", "-queue", "1", "body")
	k.prints(`
topic     orders
kind      normal
perm      rw
messages  1
groups    -

BROKER    QUEUE  FIRST  NEXT  MESSAGES  NEWEST
broker-a      0      0     0         0  -
broker-a      1      0     1         1  TIME--------------------
`, "topic", "show", "orders")
	k.refuses(exitRefused, "sluice: topic ordrs is not known (did you mean orders?)\n", "topic", "show", "ordrs")

	k.prints("updated topic orders: 8 queues, rw, on broker-a\n", "topic", "update", "orders", "-queues", "8")
	k.prints("updated topic orders: 8 queues, r, on broker-a\n", "topic", "update", "orders", "-perm", "r", "-order")
	k.prints("updated topic orders: 8 queues, rw, on broker-a\n", "topic", "update", "orders", "-perm", "rw")
	k.refuses(exitRefused, "did you mean orders?", "topic", "update", "orderz", "-perm", "rw")
	k.refuses(exitRefused, "topic orders has 1 message and 0 groups; add -yes", "topic", "delete", "orders")
	k.prints("deleted topic orders with 1 message\n", "topic", "delete", "-yes", "orders")
	k.refuses(exitRefused, "topic orders is not known", "topic", "delete", "orders", "-yes")
	k.prints("created topic one: 1 queue, rw, on broker-a\n", "topic", "create", "one", "-queues", "1")
}

// Queues are not hidden by accident, and what they hold counts when the topic is
// deleted.
func TestTopic_FewerQueues(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.ok("topic", "create", "orders", "-queues", "8")
	for _, queue := range []string{"0", "2", "3", "3", "7"} {
		k.ok("message", "send", "orders", "body", "-queue", queue)
	}
	k.refuses(exitRefused, "sluice: topic orders has 4 messages in queues 2 to 3 and 7, which nobody could read with -queues 1; add -yes to hide them\n",
		"topic", "update", "orders", "-queues", "1")
	if got := k.objects("topic", "show", "orders")[0]["read_queues"]; got != 8.0 {
		t.Errorf("it has %v queues", got)
	}
	k.prints("updated topic orders: 8 queues, rw, on broker-a\n", "topic", "update", "orders", "-order")
	k.prints("updated topic orders: 4 queues, rw, on broker-a\nit hides 1 message in queue 7, which more queues show again\n",
		"topic", "update", "orders", "-queues", "4", "-yes")
	k.prints("updated topic orders: 3 queues, rw, on broker-a\nit hides 2 messages in queue 3, which more queues show again\n",
		"topic", "update", "orders", "-queues", "3", "-yes")
	if x := k.objects("topic", "update", "orders", "-queues", "1", "-yes"); len(x) != 1 || x[0]["read_queues"] != 1.0 {
		t.Errorf("printed %v", x)
	}
	k.refuses(exitRefused, "sluice: topic orders has 5 messages, 4 of them hidden in queues 2 to 3 and 7, and 0 groups; add -yes to delete it\n",
		"topic", "delete", "orders")
	k.prints("deleted topic orders with 5 messages\n", "topic", "delete", "orders", "-yes")
}

// Topics that are not the user's say so, whatever is tried with them.
func TestTopic_OfOthers(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{AutoCreate: true})
	k.refuses(exitRefused, "topic TBW102 is there already, and belongs to the broker\n", "topic", "create", "TBW102")
	k.refuses(exitRefused, "topic TBW102 belongs to the broker", "topic", "update", "TBW102", "-queues", "3")
	for _, topic := range []string{"%RETRY%billing", "%DLQ%billing"} {
		k.refuses(exitFailed, "topic create: topic "+topic+" belongs to group billing: brokers make it when the group needs it; see", "topic", "create", topic)
	}
	k.prints("there are no groups\n", "group", "list")
	k.send("orders", 1)
	k.settle("billing", "orders", 1, driver.Settlement{Outcome: driver.Ack})
	k.refuses(exitRefused, ": the broker chooses how many queues it has, and keeps 1\n", "topic", "update", "%RETRY%billing", "-queues", "3")
	k.prints("updated topic %RETRY%billing: 1 queue, rw, on broker-a\n", "topic", "update", "%RETRY%billing", "-queues", "1")
}

func TestTopic_JSON(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.send("orders", 3)
	if got := k.ok("topic", "list", "-json"); got != `{"topic":"orders","kind":"normal","read_queues":1,"write_queues":1,"perm":"rw","brokers":["broker-a"]}`+"\n" {
		t.Errorf("printed %s", got)
	}
	kinds := map[any]any{}
	for _, x := range k.objects("topic", "list", "-all") {
		kinds[x["topic"]] = x["kind"]
	}
	for topic, kind := range map[string]string{"orders": "normal", "SCHEDULE_TOPIC_XXXX": "system", "broker-a": "system"} {
		if kinds[topic] != kind {
			t.Errorf("topic %s is %v, want %s", topic, kinds[topic], kind)
		}
	}
	show := k.objects("topic", "show", "orders")[0]
	queues := show["queues"].([]any)
	if show["messages"] != 3.0 || len(queues) != 1 || queues[0].(map[string]any)["max"] != 3.0 {
		t.Errorf("printed %v", show)
	}
	if x := k.objects("topic", "delete", "orders", "-yes")[0]; x["deleted"] != true || x["messages"] != 3.0 {
		t.Errorf("printed %v", x)
	}
	if x := k.objects("topic", "create", "bills")[0]; x["topic"] != "bills" || x["read_queues"] != 4.0 {
		t.Errorf("printed %v", x)
	}
}

// Everything that is wrong with a command line is told at once.
func TestRemote_WrongUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want []string
	}{
		{"topic", []string{"topic takes a command, list, show, create, update or delete; see sluice help topic"}},
		{"tpoic list", []string{`there is no command "tpoic" (did you mean topic?)`}},
		{"topic lst", []string{`topic has no command "lst" (did you mean list?), it has list`}},
		{"-addr mq:9876 topic list", []string{"sluice: sluice takes a command first, serve, topic, group, lag, message, dlq, log or version, and flags such as -addr behind it; see sluice help\n"}},
		{"topic -json list", []string{"sluice: topic takes a command first, list, show, create, update or delete, and flags such as -json behind it; see sluice help topic\n"}},
		{"message get x -raw -json", []string{"message get: -raw and -json exclude each other; see"}},
		{"topic list orders", []string{"topic list: it takes no arguments, not orders"}},
		{"topic show", []string{"topic show: it takes TOPIC; see sluice help topic show"}},
		{"topic show a b", []string{"it takes TOPIC, not a b"}},
		{"topic show a/b", []string{`topic name "a/b" holds '/'`}},
		{
			"topic create -queues 0 -perm x -typ FIFO -order=maybe -timeout 0 -addr nowhere -- a b",
			[]string{
				"sluice: topic create:\n", "  -queues takes 1 to 1024, not \"0\"\n", "  -perm takes rw, r or w, not \"x\"\n",
				"-typ (did you mean type?)\n", "-order takes true or false, not \"maybe\"\n", "-timeout takes a duration above 0, such as 5s, not \"0\"\n",
				"-addr takes host:port", "it takes TOPIC, not a b\n", "see sluice help topic create\n",
			},
		},
		{"topic create ünï", []string{`topic name "ünï" holds 'ü'`}},
		{"topic update orders -order false", []string{"topic update: -order takes its value behind =, as in -order=false; see"}},
		{"topic update orders", []string{"it takes something to change: -queues, -perm, -order or -type"}},
		{"topic list -tls-ca x", []string{"-tls-ca takes -tls, too"}},
		{"topic list -tls -tls-ca missing.pem -tls-cert x", []string{"-tls-ca: open missing.pem", "-tls-cert and -tls-key take each other"}},
		{"topic list -secret-file missing -access-key k", []string{"-secret-file: open missing"}},
		{"topic list -access-key k", []string{"-access-key takes a secret in $SLUICE_SECRET_KEY"}},
		{"topic list -=x", []string{"bad flag syntax: -=x"}},
		{"topic list -addr", []string{"flag needs an argument: -addr"}},
		{"topic list -addr a:b,c:0,d:65536,:9876", []string{
			`-addr a:b: the port is a number from 1 to 65535, not "b"`, `-addr c:0: the port is a number from 1 to 65535, not "0"`, `not "65536"`,
		}},
		{"topic list -all=maybe", []string{`topic list: -all takes true or false, not "maybe"; see`}},
		{"message browse t -tag ||", []string{`message browse: -tag takes tags, such as paid, or * for all, not "||": it names none; see`}},
		{"message find t -key k -since 2h -until 3h", []string{"message find: -until is before -since, nothing is between them; see"}},
		{"topic list -addr ,", []string{"-addr takes host:port"}},
		{"group reset g", []string{"sluice: group reset: it takes GROUP TOPIC -to POINT: POINT is first, last, a time"}},
		{"group reset g t", []string{"sluice: group reset: it takes GROUP TOPIC -to POINT: POINT is first, last, a time"}},
		{"group reset g -to first", []string{"sluice: group reset: it takes GROUP TOPIC -to POINT: POINT is first, last, a time"}},
		{"message find", []string{"sluice: message find: it takes TOPIC -key KEY; see"}},
		{"group reset g t -to yesterday -queue -1", []string{`-to takes first, last`, `-queue takes a number from 0 on, not "-1"`}},
		{"group reset g t -to 7", []string{"-to takes an offset with -queue only"}},
		{"group reset g a/b -to first", []string{`topic name "a/b"`}},
		{"group show a.b", []string{`group name "a.b" holds '.'`}},
		{"lag a b", []string{"lag: it takes [GROUP], not a b"}},
		{"message send", []string{"it takes TOPIC [BODY]"}},
		{"message send t b -file f -lines", []string{"BODY and -file exclude each other", "-lines takes -file or standard input, not BODY"}},
		{"message send t b -delay 1s -delay-level 3 -property x -at noon", []string{
			"-delay, -at and -delay-level exclude each other", `-property takes name=value, not "x"`, `-at takes a time such as`,
		}},
		{"message send t b -property KEYS=3", []string{`-property takes name=value, not "KEYS=3": clients and brokers use KEYS themselves; -key sets it`}},
		{"message send t b -property TAGS=3", []string{"use TAGS themselves; -tag sets it"}},
		{"message send t b -property DELAY=3", []string{"use DELAY themselves; -delay-level sets it"}},
		{"message send t b -property TIMER_DELIVER_MS=3", []string{"-at sets it"}},
		{"message send t b -property TIMER_DELAY_SEC=3", []string{"-delay sets it"}},
		{"message send t b -property UNIQ_KEY=3 -property BORN_HOST=1 -property WAIT=false -property __BORNHOST=1", []string{
			"use UNIQ_KEY themselves\n", "use BORN_HOST themselves\n", "use WAIT themselves\n", "use __BORNHOST themselves\n",
		}},
		{"message send t b -delay-level 19", []string{"-delay-level takes 1 to 18"}},
		{"message send t b -tag a||b", []string{`tag "a||b" holds ||`}},
		{"message find t", []string{"message find: it takes TOPIC -key KEY; see"}},
		{"message find t -key k -since x", []string{"-since takes a time such as"}},
		{"message browse t -tag a -sql b -limit 0", []string{"-tag and -sql exclude each other", "-limit takes 1 to 10000"}},
		{"message browse t -sql amount>", []string{"message browse: -sql: sql92 expression at byte 7: ", "; accepted: ", "; see sluice help message browse\n"}},
		{"message browse t -from 3", []string{"-from takes an offset with -queue only"}},
		{"dlq redrive g -rate 0 -limit 0 -to a/b", []string{"-rate takes a number above 0", "-limit takes 1 and more", "-to: topic name"}},
		{"dlq peek g -from 3", []string{"-from takes an offset with -queue only"}},
		{"dlq drain g", []string{`dlq has no command "drain"`}},
		{"help topic lst", []string{`there is no help for "topic lst" (did you mean list?)`}},
		{"help topics", []string{`there is no help for "topics" (did you mean topic?)`}},
	} {
		r := call(t.Context(), strings.Fields(c.args)...)
		if r.code != exitFailed || r.out != "" {
			t.Errorf("sluice %s: exit code %d, printed %q", c.args, r.code, r.out)
		}
		for _, want := range c.want {
			if !strings.Contains(r.err, want) {
				t.Errorf("sluice %s told\n%s\nwant %q", c.args, r.err, want)
			}
		}
	}
}

// An empty word is mostly a variable of the shell that is not set.
func TestRemote_EmptyWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"topic", "create", ""}, "topic create: TOPIC is empty; see sluice help topic create"},
		{[]string{"message", "get", ""}, "message get: ID is empty; see"},
		{[]string{"lag", ""}, "lag: GROUP is empty; see"},
		{[]string{"group", "reset", "g", "", "-to", "first"}, "group reset: TOPIC is empty; see"},
		{[]string{"topic", "list", "-addr", ""}, `-addr takes host:port, such as 127.0.0.1:9876, not ""`},
		{[]string{"topic", "list", "-tls", "-tls-ca", ""}, `-tls-ca takes a file, not ""`},
		{[]string{"topic", "list", "-tls", "-tls-cert", "", "-tls-key", ""}, `-tls-cert takes a file, not ""`},
		{[]string{"topic", "list", "-access-key", ""}, `-access-key takes the key of an account, not ""`},
		{[]string{"topic", "create", "t", "-broker", ""}, `-broker takes the name of a broker, not ""`},
		{[]string{"dlq", "redrive", "g", "-to", ""}, `-to takes the name of a topic, not ""`},
		{[]string{"message", "browse", "t", "-tag", ""}, "-tag takes tags"},
		{[]string{"message", "find", "t", "-key", ""}, `message find: -key takes a business key, not ""; see`},
		{[]string{"message", "send", "t", "", "-file", "f"}, "BODY and -file exclude each other"},
	} {
		r := call(t.Context(), c.args...)
		if r.code != exitFailed || r.out != "" || !strings.Contains(r.err, c.want) {
			t.Errorf("sluice %q: exit code %d, printed %q, told\n%s\nwant %q", c.args, r.code, r.out, r.err, c.want)
		}
	}
}
