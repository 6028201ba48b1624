package main

import (
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/server"
)

// bury sends messages and lets a group give them up.
func (k *remoteKit) bury(n int) {
	k.t.Helper()
	k.send("orders", n)
	k.settle("billing", "orders", n, driver.Settlement{Outcome: driver.DeadLetter, Properties: map[string]string{
		driver.DeadReason: "exhausted", driver.DeadError: "no such\naccount", driver.DeadAttempts: "16",
	}})
}

func TestDLQ(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.prints("there are no dead letters\n", "dlq", "list")
	k.client("client-1", "idle", "orders", "*")
	for group, want := range map[string]string{"billing": "sluice: group billing is not known\n", "idle": "sluice: a dead letter of group idle is not known\n"} {
		for _, args := range [][]string{{"peek", group}, {"redrive", group}, {"purge", group}, {"purge", group, "-yes"}} {
			k.refuses(exitRefused, want, append([]string{"dlq"}, args...)...)
		}
	}
	k.bury(3)
	k.refuses(exitRefused, "topic order is not known (did you mean orders?)", "dlq", "redrive", "billing", "-to", "order")
	k.refuses(exitFailed, `-to takes the name of a topic, not ""`, "dlq", "redrive", "billing", "-to", "")
	k.prints(`
GROUP    MESSAGES  WAITING  NEWEST
billing         3        3  TIME--------------------
`, "dlq", "list")
	k.prints(`
DEAD                      QUEUE  OFFSET  ORIGIN  TRIED  ID                                KEYS  REASON              BODY
TIME--------------------      0       0  orders  16     ID------------------------------  k0    exhausted: no such  body 0
TIME--------------------      0       1  orders  16     ID------------------------------  k1    exhausted: no such  body 1
`, "dlq", "peek", "billing", "-limit", "2", "-body")
	x := k.objects("dlq", "peek", "billing", "-from", "last", "-limit", "1", "-body")[0]
	if x["origin_topic"] != "orders" || x["attempts"] != 16.0 || x["error"] != "no such\naccount" || x["body"] != "body 2" || x["offset"] != 2.0 {
		t.Errorf("printed %v", x)
	}

	dry := k.ok("dlq", "redrive", "billing", "-dry-run", "-limit", "2")
	if strings.Count(dry, "would send ") != 3 || !strings.HasSuffix(dry, "would send 2 dead letters again\n") {
		t.Errorf("printed %s", dry)
	}
	k.prints(`
sent ID------------------------------ to orders: queue 0, offset 3
sent 1 dead letter again
`, "dlq", "redrive", "billing", "-limit", "1")
	k.prints(`
GROUP    MESSAGES  WAITING  NEWEST
billing         3        2  TIME--------------------
`, "dlq", "list")
	if all := k.objects("dlq", "redrive", "billing", "-rate", "1000"); len(all) != 2 || all[1]["to"] != "orders" || all[1]["sent"].(map[string]any)["offset"] != 5.0 {
		t.Errorf("printed %v", all)
	}
	k.prints("sent 0 dead letters again\n", "dlq", "redrive", "billing")
	if got := k.ok("dlq", "redrive", "billing", "-again", "-limit", "1", "-to", "orders"); !strings.Contains(got, "offset 6") ||
		!strings.HasSuffix(got, "\nthe position went back: the next redrive sends the 2 dead letters behind, those that were sent before among them\n") {
		t.Errorf("printed %s", got)
	}

	k.ok("topic", "update", "%DLQ%billing", "-perm", "w") // as brokers of RocketMQ 4 make them
	for _, command := range []string{"peek", "redrive"} {
		k.refuses(exitRefused, "sluice: topic %DLQ%billing gives no messages: its permission is w; sluice topic update %DLQ%billing -perm rw changes it\n", "dlq", command, "billing")
	}
	k.ok("topic", "update", "%DLQ%billing", "-perm", "rw")
	k.refuses(exitRefused, "group billing has 3 dead letters, of which 2 were not sent again; add -yes", "dlq", "purge", "billing")
	k.prints("removed 3 dead letters of group billing\n", "dlq", "purge", "billing", "-yes")
	k.prints("there are no dead letters\n", "dlq", "list")
	if r := k.call("dlq", "peek", "billing"); r.code != exitRefused || r.err != "sluice: a dead letter of group billing is not known\n" {
		t.Errorf("%+v", r) // the group is there, and was meant
	}
	k.refuses(exitRefused, "(did you mean billing?)", "dlq", "redrive", "biling")
}

// What is sent again is what was sent first, without the traces of its failure.
func TestDLQ_Revived(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.bury(1)
	first := k.objects("message", "browse", "orders", "-from", "0", "-queue", "0", "-limit", "1", "-body")[0]
	k.ok("dlq", "redrive", "billing")
	second := k.objects("message", "browse", "orders", "-from", "1", "-queue", "0", "-body")[0]
	for _, name := range []string{"id", "body", "tag"} {
		if first[name] != second[name] {
			t.Errorf("%s was %v and is %v", name, first[name], second[name])
		}
	}
	before, after := first["properties"].(map[string]any), second["properties"].(map[string]any)
	for name, value := range after {
		if before[name] != value {
			t.Errorf("property %s was %v and is %v", name, before[name], value)
		}
	}
	if len(before) != len(after) {
		t.Errorf("properties were %v and are %v", before, after)
	}
}

// A topic that is gone keeps its dead letters where they are.
func TestDLQ_NoOrigin(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.bury(1)
	k.ok("topic", "delete", "orders", "-yes")
	k.refuses(exitRefused, "topic orders is not known", "dlq", "redrive", "billing")
	if x := k.objects("dlq", "list")[0]; x["waiting"] != 1.0 {
		t.Errorf("printed %v", x)
	}
	k.ok("topic", "create", "elsewhere", "-queues", "1")
	k.prints("sent ID------------------------------ to elsewhere: queue 0, offset 0\nsent 1 dead letter again\n", "dlq", "redrive", "billing", "-to", "elsewhere")
}
