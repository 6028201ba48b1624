package sql92

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// How tightly operators bind; see the table in the package comment.
const (
	bindOr = 1 + iota
	bindAnd
	bindEquality
	bindComparison
	bindUnary
	bindPrimary
)

// binds tells how tightly an operator between operands binds, 0 if k is none.
func binds(k kind) int {
	switch k {
	case or:
		return bindOr
	case and:
		return bindAnd
	case equal, unequal, is:
		return bindEquality
	case less, lessEqual, greater, greaterEqual, in, between, contains, startsWith, endsWith, not:
		return bindComparison
	default:
		return 0
	}
}

// parser is a Pratt parser: one loop, driven by how tightly operators bind.
type parser struct {
	lex   lexer
	tok   token
	depth int // parentheses, NOTs and signs around tok
}

// parse reads a whole condition.
func parse(src string) (*node, *SyntaxError) {
	p := &parser{lex: lexer{src: src}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	n, err := p.expression(bindOr)
	if err != nil {
		return nil, err
	}
	// A comment without a line end is one at the end only.
	if p.tok.kind != end && !strings.HasPrefix(src[p.tok.pos:], "--") {
		reason, accepted := wrongOperator(p.tok)
		return nil, p.lex.refuse(p.tok.pos, reason, accepted)
	}
	return p.condition(n)
}

func (p *parser) advance() (err *SyntaxError) {
	p.tok, err = p.lex.next()
	return err
}

// ahead is the token behind p.tok, end if there is none to be read.
func (p *parser) ahead() token {
	look := p.lex
	t, _ := look.next()
	return t
}

// expect passes over a token that must be there.
func (p *parser) expect(k kind, reason, accepted string) *SyntaxError {
	if p.tok.kind != k {
		return p.lex.refuse(p.tok.pos, reason, accepted)
	}
	return p.advance()
}

// expression reads an operand and the operators behind it that bind at least as
// tightly as loosest.
func (p *parser) expression(loosest int) (*node, *SyntaxError) {
	n, err := p.unary()
	// An operator never takes what a looser one has made, except by parentheses.
	for last := bindComparison; err == nil; {
		bind := binds(p.tok.kind)
		if bind == 0 || bind < loosest || bind > last || p.tok.kind == not && p.ahead().negates() == 0 {
			return n, nil
		}
		last = bind
		if n, err = p.operator(n); err == nil && n.height > MaxDepth {
			err = p.tooDeep(n.pos)
		}
	}
	return nil, err
}

// negates is the negated operation of NOT in front of t, 0 for none.
func (t token) negates() op {
	switch t.kind {
	case between:
		return opNotBetween
	case in:
		return opNotIn
	case contains:
		return opNotContains
	case startsWith:
		return opNotStartsWith
	case endsWith:
		return opNotEndsWith
	default:
		return 0
	}
}

// operator reads an operator, which p.tok is, and its right side.
func (p *parser) operator(l *node) (*node, *SyntaxError) {
	t := p.tok
	if err := p.advance(); err != nil {
		return nil, err
	}
	switch t.kind {
	case or:
		return p.logic(opOr, l, bindAnd)
	case and:
		return p.logic(opAnd, l, bindEquality)
	case equal:
		return p.equality(opEqual, l)
	case unequal:
		return p.equality(opUnequal, l)
	case is:
		return p.isNull(l)
	case less:
		return p.comparison(opLess, l)
	case lessEqual:
		return p.comparison(opLessEqual, l)
	case greater:
		return p.comparison(opGreater, l)
	case greaterEqual:
		return p.comparison(opGreaterEqual, l)
	case not:
		t = p.tok
		if err := p.advance(); err != nil {
			return nil, err
		}
		return p.special(t.negates(), l)
	case between:
		return p.special(opBetween, l)
	case in:
		return p.special(opIn, l)
	case contains:
		return p.special(opContains, l)
	case startsWith:
		return p.special(opStartsWith, l)
	default:
		return p.special(opEndsWith, l)
	}
}

// logic reads the right side of AND and OR; chains become one node.
func (p *parser) logic(o op, l *node, tighter int) (*node, *SyntaxError) {
	l, err := p.condition(l)
	if err != nil {
		return nil, err
	}
	r, err := p.expression(tighter)
	if err != nil {
		return nil, err
	}
	if r, err = p.condition(r); err != nil {
		return nil, err
	}
	if l.op == o {
		l.kids = append(l.kids, r)
		l.height = max(l.height, r.height+1)
		return l, nil
	}
	return newNode(o, l.pos, l, r), nil
}

// equality reads the right side of = and <>. NULL is refused there, because it
// equals nothing.
func (p *parser) equality(o op, l *node) (*node, *SyntaxError) {
	r, err := p.expression(bindComparison)
	if err != nil {
		return nil, err
	}
	for _, n := range []*node{l, r} {
		if n.constant() && n.val.kind == valNull {
			return nil, p.lex.refuse(n.pos, "NULL is equal to nothing", "IS NULL, IS NOT NULL")
		}
	}
	if l.constant() && r.constant() && l.val.kind == valBool && r.val.kind != valBool {
		return nil, p.lex.refuse(r.pos, "a truth value is compared with something else", "TRUE, FALSE or a property name")
	}
	return newNode(o, l.pos, l, r), nil
}

func (p *parser) isNull(l *node) (*node, *SyntaxError) {
	o := opIsNull
	if p.tok.kind == not {
		o = opIsNotNull
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if err := p.expect(null, "NULL is due here", "IS NULL, IS NOT NULL"); err != nil {
		return nil, err
	}
	return newNode(o, l.pos, l), nil
}

func (p *parser) comparison(o op, l *node) (*node, *SyntaxError) {
	r, err := p.unary()
	if err != nil {
		return nil, err
	}
	return p.ordered(o, l, r)
}

// ordered makes a node whose operands all must have an order.
func (p *parser) ordered(o op, operands ...*node) (*node, *SyntaxError) {
	for _, n := range operands {
		if n.boolean() || n.constant() && !n.val.numeric() {
			return nil, p.lex.refuse(n.pos, "this has no order", acceptedNumeric)
		}
	}
	return newNode(o, operands[0].pos, operands...), nil
}

// special reads the right side of the operators that are words.
func (p *parser) special(o op, l *node) (*node, *SyntaxError) {
	if o == opBetween || o == opNotBetween {
		return p.between(o, l)
	}
	if o == opIn || o == opNotIn {
		return p.list(o, l)
	}
	t := p.tok
	if err := p.expect(text, "a text is due here", acceptedText); err != nil {
		return nil, err
	}
	n := newNode(o, l.pos, l)
	n.texts = []string{unquote(t.text)}
	return n, nil
}

func (p *parser) between(o op, l *node) (*node, *SyntaxError) {
	low, err := p.unary()
	if err != nil {
		return nil, err
	}
	if err := p.expect(and, "AND is due here", "BETWEEN low AND high"); err != nil {
		return nil, err
	}
	high, err := p.unary()
	if err != nil {
		return nil, err
	}
	n, err := p.ordered(o, l, low, high)
	if err == nil && o == opBetween && low.constant() && high.constant() {
		if c, _ := compare(high.val, low.val, nil); c < 0 {
			return nil, p.lex.refuse(high.pos, "the upper bound is below the lower one", "BETWEEN low AND high")
		}
	}
	return n, err
}

// list reads the list of IN.
func (p *parser) list(o op, l *node) (*node, *SyntaxError) {
	if l.op != opProperty {
		return nil, p.lex.refuse(l.pos, "IN needs a property on its left", "name IN ('a', 'b')")
	}
	const form = "IN ('a', 'b'), with texts in single quotes"
	if err := p.expect(left, "( is due here", form); err != nil {
		return nil, err
	}
	n := newNode(o, l.pos, l)
	for {
		t := p.tok
		if err := p.expect(text, "a text is due here", form); err != nil {
			return nil, err
		}
		n.texts = append(n.texts, unquote(t.text))
		if p.tok.kind != comma {
			return n, p.expect(right, "the list does not end", form)
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
}

// unary reads an operand with what stands in front of it.
func (p *parser) unary() (*node, *SyntaxError) {
	t := p.tok
	switch t.kind {
	case plus, minus, not, left:
	default:
		return p.literal()
	}
	if p.depth++; p.depth > MaxDepth {
		return nil, p.tooDeep(t.pos)
	}
	defer func() { p.depth-- }()
	if err := p.advance(); err != nil {
		return nil, err
	}
	if t.kind == left {
		n, err := p.expression(bindOr)
		if err != nil {
			return nil, err
		}
		return n, p.expect(right, "the parenthesis is not closed", "(…)")
	}
	n, err := p.unary()
	switch {
	case err != nil || t.kind == plus:
		return n, err
	case t.kind == minus:
		return newNode(opNegate, t.pos, n), nil
	}
	if n, err = p.condition(n); err != nil {
		return nil, err
	}
	return newNode(opNot, t.pos, n), nil
}

func (p *parser) tooDeep(pos int) *SyntaxError {
	return p.lex.refuse(pos, "the expression is nested too deeply", fmt.Sprintf("%d levels", MaxDepth))
}

// literal reads an operand.
func (p *parser) literal() (*node, *SyntaxError) {
	t := p.tok
	n := newNode(opConstant, t.pos)
	n.source = t.text
	switch t.kind {
	case name:
		n.op = opProperty
	case text:
		n.val = textValue(unquote(t.text))
	case whole, decimal:
		v, reason, accepted := number(t)
		if reason != "" {
			return nil, p.lex.refuse(t.pos, reason, accepted)
		}
		n.val = v
	case isTrue, isFalse:
		n.source = strings.ToUpper(t.text)
		n.val = boolValue(t.kind == isTrue)
	case null:
		n.source = "NULL"
	default:
		return nil, p.lex.refuse(t.pos, "an operand is due here", acceptedOperand)
	}
	return n, p.advance()
}

// number is the value of a literal: an integer if it fits, else a long; double
// with a point or an exponent. RocketMQ refuses doubles that are zero.
func number(t token) (v value, reason, accepted string) {
	if t.kind == whole {
		i, err := strconv.ParseInt(strings.TrimRight(t.text, "lL"), 10, 64)
		switch {
		case err != nil:
			return v, "the number is too large", "whole numbers up to 9223372036854775807"
		case i > math.MaxInt32:
			return longValue(i), "", ""
		}
		return integerValue(i), "", ""
	}
	f, _ := strconv.ParseFloat(t.text, 64) // the only possible error is an infinity
	if f == 0 || math.IsInf(f, 0) {
		return v, "the number is out of range", "4.9e-324 to 1.7976931348623157e308, and 0 as a whole number"
	}
	return doubleValue(f), "", ""
}

// condition makes n something that is true or not; a property alone becomes a
// question that is never answered TRUE.
func (p *parser) condition(n *node) (*node, *SyntaxError) {
	if n.boolean() {
		return n, nil
	}
	if n.op == opProperty {
		c := newNode(opCast, n.pos, n)
		c.height = n.height
		return c, nil
	}
	return nil, p.lex.refuse(n.pos, "this is not a condition", acceptedCondition)
}

// unquote is the value of a text literal.
func unquote(literal string) string {
	return strings.ReplaceAll(literal[1:len(literal)-1], "''", "'")
}
