package sql92_test

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// term is an expression as the generator derived it: what it means, apart from
// the text that was written for it.
type term struct {
	op    string // an operator, or "name", "constant"
	name  string
	value any // of a constant: nil, bool, int32, int64, float64, string
	kids  []*term
	list  []string
}

var errEval = errors.New("does not convert")

// truth names a truth value, or what stands for one.
func truth(v any, err error) string {
	switch {
	case err != nil:
		return "ERROR"
	case v == nil:
		return "UNKNOWN"
	case v == true:
		return "TRUE"
	default:
		return "FALSE"
	}
}

// The truth tables: rows are the left side, columns the right one, both in the
// order TRUE, FALSE, UNKNOWN, ERROR. The left side is evaluated first.
var (
	order     = []string{"TRUE", "FALSE", "UNKNOWN", "ERROR"}
	andTable  = []string{"T F U E", "F F F F", "U F U E", "E E E E"}
	orTable   = []string{"T T T T", "T F U E", "T U U E", "E E E E"}
	truthOf   = map[string]any{"T": true, "F": false, "U": nil}
	integerRE = regexp.MustCompile(`^[+-]?[0-9]+$`)
	doubleRE  = regexp.MustCompile(`^[+-]?(NaN|Infinity|(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|0[xX]([0-9a-fA-F]+\.?|[0-9a-fA-F]*\.[0-9a-fA-F]+)[pP][+-]?[0-9]+)[fFdD]?)$`)
)

func look(table []string, l, r string) (any, error) {
	cell := func(name string) int {
		for i, o := range order {
			if o == name {
				return i
			}
		}
		return -1
	}
	c := strings.Fields(table[cell(l)])[cell(r)]
	if c == "E" {
		return nil, errEval
	}
	return truthOf[c], nil
}

// naive evaluates t in the plainest way.
func naive(t *term, p props) (any, error) {
	switch t.op {
	case "constant":
		return t.value, nil
	case "name":
		if v, ok := p[t.name]; ok {
			return v, nil
		}
		return nil, nil
	case "AND", "OR":
		l := truth(naive(condition(t.kids[0]), p))
		r := truth(naive(condition(t.kids[1]), p))
		if t.op == "AND" {
			return look(andTable, l, r)
		}
		return look(orTable, l, r)
	case "NOT":
		return naiveNot(naive(condition(t.kids[0]), p))
	case "cast":
		v, err := naive(t.kids[0], p)
		if v == nil || err != nil {
			return nil, err
		}
		return false, nil
	case "<>":
		return naiveNot(naive(&term{op: "=", kids: t.kids}, p))
	case "IS NOT NULL":
		return naiveNot(naive(&term{op: "IS NULL", kids: t.kids}, p))
	case "BETWEEN":
		return naive(&term{op: "AND", kids: []*term{{op: ">=", kids: t.kids[:2]}, {op: "<=", kids: []*term{t.kids[0], t.kids[2]}}}}, p)
	case "NOT BETWEEN":
		return naive(&term{op: "OR", kids: []*term{{op: "<", kids: t.kids[:2]}, {op: ">", kids: []*term{t.kids[0], t.kids[2]}}}}, p)
	}
	if len(t.list) == 1 && t.list[0] == "" && !strings.HasSuffix(t.op, "IN") {
		return false, nil // the empty text is part of nothing
	}
	l, err := naive(t.kids[0], p)
	if err != nil {
		return nil, err
	}
	if len(t.kids) == 1 {
		return naiveOne(t, l)
	}
	if l == nil && t.op != "=" {
		return nil, nil
	}
	r, err := naive(t.kids[1], p)
	if err != nil {
		return nil, err
	}
	return naiveCompare(t.op, l, r)
}

func naiveNot(v any, err error) (any, error) {
	if b, ok := v.(bool); ok {
		return !b, err
	}
	return nil, err
}

// condition is t where a condition is due.
func condition(t *term) *term {
	if t.op == "name" {
		return &term{op: "cast", kids: []*term{t}}
	}
	return t
}

func naiveOne(t *term, v any) (any, error) {
	text, isText := v.(string)
	switch t.op {
	case "-":
		switch n := v.(type) {
		case int32:
			return -n, nil
		case int64:
			return -n, nil
		case float64:
			return -n, nil
		}
		return nil, nil
	case "IS NULL":
		return v == nil, nil
	case "IN", "NOT IN":
		if v == nil {
			return nil, nil
		}
		for _, s := range t.list {
			if s == text {
				return t.op == "IN", nil
			}
		}
		return t.op != "IN", nil
	}
	if !isText {
		return false, nil
	}
	op, positive := strings.CutPrefix(t.op, "NOT ")
	found := map[string]func(s, part string) bool{
		"CONTAINS": strings.Contains, "STARTSWITH": strings.HasPrefix, "ENDSWITH": strings.HasSuffix,
	}[op](text, t.list[0])
	return found != positive, nil
}

// naiveCompare compares, after making one side the kind of the other.
func naiveCompare(op string, l, r any) (any, error) {
	if op == "=" {
		switch {
		case l == nil && r == nil:
			return true, nil
		case l == nil:
			return nil, nil
		case r == nil:
			return false, nil
		}
	} else if r == nil {
		return nil, nil
	}
	lt, lIsText := l.(string)
	rt, rIsText := r.(string)
	if lIsText && rIsText {
		if op == "=" {
			return lt == rt, nil
		}
		v, err := convert(lt, 0.5) // the kind of it counts
		if err != nil {
			return nil, err
		}
		l, lIsText = v, false
	}
	var err error
	switch {
	case lIsText:
		l, err = convert(lt, r)
	case rIsText && isBool(l):
		return nil, errEval
	case rIsText:
		r, err = convert(rt, l)
	}
	if err != nil {
		return nil, err
	}
	if isBool(l) || isBool(r) {
		return l == r, nil
	}
	if n, ok := numbers(op, l, r); ok {
		return n, nil
	}
	return nil, errEval
}

func isBool(v any) bool {
	_, ok := v.(bool)
	return ok
}

// convert reads a text as the kind of like.
func convert(s string, like any) (any, error) {
	whole := func(bits int) (int64, error) {
		n, ok := new(big.Int).SetString(strings.TrimPrefix(s, "+"), 10)
		if !integerRE.MatchString(s) || !ok || !n.IsInt64() || bits == 32 && int64(int32(n.Int64())) != n.Int64() {
			return 0, errEval
		}
		return n.Int64(), nil
	}
	switch like.(type) {
	case bool:
		return strings.ToLower(s) == "true", nil
	case int32:
		n, err := whole(32)
		return int32(n), err
	case int64:
		n, err := whole(64)
		return n, err
	}
	s = strings.Trim(s, "\x00\t\n\v\f\r ")
	if !doubleRE.MatchString(s) {
		return nil, errEval
	}
	if !strings.HasSuffix(s, "Infinity") {
		s = strings.TrimRight(s, "dD")
		if !strings.ContainsAny(s, "xX") || strings.ContainsAny(s, "pP") {
			s = strings.TrimRight(s, "fF")
		}
	}
	f, _ := strconv.ParseFloat(strings.TrimLeft(s, "+"), 64)
	if strings.HasSuffix(s, "NaN") {
		f = math.NaN()
	}
	return f, nil
}

// numbers compares numbers exactly; NaN is greater than everything but itself,
// -0 less than 0.
func numbers(op string, l, r any) (result, ok bool) {
	lf, lOK := float(l)
	rf, rOK := float(r)
	if !lOK || !rOK {
		return false, false
	}
	var c int
	_, lDouble := l.(float64)
	_, rDouble := r.(float64)
	switch {
	case !lDouble && !rDouble:
		c = big.NewInt(integer(l)).Cmp(big.NewInt(integer(r)))
	case math.IsNaN(lf) || math.IsNaN(rf):
		c = b2i(math.IsNaN(lf)) - b2i(math.IsNaN(rf))
	case lf == 0 && rf == 0:
		c = b2i(math.Signbit(rf)) - b2i(math.Signbit(lf))
	default:
		c = big.NewFloat(lf).Cmp(big.NewFloat(rf))
	}
	switch op {
	case "=":
		return c == 0, true
	case "<":
		return c < 0, true
	case "<=":
		return c <= 0, true
	case ">":
		return c > 0, true
	default:
		return c >= 0, true
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func integer(v any) int64 {
	if i, ok := v.(int32); ok {
		return int64(i)
	}
	i, _ := v.(int64)
	return i
}

func float(v any) (float64, bool) {
	switch n := v.(type) {
	case int32:
		return float64(n), true
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// refused reports whether RocketMQ refuses t, whose syntax is right.
func refused(t *term) bool {
	for _, k := range t.kids {
		if refused(k) {
			return true
		}
	}
	null := func(k *term) bool { return k.op == "constant" && k.value == nil }
	switch t.op {
	case "AND", "OR", "NOT":
		for _, k := range t.kids {
			if !isCondition(k) {
				return true
			}
		}
	case "=", "<>":
		l, r := t.kids[0], t.kids[1]
		return null(l) || null(r) || l.op == "constant" && isBool(l.value) && r.op == "constant" && !isBool(r.value)
	case "IN", "NOT IN":
		return t.kids[0].op != "name"
	case "<", "<=", ">", ">=", "BETWEEN", "NOT BETWEEN":
		for _, k := range t.kids {
			if _, ok := float(k.value); k.op == "constant" && !ok || k.op != "constant" && k.op != "name" && k.op != "-" {
				return true
			}
		}
		if t.op == "BETWEEN" && t.kids[1].op == "constant" && t.kids[2].op == "constant" {
			above, _ := numbers(">", t.kids[1].value, t.kids[2].value)
			return above
		}
	}
	return false
}

// isCondition reports whether t is one, or a name, which can be one.
func isCondition(t *term) bool {
	return t.op != "-" && (t.op != "constant" || t.value == nil || isBool(t.value))
}
