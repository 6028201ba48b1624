package drivertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// adminCases: topics and groups.
func adminCases() []testCase {
	const g = "admin"
	return []testCase{
		{g, "create_and_delete_topic", needTopics, adminTopics},
		{g, "topics_are_sorted_and_complete", needTopics, func(e *env) {
			topic := e.topic(2)
			for _, name := range []string{e.its("zz"), e.its("AA"), e.its("mm")} {
				e.must("create", e.ext.Topics.CreateTopic(e.ctx(), driver.TopicInfo{Name: name, Queues: 1}))
			}
			m := e.member(e.its("group"), topic)
			e.sendN(topic, 2)
			for _, a := range m.take(2) {
				a.settle(driver.DeadLetter, 0)
			}
			got, err := e.ext.Topics.Topics(e.ctx())
			e.must("topics", err)
			var names []string
			for _, t := range got {
				names = append(names, t.Name)
			}
			if !slices.IsSorted(names) {
				e.Errorf("topics are not sorted by name: %q", names)
			}
			for _, want := range []string{e.its("zz"), e.its("AA"), e.its("mm"), topic, driver.DeadLetterTopic(e.its("group"))} {
				if !slices.Contains(names, want) {
					e.Errorf("topics: got %q, want %q among them", names, want)
				}
			}
		}},
		{g, "groups", needGroups, adminGroups},
		{g, "lag", needGroups | needQueues, adminLag},
		{g, "reset_offsets", needGroups | needQueues, adminReset},
		{g, "reset_offsets_of_living_group", needGroups | needQueues, func(e *env) {
			topic := e.topic(2)
			m := e.member(e.its("group"), topic)
			e.sendN(topic, 6)
			ackAll(m.take(6))
			e.must("reset", e.ext.Groups.ResetOffsets(e.ctx(), e.its("group"), topic, driver.Position{}))
			got := m.take(6)
			ackAll(got)
			seen := bodies(got)
			slices.Sort(seen)
			if len(slices.Compact(seen)) != 6 {
				e.Errorf("after a reset to earliest: got %q, want m0 to m5 again", bodies(got))
			}
			m.none("the reset was answered")
		}},
	}
}

func adminTopics(e *env) {
	info := driver.TopicInfo{Name: e.its("created"), Queues: 3}
	e.must("create a topic", e.ext.Topics.CreateTopic(e.ctx(), info))
	e.wantCode("create the same topic again", e.ext.Topics.CreateTopic(e.ctx(), info), driver.AlreadyExists)
	has := func() bool {
		ts, err := e.ext.Topics.Topics(e.ctx())
		e.must("topics", err)
		return slices.Contains(ts, info)
	}
	if !has() {
		e.Errorf("the created topic is not listed with 3 queues")
	}
	e.send(message(info.Name, 1))
	e.must("delete the topic", e.ext.Topics.DeleteTopic(e.ctx(), info.Name))
	if has() {
		e.Errorf("the deleted topic is still listed")
	}
	e.wantCode("delete it again", e.ext.Topics.DeleteTopic(e.ctx(), info.Name), driver.NotFound)
	e.wantCode("delete an unknown topic", e.ext.Topics.DeleteTopic(e.ctx(), e.its("never-there")), driver.NotFound)
	e.must("create it again", e.ext.Topics.CreateTopic(e.ctx(), info))
	m := e.member(e.its("group"), info.Name)
	e.send(message(info.Name, 2))
	if a := m.take(1)[0]; string(a.d.Body) != "m2" {
		e.Errorf("a topic made anew: got %v, want m2 only", a)
	}
}

func adminGroups(e *env) {
	topic := e.topic(2)
	spec := driver.SubscribeSpec{Group: e.its("group-b"), Topic: topic}
	want := topic + " *"
	if e.caps.Tags {
		spec.Filter = driver.Filter{Tags: []string{"water", "power"}}
		want = topic + " power || water"
	}
	b := e.join("client-b", spec, memberOptions{})
	a := e.join("client-a", driver.SubscribeSpec{Group: e.its("group-a"), Topic: topic}, memberOptions{})
	b.awaitLanes(1)
	a.awaitLanes(1)
	find := func(name string) (driver.GroupInfo, []string) {
		gs, err := e.ext.Groups.Groups(e.ctx())
		e.must("groups", err)
		var info driver.GroupInfo
		var names []string
		for _, g := range gs {
			if names = append(names, g.Name); g.Name == name {
				info = g
			}
		}
		return info, names
	}
	got, names := find(e.its("group-b"))
	if !slices.IsSorted(names) || !slices.Contains(names, e.its("group-a")) {
		e.Errorf("groups: got %q, want them sorted, group-a and group-b among them", names)
	}
	if !slices.Equal(got.Members, []string{e.its("client-b")}) || !slices.Contains(got.Subscriptions, want) {
		e.Errorf("group-b: got %+v, want member client-b and subscription %q", got, want)
	}
	b.close()
	if got, _ = find(e.its("group-b")); len(got.Members) > 0 {
		e.Errorf("group-b after its member has left: got members %q", got.Members)
	}
}

func adminLag(e *env) {
	topic := e.topic(2)
	m := e.member(e.its("group"), topic)
	m.awaitLanes(2)
	for i := range 6 {
		e.send(&driver.Message{Topic: topic, Queue: i % 2, QueueSet: true, Body: fmt.Appendf(nil, "m%d", i)})
	}
	got := m.take(6)
	acked := 0
	for _, a := range got {
		if a.lane.Info().Queue == 0 {
			a.ack()
			acked++
		}
	}
	var lags []driver.LaneLag
	read := func() map[int]driver.LaneLag {
		var err error
		lags, err = e.ext.Groups.Lag(e.ctx(), e.its("group"))
		e.must("lag", err)
		out := map[int]driver.LaneLag{}
		for _, l := range lags {
			if !l.Lane.Retry && l.Lane.Topic == topic {
				out[l.Lane.Queue] = l
			}
		}
		return out
	}
	e.await("queue 0 to be committed at 3", func() bool { return read()[0].Committed == 3 })
	by := read()
	if l := by[0]; l.Max != 3 || l.InFlight != 0 || l.Behind() != 0 || l.Name == "" {
		e.Errorf("queue 0, all acknowledged: got %+v", l)
	}
	if l := by[1]; l.Committed != 0 || l.Max != 3 || l.InFlight != 3 || l.Behind() != 3 {
		e.Errorf("queue 1, fetched and not settled: got %+v, want committed 0, max 3, in flight 3", l)
	}
	m.close()
	if l := read()[1]; l.InFlight != 0 || l.Committed != 0 {
		e.Errorf("queue 1 after the member has left: got %+v, want nothing in flight", l)
	}
}

func adminReset(e *env) {
	topic := e.topic(2)
	m := e.member(e.its("group"), topic)
	e.sendN(topic, 8)
	ackAll(m.take(8))
	m.close()
	e.must("reset to the start", e.ext.Groups.ResetOffsets(e.ctx(), e.its("group"), topic, driver.Position{}))
	m = e.member(e.its("group"), topic)
	ackAll(m.take(8))
	m.close()
	e.must("reset by time", e.ext.Groups.ResetOffsets(e.ctx(), e.its("group"), topic, driver.Position{Kind: driver.AtTime, Time: time.Now().Add(-time.Hour)}))
	m = e.member(e.its("group"), topic)
	m.take(8) // unsettled
	m.close()
	e.must("reset to the end", e.ext.Groups.ResetOffsets(e.ctx(), e.its("group"), topic, driver.Position{Kind: driver.Latest}))
	e.member(e.its("group"), topic).none("the group was moved to the end")
	e.wantCode("reset a group with a bad name", e.ext.Groups.ResetOffsets(e.ctx(), "a/b", topic, driver.Position{}),
		driver.InvalidArgument, driver.NotFound)
}

// queryCases: finding stored messages.
func queryCases() []testCase {
	const g = "query"
	return []testCase{
		{g, "by_id", needQuery, func(e *env) {
			topic := e.topic(1)
			msg := fullMessage(topic)
			e.sendN(topic, 3)
			r := e.send(msg)[0]
			e.known(topic, e.sendN(topic, 3)[2])
			for _, id := range []string{r.ID, r.OffsetID} {
				d, err := e.ext.Query.ByID(e.ctx(), topic, id)
				e.must("query by id "+id, err)
				e.sameMessage("query by id "+id, d, msg)
				if d.OffsetID != r.OffsetID || d.Offset != r.Offset {
					e.Errorf("query by id %s: got offset id %q, offset %d; want %q, %d", id, d.OffsetID, d.Offset, r.OffsetID, r.Offset)
				}
			}
			for _, id := range []string{"no-such-id", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", ""} {
				_, err := e.ext.Query.ByID(e.ctx(), topic, id)
				e.wantCode("query by the unknown id "+id, err, driver.NotFound, driver.InvalidArgument)
			}
		}},
		{g, "by_key", needQuery, queryKey},
		{g, "browse", needQuery | needQueues, queryBrowse},
		{g, "survives_crash", needQuery | needDurable | needCrash, func(e *env) {
			topic := e.topic(1)
			msg := fullMessage(topic)
			r := e.send(msg)[0]
			e.crash()
			e.known(topic, r)
			d, err := e.ext.Query.ByID(e.ctx(), topic, r.ID)
			e.must("query by id after a crash", err)
			e.sameMessage("query by id after a crash", d, msg)
			ds, err := e.ext.Query.ByKey(e.ctx(), topic, "a", driver.TimeRange{}, 10)
			if err != nil || len(ds) != 1 {
				e.Errorf("query by key after a crash: got %d messages, %v", len(ds), err)
			}
		}},
	}
}

// known waits until a message can be found, [Limits.QueryLate] at the most.
func (e *env) known(topic string, r driver.SendResult) {
	e.Helper()
	for deadline := time.Now().Add(e.lim.QueryLate); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := e.ext.Query.ByID(e.ctx(), topic, r.ID); err == nil {
			return
		}
	}
}

func queryKey(e *env) {
	topic, other := e.topic(2), e.topic(1)
	keyed := func(topic, body string, keys ...string) driver.SendResult {
		return e.send(&driver.Message{Topic: topic, Body: []byte(body), Keys: keys})[0]
	}
	find := func(key string, r driver.TimeRange, limit int) []string {
		e.Helper()
		ds, err := e.ext.Query.ByKey(e.ctx(), topic, key, r, limit)
		e.must("query by key "+key, err)
		var out []string
		for _, d := range ds {
			out = append(out, string(d.Body))
		}
		return out
	}
	keyed(topic, "one", "k", "x")
	time.Sleep(20 * time.Millisecond)
	middle := time.Now()
	time.Sleep(20 * time.Millisecond)
	keyed(topic, "two", "k")
	keyed(topic, "three", "y", "k")
	e.known(topic, keyed(topic, "not", "kk"))
	e.known(other, keyed(other, "elsewhere", "k"))
	for _, c := range []struct {
		what  string
		key   string
		r     driver.TimeRange
		limit int
		want  []string
	}{
		{"oldest first", "k", driver.TimeRange{}, 10, []string{"one", "two", "three"}},
		{"limit", "k", driver.TimeRange{}, 2, []string{"one", "two"}},
		{"second key", "y", driver.TimeRange{}, 10, []string{"three"}},
		{"until", "k", driver.TimeRange{To: middle}, 10, []string{"one"}},
		{"from", "k", driver.TimeRange{From: middle}, 10, []string{"two", "three"}},
		{"unknown key", "z", driver.TimeRange{}, 10, nil},
	} {
		if got := find(c.key, c.r, c.limit); !slices.Equal(got, c.want) {
			e.Errorf("by key %s (%s): got %q, want %q", c.key, c.what, got, c.want)
		}
	}
}

func queryBrowse(e *env) {
	topic := e.topic(2)
	for i := range 8 {
		e.known(topic, e.send(&driver.Message{Topic: topic, Queue: 1, QueueSet: true, Body: fmt.Appendf(nil, "m%d", i)})[0])
	}
	for _, c := range []struct {
		queue  int
		offset int64
		limit  int
		first  string
		n      int
	}{{1, 0, 100, "m0", 8}, {1, 3, 2, "m3", 2}, {1, 7, 5, "m7", 1}, {1, 8, 5, "", 0}, {0, 0, 5, "", 0}} {
		ds, err := e.ext.Query.Browse(e.ctx(), topic, c.queue, c.offset, c.limit)
		e.must("browse", err)
		if len(ds) != c.n || c.n > 0 && (string(ds[0].Body) != c.first || ds[0].Offset != c.offset) {
			e.Errorf("browse queue %d from %d, limit %d: got %d messages, want %d, the first %q", c.queue, c.offset, c.limit, len(ds), c.n, c.first)
		}
	}
	_, err := e.ext.Query.Browse(e.ctx(), topic, 2, 0, 1)
	e.wantCode("browse a queue that the topic has not", err, driver.InvalidArgument, driver.NotFound)
	// Browsing moved nothing: a group still starts at the first message.
	if a := e.member(e.its("group"), topic).take(8)[0]; string(a.d.Body) != "m0" {
		e.Errorf("after browsing a group got %v first, want m0", a)
	}
}
