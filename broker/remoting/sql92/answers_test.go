package sql92_test

import (
	_ "embed"
	"slices"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

// answers is what the filter library of Apache RocketMQ 5.3.3 answered: the
// answer, the expression, and the properties, in columns.
//
//go:embed testdata/answers.tsv
var answers string

// stricter are expressions that are refused here, because something follows a
// complete condition. RocketMQ does not look at it.
var stricter = []string{
	"1 = 01", "a = 007", "a = 0L", "a = 0x10", "a = 1abc", "a = 1e", "a = 1.5.5", "a = 5.L",
	"a + 1 = 2", "a = 1 + 1", "a - 1 = 2", "a LIKE 'x'", "SELECT 1", "a = 'x' 'y'", "TRUE TRUE", "(a) (b)",
	"a = 1)", "a = 1 b = 1", "a = 1, b = 1", "a IS NULL < 1", "a IS NULL CONTAINS 'x'",
}

// row is one line of answers.
type row struct {
	answer, expr string
	props        props
}

// props are the properties of a message.
type props map[string]string

func (p props) get(name string) (string, bool) {
	v, ok := p[name]
	return v, ok
}

func rows(tb testing.TB) []row {
	tb.Helper()
	plain := strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\r`, "\r", `\t`, "\t", `\f`, "\f").Replace
	var out []row
	for line := range strings.Lines(answers) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		r := row{answer: f[0], expr: plain(f[1]), props: props{}}
		for _, p := range f[2:] {
			k, v, _ := strings.Cut(plain(p), "=")
			r.props[k] = v
		}
		out = append(out, r)
	}
	return out
}

func outcome(expr string, p props) string {
	e, err := sql92.Parse(expr)
	if err != nil {
		return "REFUSED"
	}
	return e.Outcome(p.get)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	all := rows(t)
	if len(all) < 1000 {
		t.Fatalf("%d rows, want all", len(all))
	}
	for _, r := range all {
		want := r.answer
		switch {
		case slices.Contains(stricter, r.expr):
			want = "REFUSED"
		case strings.Contains(r.props["a"], "٥"):
			want = "ERROR" // digits of other scripts are no number here
		}
		if got := outcome(r.expr, r.props); got != want {
			t.Errorf("%q of %v: got %s, RocketMQ answers %s", r.expr, r.props, got, want)
		}
	}
}
