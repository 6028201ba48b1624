package sql92

import (
	"slices"
	"strings"
)

// stepBytes is how much text is looked at for one step.
const stepBytes = 64

// run is one evaluation.
type run struct {
	get   func(name string) (string, bool)
	steps int // left
}

// charge pays for looking at n bytes of text; a nil run pays nothing.
func (w *run) charge(n int) {
	if w != nil {
		w.steps -= n / stepBytes
	}
}

// eval computes n. A failed operand makes everything failed that needs it.
func (w *run) eval(n *node) value {
	if w.steps--; w.steps < 0 {
		return value{kind: valFailed}
	}
	switch n.op {
	case opConstant:
		return n.val
	case opProperty:
		if s, ok := w.get(n.source); ok {
			return textValue(s)
		}
		return value{}
	case opCast:
		if v := w.eval(n.kids[0]); v.kind == valNull || v.kind == valFailed {
			return v
		}
		return boolValue(false) // a text, which is no truth value
	case opNegate:
		return w.eval(n.kids[0]).negate()
	case opNot:
		return invert(w.eval(n.kids[0]))
	case opAnd:
		return w.chain(n, false)
	case opOr:
		return w.chain(n, true)
	case opEqual:
		return w.equal(n)
	case opUnequal:
		return invert(w.equal(n))
	case opIsNull, opIsNotNull:
		v := w.eval(n.kids[0])
		if v.kind == valFailed {
			return v
		}
		return boolValue((v.kind == valNull) == (n.op == opIsNull))
	case opLess, opLessEqual, opGreater, opGreaterEqual:
		return w.order(n.op, w.eval(n.kids[0]), n.kids[1])
	case opBetween:
		v := w.eval(n.kids[0])
		return w.both(v, opGreaterEqual, n.kids[1], opLessEqual, n.kids[2], false)
	case opNotBetween:
		v := w.eval(n.kids[0])
		return w.both(v, opLess, n.kids[1], opGreater, n.kids[2], true)
	case opIn, opNotIn:
		return w.list(n, w.eval(n.kids[0]))
	default:
		return w.part(n)
	}
}

// invert is NOT of a truth value; UNKNOWN stays.
func invert(v value) value {
	if v.kind == valBool {
		v.num = 1 - v.num
	}
	return v
}

// chain evaluates AND, or OR if decisive is true, until one operand decides.
func (w *run) chain(n *node, decisive bool) value {
	result := boolValue(!decisive)
	for _, k := range n.kids {
		switch v := w.eval(k); {
		case v.kind == valFailed || v == boolValue(decisive):
			return v
		case v.kind == valNull:
			result = v
		}
	}
	return result
}

// both is the AND, or OR if decisive is true, of two comparisons of v.
func (w *run) both(v value, one op, first *node, other op, second *node, decisive bool) value {
	l := w.order(one, v, first)
	if l.kind == valFailed || l == boolValue(decisive) {
		return l
	}
	r := w.order(other, v, second)
	if r.kind == valFailed || r == boolValue(decisive) || l.kind == valBool {
		return r
	}
	return l
}

// equal compares for equality; see the package comment about missing sides.
func (w *run) equal(n *node) value {
	l := w.eval(n.kids[0])
	if l.kind == valFailed {
		return l
	}
	r := w.eval(n.kids[1])
	switch {
	case r.kind == valFailed:
		return r
	case l.kind == valNull && r.kind == valNull:
		return boolValue(true)
	case l.kind == valNull:
		return value{}
	case r.kind == valNull:
		return boolValue(false)
	}
	c, ok := compare(l, r, w)
	if !ok {
		return value{kind: valFailed}
	}
	return boolValue(c == 0)
}

// order compares l with what right is by <, <=, > or >=. Two texts are compared
// as doubles.
func (w *run) order(o op, l value, right *node) value {
	if l.kind == valNull || l.kind == valFailed {
		return l
	}
	r := w.eval(right)
	if r.kind == valNull || r.kind == valFailed {
		return r
	}
	ok := true
	if l.kind == valText && r.kind == valText {
		l, ok = l.as(valDouble, w)
	}
	var c int
	if ok {
		c, ok = compare(l, r, w)
	}
	if !ok {
		return value{kind: valFailed}
	}
	switch o {
	case opLess:
		return boolValue(c < 0)
	case opLessEqual:
		return boolValue(c <= 0)
	case opGreater:
		return boolValue(c > 0)
	default:
		return boolValue(c >= 0)
	}
}

// list evaluates IN for v.
func (w *run) list(n *node, v value) value {
	if v.kind != valText {
		return v // the left side is a property: a text or nothing
	}
	w.charge(len(n.texts)*stepBytes + len(v.text))
	return boolValue(slices.Contains(n.texts, v.text) == (n.op == opIn))
}

// part evaluates CONTAINS and its like. The empty text is part of nothing, and
// is not looked for.
func (w *run) part(n *node) value {
	what := n.texts[0]
	if what == "" {
		return boolValue(false)
	}
	v := w.eval(n.kids[0])
	switch {
	case v.kind == valFailed:
		return v
	case v.kind != valText:
		return boolValue(false)
	}
	switch n.op {
	case opContains, opNotContains:
		w.charge(len(v.text))
		return boolValue(strings.Contains(v.text, what) == (n.op == opContains))
	case opStartsWith, opNotStartsWith:
		return boolValue(strings.HasPrefix(v.text, what) == (n.op == opStartsWith))
	default:
		return boolValue(strings.HasSuffix(v.text, what) == (n.op == opEndsWith))
	}
}
