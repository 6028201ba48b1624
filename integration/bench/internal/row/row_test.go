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

// table has rows 4, R5 and 22; steps a and b serve them.
func table() []row.Row {
	return []row.Row{
		{Name: "4", Goals: []row.Goal{row.Compare("first", "a:rate", "b:rate", report.AtLeast(2), report.Bound{})}},
		{Name: "R5", Goals: []row.Goal{row.Compare("second", "b:rate", "", report.Bound{}, report.Bound{})}},
		{Name: "22"},
	}
}

func TestSuite_Check(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		steps []string
		want  []string
	}{
		{[]string{"a", "b"}, nil},
		{[]string{"a"}, []string{"there is no step b"}},
		{[]string{"a", "b", "c"}, []string{"no goal uses step c"}},
		{[]string{"a", "b", "a"}, []string{"two steps have the name a"}},
	} {
		s := row.Suite{Rows: table()}
		for _, name := range c.steps {
			s.Steps = append(s.Steps, row.Do(name, nil))
		}
		if got := s.Check(); !slices.Equal(got, c.want) {
			t.Errorf("steps %v: %q, want %q", c.steps, got, c.want)
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	rows, err := row.Select(table(), []string{"22", "4"})
	if err != nil || len(rows) != 2 || rows[0].Name != "4" || rows[1].Name != "22" {
		t.Errorf("rows 22 and 4: %v, %v", rows, err)
	}
	if _, err := row.Select(table(), []string{"8"}); err == nil || !strings.Contains(err.Error(), "row 8") {
		t.Errorf("row 8: %v", err)
	}
	if rows, err := row.Select(table(), nil); err != nil || len(rows) != len(table()) {
		t.Errorf("no selection: %d rows, %v", len(rows), err)
	}
}

// TestRun_Needed: a step that no selected row needs is not run, the others once
// a round.
func TestRun_Needed(t *testing.T) {
	scratch, err := measure.NewScratch(t.TempDir(), "test", 0)
	if err != nil {
		t.Fatal(err)
	}
	var ran []string
	step := func(name string) row.Step {
		return row.Do(name, func(b *row.Bench, _ string) (measure.Figures, error) {
			ran = append(ran, fmt.Sprint(name, b.Round))
			return measure.Figures{"rate": 1}, nil
		})
	}
	b := &row.Bench{Scratch: scratch, Stuck: func(string) {}}
	o, err := row.Run(b, []row.Step{step("a"), step("b")}, table()[1:], 2, func(report.Sample) error { return nil })
	if err != nil || !slices.Equal(ran, []string{"b0", "b1"}) || len(o.Problems) != 0 {
		t.Errorf("ran %v, problems %v, %v", ran, o.Problems, err)
	}
}

func TestOutcome_Ratios(t *testing.T) {
	t.Parallel()
	rows := []row.Row{{Name: "7", Goals: []row.Goal{
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
