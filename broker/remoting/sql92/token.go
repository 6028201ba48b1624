package sql92

import (
	"strings"
	"unicode/utf8"
)

// kind tells tokens apart.
type kind uint8

const (
	end kind = iota
	name
	text    // with its quotes
	whole   // a whole number
	decimal // a number with a point or an exponent
	equal
	unequal
	less
	lessEqual
	greater
	greaterEqual
	left
	right
	comma
	plus
	minus
	not
	and
	or
	between
	in
	isTrue
	isFalse
	null
	is
	contains
	startsWith
	endsWith
)

// keywords by their upper case form.
var keywords = map[string]kind{
	"NOT": not, "AND": and, "OR": or, "BETWEEN": between, "IN": in, "TRUE": isTrue, "FALSE": isFalse,
	"NULL": null, "IS": is, "CONTAINS": contains, "STARTSWITH": startsWith, "ENDSWITH": endsWith,
}

// symbols, longer ones first.
var symbols = []struct {
	text string
	kind kind
}{
	{"<>", unequal},
	{"<=", lessEqual},
	{">=", greaterEqual},
	{"<", less},
	{">", greater},
	{"=", equal},
	{"(", left},
	{")", right},
	{",", comma},
	{"+", plus},
	{"-", minus},
}

// token is a part of the expression.
type token struct {
	kind kind
	pos  int
	text string
}

// lexer cuts an expression into tokens. A copy of it looks ahead.
type lexer struct {
	src string
	pos int
}

// refuse makes the error for what stands at pos.
func (l *lexer) refuse(pos int, reason, accepted string) *SyntaxError {
	const most = 24
	near := l.src[pos:]
	if len(near) > most {
		n := most
		for !utf8.RuneStart(near[n]) {
			n--
		}
		near = near[:n] + "…"
	}
	return &SyntaxError{Pos: pos, Near: near, Reason: reason, Accepted: accepted}
}

// next answers the next token; the last one is end.
func (l *lexer) next() (token, *SyntaxError) {
	if err := l.skip(); err != nil {
		return token{}, err
	}
	rest := l.src[l.pos:]
	if rest == "" {
		return token{kind: end, pos: l.pos}, nil
	}
	c := rest[0]
	switch {
	case isLetter(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n])) {
			n++
		}
		t := l.take(name, n)
		if k, ok := keywords[strings.ToUpper(t.text)]; ok {
			t.kind = k
		}
		return t, nil
	case c == '\'':
		n := textLen(rest)
		if n == 0 {
			return token{}, l.refuse(l.pos, "the text does not end", "'text', with '' for a quote in it")
		}
		return l.take(text, n), nil
	case isDigit(c) || c == '.' && len(rest) > 1 && isDigit(rest[1]):
		return l.take(numberLen(rest)), nil
	}
	for _, s := range symbols {
		if strings.HasPrefix(rest, s.text) {
			return l.take(s.kind, len(s.text)), nil
		}
	}
	reason, accepted := wrongCharacter(rest)
	return token{}, l.refuse(l.pos, reason, accepted)
}

func (l *lexer) take(k kind, n int) token {
	t := token{kind: k, pos: l.pos, text: l.src[l.pos : l.pos+n]}
	l.pos += n
	return t
}

// skip passes over blanks and comments. A line comment needs its line end, else
// -- is two signs.
func (l *lexer) skip() *SyntaxError {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case strings.IndexByte(" \t\n\r\f", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "--"):
			n := strings.IndexAny(rest, "\n\r")
			if n < 0 {
				return nil
			}
			l.pos += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return l.refuse(l.pos, "the comment does not end", "/* … */")
			}
			l.pos += n + 4
		default:
			return nil
		}
	}
	return nil
}

// textLen is the length of the text literal at the start of s, quotes
// included; 0 if it does not end.
func textLen(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			continue
		}
		if i+1 == len(s) || s[i+1] != '\'' {
			return i + 1
		}
		i++
	}
	return 0
}

// numberLen is kind and length of the number at the start of s. A whole number
// has no zero in front and may end with L.
func numberLen(s string) (kind, int) {
	n := digits(s)
	point := n < len(s) && s[n] == '.'
	if point {
		n++
		n += digits(s[n:])
	}
	exponent := exponentLen(s[n:])
	if point || exponent > 0 {
		return decimal, n + exponent
	}
	if s[0] == '0' {
		return whole, 1
	}
	if n < len(s) && (s[n] == 'l' || s[n] == 'L') {
		n++
	}
	return whole, n
}

// exponentLen is the length of the exponent at the start of s, 0 for none.
func exponentLen(s string) int {
	if s == "" || s[0] != 'e' && s[0] != 'E' {
		return 0
	}
	n := 1
	if n < len(s) && (s[n] == '+' || s[n] == '-') {
		n++
	}
	d := digits(s[n:])
	if d == 0 {
		return 0
	}
	return n + d
}

// digits counts the digits at the start of s.
func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c == '$'
}
