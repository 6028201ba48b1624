package row_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/peer"
	"github.com/sluicemq/sluice/integration/bench/internal/report"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// TestTable checks that goals name steps, and that steps serve goals.
func TestTable(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, s := range row.Steps() {
		if _, twice := used[s.Name]; twice {
			t.Errorf("two steps have the name %s", s.Name)
		}
		used[s.Name] = false
	}
	for _, r := range row.Table() {
		for _, g := range r.Goals {
			for _, key := range []string{g.Ours, g.Ref} {
				step, _, _ := strings.Cut(key, ":")
				if _, ok := used[step]; !ok && key != "" {
					t.Errorf("row %d, %s: there is no step %s", r.Number, g.Case, step)
				}
				used[step] = true
			}
		}
	}
	for step, is := range used {
		if !is {
			t.Errorf("no goal uses step %s", step)
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	rows, err := row.Select([]int{22, 4})
	if err != nil || len(rows) != 2 || rows[0].Number != 4 || rows[1].Number != 22 {
		t.Errorf("rows 22 and 4: %v, %v", rows, err)
	}
	if _, err := row.Select([]int{8}); err == nil {
		t.Error("row 8 was selected")
	}
	if rows, err := row.Select(nil); err != nil || len(rows) != len(row.Table()) {
		t.Errorf("no selection: %d rows, %v", len(rows), err)
	}
}

func TestOutcome_Ratios(t *testing.T) {
	t.Parallel()
	rows := []row.Row{{Number: 7, Goals: []row.Goal{
		{Case: "measured", Ours: "ours:rate", Ref: "limit:rate", Must: report.AtLeast(2)},
		{Case: "missing", Ours: "ours:rate", Ref: "gone:rate", Must: report.AtLeast(2)},
		{Case: "broken", Ours: "ours:rate", Ref: "broken:rate", Must: report.AtLeast(2)},
		{Case: "unknown", Ours: "ours:speed", Must: report.AtLeast(2)},
	}}}
	o := row.Outcome{Samples: report.Samples{}, Problems: map[string]error{
		"gone": fmt.Errorf("step gone: %w", peer.ErrMissing), "broken": errors.New("no"),
	}}
	for i, rate := range []float64{6, 100, 1} {
		o.Samples.Add(report.Sample{Round: i, Step: "ours", Figures: measure.Figures{"rate": rate}})
		o.Samples.Add(report.Sample{Round: i, Step: "limit", Figures: measure.Figures{"rate": 3}})
	}
	verdicts := func(excuse bool) (all []report.Verdict) {
		for _, r := range o.Ratios(rows, excuse) {
			all = append(all, r.Met())
		}
		return all
	}
	if got, want := verdicts(false), []report.Verdict{report.Must, report.Short, report.Short, report.Short}; !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v", got, want)
	}
	if got, want := verdicts(true), []report.Verdict{report.Must, report.Skipped, report.Short, report.Short}; !slices.Equal(got, want) {
		t.Errorf("verdicts with an excuse %v, want %v", got, want)
	}
}
