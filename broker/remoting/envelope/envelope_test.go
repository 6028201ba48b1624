package envelope_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Fields of a message come back as fields, users' properties as properties, and
// what is the broker's own does not come at all.
func TestOpen(t *testing.T) {
	t.Parallel()
	props := map[string]string{
		message.Keys: "k1 k2", message.Tags: "a", message.UniqKey: "id", message.ShardingKeyGo: "order-7",
		message.TimerDeliverMs: "1700000000123", "TIMER_OUT_MS": "1", message.TraceOn: "true",
		message.TransientPrefix + "x": "1", envelope.FirstStored: "1", message.CorrelationID: "c", "mine": "yes",
	}
	s := message.Stored{
		Topic: "t", QueueID: 3, QueueOffset: 9, ReconsumeTimes: 2, BornTimestamp: 5, StoreTimestamp: 7,
		Properties: string(message.AppendProperties(nil, props)),
	}
	var d driver.Delivery
	envelope.Open(&d, &s, []byte("body"), "offset-id")
	if d.Attempt != 1 {
		t.Errorf("the count of another group made it attempt %d", d.Attempt)
	}
	if len(d.Keys) != 2 || d.Tag != "a" || d.ID != "id" || d.OrderingKey != "order-7" || d.DeliverAt.UnixMilli() != 1700000000123 {
		t.Errorf("fields are lost: %+v", d)
	}
	if len(d.Properties) != 2 || d.Properties["mine"] != "yes" || d.Properties[message.CorrelationID] != "c" {
		t.Errorf("properties are %q", d.Properties)
	}
	s.Topic, s.Properties = driver.RetryTopic("g"), message.RetryTopic+"\x01t\x02"
	d = driver.Delivery{}
	envelope.Open(&d, &s, nil, "offset-id")
	if d.Attempt != 3 || d.Topic != "t" || d.ID != "offset-id" {
		t.Errorf("a redelivery comes as attempt %d of topic %s with id %s", d.Attempt, d.Topic, d.ID)
	}
}

// Users cannot set what the broker or a field of the message owns.
func TestCheck(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*driver.Message{
		"own property": {Topic: "t", Properties: map[string]string{message.Keys: "k"}},
		"timer":        {Topic: "t", Properties: map[string]string{"TIMER_ROLL_TIMES": "1"}},
		"id":           {Topic: "t", ID: "a\x01b"},
		"body":         {Topic: "t", Body: make([]byte, 11)},
		"topic":        {Topic: "a/b"},
	} {
		if err := envelope.Check(m, 10); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := envelope.Check(&driver.Message{Topic: "t", Body: make([]byte, 10), Properties: map[string]string{"TIME": "1"}}, 10); err != nil {
		t.Error(err)
	}
}

// A copy keeps where the first one was through any number of copies; a dead
// letter says where it came from.
func TestCopy_Origin(t *testing.T) {
	t.Parallel()
	s := message.Stored{
		Topic: "t", QueueOffset: 42, StoreTimestamp: 1700000000000,
		Properties: string(message.AppendProperties(nil, map[string]string{
			message.TranMsg: "true", message.Delay: "3", "TIMER_DELIVER_MS": "5", "mine": "yes", message.Cluster: "c",
		})),
	}
	first := message.ParseProperties(string(envelope.NewCopy(&s, "first").Encode(nil)))
	s = message.Stored{Topic: driver.RetryTopic("g"), QueueOffset: 7, StoreTimestamp: 1700000009000, Properties: string(message.AppendProperties(nil, first))}
	dead := envelope.NewCopy(&s, "second")
	dead.Dead("g", 3, time.UnixMilli(1700000010001))
	got := message.ParseProperties(string(dead.Encode(map[string]string{driver.DeadGroup: "forged", driver.DeadReason: "exhausted"})))
	want := map[string]string{
		message.RetryTopic: "t", message.OriginMessageID: "first", envelope.FirstStored: "1700000000000", "mine": "yes", message.Cluster: "c",
		driver.DeadTopic: "t", driver.DeadQueue: "3", driver.DeadOffset: "7", driver.DeadGroup: "g", driver.DeadReason: "exhausted",
		driver.DeadAt: "2023-11-14T22:13:30.001Z", driver.DeadFirstAt: "2023-11-14T22:13:20.000Z",
	}
	if len(got) != len(want) {
		t.Errorf("the copy has %q", got)
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
}

// Whatever is added, the original's properties stay and the room that brokers
// need is left, unless the original itself had none.
func TestCopy_AddedFits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		user := map[string]string{"mine": strings.Repeat("m", rapid.IntRange(1, 20_000).Draw(t, "mine"))}
		added := map[string]string{}
		for i := range rapid.IntRange(0, 6).Draw(t, "n") {
			added["A"+strconv.Itoa(i)] = strings.Repeat("x", rapid.IntRange(1, 20_000).Draw(t, "size"))
		}
		if rapid.Bool().Draw(t, "replaces") {
			added["mine"] = strings.Repeat("n", rapid.IntRange(1, 20_000).Draw(t, "size of the other"))
		}
		s := message.Stored{Topic: "t", Properties: string(message.AppendProperties(nil, user))}
		b := envelope.NewCopy(&s, "id").Encode(added)
		if len(b) > envelope.MaxProperties {
			t.Fatalf("the properties have %d bytes", len(b))
		}
		got := message.ParseProperties(string(b))
		if got["mine"] != user["mine"] && got["mine"] != added["mine"] || got["mine"] == "" {
			t.Fatal("a property of the original is gone")
		}
		shortest := ""
		for _, v := range added {
			if shortest == "" || len(v) < len(shortest) {
				shortest = v
			}
		}
		if len(user["mine"])+len(shortest) < 30_000 && len(added) > 0 {
			found := false
			for name := range added {
				found = found || got[name] == added[name]
			}
			if !found {
				t.Fatal("nothing was added although the shortest fits")
			}
		}
	})
}

// Nothing comes before its time.
func TestMillis(t *testing.T) {
	t.Parallel()
	for ns, want := range map[int64]int64{0: 0, 1: 1, 999_999: 1, 1_000_000: 1, 1_000_001: 2} {
		if got := envelope.Millis(time.Unix(0, ns)); got != want {
			t.Errorf("%d ns are %d ms, want %d", ns, got, want)
		}
	}
}
