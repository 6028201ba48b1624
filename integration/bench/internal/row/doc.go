// Package row is what tables of goals are made of: which figures of which steps
// make a ratio, and what it must reach. A step is one case in one round, in a
// fresh folder; rows share steps, and every round runs each step that a selected
// row needs once, so that ours, peers and limits are interleaved.
package row

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/report"
)

// Row is one line of a table of goals.
type Row struct {
	Name  string // its number, such as "4" or "R4"
	What  string
	Goals []Goal
}

// Goal is one comparison of a row.
type Goal struct {
	Case string
	// Ours and Ref are figures in the form "step:figure"; an empty Ref asks
	// for an absolute value.
	Ours, Ref string
	// Must and Target are unset for what is only to be known.
	Must, Target report.Bound
}

// Compare makes a goal.
func Compare(name, ours, ref string, must, target report.Bound) Goal {
	return Goal{Case: name, Ours: ours, Ref: ref, Must: must, Target: target}
}

// Step is one case; Run does it once, in an empty folder.
type Step struct {
	Name string
	Run  func(b *Bench, dir string) (measure.Figures, error)
}

// Do makes a step.
func Do(name string, run func(b *Bench, dir string) (measure.Figures, error)) Step {
	return Step{Name: name, Run: run}
}

// Suite is a table and the steps that its goals name, in the order in which a
// round runs them.
type Suite struct {
	Rows  []Row
	Steps []Step
}

// Needed are the names of the steps that the goals of rows need.
func Needed(rows []Row) map[string]bool {
	names := map[string]bool{}
	for _, r := range rows {
		for _, g := range r.Goals {
			for _, key := range []string{g.Ours, g.Ref} {
				if step, _, ok := strings.Cut(key, ":"); ok {
					names[step] = true
				}
			}
		}
	}
	return names
}

// Select answers the rows of the given names in the order of the table; none
// selects all.
func Select(table []Row, names []string) ([]Row, error) {
	if len(names) == 0 {
		return table, nil
	}
	var known []string
	for _, r := range table {
		known = append(known, r.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no row %s; the rows are %s", name, strings.Join(known, " "))
		}
	}
	return slices.DeleteFunc(slices.Clone(table), func(r Row) bool { return !slices.Contains(names, r.Name) }), nil
}

// Check tells what is wrong with a suite: two steps of one name, a goal whose
// step is not there, a step without a goal. Nil is a sound one.
func (s Suite) Check() []string {
	var wrong []string
	names, needed := map[string]bool{}, Needed(s.Rows)
	for _, step := range s.Steps {
		if names[step.Name] {
			wrong = append(wrong, "two steps have the name "+step.Name)
		}
		names[step.Name] = true
		if !needed[step.Name] {
			wrong = append(wrong, "no goal uses step "+step.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		if !names[name] {
			wrong = append(wrong, "there is no step "+name)
		}
	}
	return wrong
}
