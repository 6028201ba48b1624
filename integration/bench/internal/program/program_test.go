package program

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
	"github.com/sluicemq/sluice/integration/bench/internal/report"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// sample is a program of two rows whose steps measure nothing.
func sample(ended *int) Program {
	goal := func(name string) []row.Goal {
		return []row.Goal{row.Compare(name, name+":v", "", report.AtLeast(2), report.Bound{})}
	}
	return Program{
		Name: "sample", Span: time.Second,
		Rows:  []row.Row{{Name: "1", What: "one", Goals: goal("a")}, {Name: "R2", What: "two", Goals: goal("b")}},
		Flags: func(f *flag.FlagSet) { f.Int("more", 0, "another flag") },
		Prepare: func(*row.Bench, []row.Row) ([]row.Step, func() error, error) {
			steps := []row.Step{
				row.Do("a", func(*row.Bench, string) (measure.Figures, error) { return measure.Figures{"v": 1}, nil }),
				row.Do("b", func(*row.Bench, string) (measure.Figures, error) { return measure.Figures{"v": 3}, nil }),
			}
			return steps, func() error { *ended++; return errors.New("late") }, nil
		},
	}
}

func TestProgram_Run(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args  []string
		short int
		want  []string
		not   string
	}{
		{[]string{"-quick"}, 1, []string{"ratio row=1 case=a ", "met=short", "ratio row=R2 case=b ", "met=must"}, ""},
		{[]string{"-quick", "-rows", "R2", "-more", "3"}, 0, []string{" R2  two"}, "row=1 "},
	} {
		var out, errs bytes.Buffer
		ended := 0
		short, err := sample(&ended).Run(append(c.args, "-dir", t.TempDir()), &out, &errs)
		if err != nil || short != c.short || ended != 1 {
			t.Errorf("%q: %d short, %v, ended %d times; want %d", c.args, short, err, ended, c.short)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q: no %q in the output\n%s", c.args, want, &out)
			}
		}
		if c.not != "" && strings.Contains(out.String(), c.not) {
			t.Errorf("%q: %q is in the output", c.args, c.not)
		}
		if !strings.Contains(errs.String(), "end of the run: late") {
			t.Errorf("%q: what failed at the end is not told: %s", c.args, &errs)
		}
	}
}

func TestProgram_Refuses(t *testing.T) {
	t.Parallel()
	ended := 0
	for _, args := range [][]string{{"-rows", "1,x"}, {"-rounds", "0"}, {"-dur", "0s"}, {"more"}, {"-rows", "99"}} {
		if _, err := sample(&ended).Run(append(args, "-quick"), t.Output(), t.Output()); err == nil && args[0] != "-rounds" && args[0] != "-dur" {
			t.Errorf("Run(%q) succeeds", args)
		}
		if _, err := sample(&ended).parse(args, t.Output()); err == nil && args[0] != "-rows" {
			t.Errorf("parse(%q) succeeds", args)
		}
	}
}
