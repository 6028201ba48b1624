package interop

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"sync"
)

// Record is what one client saw in one scenario on one target: fields of events.
// Events and fields have names that do not depend on time or order.
type Record struct {
	mu     sync.Mutex
	events map[string]map[string]string
}

// Note adds a field to an event.
func (r *Record) Note(event, field, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		r.events = map[string]map[string]string{}
	}
	if r.events[event] == nil {
		r.events[event] = map[string]string{}
	}
	r.events[event][field] = value
}

// MarshalJSON writes the events sorted by name.
func (r *Record) MarshalJSON() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return json.Marshal(r.events)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Record) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &r.events) }

// Deviation is a field that the two sides show differently.
type Deviation struct {
	Event, Field string
	Apache, Ours string // absent if the side has no such field
}

const absent = "(absent)"

func (d Deviation) String() string {
	return fmt.Sprintf("%s: %s: apache %q, ours %q", d.Event, d.Field, d.Apache, d.Ours)
}

// Compare lists where two records differ, sorted.
func Compare(apache, ours *Record) []Deviation {
	var found []Deviation
	for _, event := range union(apache.events, ours.events) {
		a, o := apache.events[event], ours.events[event]
		if a == nil || o == nil {
			// One line for an event that one side has not at all.
			d := Deviation{Event: event, Field: "*", Apache: "(present)", Ours: absent}
			if a == nil {
				d.Apache, d.Ours = absent, "(present)"
			}
			found = append(found, d)
			continue
		}
		for _, field := range union(a, o) {
			d := Deviation{event, field, absent, absent}
			if v, ok := a[field]; ok {
				d.Apache = v
			}
			if v, ok := o[field]; ok {
				d.Ours = v
			}
			if d.Apache != d.Ours {
				found = append(found, d)
			}
		}
	}
	return found
}

func union[V any](a, b map[string]V) []string {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	return slices.Sorted(maps.Keys(keys))
}

// Difference is a row of the list of deliberate differences. Its patterns are
// those of path.Match; an empty one matches everything.
type Difference struct {
	Client, Scenario, Event, Field string
	// Apache and Ours are what each side shows, as patterns.
	Apache, Ours string
	// Row is the beginning of the row, or heading, of docs/compatibility.md that
	// says what differs and why. Several rows here may be one there.
	Row string
}

// Covers says whether a row is about a deviation.
func (d Difference) Covers(client, scenario string, v Deviation) bool {
	for pattern, text := range map[*string]string{
		&d.Client: client, &d.Scenario: scenario, &d.Event: v.Event, &d.Field: v.Field, &d.Apache: v.Apache, &d.Ours: v.Ours,
	} {
		if *pattern == "" {
			continue
		}
		if ok, err := path.Match(*pattern, text); err != nil || !ok {
			return false
		}
	}
	return true
}

// Golden is a kept run of one side: records by scenario and client.
type Golden struct {
	Server  string                        `json:"server"`
	Records map[string]map[string]*Record `json:"records"`
}

// goldenFile holds what Apache RocketMQ showed.
const goldenFile = "testdata/apache-5.3.3.json"

// ReadGolden reads the kept run.
func ReadGolden() (Golden, error) {
	var g Golden
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		return g, fmt.Errorf("read the kept records: %w", err)
	}
	if err := json.Unmarshal(b, &g); err != nil {
		return g, fmt.Errorf("read the kept records: %w", err)
	}
	return g, nil
}

// Write keeps a run.
func (g Golden) Write() error {
	b, err := json.MarshalIndent(g, "", " ")
	if err != nil {
		return fmt.Errorf("keep the records: %w", err)
	}
	if err := os.MkdirAll(path.Dir(goldenFile), 0o755); err != nil {
		return fmt.Errorf("keep the records: %w", err)
	}
	return os.WriteFile(goldenFile, append(b, '\n'), 0o644)
}
