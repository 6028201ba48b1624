package report_test

import (
	"math"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/report"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3}, {nil, math.NaN()}} {
		if got := report.Median(c.values); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
	values := []float64{2, 1}
	report.Median(values)
	if values[0] != 2 {
		t.Error("Median has sorted its argument")
	}
}

func TestRatio_Met(t *testing.T) {
	t.Parallel()
	atLeast, atMost := report.AtLeast, report.AtMost
	for _, c := range []struct {
		name  string
		ratio report.Ratio
		want  report.Verdict
	}{
		{"at the target", report.Ratio{Ours: 6, Ref: 1, HasRef: true, Must: atLeast(3), Target: atLeast(6)}, report.Target},
		{"between", report.Ratio{Ours: 5.9, Ref: 1, HasRef: true, Must: atLeast(3), Target: atLeast(6)}, report.Must},
		{"below", report.Ratio{Ours: 2.9, Ref: 1, HasRef: true, Must: atLeast(3), Target: atLeast(6)}, report.Short},
		{"less is better", report.Ratio{Ours: 1, Ref: 2, HasRef: true, Must: atMost(1), Target: atMost(0.5)}, report.Target},
		{"less is better, short", report.Ratio{Ours: 3, Ref: 2, HasRef: true, Must: atMost(1)}, report.Short},
		{"no target", report.Ratio{Ours: 9, Ref: 1, HasRef: true, Must: atLeast(3)}, report.Must},
		{"no must, missed target", report.Ratio{Ours: 1, Ref: 9, HasRef: true, Target: atLeast(3)}, report.Must},
		{"absolute", report.Ratio{Ours: 0, Must: atMost(2), Target: atMost(0)}, report.Target},
		{"no value", report.Ratio{Ours: 9, Ref: 0, Must: atLeast(3), Problem: "broken"}, report.Short},
		{"nothing over nothing", report.Ratio{HasRef: true, Must: atLeast(3)}, report.Short},
		{"excused", report.Ratio{Must: atLeast(3), Problem: "missing", Excused: true}, report.Skipped},
	} {
		if got := c.ratio.Met(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestRatio_Line(t *testing.T) {
	t.Parallel()
	r := report.Ratio{Row: "4", Case: "sync/64/limit", Ours: 61234.5, Ref: 120000, HasRef: true, Must: report.AtLeast(0.5), Target: report.AtLeast(0.8)}
	for _, c := range []struct {
		change func(*report.Ratio)
		want   string
	}{
		{func(*report.Ratio) {}, `ratio row=4 case=sync/64/limit ours=61234 ref=120000 value=0.510 must=≥0.5 target=≥0.8 met=must`},
		{func(r *report.Ratio) { r.HasRef = false }, `ratio row=4 case=sync/64/limit ours=61234 ref=- value=61234 must=≥0.5 target=≥0.8 met=target`},
		{func(r *report.Ratio) { r.Problem = "no disk" }, `ratio row=4 case=sync/64/limit ours=- ref=- value=- must=≥0.5 target=≥0.8 met=short why="no disk"`},
		{func(r *report.Ratio) { r.Must, r.Target = report.Bound{}, report.Bound{} }, `note row=4 case=sync/64/limit ours=61234 ref=120000 value=0.510`},
	} {
		changed := r
		c.change(&changed)
		if got := changed.Line(); got != c.want {
			t.Errorf("line\n%s, want\n%s", got, c.want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 123456: "123456", 12.345: "12.3", 0.012345: "0.0123", -1.5: "-1.50"} {
		if got := report.Number(v); got != want {
			t.Errorf("Number(%v) is %s, want %s", v, got, want)
		}
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	ss := report.Samples{}
	for i, rate := range []float64{1, 3, 2} {
		ss.Add(report.Sample{Round: i, Step: "a", Figures: measure.Figures{"rate": rate, "others": 0.5}})
	}
	rs := []report.Ratio{
		{Row: "1", Case: "good", Ours: 2, Must: report.AtLeast(1), Target: report.AtLeast(2)},
		{Row: "2", Case: "bad", Ours: 2, Must: report.AtLeast(3)},
		{Row: "3", Case: "only to know", Ours: 2},
	}
	var b strings.Builder
	if err := report.Medians(&b, ss); err != nil {
		t.Fatal(err)
	}
	if err := report.Ratios(&b, rs); err != nil {
		t.Fatal(err)
	}
	text, short := report.Summary(rs)
	if want := "1 met the target, 0 the must, 1 short"; text != want || short != 1 {
		t.Errorf("summary %q, %d short", text, short)
	}
	for _, want := range []string{"rate=2.00(1.00..3.00)", "others were busy", "only to know"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the tables have no %q:\n%s", want, &b)
		}
	}
}
