package sql92

import "strings"

// op is what a node computes.
type op uint8

const (
	opConstant op = 1 + iota
	opProperty
	opCast // a property as a condition
	opNegate
	opNot
	opAnd
	opOr
	opEqual
	opUnequal
	opIsNull
	opIsNotNull
	opLess
	opLessEqual
	opGreater
	opGreaterEqual
	opBetween
	opNotBetween
	opIn
	opNotIn
	opContains
	opNotContains
	opStartsWith
	opNotStartsWith
	opEndsWith
	opNotEndsWith
)

// node is an operation with its operands. It does not change once it is parsed.
type node struct {
	op     op
	pos    int    // in the source
	height int    // levels of operations below; a chain of AND or OR is one
	source string // of a constant, or the name of a property
	val    value  // of a constant
	kids   []*node
	texts  []string // of IN, CONTAINS and their like
}

func newNode(o op, pos int, kids ...*node) *node {
	n := &node{op: o, pos: pos, kids: kids}
	for _, k := range kids {
		n.height = max(n.height, k.height+1)
	}
	return n
}

func (n *node) constant() bool { return n.op == opConstant }

// boolean reports whether n is a condition.
func (n *node) boolean() bool {
	switch n.op {
	case opConstant:
		return n.val.kind == valBool || n.val.kind == valNull
	case opProperty, opNegate:
		return false
	default:
		return true
	}
}

// binds tells how tightly n is held together.
func (n *node) binds() int {
	switch n.op {
	case opConstant, opProperty, opCast:
		return bindPrimary
	case opNegate, opNot:
		return bindUnary
	case opAnd:
		return bindAnd
	case opOr:
		return bindOr
	case opEqual, opUnequal, opIsNull, opIsNotNull:
		return bindEquality
	default:
		return bindComparison
	}
}

// symbol is what is written between or before operands.
func (o op) symbol() string {
	switch o {
	case opAnd:
		return " AND "
	case opOr:
		return " OR "
	case opEqual:
		return " = "
	case opUnequal:
		return " <> "
	case opIsNull:
		return " IS NULL"
	case opIsNotNull:
		return " IS NOT NULL"
	case opLess:
		return " < "
	case opLessEqual:
		return " <= "
	case opGreater:
		return " > "
	case opGreaterEqual:
		return " >= "
	case opBetween:
		return " BETWEEN "
	case opNotBetween:
		return " NOT BETWEEN "
	case opIn:
		return " IN "
	case opNotIn:
		return " NOT IN "
	case opContains:
		return " CONTAINS "
	case opNotContains:
		return " NOT CONTAINS "
	case opStartsWith:
		return " STARTSWITH "
	case opNotStartsWith:
		return " NOT STARTSWITH "
	case opEndsWith:
		return " ENDSWITH "
	case opNotEndsWith:
		return " NOT ENDSWITH "
	default:
		return ""
	}
}

// write appends n in the normal form, in parentheses if it binds more loosely
// than what is around it.
func (n *node) write(b *strings.Builder, around int) {
	if n.binds() < around {
		b.WriteByte('(')
		defer b.WriteByte(')')
	}
	switch n.op {
	case opConstant, opProperty:
		b.WriteString(n.source)
	case opCast:
		n.kids[0].write(b, bindPrimary)
	case opNegate:
		b.WriteByte('-')
		if n.kids[0].op == opNegate {
			b.WriteByte(' ') // two signs together may begin a comment
		}
		n.kids[0].write(b, bindUnary)
	case opNot:
		b.WriteString("NOT ")
		n.kids[0].write(b, bindUnary)
	case opAnd, opOr:
		for i, k := range n.kids {
			if i > 0 {
				b.WriteString(n.op.symbol())
			}
			k.write(b, n.binds()+1)
		}
	case opBetween, opNotBetween:
		n.kids[0].write(b, bindComparison)
		b.WriteString(n.op.symbol())
		n.kids[1].write(b, bindUnary)
		b.WriteString(" AND ")
		n.kids[2].write(b, bindUnary)
	default:
		n.kids[0].write(b, n.binds())
		b.WriteString(n.op.symbol())
		if len(n.kids) > 1 {
			n.kids[1].write(b, n.binds()+1)
		}
		n.writeTexts(b)
	}
}

func (n *node) writeTexts(b *strings.Builder) {
	list := n.op == opIn || n.op == opNotIn
	if list {
		b.WriteByte('(')
	}
	for i, t := range n.texts {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('\'')
		b.WriteString(strings.ReplaceAll(t, "'", "''"))
		b.WriteByte('\'')
	}
	if list {
		b.WriteByte(')')
	}
}
