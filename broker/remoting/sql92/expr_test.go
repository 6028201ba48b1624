package sql92_test

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

func mustParse(tb testing.TB, expr string) *sql92.Expr {
	tb.Helper()
	e, err := sql92.Parse(expr)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// What is refused, where, and what would have been accepted.
func TestParse_Refused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ expr, near, reason, accepted string }{
		{"", "", "an operand is due", "a property name"},
		{"a = ", "", "an operand is due", "'text'"},
		{"a LIKE 'x%'", "LIKE 'x%'", "unknown operator", "CONTAINS 'text'"},
		{"a + 1 = 2", "+ 1 = 2", "no arithmetic", "BETWEEN"},
		{"a * 2 > 1", "* 2 > 1", "no arithmetic", "BETWEEN"},
		{"a > 'x'", "'x'", "no order", "texts are compared by ="},
		{"'x' >= a", "'x' >= a", "no order", "a number"},
		{"(a = 1) < 2", "a = 1) < 2", "no order", "a number"},
		{"a BETWEEN 'a' AND 'b'", "'a' AND 'b'", "no order", "a number"},
		{"a BETWEEN 9 AND 1", "1", "below the lower", "BETWEEN low AND high"},
		{"a BETWEEN 1", "", "AND is due", "BETWEEN low AND high"},
		{"a IN (1, 2)", "1, 2)", "a text is due", "single quotes"},
		{"a IN 'x'", "'x'", "( is due", "IN ('a', 'b')"},
		{"a IN ('x' 'y')", "'y')", "does not end", "IN ('a', 'b')"},
		{"5 IN ('5')", "5 IN ('5')", "needs a property", "name IN"},
		{"a = NULL", "NULL", "equal to nothing", "IS NULL"},
		{"a IS 5", "5", "NULL is due", "IS NOT NULL"},
		{"a NOT 5", "NOT 5", "NOT stands alone", "NOT BETWEEN"},
		{"a NOT LIKE 'x'", "NOT LIKE 'x'", "NOT stands alone", "NOT CONTAINS"},
		{"a CONTAINS b", "b", "a text is due", "single quotes"},
		{"a != 1", "!= 1", "unknown operator", "<>"},
		{"a == 1", "= 1", "an operand is due", "a property name"},
		{"a && b", "&& b", "unknown operator", "AND"},
		{`a = "x"`, `"x"`, "unknown quote", "'text'"},
		{"a = 'x", "'x", "the text does not end", "''"},
		{"a = 1 /* x", "/* x", "the comment does not end", "/*"},
		{"a = é", "é", "unexpected character", "letters"},
		{"(a = 1", "", "not closed", "("},
		{"a = 1)", ")", "nothing was opened", "AND"},
		{"a = 007", "07", "an operator or the end", "AND"},
		{"a = 1 b = 2", "b = 2", "an operator or the end", "AND"},
		{"5", "5", "not a condition", "a comparison"},
		{"a = 1 AND 'x'", "'x'", "not a condition", "a comparison"},
		{"NOT -a", "-a", "not a condition", "a comparison"},
		{"TRUE = 5", "5", "a truth value is compared", "TRUE, FALSE"},
		{"a > 9223372036854775808", "9223372036854775808", "too large", "9223372036854775807"},
		{"a > 1e400", "1e400", "out of range", "e308"},
		{"a > 0.0", "0.0", "out of range", "0 as a whole number"},
		{"a = '\xff'", "\xff", "not UTF-8", ""},
		{"a = 'some text that is rather long' b", "b", "an operator", "="},
		{"a = 日本語日本語日本語日本語", "日本語日本語日本…", "unexpected", "'texts'"},
	} {
		_, err := sql92.Parse(c.expr)
		se, ok := errors.AsType[*sql92.SyntaxError](err)
		if !ok {
			t.Errorf("Parse(%q): got error %v, want a SyntaxError", c.expr, err)
			continue
		}
		if se.Near != c.near || !strings.Contains(se.Reason, c.reason) || !strings.Contains(se.Accepted, c.accepted) {
			t.Errorf("Parse(%q): got %+v, want near %q, reason …%s…, accepted …%s…", c.expr, *se, c.near, c.reason, c.accepted)
		}
		if !strings.HasPrefix(c.expr[se.Pos:], strings.TrimSuffix(se.Near, "…")) {
			t.Errorf("Parse(%q): position %d is not that of %q", c.expr, se.Pos, se.Near)
		}
		if want := fmt.Sprintf("at byte %d", se.Pos); !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): the error %q does not say %s", c.expr, err, want)
		}
	}
}

func TestExpr_String(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]string{
		"a=1":                                 "a = 1",
		"((a)) = (1L)":                        "a = 1L",
		"(a = 1 and b<>'it''s') or not(c)":    "a = 1 AND b <> 'it''s' OR NOT c",
		"(a = 1 or b = 2) and c is not null":  "(a = 1 OR b = 2) AND c IS NOT NULL",
		"a = 1 and (b = 2 and (c = 3))":       "a = 1 AND (b = 2 AND c = 3)",
		"(a = 1 and b = 2) and c = 3":         "a = 1 AND b = 2 AND c = 3",
		"not (a=1)":                           "NOT (a = 1)",
		"not a=1":                             "NOT a = 1",
		"(not a) = 1":                         "NOT a = 1",
		"a = (b = c)":                         "a = (b = c)",
		"(a = b) = c":                         "a = b = c",
		"(a > 1) = true":                      "a > 1 = TRUE",
		"a between -1and 2.50 and null":       "a BETWEEN -1 AND 2.50 AND NULL",
		"a not in('x','y')":                   "a NOT IN ('x', 'y')",
		"a not contains'x'/* c */endswith''":  "a NOT CONTAINS 'x' ENDSWITH ''",
		"(a is null) startswith 'x' -- c":     "(a IS NULL) STARTSWITH 'x'",
		"- - + -1 = --1":                      "- - -1 = - -1",
		"-(a) > (-1)":                         "-a > -1",
		"(a = 1) is null is not null":         "a = 1 IS NULL IS NOT NULL",
		"a = '\n--' -- x\n":                   "a = '\n--'",
		strings.Repeat("a=1 or ", 140) + "a":  strings.Repeat("a=1 or ", 140) + "a",
		strings.Repeat("a OR/**/ ", 90) + "a": strings.Repeat("a OR ", 90) + "a",
	} {
		e := mustParse(t, expr)
		if got := e.String(); got != want {
			t.Errorf("normal form of %q: got %q, want %q", expr, got, want)
		}
		if again := mustParse(t, want); again.String() != want {
			t.Errorf("normal form of %q: got %q", want, again)
		}
	}
}

func TestParse_Limits(t *testing.T) {
	t.Parallel()
	repeat := strings.Repeat
	for _, c := range []struct{ name, expr, refused string }{
		{"longest", "a = '" + repeat("x", sql92.MaxLength-6) + "'", ""},
		{"too long", "a = '" + repeat("x", sql92.MaxLength-5) + "'", "1025 bytes"},
		{"parentheses", repeat("(", 16) + "a" + repeat(")", 16), ""},
		{"parentheses, too many", repeat("(", 17) + "a" + repeat(")", 17), "nested too deeply"},
		{"NOTs", repeat("NOT ", 16) + "a", ""},
		{"NOTs, too many", repeat("NOT ", 17) + "a", "nested too deeply"},
		{"signs, too many", "a = " + repeat("+", 17) + "1", "nested too deeply"},
		{"equalities", "a" + repeat(" = a", 16), ""},
		{"equalities, too many", "a" + repeat(" = a", 17), "nested too deeply"},
		{"null tests, too many", "a" + repeat(" IS NULL", 17), "nested too deeply"},
		{"chains do not count", "a" + repeat(" OR a", 200), ""},
		{"only opened", repeat("(", sql92.MaxLength), "nested too deeply"},
	} {
		_, err := sql92.Parse(c.expr)
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s: got error %v, want %q", c.name, err, c.refused)
		}
	}
}

// TestExpr_Steps: what a hostile member and a hostile sender can cost together
// is bounded, and what is usual costs next to nothing.
func TestExpr_Steps(t *testing.T) {
	t.Parallel()
	long := props{"a": strings.Repeat("x", 32<<10)}
	costly := mustParse(t, "a CONTAINS 'y'"+strings.Repeat(" OR a CONTAINS 'y'", 54))
	if got := costly.Outcome(long.get); got != "ERROR" {
		t.Errorf("the outcome beyond the budget is %s", got)
	}
	if costly.Match(long.get) {
		t.Error("an evaluation beyond the budget selects")
	}
	// Even one that would be TRUE at the end.
	if e := mustParse(t, costly.String()+" OR TRUE"); e.Match(long.get) {
		t.Error("an evaluation beyond the budget selects")
	}
	if got := mustParse(t, "a CONTAINS 'y' OR TRUE").Outcome(long.get); got != "TRUE" {
		t.Errorf("one long text: %s", got)
	}
	widest := mustParse(t, "a='1'"+strings.Repeat("OR a='1'", 127))
	if got := widest.Steps(props{"a": "x"}.get); got > sql92.MaxSteps/10 {
		t.Errorf("the longest chain costs %d steps", got)
	}
	if got := mustParse(t, "size BETWEEN 3 AND 7 AND color = 'red'").Steps(props{"size": "5", "color": "red"}.get); got != 8 {
		t.Errorf("a usual evaluation costs %d steps, want 8", got)
	}
}

// Properties are asked for once for each mention, and not at all where the
// answer is known.
func TestExpr_AsksWhatItNeeds(t *testing.T) {
	t.Parallel()
	var asked []string
	get := func(name string) (string, bool) {
		asked = append(asked, name)
		return "5", true
	}
	if !mustParse(t, "a BETWEEN 1 AND 9 OR b = 1").Match(get) || mustParse(t, "a > 9 AND c = 1").Match(get) {
		t.Error("wrong answers")
	}
	if got := strings.Join(asked, " "); got != "a a" {
		t.Errorf("asked for %q", got)
	}
}

func TestReadDouble(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]float64{
		"0": 0, "-0": math.Copysign(0, -1), "1.5": 1.5, " \t1.5\n": 1.5, "+1.5e3f": 1500, "5.": 5, ".5D": 0.5, "0x1.8p1": 3, "-0X.8P+1d": -1,
		"1e400": math.Inf(1), "-Infinity": math.Inf(-1), "4.9e-324": math.SmallestNonzeroFloat64, "1e-400": 0, "0x1p-1080": 0,
	} {
		if got, ok := sql92.ReadDouble(s); !ok || math.Float64bits(got) != math.Float64bits(want) {
			t.Errorf("%q: got %v, %v, want %v", s, got, ok, want)
		}
	}
	for _, s := range []string{"NaN", "-NaN", "+NaN"} {
		if got, ok := sql92.ReadDouble(s); !ok || !math.IsNaN(got) {
			t.Errorf("%q: got %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", " ", "+", ".", "e5", "1e", "1e+", "1_0", "inf", "nan", "infinity", "NaNf", "0x", "0x1", "0x.p1", "0x1p", "1ff", "1 f", "--1", "1.2.3", "0x1.2.3p1", "\u00a01"} {
		if got, ok := sql92.ReadDouble(s); ok {
			t.Errorf("%q: got %v", s, got)
		}
	}
}

func TestReadInteger(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s    string
		most uint64
		want int64
		ok   bool
	}{
		{"0", 127, 0, true},
		{"127", 127, 127, true},
		{"128", 127, 0, false},
		{"-128", 127, -128, true},
		{"-129", 127, 0, false},
		{"+0005", 127, 5, true},
		{"9223372036854775807", math.MaxInt64, math.MaxInt64, true},
		{"9223372036854775808", math.MaxInt64, 0, false},
		{"-9223372036854775808", math.MaxInt64, math.MinInt64, true},
		{"-9223372036854775809", math.MaxInt64, 0, false},
		{"18446744073709551616", math.MaxInt64, 0, false},
		{strings.Repeat("9", 100), math.MaxInt64, 0, false},
		{strings.Repeat("0", 100) + "1", 127, 1, true},
		{"", 127, 0, false},
		{"-", 127, 0, false},
		{"+-1", 127, 0, false},
		{" 1", 127, 0, false},
		{"1.0", 127, 0, false},
		{"٥", 127, 0, false},
	} {
		if got, ok := sql92.ReadInteger(c.s, c.most); got != c.want && c.ok || ok != c.ok {
			t.Errorf("%q up to %d: got %d, %v, want %d, %v", c.s, c.most, got, ok, c.want, c.ok)
		}
	}
}

// FuzzParse: nothing panics, the normal form parses to the same meaning, and
// the work is bounded.
func FuzzParse(f *testing.F) {
	for i, r := range rows(f) {
		if i%9 == 0 {
			f.Add(r.expr, r.props["a"], r.props["b"])
		}
	}
	f.Fuzz(func(t *testing.T, expr, a, b string) {
		e, err := sql92.Parse(expr)
		if err != nil {
			se, ok := errors.AsType[*sql92.SyntaxError](err)
			if !ok || se.Pos < 0 || se.Pos > len(expr) || se.Reason == "" || e != nil {
				t.Fatalf("Parse(%q): %v, %#v", expr, e, err)
			}
			return
		}
		again, err := sql92.Parse(e.String())
		if err != nil {
			t.Fatalf("%q has the normal form %q: %v", expr, e, err)
		}
		if len(e.String()) < sql92.MaxLength/2 && again.String() != e.String() {
			t.Fatalf("%q has the normal form %q, which has %q", expr, e, again)
		}
		for _, p := range []props{{}, {"a": a}, {"b": b}, {"a": a, "b": b}} {
			if got, want := again.Outcome(p.get), e.Outcome(p.get); got != want {
				t.Fatalf("%q of %v is %s, its normal form %q is %s", expr, p, want, e, got)
			}
			if got, most := e.Steps(p.get), sql92.MaxSteps+(len(a)+len(b))/64+len(expr); got > most {
				t.Fatalf("%q costs %d steps, at most %d are allowed", expr, got, most)
			}
		}
	})
}

// FuzzReadDouble holds the reader of doubles against the grammar of Java.
func FuzzReadDouble(f *testing.F) {
	for _, s := range []string{"1.5", " -0x1.8p-3f ", "1e400", "Infinity", "-NaN", ".", "1_0", "0x.1P1", "1..", "e"} {
		f.Add(s)
	}
	blanks := regexp.MustCompile(`^[\x00- ]+|[\x00- ]+$`)
	f.Fuzz(func(t *testing.T, s string) {
		want := doubleRE.MatchString(blanks.ReplaceAllString(s, ""))
		if _, ok := sql92.ReadDouble(s); ok != want {
			t.Errorf("%q: got %v, want %v", s, ok, want)
		}
	})
}

func TestExpr_MatchAllocatesNothing(t *testing.T) {
	p := props{"color": "red", "size": "9", "note": "x"}
	get := p.get
	for _, expr := range []string{
		"color = 'red' AND size > 5", "size BETWEEN 3.5 AND 17 OR color IN ('blue', 'green')", "note > 5", "color CONTAINS 'ed' AND NOT (none = 1)",
		"size = 9.0 AND size <> 10L AND note IS NOT NULL AND -size IS NULL",
	} {
		e := mustParse(t, expr)
		if n := testing.AllocsPerRun(100, func() { e.Match(get) }); n != 0 {
			t.Errorf("%s: %v allocations", expr, n)
		}
	}
}
