package sql92

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// MaxLength is the longest expression in bytes.
	MaxLength = 1 << 10
	// MaxDepth is how deeply an expression may be nested: parentheses, NOTs and
	// signs around an operand, and operations on top of each other. A chain of
	// ANDs or ORs is one level.
	MaxDepth = 16
	// MaxSteps is what one evaluation may cost: one step for each operation and
	// operand that is met, each text of a list, and each 64 bytes of a value
	// that are compared, searched or read as a number. The operations of a whole
	// expression need a tenth of it; the rest allows a MiB of text.
	MaxSteps = 1 << 14
)

// Expr is an expression that was parsed. It may be used by several goroutines.
type Expr struct {
	root   *node
	normal string
}

// Parse reads an expression; the error is a [*SyntaxError].
func Parse(expr string) (*Expr, error) {
	if len(expr) > MaxLength {
		return nil, &SyntaxError{
			Pos: MaxLength, Reason: fmt.Sprintf("the expression has %d bytes", len(expr)), Accepted: fmt.Sprintf("at most %d bytes", MaxLength),
		}
	}
	for i, r := range expr {
		if r != utf8.RuneError {
			continue
		}
		if _, n := utf8.DecodeRuneInString(expr[i:]); n == 1 {
			return nil, &SyntaxError{Pos: i, Near: expr[i : i+1], Reason: "the expression is not UTF-8"}
		}
	}
	root, err := parse(expr)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	root.write(&b, bindOr)
	e := &Expr{root: root, normal: b.String()}
	if len(e.normal) > MaxLength {
		e.normal = expr
	}
	return e, nil
}

// Match reports whether the expression is TRUE for a message whose properties
// get answers. It is false for FALSE and UNKNOWN, if a text is not the number
// it is compared with, and if the evaluation costs more than [MaxSteps].
func (e *Expr) Match(get func(name string) (value string, ok bool)) bool {
	w := run{get: get, steps: MaxSteps}
	v := w.eval(e.root)
	return w.steps >= 0 && v.isTrue()
}

// String is the expression in its normal form, without comments and needless
// parentheses; as it was written, if it is too long otherwise. It parses again,
// to the same meaning.
func (e *Expr) String() string { return e.normal }
