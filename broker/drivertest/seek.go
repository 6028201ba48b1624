package drivertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// seekCases: moving the position of a group.
func seekCases() []testCase {
	const g = "seek"
	return []testCase{
		{g, "positions", needQueues, seekPositions},
		{g, "beyond_the_ends", needQueues, seekClamp},
		{g, "by_time", needQueues, seekTime},
		{g, "fetched_before_may_be_settled", needQueues, seekSettleOld},
		{g, "from_offset_and_time", needQueues, seekFrom},
	}
}

// seekLane is a member that owns the one lane of a topic with n messages.
func seekLane(e *env, n int) (*member, driver.Lane, string) {
	e.Helper()
	topic := e.topic(1)
	m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic}, memberOptions{manual: true})
	l := m.awaitLanes(1)[0]
	e.sendN(topic, n)
	return m, l, topic
}

func seekPositions(e *env) {
	m, l, topic := seekLane(e, 6)
	ackAll(fetchN(e, m, l, 6))
	for _, c := range []struct {
		p    driver.Position
		want []string
	}{
		{driver.Position{Kind: driver.AtOffset, Offset: 3}, []string{"m3", "m4", "m5"}},
		{driver.Position{Kind: driver.Earliest}, []string{"m0", "m1", "m2", "m3", "m4", "m5"}},
		{driver.Position{Kind: driver.AtOffset, Offset: 5}, []string{"m5"}},
	} {
		e.must(fmt.Sprint("seek to ", c.p), l.Seek(e.ctx(), c.p))
		got := fetchN(e, m, l, len(c.want))
		if b := bodies(got); !slices.Equal(b, c.want) {
			e.Errorf("after seek to %v: got %q, want %q", c.p, b, c.want)
		}
		ackAll(got)
	}
	e.must("seek to the start", l.Seek(e.ctx(), driver.Position{}))
	e.must("seek to the end", l.Seek(e.ctx(), driver.Position{Kind: driver.Latest}))
	e.send(message(topic, 6))
	if a := fetchOne(e, m, l); string(a.d.Body) != "m6" {
		e.Errorf("after seek to latest: got %v, want m6", a)
	} else {
		a.ack()
	}
	// The position is the group's: it outlives the lane.
	e.must("seek", l.Seek(e.ctx(), driver.Position{Kind: driver.AtOffset, Offset: 4}))
	m.close()
	if got := bodies(e.member(e.its("group"), topic).take(3)); !slices.Equal(got, []string{"m4", "m5", "m6"}) {
		e.Errorf("a member that joined after the seek to 4: got %q, want m4 m5 m6", got)
	}
}

func seekClamp(e *env) {
	m, l, topic := seekLane(e, 4)
	ackAll(fetchN(e, m, l, 4))
	for _, p := range []driver.Position{
		{Kind: driver.AtOffset, Offset: -5}, {Kind: driver.AtTime, Time: time.Now().Add(-1000 * time.Hour)}, {Kind: driver.AtTime},
	} {
		e.must(fmt.Sprint("seek before the start: ", p), l.Seek(e.ctx(), p))
		got := fetchN(e, m, l, 4)
		if string(got[0].d.Body) != "m0" {
			e.Errorf("after seek to %v: got %v, want m0", p, got[0])
		}
		ackAll(got)
	}
	for i, p := range []driver.Position{
		{Kind: driver.AtOffset, Offset: 1 << 40}, {Kind: driver.AtTime, Time: time.Now().Add(1000 * time.Hour)},
	} {
		e.must("seek to the start", l.Seek(e.ctx(), driver.Position{}))
		e.must(fmt.Sprint("seek beyond the end: ", p), l.Seek(e.ctx(), p))
		e.send(message(topic, 4+i))
		a := fetchOne(e, m, l)
		if want := fmt.Sprint("m", 4+i); string(a.d.Body) != want {
			e.Errorf("after seek to %v: got %v, want %s: clamped to the end, nothing is skipped", p, a, want)
		}
		a.ack()
	}
	if e.ext.Groups != nil {
		lags, err := e.ext.Groups.Lag(e.ctx(), e.its("group"))
		e.must("lag", err)
		for _, g := range lags {
			if g.Committed < 0 || g.Committed > g.Max {
				e.Errorf("lane %s: committed %d lies outside 0…%d", g.Name, g.Committed, g.Max)
			}
		}
	}
}

func seekTime(e *env) {
	topic := e.topic(1)
	m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic}, memberOptions{manual: true})
	l := m.awaitLanes(1)[0]
	var stored []time.Time
	for i := range 4 {
		e.send(message(topic, i))
		a := fetchOne(e, m, l)
		stored = append(stored, a.d.StoredAt)
		a.ack()
		time.Sleep(20 * time.Millisecond)
	}
	for i, at := range stored {
		for _, p := range []driver.Position{{Kind: driver.AtTime, Time: at}, {Kind: driver.AtTime, Time: at.Add(-5 * time.Millisecond)}} {
			e.must(fmt.Sprint("seek to ", p), l.Seek(e.ctx(), p))
			got := fetchN(e, m, l, 4-i)
			if want := fmt.Sprint("m", i); string(got[0].d.Body) != want {
				e.Errorf("seek to %v: got %v, want %s, stored at %v", p, got[0], want, at)
			}
			ackAll(got)
		}
	}
}

func seekSettleOld(e *env) {
	m, l, topic := seekLane(e, 5)
	old := fetchN(e, m, l, 5)
	e.must("seek to the start", l.Seek(e.ctx(), driver.Position{}))
	ackAll(old) // no error, and it no longer moves the position
	if got := bodies(fetchN(e, m, l, 5)); !slices.Equal(got, []string{"m0", "m1", "m2", "m3", "m4"}) {
		e.Errorf("after seek to earliest: got %q, want m0 to m4", got)
	}
	m.close()
	if got := bodies(e.member(e.its("group"), topic).take(5)); !slices.Equal(got, []string{"m0", "m1", "m2", "m3", "m4"}) {
		e.Errorf("deliveries fetched before the seek moved the position: got %q, want m0 to m4", got)
	}
}

func seekFrom(e *env) {
	topic := e.topic(1)
	e.sendN(topic, 4)
	from := func(group string, p driver.Position, want ...string) {
		m := e.join(e.name("client"), driver.SubscribeSpec{Group: e.its(group), Topic: topic, From: p}, memberOptions{})
		if got := bodies(m.take(len(want))); !slices.Equal(got, want) {
			e.Errorf("a new group from %v: got %q, want %q", p, got, want)
		}
	}
	from("offset", driver.Position{Kind: driver.AtOffset, Offset: 2}, "m2", "m3")
	from("before", driver.Position{Kind: driver.AtOffset, Offset: -2}, "m0", "m1", "m2", "m3")
	from("time", driver.Position{Kind: driver.AtTime, Time: time.Now().Add(-time.Hour)}, "m0", "m1", "m2", "m3")
}
