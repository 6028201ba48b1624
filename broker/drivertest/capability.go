package drivertest

import (
	"reflect"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// capabilityCases: what a broker cannot do is said as data and refused.
func capabilityCases() []testCase {
	const g = "honesty"
	return []testCase{
		{g, "constant", 0, capabilitiesConstant},
		{g, "well_formed", 0, capabilitiesWellFormed},
		{g, "unsupported_is_refused", 0, unsupportedRefused},
		{g, "health", 0, func(e *env) { e.must("health of an open client", e.main.Health(e.ctx())) }},
	}
}

func capabilitiesConstant(e *env) {
	other := e.connect("other")
	for _, c := range []driver.Conn{e.main, other} {
		for range 3 {
			if got := c.Capabilities(); !reflect.DeepEqual(got, e.caps) {
				e.Fatalf("Capabilities changed: got %+v, before %+v", got, e.caps)
			}
			if got := offers(e.caps, c.Extensions(), e.b); got != offers(e.caps, e.ext, e.b) {
				e.Fatalf("Extensions changed: got %v, before %v", got, offers(e.caps, e.ext, e.b))
			}
		}
	}
	e.must("close a client", other.Close(e.ctx()))
	if got := other.Capabilities(); !reflect.DeepEqual(got, e.caps) {
		e.Errorf("Capabilities after Close: got %+v, before %+v", got, e.caps)
	}
}

func capabilitiesWellFormed(e *env) {
	c := e.caps
	if c.System == "" {
		e.Errorf("Capabilities.System is empty; it is the OTel messaging.system")
	}
	if c.MaxBody < 0 || c.MaxBatch < 0 {
		e.Errorf("limits are negative: MaxBody %d, MaxBatch %d", c.MaxBody, c.MaxBatch)
	}
	if levels := c.Delay == driver.Levels || c.RetryDelay == driver.Levels; levels && len(c.DelayLevels) == 0 {
		e.Errorf("delay by levels, but no DelayLevels")
	}
	if !slices.IsSorted(c.DelayLevels) {
		e.Errorf("DelayLevels are not ascending: %v", c.DelayLevels)
	}
}

// unsupportedRefused asks for everything that the broker says it cannot do.
func unsupportedRefused(e *env) {
	topic := e.topic(1)
	have := offers(e.caps, e.ext, e.b)
	sub := func(what string, bit need, spec driver.SubscribeSpec) {
		if have&bit != 0 {
			return
		}
		spec.Group, spec.Topic = e.name("group"), topic
		_, err := e.tryJoin(e.name("client"), spec, memberOptions{})
		e.wantCode("subscribe "+what, err, driver.Unsupported)
	}
	sub("with tags", needTags, driver.SubscribeSpec{Filter: driver.Filter{Tags: []string{"a"}}})
	sub("with SQL", needSQL, driver.SubscribeSpec{Filter: driver.Filter{SQL: "a = 1"}})
	sub("for broadcast", needBroadcast, driver.SubscribeSpec{Broadcast: true})
	sub("in order", needOrdered, driver.SubscribeSpec{Ordered: true})
	if have&needDelay == 0 {
		m := message(topic, 1)
		m.DeliverAt = time.Now().Add(time.Hour)
		e.refused("send with a due time", e.sendOne(m), driver.Unsupported)
	}
	if have&needQueues == 0 {
		m := message(topic, 1)
		m.QueueSet = true
		e.refused("send to a queue", e.sendOne(m), driver.Unsupported)
	}
	if have&needOneWay == 0 {
		rs := e.main.Send(e.ctx(), driver.SendRequest{Messages: messages(topic, 1), NoAck: true})
		if len(rs) != 1 {
			e.Fatalf("one-way send of one message: got %d results", len(rs))
		}
		e.refused("one-way send", rs[0], driver.Unsupported)
	}
	if have&needRetryDelay == 0 {
		m := e.member(e.name("group"), topic)
		e.send(message(topic, 2))
		a := m.take(1)[0]
		e.wantCode("retry with a delay", a.try(driver.Settlement{Outcome: driver.Retry, Delay: time.Hour}), driver.Unsupported)
		a.ack()
	}
}
