package rocketmq_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/rocketmq"
)

// two is a member of group g that subscribes to topic t, and another client.
func two(t *testing.T, first driver.SubscribeSpec) (*cluster, driver.Conn, driver.Conn) {
	t.Helper()
	c := newCluster(t, false, "a", "b")
	c.topic("t", 2)
	c.topic("u", 2)
	var conns [2]driver.Conn
	for i, id := range []string{"first", "second"} {
		conns[i] = c.open(rocketmq.Config{}, id)
		t.Cleanup(func() { _ = conns[i].Close(context.Background()) })
	}
	newConsumer(t).join(conns[0], first)
	time.Sleep(time.Second)
	return c, conns[0], conns[1]
}

// Members of a group whose subscriptions differ starve each other or lose what
// they fail at: the second one is refused, and told what the difference is.
func TestAgree(t *testing.T) {
	t.Parallel()
	tags := func(tags ...string) driver.SubscribeSpec {
		return driver.SubscribeSpec{Group: "g", Topic: "t", Filter: driver.Filter{Tags: tags}}
	}
	u := driver.SubscribeSpec{Group: "g", Topic: "u"}
	inOrderU := driver.SubscribeSpec{Group: "g", Topic: "u", Ordered: true}
	for name, test := range map[string]struct {
		first, second driver.SubscribeSpec
		want          []string // in the error; none: they get along
	}{
		"the same tags":               {first: tags("x", "y"), second: tags("y", "x")},
		"other tags":                  {first: tags("x"), second: tags("y"), want: []string{"t x", "t y"}},
		"all and some":                {first: spec, second: tags("y"), want: []string{"t *", "t y"}},
		"tags and SQL":                {first: tags("x"), second: driver.SubscribeSpec{Group: "g", Topic: "t", Filter: driver.Filter{SQL: "a > 1"}}, want: []string{"t x", "t sql: a > 1"}},
		"with order and without":      {first: spec, second: inOrder, want: []string{"t *,", "t *, ordered"}},
		"broadcast and not":           {first: spec, second: driver.SubscribeSpec{Group: "g", Topic: "t", Broadcast: true}, want: []string{"t *, broadcast"}},
		"other topics":                {first: tags("x"), second: u},
		"other topics, both in order": {first: inOrder, second: inOrderU},
		"another topic in order":      {first: spec, second: inOrderU, want: []string{"dead letters", "u *, ordered"}},
		"another topic without order": {first: inOrder, second: u, want: []string{"dead letters", "u *,"}},
		"another group":               {first: tags("x"), second: driver.SubscribeSpec{Group: "h", Topic: "t"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, _, second := two(t, test.first)
				_, err := second.Subscribe(t.Context(), test.second, newConsumer(t))
				if len(test.want) == 0 {
					if err != nil {
						t.Errorf("refused: %v", err)
					}
					return
				}
				if driver.CodeOf(err) != driver.FailedPrecondition {
					t.Fatalf("got %v, want a failed precondition", err)
				}
				for _, text := range test.want {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("the error does not say %q: %v", text, err)
					}
				}
			})
		})
	}
}

// Brokers of RocketMQ put each redelivery of a group that has a lock among the
// dead letters: an ordered topic in a group made dead letters of the first
// failures of another one.
func TestTrap_OrderedTopicMakesDeadLettersOfAnother(t *testing.T) {
	t.Parallel()
	for _, ordered := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			_, conn, _ := two(t, driver.SubscribeSpec{Group: "g", Topic: "t", Ordered: ordered})
			_, err := conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: "g", Topic: "u", Ordered: !ordered}, newConsumer(t))
			if driver.CodeOf(err) != driver.FailedPrecondition || !strings.Contains(err.Error(), "dead letters") {
				t.Errorf("the first topic in order: %v, the second one: %v; got %v", ordered, !ordered, err)
			}
			newConsumer(t).join(conn, driver.SubscribeSpec{Group: "g", Topic: "u", Ordered: ordered})
			newConsumer(t).join(conn, driver.SubscribeSpec{Group: "h", Topic: "u", Ordered: !ordered})
			if _, err := conn.Subscribe(t.Context(), driver.SubscribeSpec{Group: "g", Topic: "u", Ordered: ordered}, newConsumer(t)); err == nil {
				t.Error("a second subscription to the topic")
			}
		})
	}
}
