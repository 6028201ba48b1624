package drivertest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// roundTripCases: what comes out is what went in.
func roundTripCases() []testCase {
	const g = "round_trip"
	return []testCase{
		{g, "bodies", 0, roundTripBodies},
		{g, "properties", 0, roundTripProperties},
		{g, "keys_and_tags", 0, roundTripKeys},
		{g, "reserved_names", 0, roundTripReserved},
		{g, "born_at", 0, roundTripBornAt},
		{g, "body_limit", needMaxBody, func(e *env) {
			topic := e.topic(1)
			m := e.member(e.its("group"), topic)
			full := &driver.Message{Topic: topic, Body: noise(e.caps.MaxBody)}
			e.send(full)
			e.sameMessage("a body of exactly MaxBody", m.take(1)[0].d, full)
			e.refused("a body of MaxBody+1", e.sendOne(&driver.Message{Topic: topic, Body: make([]byte, e.caps.MaxBody+1)}))
			m.none("the message was refused")
		}},
	}
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(n)})
	b := make([]byte, n)
	_, _ = r.Read(b) // never fails
	return b
}

func roundTripBodies(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	for what, body := range map[string][]byte{
		"no body":         nil,
		"0 bytes":         {},
		"one NUL":         {0},
		"NULs":            make([]byte, 1000),
		"UTF-8":           []byte("水费 ✓ größe"),
		"not UTF-8":       {0xff, 0xfe, 0x80},
		"separators":      []byte("a\x01b\x02c\r\n"),
		"every byte":      everyByte(),
		"the large body":  noise(e.lim.LargeBody),
		"one byte less":   noise(e.lim.LargeBody - 1),
		"4095 bytes":      noise(4095),
		"4096 bytes":      noise(4096),
		"compressible":    bytes.Repeat([]byte("sluice"), 10000),
		"gzip magic":      {0x1f, 0x8b, 0x08, 0, 0, 0},
		"JSON":            []byte(`{"bill_id":"b-1"}`),
		"a single letter": []byte("x"),
	} {
		msg := &driver.Message{Topic: topic, Body: body}
		e.send(msg)
		a := m.take(1)[0]
		e.sameMessage(what, a.d, msg)
		a.ack()
	}
	both := []*driver.Message{{Topic: topic}, {Topic: topic, Body: []byte("beside it")}}
	e.send(both...)
	for i, a := range m.take(2) {
		e.sameMessage("a call with a message without a body", a.d, both[i])
		a.settle(driver.Retry, 0) // a copy of it is as good
	}
	for _, a := range m.take(2) {
		if n := len(a.d.Body); a.d.Attempt != 2 || n != 0 && n != len(both[1].Body) {
			e.Errorf("got %v again, with a body of %d bytes", a, n)
		}
		a.ack()
	}
}

func everyByte() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func roundTripProperties(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint("name-", i)] = strings.Repeat("v", i+1)
	}
	for what, props := range map[string]map[string]string{
		"none":         nil,
		"UTF-8":        {"größe": "水费 ✓"},
		"spaces":       {"a b": " leading and trailing "},
		"punctuation":  {"a=b": "c;d,e&f=\"g\"", "{": "}"},
		"control":      {"p": "line\nbreak\ttab\x00nul"},
		"many":         many,
		"long":         {"p": strings.Repeat("0123456789", 300)},
		"content-type": {"content-type": "application/json", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"case":         {"Name": "a", "name": "b", "NAME": "c"},
	} {
		msg := &driver.Message{Topic: topic, Body: []byte(what), Properties: props}
		e.send(msg)
		a := m.take(1)[0]
		e.sameMessage("properties: "+what, a.d, msg)
		a.ack()
	}
}

func roundTripKeys(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	for _, msg := range []*driver.Message{
		{Topic: topic, Tag: "water"},
		{Topic: topic, Tag: "水费"},
		{Topic: topic, Keys: []string{"one"}},
		{Topic: topic, Keys: []string{"one", "two", "größe"}, Tag: "t", OrderingKey: "customer 7"},
		{Topic: topic, OrderingKey: "größe 水"},
		{Topic: topic, ID: "0A0B0C0D00002A9F0000000000000001", Keys: []string{"with-id"}},
	} {
		e.send(msg)
		a := m.take(1)[0]
		e.sameMessage(fmt.Sprintf("%+v", *msg), a.d, msg)
		a.ack()
	}
}

// roundTripReserved: a user's property may have a name that the broker uses
// itself. It comes back as it was, or is refused; it never changes the message.
func roundTripReserved(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	for _, name := range []string{
		"KEYS", "TAGS", "DELAY", "UNIQ_KEY", "WAIT", "TRAN_MSG", "PGROUP", "REAL_TOPIC", "REAL_QID",
		"RETRY_TOPIC", "ORIGIN_MESSAGE_ID", "RECONSUME_TIME", "TIMER_DELIVER_MS", "__SHARDINGKEY", driver.DeadTopic,
	} {
		msg := &driver.Message{
			Topic: topic, ID: "ID-" + strings.Trim(name, "_"), Tag: "tag", Keys: []string{"key"}, OrderingKey: "order",
			Body: []byte(name), Properties: map[string]string{name: "3"},
		}
		r := e.sendOne(msg)
		if driver.CodeOf(r.Err) == driver.InvalidArgument {
			continue
		}
		e.must("send with a property "+name, r.Err)
		a := m.take(1)[0]
		e.sameMessage("property "+name, a.d, msg)
		if a.d.Attempt != 1 {
			e.Errorf("property %s: attempt %d, want 1", name, a.d.Attempt)
		}
		a.ack()
	}
	m.none("every message came once")
}

func roundTripBornAt(e *env) {
	topic := e.topic(1)
	m := e.member(e.its("group"), topic)
	// Sender clocks may be days off; the time is carried, not used.
	for _, off := range []time.Duration{0, -240 * time.Hour, 240 * time.Hour} {
		msg := message(topic, 1)
		msg.BornAt = time.Now().Add(off).Truncate(time.Millisecond)
		e.send(msg)
		a := m.take(1)[0]
		if !a.d.BornAt.Equal(msg.BornAt) {
			e.Errorf("BornAt: got %v, want %v", a.d.BornAt, msg.BornAt)
		}
		a.ack()
	}
}
