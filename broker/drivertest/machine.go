package drivertest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
)

// step is one step of a random program. Its numbers are read modulo what there
// is, so that every program means something and shrinks well.
type step struct {
	Do   string
	A, B int
}

// Machine runs random programs (send, join, leave, fetch, settle, let time
// pass, crash) with two groups on one topic, one of them ordered if the broker
// can, and compares every delivery with a model: nothing stored is lost,
// attempts are counted right, each key keeps its order in the ordered group,
// a lane has one owner, and nothing comes after its acknowledgement except
// where at-least-once allows it. A failing program is shrunk by package rapid.
// It is part of [Run]; -rapid.checks raises the number of programs together
// with [Limits.MachineRuns].
func Machine(t *testing.T, h Harness) {
	t.Helper()
	h = h.withDefaults()
	runs, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		prog := program(h.Limits.MachineSteps).Draw(rt, "program")
		if runs++; runs > h.Limits.MachineRuns && !failed {
			return // rapid decides how often it calls, Limits how often that counts
		}
		if bad := attempt(t, h, func(e *env) { newMachine(e).run(prog) }); len(bad) > 0 {
			failed = true
			rt.Fatalf("%s", strings.Join(bad, "\n"))
		}
	})
}

func program(steps int) *rapid.Generator[[]step] {
	weighted := []string{
		"send", "send", "send", "send", "join", "leave", "fetch", "fetch", "fetch", "fetch", "fetch",
		"settle", "settle", "settle", "settle", "advance", "crash",
	}
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{Do: rapid.SampledFrom(weighted).Draw(rt, "do"), A: rapid.IntRange(0, 63).Draw(rt, "a"), B: rapid.IntRange(0, 63).Draw(rt, "b")}
	}), max(1, steps/2), steps)
}

// machine runs one program.
type machine struct {
	e      *env
	topic  string
	perKey map[string]int
	groups []*model
	joined int
}

// model is what the suite expects of one group.
type model struct {
	*modelState
	spec    driver.SubscribeSpec
	members []*member
}

func newMachine(e *env) *machine {
	m := &machine{e: e, topic: e.topic(2), perKey: map[string]int{}}
	m.groups = append(m.groups, &model{modelState: newModelState(e, false), spec: driver.SubscribeSpec{Group: e.its("plain"), Topic: m.topic}})
	if e.caps.Ordered {
		m.groups = append(m.groups, &model{modelState: newModelState(e, true), spec: driver.SubscribeSpec{Group: e.its("ordered"), Topic: m.topic, Ordered: true}})
	}
	return m
}

func (m *machine) run(prog []step) {
	for _, g := range m.groups {
		m.join(g)
	}
	for _, s := range prog {
		g := m.groups[s.A%len(m.groups)]
		switch s.Do {
		case "send":
			m.send(s)
		case "join":
			if len(g.members) < 3 {
				m.join(g)
			}
		case "leave":
			if n := len(g.members); n > 0 {
				i := s.B % n
				g.members[i].close()
				g.members = append(g.members[:i:i], g.members[i+1:]...)
			}
		case "fetch":
			if n := len(g.members); n > 0 {
				m.fetch(g, g.members[s.B%n], s.A/2)
			}
		case "settle":
			m.settle(g, s)
		case "advance":
			m.e.advance(time.Duration(1+s.B) * m.unit())
		case "crash":
			if m.e.b.CrashAndReopen != nil && m.e.caps.Durable && s.B%4 == 0 {
				m.crash()
			}
		}
		if m.e.Failed() {
			return
		}
	}
	m.finish()
}

// unit is the length of one tick of the program.
func (m *machine) unit() time.Duration {
	if m.e.h.Virtual {
		return 200 * time.Millisecond
	}
	return 2 * time.Millisecond
}

func (m *machine) send(s step) {
	key := fmt.Sprint("key-", s.A%4)
	msg := &driver.Message{Topic: m.topic, OrderingKey: key, Body: fmt.Appendf(nil, "%s %d", key, m.perKey[key])}
	r := m.e.send(msg)[0]
	for _, g := range m.groups {
		g.sent(r.ID, string(msg.Body), key, m.perKey[key])
	}
	m.perKey[key]++
}

func (m *machine) join(g *model) {
	m.joined++
	x := m.e.join(fmt.Sprint("client-", m.joined), g.spec, memberOptions{
		manual:   true,
		assigned: func(l driver.Lane) { g.assigned(l.Name()) },
		revoked:  func(_ context.Context, l driver.Lane) { g.ended(l) },
		lost:     func(l driver.Lane) { g.ended(l) },
	})
	g.members = append(g.members, x)
}

// fetch takes up to four deliveries from one lane. An ordered lane is asked
// for one at a time, and only when the one before is settled, as the framework
// does.
func (m *machine) fetch(g *model, x *member, pick int) {
	lanes := x.owned()
	if len(lanes) == 0 {
		time.Sleep(m.unit())
		return
	}
	l := lanes[pick%len(lanes)]
	limit := 1 + pick%4
	if g.ordered {
		if limit = 1; g.holds(l) {
			return
		}
	}
	ctx, cancel := context.WithTimeout(m.e.Context(), 5*m.unit())
	defer cancel()
	ds, err := l.Fetch(ctx, limit)
	if err != nil {
		m.e.wantCode("fetch", err, driver.LaneLost, driver.Closed, driver.Timeout, driver.Canceled)
	}
	for _, d := range ds {
		g.delivered(x, l, d)
	}
}

func (m *machine) settle(g *model, s step) {
	h, ok := g.pick(s.B)
	if !ok {
		return
	}
	outcomes := []driver.Outcome{driver.Ack, driver.Ack, driver.Retry, driver.Return, driver.DeadLetter, driver.Retry}
	if g.ordered {
		outcomes = []driver.Outcome{driver.Ack, driver.Ack, driver.Return}
	}
	o := outcomes[s.A/2%len(outcomes)]
	var delay time.Duration
	if m.e.caps.RetryDelay == driver.AnyTime && s.B%3 == 0 && o != driver.Ack && o != driver.DeadLetter {
		delay = time.Duration(s.B) * m.unit()
	}
	at := time.Now()
	err := h.lane.Settle(m.e.ctx(), []driver.Settlement{{Delivery: h.d, Outcome: o, Delay: delay}})
	switch driver.CodeOf(err) {
	case driver.LaneLost, driver.Closed:
		g.refused(h)
		return
	}
	m.e.must(fmt.Sprintf("settle %q as %v", h.d.Body, o), err)
	g.settled(h, o, at.Add(delay))
}

func (m *machine) crash() {
	for _, g := range m.groups {
		g.crashing()
	}
	m.e.crash()
	for _, g := range m.groups {
		g.members = nil
		g.crashed()
	}
}

// finish lets a fresh member of each group take what is left.
func (m *machine) finish() {
	for _, g := range m.groups {
		for _, x := range g.members {
			x.close()
		}
		g.members = nil
		m.join(g)
		x := g.members[0]
		for deadline := time.Now().Add(2 * m.e.lim.Within); g.open() > 0; {
			if m.e.Failed() {
				return
			}
			if time.Now().After(deadline) {
				m.e.Fatalf("group %s: stored and neither acknowledged nor delivered again: %s", g.spec.Group, g.describeOpen())
			}
			for i := range x.owned() {
				m.fetch(g, x, i)
			}
			for h, ok := g.pick(0); ok; h, ok = g.pick(0) {
				m.e.must("acknowledge", h.lane.Settle(m.e.ctx(), []driver.Settlement{{Delivery: h.d, Outcome: driver.Ack}}))
				g.settled(h, driver.Ack, time.Now())
			}
		}
		m.deadLetters(g)
	}
}

// deadLetters requires every dead-lettered message to be in its topic.
func (m *machine) deadLetters(g *model) {
	want := g.dead()
	if len(want) == 0 {
		return
	}
	x := m.e.member(g.spec.Group+"-reader", driver.DeadLetterTopic(g.spec.Group))
	for len(want) > 0 {
		delete(want, x.take(1)[0].d.ID)
	}
}
