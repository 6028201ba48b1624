package embedded

import (
	"errors"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/window"
	"github.com/sluicemq/sluice/broker/remoting/message"
	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

// checkFilter refuses a filter that can select nothing sensible.
func checkFilter(f driver.Filter) error {
	for _, t := range f.Tags {
		if err := driver.ValidTag(t); err != nil {
			return err
		}
	}
	if f.SQL == "" {
		return nil
	}
	if len(f.Tags) > 0 {
		return errors.New("tags and SQL exclude each other; in SQL the tag is called TAGS")
	}
	_, err := sql92.Parse(f.SQL)
	return err
}

// setSQL prepares the slot for the expression of its filter, which checkFilter
// has accepted. mu is held.
func (s *slot) setSQL() {
	s.sql = nil
	if s.filter.SQL != "" {
		s.sql, _ = sql92.Parse(s.filter.SQL)
	}
}

// choose sets apart what the SQL filter of the lane does not select. What it
// does stays in got and texts, in its order. A tag is in the index, properties
// are not: these messages were taken and read, and now count as settled.
func (l *lane) choose(got []catch, texts []text) (chosen []catch, chosenTexts []text, unselected []*window.Flight) {
	properties := ""
	get := func(name string) (string, bool) {
		v := message.Property(properties, name)
		return v, v != "" // an empty property is never stored
	}
	n := 0
	for i, c := range got {
		properties = texts[i].stored.Properties
		if !l.sql.Match(get) {
			unselected = append(unselected, c.token.flight)
			continue
		}
		got[n], texts[n] = c, texts[i]
		n++
	}
	return got[:n], texts[:n], unselected
}
