package drivertest

import (
	"slices"
	"strings"

	"github.com/sluicemq/sluice/broker/driver"
)

// filterCases: the broker selects, by tag and by SQL92.
func filterCases() []testCase {
	const g = "filter"
	return []testCase{
		{g, "all", 0, func(e *env) { filterTags(e, driver.Filter{}, "w", "p", "g", "none") }},
		{g, "one_tag", needTags, func(e *env) { filterTags(e, driver.Filter{Tags: []string{"water"}}, "w") }},
		{g, "two_tags", needTags, func(e *env) { filterTags(e, driver.Filter{Tags: []string{"water", "power"}}, "w", "p") }},
		{g, "no_match_moves_on", needTags, filterMovesOn},
		{g, "same_hash", needTags, filterSameHash},
		{g, "after_retry", needTags, filterAfterRetry},
		{g, "sql", needSQL, filterSQL},
	}
}

func filterTags(e *env, f driver.Filter, want ...string) {
	topic := e.topic(2)
	m := e.join("client", driver.SubscribeSpec{Group: "group", Topic: topic, Filter: f}, memberOptions{})
	for _, t := range [][2]string{{"water", "w"}, {"power", "p"}, {"gas", "g"}, {"", "none"}} {
		e.send(&driver.Message{Topic: topic, Tag: t[0], Body: []byte(t[1])})
	}
	got := bodies(m.take(len(want)))
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		e.Errorf("filter %v: got %q, want %q", f, got, want)
	}
	m.none("the filter selects no more")
}

// filterMovesOn: unselected messages do not hold the position back.
func filterMovesOn(e *env) {
	topic := e.topic(1)
	spec := driver.SubscribeSpec{Group: "group", Topic: topic, Filter: driver.Filter{Tags: []string{"yes"}}}
	m := e.join("client", spec, memberOptions{})
	for range 40 {
		e.send(&driver.Message{Topic: topic, Tag: "no", Body: []byte("no")})
	}
	e.send(&driver.Message{Topic: topic, Tag: "yes", Body: []byte("yes")})
	m.take(1)[0].ack()
	m.close()
	e.join("client", spec, memberOptions{}).none("the only selected message was acknowledged")
}

// filterSameHash: "Aa" and "BB" have the same Java hash, by which RocketMQ
// brokers filter first.
func filterSameHash(e *env) {
	topic := e.topic(1)
	m := e.join("client", driver.SubscribeSpec{Group: "group", Topic: topic, Filter: driver.Filter{Tags: []string{"Aa"}}}, memberOptions{})
	e.send(&driver.Message{Topic: topic, Tag: "BB", Body: []byte("BB")}, &driver.Message{Topic: topic, Tag: "Aa", Body: []byte("Aa")})
	if a := m.take(1)[0]; string(a.d.Body) != "Aa" {
		e.Errorf("filter Aa: got %v", a)
	}
	m.none("the other has another tag with the same hash")
}

// filterAfterRetry: a redelivery belongs to the group whatever the filter.
func filterAfterRetry(e *env) {
	topic := e.topic(1)
	m := e.join("client", driver.SubscribeSpec{Group: "group", Topic: topic, Filter: driver.Filter{Tags: []string{"a"}}}, memberOptions{})
	e.send(&driver.Message{Topic: topic, Tag: "a", Body: []byte("x")})
	m.take(1)[0].settle(driver.Retry, 0)
	if a := m.take(1)[0]; a.d.Attempt != 2 || a.d.Tag != "a" {
		e.Errorf("redelivery of a filtered message: got %v with tag %q, want attempt 2 and tag a", a, a.d.Tag)
	}
}

// filterSQL sends rows and selects by expressions, three-valued logic included.
func filterSQL(e *env) {
	topic := e.topic(1)
	rows := []struct {
		body  string
		props map[string]string
	}{
		{"red3", map[string]string{"color": "red", "size": "3"}},
		{"red9", map[string]string{"color": "red", "size": "9"}},
		{"blue7", map[string]string{"color": "blue", "size": "7"}},
		{"green", map[string]string{"color": "green"}}, // no size
		{"bare", nil},
	}
	var ms []*driver.Message
	for _, r := range rows {
		ms = append(ms, &driver.Message{Topic: topic, Body: []byte(r.body), Properties: r.props})
	}
	e.send(ms...)
	for _, c := range [][2]string{
		{"color = 'red'", "red3 red9"},
		{"color = 'red' AND size > 5", "red9"},
		{"color <> 'red'", "blue7 green"},
		{"size > 5 OR color = 'green'", "blue7 green red9"},
		{"size BETWEEN 3 AND 7", "blue7 red3"},
		{"size NOT BETWEEN 3 AND 7", "red9"},
		{"color IN ('red', 'green')", "green red3 red9"},
		{"color NOT IN ('red', 'green')", "blue7"},
		{"size IS NULL", "bare green"},
		{"color IS NOT NULL AND size IS NULL", "green"},
		// A comparison with a missing property is unknown, and so is its
		// negation: neither selects.
		{"size <= 5", "red3"},
		{"NOT (size <= 5)", "blue7 red9"},
		{"NOT (color = 'red')", "blue7 green"},
		{"size > 5 OR size <= 5", "blue7 red3 red9"},
		{"(color = 'red' OR color = 'blue') AND NOT (size = 9)", "blue7 red3"},
		{"TRUE", "bare blue7 green red3 red9"},
	} {
		expr, want := c[0], strings.Fields(c[1])
		m := e.join(e.name("client"), driver.SubscribeSpec{Group: e.name("group"), Topic: topic, Filter: driver.Filter{SQL: expr}}, memberOptions{})
		got := m.take(len(want))
		names := bodies(got)
		slices.Sort(names)
		if !slices.Equal(names, want) {
			e.Errorf("SQL %s: got %q, want %q", expr, names, want)
		}
		ackAll(got)
		m.noneFor(e.lim.Quiet/4, "SQL "+expr+" selects no more")
		m.close()
	}
}
