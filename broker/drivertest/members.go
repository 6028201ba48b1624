package drivertest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// memberCases: who gets which lanes.
func memberCases() []testCase {
	const g = "members"
	return []testCase{
		{g, "two_share_nobody_idle", needQueues, membersShare},
		{g, "leaver_is_replaced", 0, membersLeave},
		{g, "more_members_than_lanes", 0, membersCrowd},
		{g, "no_fetch_keeps_membership", needQueues, membersSilent},
		{g, "differing_subscription_refused", 0, membersDiffer},
		{g, "groups_are_independent", 0, func(e *env) {
			topic := e.topic(2)
			a, b := e.member(e.its("a"), topic), e.member(e.its("b"), topic)
			e.sendN(topic, 10)
			ackAll(a.take(10))
			ackAll(b.take(10))
		}},
		{g, "group_of_two_topics", 0, func(e *env) {
			t1, t2 := e.topic(1), e.topic(1)
			a, b := e.member(e.its("group"), t1), e.member(e.its("group"), t2)
			e.send(message(t1, 1), message(t2, 2))
			if x, y := a.take(1)[0], b.take(1)[0]; x.d.Topic != t1 || y.d.Topic != t2 {
				e.Errorf("got topics %s and %s, want %s and %s", x.d.Topic, y.d.Topic, t1, t2)
			}
		}},
		{g, "from_latest", 0, func(e *env) {
			topic := e.topic(1)
			e.sendN(topic, 5)
			spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic, From: driver.Position{Kind: driver.Latest}}
			m := e.join("client", spec, memberOptions{})
			m.awaitLanes(1)
			e.settleDown()
			e.send(message(topic, 5))
			a := m.take(1)[0]
			if string(a.d.Body) != "m5" {
				e.Errorf("a new group from latest: got %v, want m5", a)
			}
			a.ack()
		}},
		{g, "from_applies_to_new_groups_only", 0, membersFrom},
		{g, "lane_names", needQueues, membersLaneNames},
	}
}

// settleDown gives an assignment a moment to take effect on the broker.
func (e *env) settleDown() { time.Sleep(min(e.lim.Quiet, time.Second)) }

func membersShare(e *env) {
	topic := e.topic(4)
	a := e.member(e.its("group"), topic)
	a.awaitLanes(4)
	b := e.member(e.its("group"), topic)
	e.await("both members to own lanes", func() bool { return len(a.fresh()) > 0 && len(b.fresh()) > 0 && len(a.fresh())+len(b.fresh()) == 4 })
	for _, l := range a.fresh() {
		if slices.ContainsFunc(b.fresh(), func(o driver.Lane) bool { return o.Name() == l.Name() }) {
			e.Errorf("lane %s belongs to both members", l.Name())
		}
	}
	for q := range 4 {
		for i := range 5 {
			e.send(&driver.Message{Topic: topic, Queue: q, QueueSet: true, Body: fmt.Appendf(nil, "%d/%d", q, i)})
		}
	}
	total := func() int {
		n := 0
		for _, m := range []*member{a, b} {
			m.mu.Lock()
			n += len(m.got)
			m.mu.Unlock()
		}
		return n
	}
	e.await("20 messages to arrive", func() bool { return total() >= 20 })
	seen := map[string]bool{}
	for _, m := range []*member{a, b} {
		n := len(m.fresh())
		for _, x := range m.take(5 * n) {
			if seen[string(x.d.Body)] {
				e.Errorf("%v came twice", x)
			}
			seen[string(x.d.Body)] = true
			x.ack()
		}
		m.noneFor(e.lim.Quiet/2, "each lane has five messages")
	}
}

func membersLeave(e *env) {
	topic := e.topic(4)
	a, b := e.member(e.its("group"), topic), e.member(e.its("group"), topic)
	if e.caps.Queues {
		e.await("both members to own lanes", func() bool { return len(a.fresh()) > 0 && len(b.fresh()) > 0 })
	}
	e.sendN(topic, 20)
	e.await("20 messages to arrive", func() bool { return len(b.peek())+len(a.peek()) >= 20 })
	left := map[string]bool{}
	for i, x := range b.peek() {
		if i%2 == 0 {
			x.ack()
		} else {
			left[string(x.d.Body)] = true
		}
	}
	ackAll(a.take(len(a.peek())))
	b.close()
	if n := len(b.owned()); n != 0 {
		e.Errorf("after Close the subscription still owns %d lanes", n)
	}
	if e.caps.Queues {
		a.awaitLanes(4)
	}
	// What b did not settle comes to a; what it settled may come again only
	// behind an unsettled one.
	for len(left) > 0 {
		x := a.take(1)[0]
		delete(left, string(x.d.Body))
		x.ack()
	}
}

func membersCrowd(e *env) {
	topic := e.topic(1)
	a, b, c := e.member(e.its("group"), topic), e.member(e.its("group"), topic), e.member(e.its("group"), topic)
	e.await("somebody to own the lane", func() bool { return len(a.owned())+len(b.owned())+len(c.owned()) > 0 })
	e.send(message(topic, 0))
	all := []*member{a, b, c}
	for i := range 3 {
		owner := -1
		e.await("the message to arrive somewhere", func() bool {
			owner = slices.IndexFunc(all, func(m *member) bool { return len(m.peek()) > 0 })
			return owner >= 0
		})
		x := all[owner].take(1)[0]
		if want := fmt.Sprint("m", i); string(x.d.Body) != want {
			e.Errorf("got %v, want %s", x, want)
		}
		x.ack()
		all[owner].close()
		all = slices.Delete(all, owner, owner+1)
		if len(all) > 0 {
			e.send(message(topic, i+1))
		}
	}
}

// peek returns what arrived and was not taken yet.
func (m *member) peek() []arrival {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.got[m.taken:])
}

func membersSilent(e *env) {
	topic := e.topic(4)
	spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic}
	a := e.join("silent", spec, memberOptions{manual: true})
	a.awaitLanes(4)
	b := e.join("busy", spec, memberOptions{})
	e.await("both members to own lanes", func() bool { return len(a.fresh()) > 0 && len(b.fresh()) > 0 })
	e.settleDown()
	before := a.events()
	for q := range 4 {
		e.send(&driver.Message{Topic: topic, Queue: q, QueueSet: true, Body: fmt.Appendf(nil, "m%d", q)})
	}
	e.advance(3 * e.lim.SessionTimeout)
	if after := a.events(); len(after) != len(before) {
		e.Errorf("a member that fetches nothing saw %q after %v; pausing must not cost membership", after[len(before):], 3*e.lim.SessionTimeout)
	}
	for _, l := range a.fresh() {
		x := fetchOne(e, a, l)
		if want := fmt.Sprint("m", l.Info().Queue); string(x.d.Body) != want {
			e.Errorf("lane %s: got %v, want %s", l.Name(), x, want)
		}
		x.ack()
	}
}

func membersDiffer(e *env) {
	topic := e.topic(2)
	base := driver.SubscribeSpec{Group: e.its("group"), Topic: topic}
	differing := map[string]driver.SubscribeSpec{}
	if e.caps.Tags {
		base.Filter = driver.Filter{Tags: []string{"water", "power"}}
		differing["other tags"] = driver.SubscribeSpec{Filter: driver.Filter{Tags: []string{"gas"}}}
		differing["all tags"] = driver.SubscribeSpec{}
	}
	if e.caps.SQL {
		differing["SQL"] = driver.SubscribeSpec{Filter: driver.Filter{SQL: "a = 1"}}
	}
	if e.caps.Ordered {
		differing["ordered"] = driver.SubscribeSpec{Filter: base.Filter, Ordered: true}
	}
	if e.caps.Broadcast {
		differing["broadcast"] = driver.SubscribeSpec{Filter: base.Filter, Broadcast: true}
	}
	a := e.join("first", base, memberOptions{})
	for what, spec := range differing {
		spec.Group, spec.Topic = base.Group, base.Topic
		_, err := e.tryJoin(e.name("client"), spec, memberOptions{})
		e.wantCode("subscribe with "+what, err, driver.FailedPrecondition)
		if err == nil || spec.Filter.String() == base.Filter.String() {
			continue
		}
		for _, f := range []driver.Filter{base.Filter, spec.Filter} {
			if !strings.Contains(err.Error(), f.String()) {
				e.Errorf("subscribe with %s: the error names not both subscriptions, %q is missing: %v", what, f, err)
			}
		}
	}
	// The same tags in another order are the same subscription.
	if e.caps.Tags {
		same := base
		same.Filter = driver.Filter{Tags: []string{"power", "water"}}
		e.join("same", same, memberOptions{}).close()
	}
	a.close()
	for what, spec := range differing { // nobody is left to contradict
		spec.Group, spec.Topic = base.Group, base.Topic
		m, err := e.tryJoin(e.name("client"), spec, memberOptions{})
		if err != nil {
			e.Errorf("subscribe with %s after the last member has left: %v", what, err)
			continue
		}
		m.close()
	}
}

func membersFrom(e *env) {
	topic := e.topic(1)
	e.sendN(topic, 4)
	m := e.member(e.its("group"), topic)
	ackAll(m.take(2))
	m.close()
	e.send(message(topic, 4))
	spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic, From: driver.Position{Kind: driver.Latest}}
	m = e.join("again", spec, memberOptions{})
	if got := bodies(m.take(3)); !slices.Equal(got, []string{"m2", "m3", "m4"}) {
		e.Errorf("a group with a stored position: got %q, want m2 m3 m4", got)
	}
}

func membersLaneNames(e *env) {
	topic := e.topic(4)
	spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic}
	names := func(m *member) []string {
		var out []string
		for _, l := range m.awaitLanes(4) {
			out = append(out, l.Name())
			info := l.Info()
			if again := l.Name(); again != out[len(out)-1] || l.Info() != info {
				e.Errorf("name or info of lane %s changes", again)
			}
		}
		return out
	}
	m := e.join("client", spec, memberOptions{})
	first := names(m)
	if u := slices.Compact(slices.Clone(first)); len(u) != 4 {
		e.Errorf("lane names are not unique: %q", first)
	}
	m.close()
	if again := names(e.join("client", spec, memberOptions{})); !slices.Equal(first, again) {
		e.Errorf("lane names after joining again: %q, before %q", again, first)
	}
}

// broadcastCases: every member gets every message.
func broadcastCases() []testCase {
	const g = "broadcast"
	spec := func(e *env, topic string) driver.SubscribeSpec {
		return driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Broadcast: true}
	}
	return []testCase{
		{g, "everybody_gets_everything", needBroadcast, func(e *env) {
			topic := e.topic(2)
			a, b := e.join("a", spec(e, topic), memberOptions{}), e.join("b", spec(e, topic), memberOptions{})
			e.sendN(topic, 10)
			for _, m := range []*member{a, b} {
				got := bodies(m.take(10))
				slices.Sort(got)
				if len(slices.Compact(got)) != 10 {
					e.Errorf("client %s got %q, want m0 to m9", m.id, got)
				}
				m.noneFor(e.lim.Quiet/2, "each message comes once to each member")
			}
		}},
		{g, "position_per_client", needBroadcast, func(e *env) {
			topic := e.topic(1)
			a, b := e.join("a", spec(e, topic), memberOptions{}), e.join("b", spec(e, topic), memberOptions{})
			e.sendN(topic, 4)
			ackAll(a.take(4))
			ackAll(b.take(2))
			ctx, cancel := context.WithTimeout(context.Background(), e.lim.Within)
			defer cancel()
			for _, m := range []*member{a, b} {
				m.close()
				e.must("close client "+m.id, m.conn.Close(ctx))
			}
			a, b = e.join("a", spec(e, topic), memberOptions{}), e.join("b", spec(e, topic), memberOptions{})
			if got := bodies(b.take(2)); !slices.Equal(got, []string{"m2", "m3"}) {
				e.Errorf("client b after joining again: got %q, want m2 m3", got)
			}
			a.none("client a has acknowledged everything")
		}},
	}
}
