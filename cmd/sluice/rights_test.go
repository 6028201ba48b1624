package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/server"
)

// What the help of a command says that it takes is enough, and less is refused
// with the same words.
func TestRights(t *testing.T) {
	t.Parallel()
	acl, err := server.ParseACL([]byte(`accounts:
  - {accessKey: operator, secretKey: some-secret, admin: true}
  - {accessKey: stranger, secretKey: some-secret}
  - {accessKey: producer, secretKey: some-secret, topicPerms: [orders=PUB]}
  - {accessKey: consumer, secretKey: some-secret, topicPerms: [orders=SUB]}
  - {accessKey: outsider, secretKey: some-secret, topicPerms: [foreign=SUB]}
  - {accessKey: in-group, secretKey: some-secret, groupPerms: [billing=SUB]}
  - {accessKey: browser, secretKey: some-secret, topicPerms: [orders=SUB], groupPerms: [TOOLS_CONSUMER=SUB]}
  - {accessKey: peeking, secretKey: some-secret, groupPerms: [billing=SUB, TOOLS_CONSUMER=SUB]}
  - {accessKey: counter, secretKey: some-secret, groupPerms: [billing=SUB, sluice-redrive=SUB]}
  - {accessKey: redriver, secretKey: some-secret, topicPerms: [orders=PUB], groupPerms: [billing=SUB, TOOLS_CONSUMER=SUB, sluice-redrive=SUB]}
`))
	if err != nil {
		t.Fatal(err)
	}
	k := serveRemote(t, server.Config{ACL: acl})
	s := &secrets{t: t, secret: filepath.Join(t.TempDir(), "secret")}
	s.write(s.secret, "some-secret")
	as := func(account string, args ...string) []string {
		return append(args, "-access-key", account, "-secret-file", s.secret)
	}
	for _, topic := range []string{"orders", "foreign"} {
		k.ok(as("operator", "topic", "create", topic, "-queues", "1")...)
		k.ok(as("operator", "message", "send", topic, "body", "-key", "k")...)
		k.settle("billing", topic, 1, driver.Settlement{Outcome: driver.DeadLetter})
	}
	k.settle("others", "foreign", 1, driver.Settlement{Outcome: driver.DeadLetter})
	k.settle("hidden", "foreign", 1, driver.Settlement{Outcome: driver.Ack})
	id, _ := k.objects(as("operator", "message", "browse", "orders", "-from", "first")...)[0]["id"].(string)
	for _, test := range []struct {
		args      string
		enough    string // an account
		tooLittle []string
	}{
		{"topic list", "stranger", nil},
		{"topic show orders", "producer", []string{"stranger"}},
		{"topic show orders", "consumer", nil},
		{"group list", "stranger", nil},
		{"group show billing", "in-group", []string{"stranger"}},
		{"group members billing", "in-group", []string{"stranger"}},
		{"lag", "stranger", nil},
		{"lag billing", "in-group", []string{"stranger"}},
		{"message send orders body", "producer", []string{"stranger", "consumer"}},
		{"message get " + id + " -topic orders", "consumer", []string{"stranger", "producer"}},
		{"message find orders -key k", "consumer", []string{"stranger", "producer"}},
		{"message browse orders", "browser", []string{"stranger", "consumer"}},
		{"dlq list", "counter", []string{"in-group"}},
		{"dlq peek billing", "peeking", []string{"stranger", "in-group"}},
		{"dlq redrive billing -limit 1", "redriver", []string{"stranger", "in-group", "peeking"}},
		{"group reset billing orders -to first", "operator", []string{"stranger", "redriver"}},
		{"dlq purge billing -yes", "operator", []string{"stranger", "redriver"}},
		{"group delete billing -yes", "operator", []string{"stranger", "redriver"}},
		{"topic create bills", "operator", []string{"stranger", "redriver"}},
		{"topic update orders -queues 2", "operator", []string{"stranger", "redriver"}},
		{"topic delete orders -yes", "operator", []string{"stranger", "redriver"}},
	} {
		words := strings.Fields(test.args)
		name := words[0]
		if name != "lag" {
			name += " " + words[1]
		}
		for _, account := range test.tooLittle {
			k.refuses(exitRefused, "\nsluice: with access control "+name+" takes "+rights()[name]+"\n", as(account, words...)...)
		}
		if r := k.call(as(test.enough, words...)...); r.code != exitFine || r.err != "" {
			t.Errorf("%s as %s: exit code %d, told %q", test.args, test.enough, r.code, r.err)
		}
	}
	topics := func(account string) []string {
		var names []string
		for _, o := range k.objects(as(account, "topic", "list")...) {
			names = append(names, o["topic"].(string))
		}
		return names
	}
	if got := topics("operator"); !slices.Equal(got, []string{"bills", "foreign"}) {
		t.Errorf("an admin sees %q", got)
	}
	if got := topics("consumer"); len(got) != 0 {
		t.Errorf("an account sees topics of others: %q", got)
	}
	// A group that an account may not see is not said to be none.
	for _, args := range [][]string{
		{"group", "reset", "hidden", "foreign", "-to", "first"},
		{"group", "reset", "hidden", "foreign", "-to", "first", "-dry-run"},
		{"group", "show", "hidden"},
		{"group", "delete", "hidden"},
		{"dlq", "peek", "hidden"},
		{"dlq", "purge", "hidden", "-yes"},
	} {
		args = as("outsider", args...)
		k.refuses(exitRefused, "has no permission SUB on group hidden", args...)
		if r := k.call(args...); strings.Contains(r.err, "not known") || strings.Contains(r.err, "can be moved") {
			t.Errorf("%v: told %q", args, r.err)
		}
	}
	k.refuses(exitRefused, "with access control group reset takes an admin account", as("outsider", "group", "reset", "hidden", "foreign", "-to", "first")...)
	k.refuses(exitRefused, "group nobody is not known; a group can be moved", as("operator", "group", "reset", "nobody", "foreign", "-to", "first")...)
	k.refuses(exitRefused, "not signed", "topic", "list")
	if r := k.call("topic", "list"); strings.Contains(r.err, "takes any account") {
		t.Errorf("without an account it asks for rights: %q", r.err)
	}
}

// Every command that talks to a server says what it takes.
func TestRights_Complete(t *testing.T) {
	t.Parallel()
	left := rights()
	for _, c := range commands().sub {
		for _, one := range append(c.sub, c) {
			name := one.name
			if one.name != c.name {
				name = c.name + " " + one.name
			}
			if one.run == nil || !strings.Contains(one.usage, "-access-key KEY") {
				continue
			}
			if left[name] == "" || !strings.Contains(one.usage, "\nWith access control it takes "+left[name]+".\n") {
				t.Errorf("%s does not say what it takes", name)
			}
			delete(left, name)
		}
	}
	if len(left) > 0 {
		t.Errorf("there is no command for %v", left)
	}
}
