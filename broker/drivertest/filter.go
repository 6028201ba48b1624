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
		{g, "no_match_moves_on", needTags, func(e *env) { filterMovesOn(e, driver.Filter{Tags: []string{"yes"}}) }},
		{g, "same_hash", needTags, filterSameHash},
		{g, "after_retry", needTags, func(e *env) { filterAfterRetry(e, driver.Filter{Tags: []string{"yes"}}) }},
		{g, "sql", needSQL, filterSQL},
		{g, "sql_tag_and_keys", needSQL, filterSQLNames},
		{g, "sql_not_a_number", needSQL, filterSQLNumbers},
		{g, "sql_no_match_moves_on", needSQL, func(e *env) { filterMovesOn(e, driver.Filter{SQL: "TAGS = 'yes'"}) }},
		{g, "sql_after_retry", needSQL, func(e *env) { filterAfterRetry(e, driver.Filter{SQL: "TAGS = 'yes' AND tried IS NULL"}) }},
	}
}

func filterTags(e *env, f driver.Filter, want ...string) {
	topic := e.topic(2)
	m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: f}, memberOptions{})
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
func filterMovesOn(e *env, yes driver.Filter) {
	topic := e.topic(1)
	spec := driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: yes}
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
	m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: driver.Filter{Tags: []string{"Aa"}}}, memberOptions{})
	e.send(&driver.Message{Topic: topic, Tag: "BB", Body: []byte("BB")}, &driver.Message{Topic: topic, Tag: "Aa", Body: []byte("Aa")})
	if a := m.take(1)[0]; string(a.d.Body) != "Aa" {
		e.Errorf("filter Aa: got %v", a)
	}
	m.none("the other has another tag with the same hash")
}

// filterAfterRetry: a redelivery belongs to the group whatever the filter.
func filterAfterRetry(e *env, yes driver.Filter) {
	topic := e.topic(1)
	m := e.join("client", driver.SubscribeSpec{Group: e.its("group"), Topic: topic, Filter: yes}, memberOptions{})
	e.send(&driver.Message{Topic: topic, Tag: "yes", Body: []byte("x")})
	tried := driver.Settlement{Outcome: driver.Retry, Properties: map[string]string{"tried": "1"}}
	e.must("retry", m.take(1)[0].try(tried))
	if a := m.take(1)[0]; a.d.Attempt != 2 || a.d.Tag != "yes" {
		e.Errorf("redelivery of a filtered message: got %v with tag %q, want attempt 2 and tag yes", a, a.d.Tag)
	}
}

// filterSQL selects by expressions, three-valued logic included.
func filterSQL(e *env) {
	selectBySQL(e, []*driver.Message{
		{Body: []byte("red3"), Properties: map[string]string{"color": "red", "size": "3"}},
		{Body: []byte("red9"), Properties: map[string]string{"color": "red", "size": "9"}},
		{Body: []byte("blue7"), Properties: map[string]string{"color": "blue", "size": "7"}},
		{Body: []byte("green"), Properties: map[string]string{"color": "green"}}, // no size
		{Body: []byte("bare")},
	}, [][2]string{
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
	})
}

// filterSQLNames: tag and keys are properties for SQL, by their names on the
// wire of RocketMQ.
func filterSQLNames(e *env) {
	selectBySQL(e, []*driver.Message{
		{Body: []byte("water"), Tag: "water", Keys: []string{"B-1", "B-2"}},
		{Body: []byte("power"), Tag: "power", Properties: map[string]string{"tags": "water"}},
		{Body: []byte("none")},
	}, [][2]string{
		{"TAGS = 'water'", "water"},
		{"TAGS <> 'water'", "power"},
		{"TAGS IN ('water', 'power')", "power water"},
		{"TAGS IS NULL", "none"},
		{"KEYS = 'B-1 B-2'", "water"},
		{"KEYS IS NULL AND tags = 'water'", "power"},
	})
}

// filterSQLNumbers: a property that is not the number it is compared with
// selects nothing, unless the answer is known without it.
func filterSQLNumbers(e *env) {
	selectBySQL(e, []*driver.Message{
		{Body: []byte("big"), Properties: map[string]string{"size": "big", "color": "red"}},
		{Body: []byte("half"), Properties: map[string]string{"size": "5.5", "color": "red"}},
		{Body: []byte("six"), Properties: map[string]string{"size": "6", "color": "red"}},
	}, [][2]string{
		{"size > 5", "six"},
		{"NOT (size > 5)", ""},
		{"size > 5.0", "half six"},
		{"size > 5 OR color = 'red'", "six"},
		{"color = 'red' OR size > 5", "big half six"},
		{"size = 'big' OR size = 5.5", "big half"},
	})
}

// selectBySQL sends messages and selects from them by each expression.
func selectBySQL(e *env, ms []*driver.Message, cases [][2]string) {
	topic := e.topic(1)
	for _, m := range ms {
		m.Topic = topic
	}
	e.send(ms...)
	for _, c := range cases {
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
