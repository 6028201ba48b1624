package sql92

import (
	"fmt"
	"strings"
)

// SyntaxError says why an expression is refused.
type SyntaxError struct {
	// Pos is the offset in bytes of what is refused, the length of the
	// expression if something is missing at its end.
	Pos int
	// Near is what stands there, shortened; empty at the end.
	Near string
	// Reason says what is wrong with it.
	Reason string
	// Accepted is the form that would have been accepted; empty if there is
	// none.
	Accepted string
}

// Error names the position, what is wrong there and what would be right.
func (e *SyntaxError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sql92 expression at byte %d", e.Pos)
	if e.Near != "" {
		fmt.Fprintf(&b, " (%q)", e.Near)
	}
	b.WriteString(": ")
	b.WriteString(e.Reason)
	if e.Accepted != "" {
		b.WriteString("; accepted: ")
		b.WriteString(e.Accepted)
	}
	return b.String()
}

// Forms that more than one refusal names.
const (
	acceptedOperand   = "a property name, 'text', a number, TRUE, FALSE, NULL, NOT, a sign or ("
	acceptedOperator  = "=, <>, >, >=, <, <=, [NOT] BETWEEN, [NOT] IN, IS [NOT] NULL, [NOT] CONTAINS, [NOT] STARTSWITH, [NOT] ENDSWITH, AND, OR"
	acceptedCondition = "a comparison, TRUE, FALSE, NULL or a property name"
	acceptedNumeric   = "a property name or a number; texts are compared by =, <> and IN"
	acceptedText      = "a text in single quotes"
	noArithmetic      = "there is no arithmetic"
)

// wrongCharacter explains characters that begin no token.
func wrongCharacter(rest string) (reason, accepted string) {
	switch rest[0] {
	case '!':
		return "unknown operator", "<> for unequal, NOT (…) for the contrary"
	case '"', '`':
		return "unknown quote", "'text', and names without quotes"
	case '&', '|':
		return "unknown operator", "AND, OR"
	case '*', '/', '%':
		return noArithmetic, acceptedOperator
	default:
		return "unexpected character", "names with letters, digits, _ and $; other characters in 'texts' only"
	}
}

// wrongOperator explains what stands where an operator, or the end, is due.
func wrongOperator(t token) (reason, accepted string) {
	word := strings.ToUpper(t.text)
	switch {
	case t.kind == plus || t.kind == minus:
		return noArithmetic, acceptedOperator
	case t.kind == name && (word == "LIKE" || word == "RLIKE" || word == "REGEXP" || word == "SIMILAR"):
		return "unknown operator", "CONTAINS 'text', STARTSWITH 'text', ENDSWITH 'text'"
	case t.kind == not:
		return "NOT stands alone behind an operand", "NOT BETWEEN, NOT IN, NOT CONTAINS, NOT STARTSWITH, NOT ENDSWITH, IS NOT NULL"
	case t.kind == right:
		return "nothing was opened that this closes", acceptedOperator
	default:
		return "an operator or the end is due here", acceptedOperator
	}
}
