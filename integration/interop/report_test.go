package interop

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/integration/internal/peer"
)

// clientOrder is the order of the table.
var clientOrder = []string{goClient, java5, java4, spring, node, mqadmin}

// clientNames are what is known of each.
var clientNames = map[string]string{
	goClient: "Go 2.1.2", java5: "Java " + peer.RocketMQ, java4: "Java " + peer.RocketMQ4, spring: "Spring Boot " + peer.Starter,
	node: "ali-ons " + peer.AliOns, mqadmin: "mqadmin " + peer.RocketMQ,
}

// line is a row of the table.
type line struct{ client, scenario, apache, ours, compared string }

// report compares, keeps the table and fails the test where something is wrong.
func (s *suite) report() {
	apache, ours := s.results[apacheTarget], s.results[oursTarget]
	golden, err := ReadGolden()
	if *update && apache != nil {
		golden, err = s.updated(golden)
	}
	if err != nil {
		s.t.Error(err)
	}
	names := map[string]bool{}
	for _, r := range s.results {
		for n := range r {
			names[n] = true
		}
	}
	used := make([]bool, len(Differences))
	var table []line
	for _, c := range clientOrder {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			a, o := apache[name][c], ours[name][c]
			if a == nil && o == nil {
				continue
			}
			l := line{clientNames[c], name, outcome(a), outcome(o), ""}
			s.t.Run(name+"/"+c, func(t *testing.T) { l.compared = compare(t, a, o, golden.Records[name][c], used) })
			table = append(table, l)
		}
	}
	s.stale(used)
	if err := keepTable(table); err != nil {
		s.t.Error(err)
	}
}

// updated takes what Apache's server showed in this run over the kept records.
func (s *suite) updated(golden Golden) (Golden, error) {
	golden.Server = "Apache RocketMQ " + peer.RocketMQ
	if golden.Records == nil {
		golden.Records = map[string]map[string]*Record{}
	}
	for name, cells := range s.results[apacheTarget] {
		if golden.Records[name] == nil {
			golden.Records[name] = map[string]*Record{}
		}
		for c, x := range cells {
			if len(x.problems) == 0 { // what went wrong is nothing to compare with
				golden.Records[name][c] = x.rec
			}
		}
	}
	return golden, golden.Write()
}

func outcome(x *cell) string {
	switch {
	case x == nil:
		return "not run"
	case len(x.problems) > 0:
		return "FAILED"
	}
	return "passed"
}

// compare fails a test where a scenario went wrong or its records differ, and
// says how the comparison ended. used marks the rows that were needed.
func compare(t *testing.T, a, o *cell, kept *Record, used []bool) string {
	for _, x := range []*cell{a, o} {
		if x != nil {
			for _, p := range x.problems {
				t.Errorf("on %s: %s", x.target.Name(), p)
			}
		}
	}
	if t.Failed() {
		return "–" // half a record differs from a whole one in everything
	}
	from, word := kept, "as kept"
	if a != nil {
		from, word = a.rec, "the same"
		if kept == nil {
			t.Errorf("there is no kept record of apache's; run with -update")
		} else {
			for _, d := range Compare(kept, a.rec) {
				t.Errorf("apache is not as it was kept: %s: %s: kept %q, now %q", d.Event, d.Field, d.Apache, d.Ours)
			}
		}
	}
	if o == nil || from == nil {
		return "–"
	}
	meant, wrong := 0, 0
	for _, d := range Compare(from, o.rec) {
		if covered(o.client, o.scenario, d, used) {
			meant++
			continue
		}
		wrong++
		t.Error(d)
	}
	switch {
	case wrong > 0:
		return fmt.Sprintf("%d DIFFER", wrong)
	case meant > 0:
		return fmt.Sprintf("%s, but for %d fields that are meant", word, meant)
	}
	return word
}

// covered marks the rows that are about a deviation.
func covered(client, scenario string, v Deviation, used []bool) bool {
	found := false
	for i, d := range Differences {
		if d.Covers(client, scenario, v) {
			used[i], found = true, true
		}
	}
	return found
}

// stale fails a run of everything for every row that no deviation needed.
func (s *suite) stale(used []bool) {
	everything := s.choice.only.String() == "" && len(s.results) == 2
	for _, c := range clientOrder {
		everything = everything && s.clients[c]
	}
	for i, d := range Differences {
		if everything && !used[i] {
			s.t.Errorf("the row %q (%s, %s) is about no difference any more", d.Row, d.Event, d.Field)
		}
	}
}

// keepTable writes the table to the cache folder, where make prints it from.
func keepTable(table []line) error {
	head := line{"client", "scenario", "Apache", "ours", "what the client saw"}
	var width [4]int
	for _, l := range append([]line{head}, table...) {
		for i, text := range []string{l.client, l.scenario, l.apache, l.ours} {
			width[i] = max(width[i], len(text))
		}
	}
	var b strings.Builder
	for _, l := range append([]line{head}, table...) {
		fmt.Fprintf(&b, "%-*s  %-*s  %-*s  %-*s  %s\n", width[0], l.client, width[1], l.scenario, width[2], l.apache, width[3], l.ours, l.compared)
	}
	dir := filepath.Join(source(), ".cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep the table: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "interop.txt"), []byte(b.String()), 0o644)
}

// TestDifferencesAreDocumented wants a row of docs/compatibility.md for each of
// the differences that the comparison lets pass.
func TestDifferencesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range Differences {
		if !strings.Contains(string(text), "| **"+d.Row) && !strings.Contains(string(text), "## "+d.Row) {
			t.Errorf("docs/compatibility.md has no row or heading that begins with %q", d.Row)
		}
	}
}
