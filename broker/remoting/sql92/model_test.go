package sql92_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/remoting/sql92"
)

// deriver derives expressions by the grammar, with the text of each.
type deriver struct {
	t    *rapid.T
	b    strings.Builder
	left int // operators that may still come
}

func (d *deriver) one(label string, of ...string) string {
	return rapid.SampledFrom(of).Draw(d.t, label)
}

// chance decides for an operator, or against it.
func (d *deriver) chance(label string, percent int) bool {
	if d.left == 0 || rapid.IntRange(0, 99).Draw(d.t, label) < 100-percent {
		return false
	}
	d.left--
	return true
}

// word writes a token with blanks or comments around it.
func (d *deriver) word(s string) {
	if s[0] >= 'A' && s[0] <= 'Z' {
		s = d.one("case", s, strings.ToLower(s), s[:1]+strings.ToLower(s[1:]))
	}
	d.b.WriteString(d.one("blank", " ", " ", " ", "\n", "\t ", "/* ' */", " --x\n"))
	for i, w := range strings.Fields(s) {
		if i > 0 {
			d.b.WriteByte(' ')
		}
		d.b.WriteString(w)
	}
	d.b.WriteByte(' ')
}

// chain derives one to three operands of AND or OR.
func (d *deriver) chain(op string, depth int, operand func(depth int) *term) *term {
	l := operand(depth)
	for d.chance(op, 35) {
		d.word(op)
		l = &term{op: op, kids: []*term{l, operand(depth)}}
	}
	return l
}

func (d *deriver) or(depth int) *term  { return d.chain("OR", depth, d.and) }
func (d *deriver) and(depth int) *term { return d.chain("AND", depth, d.equality) }

func (d *deriver) equality(depth int) *term {
	l := d.comparison(depth)
	for d.chance("equality", 40) {
		op := d.one("equality", "=", "<>", "IS NULL", "IS NOT NULL")
		d.word(op)
		l = &term{op: op, kids: []*term{l}}
		if op[0] != 'I' {
			l.kids = append(l.kids, d.comparison(depth))
		}
	}
	return l
}

func (d *deriver) comparison(depth int) *term {
	l := d.unary(depth)
	if !d.chance("compares", 60) {
		return l
	}
	op := d.one("comparison", "<", "<=", ">", ">=", "BETWEEN", "NOT BETWEEN", "IN", "NOT IN",
		"CONTAINS", "NOT CONTAINS", "STARTSWITH", "NOT STARTSWITH", "ENDSWITH", "NOT ENDSWITH")
	d.word(op)
	n := &term{op: op, kids: []*term{l}}
	switch strings.TrimPrefix(op, "NOT ") {
	case "<", "<=", ">", ">=":
		n.kids = append(n.kids, d.unary(depth))
	case "BETWEEN":
		n.kids = append(n.kids, d.unary(depth))
		d.word("AND")
		n.kids = append(n.kids, d.unary(depth))
	case "IN":
		d.word("(")
		n.list = append(n.list, d.text())
		for d.chance("more", 50) {
			d.word(",")
			n.list = append(n.list, d.text())
		}
		d.word(")")
	default:
		n.list = append(n.list, d.text())
	}
	return n
}

func (d *deriver) text() string {
	s := d.one("text", "", "x", "xy", "yx", "it's", "5", "-2", "true", "1.5", "日")
	d.word("'" + strings.ReplaceAll(s, "'", "''") + "'")
	return s
}

func (d *deriver) unary(depth int) *term {
	switch {
	case d.chance("NOT", 8):
		d.word("NOT")
		return &term{op: "NOT", kids: []*term{d.unary(depth)}}
	case d.chance("-", 8):
		d.word("-")
		return &term{op: "-", kids: []*term{d.unary(depth)}}
	case d.chance("+", 3):
		d.word("+")
		return d.unary(depth)
	case depth < 3 && d.chance("(", 25):
		d.word("(")
		n := d.or(depth + 1)
		d.word(")")
		return n
	case rapid.Bool().Draw(d.t, "name"):
		s := d.one("name", "a", "b", "c", "d")
		d.b.WriteString(" " + s + " ")
		return &term{op: "name", name: s}
	}
	return d.constant()
}

func (d *deriver) constant() *term {
	n := &term{op: "constant"}
	switch d.one("constant", "text", "truth", "whole", "whole", "decimal") {
	case "text":
		n.value = d.text()
	case "truth":
		s := d.one("truth", "TRUE", "FALSE", "NULL")
		d.word(s)
		if s != "NULL" {
			n.value = s == "TRUE"
		}
	case "whole":
		s := d.one("whole", "0", "2", "5", "5L", "7l", "2147483647", "2147483648", "9223372036854775807", "9007199254740993")
		d.word(s)
		i, _ := strconv.ParseInt(strings.TrimRight(s, "lL"), 10, 64)
		if n.value = i; i == int64(int32(i)) {
			n.value = int32(i)
		}
	default:
		s := d.one("decimal", "0.5", "1.5", ".5", "5.", "5e0", "2.E1", "9007199254740992.0", "1e300")
		d.word(s)
		n.value, _ = strconv.ParseFloat(s, 64)
	}
	return n
}

// derived is an expression with what it means.
type derived struct {
	text string
	term *term
}

func expressions() *rapid.Generator[derived] {
	return rapid.Custom(func(t *rapid.T) derived {
		d := &deriver{t: t, left: 8}
		n := d.or(0)
		return derived{d.b.String(), n}
	})
}

func messages() *rapid.Generator[props] {
	values := rapid.SampledFrom([]string{
		"", "x", "xy", "yx", "it's", "true", "TRUE", "false", "0", "2", "5", "-5", "+5", "05", " 5 ", "5.0", "1.5", "-0.0", "0.0", "1e1", "5d", "0x1p1",
		"2147483647", "2147483648", "-2147483648", "9223372036854775807", "9223372036854775808", "9007199254740993", "NaN", "-Infinity", "1e999", "日x",
	})
	return rapid.Custom(func(t *rapid.T) props {
		return rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c", "d"}), values).Draw(t, "properties")
	})
}

// what the model answers for d.
func (d derived) answer(p props) string {
	if !isCondition(d.term) || refused(d.term) {
		return "REFUSED"
	}
	return truth(naive(condition(d.term), p))
}

// TestExpr_Model compares with the naive evaluator, and what String writes with
// what it was made from.
func TestExpr_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := expressions().Draw(t, "expression")
		ps := rapid.SliceOfN(messages(), 1, 4).Draw(t, "messages")
		e, err := sql92.Parse(d.text)
		if se, ok := errors.AsType[*sql92.SyntaxError](err); ok && (len(d.text) > sql92.MaxLength || strings.Contains(se.Reason, "nested")) {
			t.Skip("beyond the limits")
		}
		for _, p := range ps {
			want := d.answer(p)
			if got := outcome(d.text, p); got != want {
				t.Fatalf("%q of %v: got %s, want %s (error %v)", d.text, p, got, want, err)
			}
			if err != nil {
				continue
			}
			if got := outcome(e.String(), p); got != want {
				t.Fatalf("%q of %v: %s, but its normal form %q is %s", d.text, p, want, e, got)
			}
			if got := e.Match(p.get); got != (want == "TRUE") {
				t.Fatalf("%q of %v: Match is %v, the outcome %s", d.text, p, got, want)
			}
		}
	})
}

// TestExpr_ModelReaches holds that what TestExpr_Model draws comes to every
// outcome. The seeds are its own, so that it does not depend on how many cases a
// run draws.
func TestExpr_ModelReaches(t *testing.T) {
	t.Parallel()
	counts := map[string]int{}
	for seed := range 500 {
		counts[expressions().Example(seed).answer(messages().Example(seed))]++
	}
	for _, o := range append([]string{"REFUSED"}, order...) {
		if counts[o] < 5 {
			t.Errorf("%d of 500 expressions came to %s, want 5 or more: %v", counts[o], o, counts)
		}
	}
}
