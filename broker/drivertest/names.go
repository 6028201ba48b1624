package drivertest

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
)

// badNames could reach a file system or a wire format.
func badNames() []string {
	return []string{"", "..", ".", "a/b", "/etc", `a\b`, "a b", "a\x00b", "a\x01b", "größe", strings.Repeat("n", driver.MaxName+1)}
}

// nameCases: bad input is refused where it enters.
func nameCases() []testCase {
	const g = "names"
	return []testCase{
		{g, "send", 0, func(e *env) {
			for _, name := range badNames() {
				e.refused("send to topic "+quoted(name), e.sendOne(message(name, 1)))
			}
		}},
		{g, "longest", 0, longestNames},
		{g, "message_parts", 0, badMessageParts},
		{g, "subscribe", 0, badSubscriptions},
		{g, "create_topic", needTopics, func(e *env) {
			for _, name := range badNames() {
				err := e.ext.Topics.CreateTopic(e.ctx(), driver.TopicInfo{Name: name, Queues: 1})
				e.wantCode("create topic "+quoted(name), err, driver.InvalidArgument)
			}
			for _, n := range []int{0, -1} {
				err := e.ext.Topics.CreateTopic(e.ctx(), driver.TopicInfo{Name: e.name("topic"), Queues: n})
				e.wantCode("create a topic without queues", err, driver.InvalidArgument)
			}
		}},
		{g, "transactions", needTx, func(e *env) {
			topic := e.topic(1)
			for _, name := range badNames() {
				_, err := e.ext.Tx.Prepare(e.ctx(), name, message(topic, 1))
				e.wantCode("prepare for group "+quoted(name), err, driver.InvalidArgument)
				_, err = e.ext.Tx.Prepare(e.ctx(), e.name("group"), message(name, 1))
				e.wantCode("prepare to topic "+quoted(name), err, driver.InvalidArgument)
				err = e.ext.Tx.Checks(e.ctx(), name, 1, undecided)
				e.wantCode("checks of group "+quoted(name), err, driver.InvalidArgument)
			}
		}},
	}
}

func undecided(context.Context, driver.Half, *driver.Delivery, int) driver.Decision {
	return driver.Undecided
}

func quoted(name string) string {
	if len(name) > 20 {
		return name[:20] + "…"
	}
	return "\"" + name + "\""
}

func longestNames(e *env) {
	topic := e.its(strings.Repeat("t", driver.MaxName-len(e.b.Space)))
	if e.ext.Topics != nil {
		e.must("create a topic with the longest name", e.ext.Topics.CreateTopic(e.ctx(), driver.TopicInfo{Name: topic, Queues: 1}))
	}
	longest := cmp.Or(e.caps.MaxGroup, driver.MaxName)
	_, err := e.tryJoin("client", driver.SubscribeSpec{Group: e.its(strings.Repeat("g", longest+1-len(e.b.Space))), Topic: topic}, memberOptions{})
	e.wantCode(fmt.Sprint("subscribe a group with a name of ", longest+1), err, driver.InvalidArgument)
	m := e.member(e.its(strings.Repeat("g", longest-len(e.b.Space))), topic)
	e.send(message(topic, 1))
	a := m.take(1)[0]
	// The names of retry and dead letter topics are longer still.
	a.settle(driver.Retry, 0)
	m.take(1)[0].settle(driver.DeadLetter, 0)
}

func badMessageParts(e *env) {
	topic := e.topic(1)
	for what, change := range map[string]func(m *driver.Message){
		"tag with ||":           func(m *driver.Message) { m.Tag = "a||b" },
		"tag with a space":      func(m *driver.Message) { m.Tag = "a b" },
		"empty key":             func(m *driver.Message) { m.Keys = []string{"a", ""} },
		"key with a space":      func(m *driver.Message) { m.Keys = []string{"a b"} },
		"key with a newline":    func(m *driver.Message) { m.Keys = []string{"a\nb"} },
		"property without name": func(m *driver.Message) { m.Properties = map[string]string{"": "v"} },
		"empty property":        func(m *driver.Message) { m.Properties = map[string]string{"p": ""} },
		"property with \\x01":   func(m *driver.Message) { m.Properties = map[string]string{"p": "a\x01b"} },
		"property with \\x02":   func(m *driver.Message) { m.Properties = map[string]string{"a\x02b": "v"} },
		"property not UTF-8":    func(m *driver.Message) { m.Properties = map[string]string{"p": "\xff"} },
		"ordering key control":  func(m *driver.Message) { m.OrderingKey = "a\x01" },
	} {
		m := message(topic, 1)
		change(m)
		e.refused("send with "+what, e.sendOne(m))
		if e.ext.Tx != nil {
			_, err := e.ext.Tx.Prepare(e.ctx(), e.its("producers"), m)
			e.wantCode("prepare with "+what, err, driver.InvalidArgument)
		}
	}
}

func badSubscriptions(e *env) {
	topic := e.topic(1)
	specs := map[string]driver.SubscribeSpec{}
	for _, name := range badNames() {
		specs["topic "+quoted(name)] = driver.SubscribeSpec{Group: e.its("group"), Topic: name}
		specs["group "+quoted(name)] = driver.SubscribeSpec{Group: name, Topic: topic}
	}
	if e.caps.Tags {
		specs["a tag with ||"] = driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: driver.Filter{Tags: []string{"a||b"}}}
	}
	if e.caps.SQL {
		specs["bad SQL"] = driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: driver.Filter{SQL: "a = = 1"}}
		specs["open quote"] = driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: driver.Filter{SQL: "a = 'x"}}
		specs["bad SQL for a topic that is not there"] = driver.SubscribeSpec{Group: e.its("group"), Topic: e.its("absent"), Filter: driver.Filter{SQL: "(a > 1"}}
		specs["LIKE"] = driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: driver.Filter{SQL: "a LIKE 'e%'"}}
	}
	if e.caps.SQL && e.caps.Tags {
		specs["tags and SQL"] = driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: driver.Filter{Tags: []string{"a"}, SQL: "a = 1"}}
	}
	for what, spec := range specs {
		_, err := e.tryJoin(e.name("client"), spec, memberOptions{})
		e.wantCode("subscribe with "+what, err, driver.InvalidArgument)
	}
}
