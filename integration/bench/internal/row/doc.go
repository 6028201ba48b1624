// Package row is the table of goals: which figures of which steps make a
// ratio, and what it must reach. A step is one case in one round, in a fresh
// folder; rows share steps, and every round runs each step that a selected row
// needs once, so that ours, peers and limits are interleaved.
package row

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/integration/bench/internal/report"
)

// Row is one line of the table of goals.
type Row struct {
	Number int
	What   string
	Goals  []Goal
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

// steps are the steps that the goals of r need.
func (r Row) steps() []string {
	names := map[string]bool{}
	for _, g := range r.Goals {
		for _, key := range []string{g.Ours, g.Ref} {
			if step, _, ok := strings.Cut(key, ":"); ok {
				names[step] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Select answers the rows of the given numbers in the order of the table; none
// selects all.
func Select(numbers []int) ([]Row, error) {
	table := Table()
	if len(numbers) == 0 {
		return table, nil
	}
	var known []int
	for _, r := range table {
		known = append(known, r.Number)
	}
	for _, n := range numbers {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("there is no row %d; the rows are %v", n, known)
		}
	}
	return slices.DeleteFunc(table, func(r Row) bool { return !slices.Contains(numbers, r.Number) }), nil
}
