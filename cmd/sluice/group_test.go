package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/server"
)

func TestGroup(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.prints("there are no groups\n", "group", "list")
	k.prints("no group has positions\n", "lag")
	k.send("orders", 5)
	k.settle("billing", "orders", 2, driver.Settlement{Outcome: driver.Ack})
	k.prints(`
GROUP    MEMBERS  TOPICS  LAG   RATE
billing        0       1    3  0.0/s
`, "group", "list")
	k.prints(`
GROUP    TOPIC   QUEUES  LAG  IN FLIGHT
billing  orders       1    3          0
`, "lag", "-topic", "orders")
	r := regexp.MustCompile(`(?m)^(orders.* )\S+$`)
	if got := r.ReplaceAllString(k.ok("lag", "billing", "-topic", "orders"), "${1}AGE"); got != `
TOPIC   BROKER    QUEUE  POSITION  END  LAG  IN FLIGHT  BEHIND
orders  broker-a      0         2    5    3          0  AGE
`[1:] {
		t.Errorf("printed\n%s", got)
	}
	k.refuses(exitRefused, "group biling is not known (did you mean billing?)", "lag", "biling")
	k.refuses(exitRefused, "group biling is not known (did you mean billing?)", "group", "show", "biling")
	k.refuses(exitRefused, "group biling is not known (did you mean billing?)", "group", "members", "biling")
	k.ok("topic", "create", "audit")
	for _, args := range [][]string{{"lag", "-topic"}, {"lag", "billing", "-topic"}} {
		k.refuses(exitRefused, "topic order is not known (did you mean orders?)", append(args, "order")...)
	}
	k.prints("group billing has no positions on topic audit\n", "lag", "billing", "-topic", "audit")
	k.prints("no group has positions on topic audit\n", "lag", "-topic", "audit")
	k.prints("nobody is in group billing now\n", "group", "members", "billing")
	if got := k.ok("topic", "show", "orders"); !strings.Contains(got, "groups    billing\n") {
		t.Errorf("printed %s", got)
	}

	k.client("client-1", "billing", "orders", "paid || refunded")
	k.prints(`
CLIENT    ADDRESS  LANGUAGE  VERSION
client-1  ADDRESS  GO        479
`, "group", "members", "billing")
	got := k.ok("group", "show", "billing")
	for _, want := range []string{
		"members  1\n", "model    clustering\n", "lag      3\n", "\norders       1    3          0  paid || refunded\n",
		"allowed  consume, broadcast, 16 redeliveries\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("printed\n%s\nwant %q", got, want)
		}
	}
	k.refuses(exitRefused, "group billing has 1 member, stop them first", "group", "delete", "billing", "-yes")
}

func TestGroup_Reset(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.send("orders", 5)
	k.settle("billing", "orders", 4, driver.Settlement{Outcome: driver.Ack})
	lag := func(want float64) {
		t.Helper()
		if got := k.objects("lag", "billing", "-topic", "orders")[0]["lag"]; got != want {
			t.Errorf("lag %v, want %v", got, want)
		}
	}
	k.prints(`
BROKER    QUEUE  FROM  TO  AGAIN  PASSED OVER
broker-a      0     4   0      4            0
nothing was moved: -dry-run
`, "group", "reset", "billing", "orders", "-to", "first", "-dry-run")
	lag(1)
	k.prints(`
BROKER    QUEUE  FROM  TO  AGAIN  PASSED OVER
broker-a      0     4   0      4            0
`, "group", "reset", "billing", "orders", "-to", "first")
	lag(5)
	k.ok("group", "reset", "billing", "orders", "-to", "last")
	lag(0)
	k.ok("group", "reset", "billing", "orders", "-to", "3", "-queue", "0")
	lag(2)
	k.ok("group", "reset", "billing", "orders", "-to", "1h") // before everything
	lag(5)
	if x := k.objects("group", "reset", "billing", "orders", "-to", "99", "-queue", "0")[0]; x["from"] != 0.0 || x["to"] != 5.0 {
		t.Errorf("printed %v", x)
	}
	k.refuses(exitRefused, "group biling is not known (did you mean billing?)", "group", "reset", "biling", "orders", "-to", "first")
	for _, args := range [][]string{{"-dry-run"}, nil} {
		k.refuses(exitRefused, "sluice: group nobody is not known; a group can be moved once a member of it was there, which begins where its own settings say\n",
			append([]string{"group", "reset", "nobody", "orders", "-to", "first"}, args...)...)
	}
	k.client("client-1", "idle", "orders", "*") // is known, and has no position
	k.prints(`
BROKER    QUEUE  FROM  TO  AGAIN  PASSED OVER
broker-a      0  -      5  -      -
`, "group", "reset", "idle", "orders", "-to", "last")
	k.refuses(exitRefused, "topic order is not known (did you mean orders?)", "group", "reset", "billing", "order", "-to", "first")
	k.refuses(exitRefused, "sluice: topic orders has no queue 9, it has queue 0 only\n", "group", "reset", "billing", "orders", "-to", "0", "-queue", "9")
	k.refuses(exitRefused, "sluice: topic orders is not on broker nope, it is on broker-a\n", "group", "reset", "billing", "orders", "-to", "first", "-broker", "nope")
	k.refuses(exitRefused, "it is on broker-a (did you mean broker-a?)\n", "group", "reset", "billing", "orders", "-to", "first", "-broker", "broker-b")
}

func TestGroup_Delete(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.send("orders", 1)
	k.settle("billing", "orders", 1, driver.Settlement{Outcome: driver.Ack})
	k.refuses(exitRefused, "add -yes to forget them", "group", "delete", "billing")
	k.prints("deleted group billing\n", "group", "delete", "billing", "-yes")
	k.prints("there are no groups\n", "group", "list", "-all")
	if got := k.ok("lag"); got != "no group has positions\n" {
		t.Errorf("printed %s", got)
	}
	k.refuses(exitRefused, "group nobody is not known", "group", "delete", "nobody", "-yes")
}

func TestGroup_DeleteKeepsDeadLetters(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.bury(2)
	k.prints("deleted group billing; its 2 dead letters stay, sluice dlq purge billing removes them\n", "group", "delete", "billing", "-yes")
	if got := k.objects("dlq", "list"); len(got) != 1 || got[0]["messages"] != 2.0 {
		t.Errorf("printed %v", got)
	}
	k.prints("removed 2 dead letters of group billing\n", "dlq", "purge", "billing", "-yes")
}

func TestGroup_JSON(t *testing.T) {
	t.Parallel()
	k := serveRemote(t, server.Config{})
	k.send("orders", 2)
	k.settle("billing", "orders", 1, driver.Settlement{Outcome: driver.Ack})
	k.client("client-1", "billing", "orders", "*")
	x := k.objects("group", "show", "billing")[0]
	if x["group"] != "billing" || x["lag"] != 1.0 || len(x["members"].([]any)) != 1 || x["model"] != "CLUSTERING" {
		t.Errorf("printed %v", x)
	}
	if x := k.objects("group", "list")[0]; x["group"] != "billing" || x["members"] != 1.0 || x["lag"] != 1.0 {
		t.Errorf("printed %v", x)
	}
	if x := k.objects("group", "members", "billing")[0]; x["client"] != "client-1" || x["language"] != "GO" {
		t.Errorf("printed %v", x)
	}
	if x := k.objects("lag")[0]; x["group"] != "billing" || x["topic"] != "%RETRY%billing" && x["topic"] != "orders" {
		t.Errorf("printed %v", x)
	}
}
