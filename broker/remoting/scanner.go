package remoting

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// SyntaxError says where a header or a body is not what it should be.
type SyntaxError struct {
	At     int // bytes from the beginning of the header or body
	Reason string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.Reason, e.At) }

// scanner reads JSON as Apache's peers write it, in one pass over a string of
// which the texts it answers are parts. The first error stays; from then on it
// answers zeros, so that readers look at err once. It accepts, beyond JSON:
// integers and objects as names, a comma behind the last element, raw control
// characters in texts, and \'.
type scanner struct {
	s     string
	i     int
	err   error
	depth int  // levels that may still be opened
	fresh bool // behind an opening bracket: no comma is due
	left  int  // bytes of memory that lists may still take; see appendTo
	room  strings.Builder
}

// textOf copies b; bytes that are not UTF-8 become U+FFFD, each for itself.
func textOf(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	size := 0
	for rest := b; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		size += utf8.RuneLen(r)
		rest = rest[n:]
	}
	var out strings.Builder
	out.Grow(size)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		out.WriteRune(r)
		b = b[n:]
	}
	return out.String()
}

// validText is textOf for what is a string already.
func validText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return textOf([]byte(s))
}

func (s *scanner) fail(reason string) {
	if s.err == nil {
		s.err = &SyntaxError{At: s.i, Reason: reason}
	}
}

// peek skips white space and answers the next byte, 0 at the end or after an
// error.
func (s *scanner) peek() byte {
	if s.err != nil {
		return 0
	}
	for s.i < len(s.s) {
		c := s.s[s.i]
		if c > ' ' || c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
		s.i++
	}
	return 0
}

// end fails unless everything was read.
func (s *scanner) end() {
	if s.peek() != 0 || s.err == nil && s.i < len(s.s) {
		s.fail("text behind the value")
	}
}

// enter opens an object or array; null counts as an empty one that is closed
// already.
func (s *scanner) enter(open byte) bool {
	switch c := s.peek(); {
	case c == open:
	case c == 'n' && s.word("null"):
		return false
	default:
		s.fail("no " + string(rune(open)))
		return false
	}
	if s.depth == 0 {
		s.fail("too many levels")
		return false
	}
	s.depth--
	s.i++
	s.fresh = true
	return true
}

// more reports whether another element follows, and closes if not.
func (s *scanner) more(closing byte) bool {
	c := s.peek()
	if c == ',' && !s.fresh {
		s.i++
		c = s.peek()
	} else if c != closing && !s.fresh {
		s.fail("no comma")
		return false
	}
	s.fresh = false
	if c == closing {
		s.i++
		s.depth++
		return false
	}
	if c == 0 {
		s.fail("end of text")
		return false
	}
	return true
}

// members yields the names of an object; the body of the loop reads the value
// of each.
func (s *scanner) members() func(yield func(name string) bool) {
	return func(yield func(string) bool) {
		if !s.enter('{') {
			return
		}
		for s.more('}') {
			name := s.name()
			if s.err != nil || !yield(name) {
				return
			}
		}
	}
}

// elements runs the body of the loop, which reads one element, for each element
// of an array.
func (s *scanner) elements() func(yield func() bool) {
	return func(yield func() bool) {
		if !s.enter('[') {
			return
		}
		for s.more(']') {
			if s.err != nil || !yield() {
				return
			}
		}
	}
}

// name reads the name of a member and the colon. That of a number is its
// digits, that of an object is its text.
func (s *scanner) name() string {
	var name string
	switch c := s.peek(); {
	case c == '"':
		name = s.quoted()
	case c == '{':
		name = s.raw()
	case c == '-' || c >= '0' && c <= '9':
		name = s.number()
	default:
		s.fail("no name")
	}
	if s.peek() != ':' {
		s.fail("no colon")
		return ""
	}
	s.i++
	return name
}

// quoted reads a text in quotes, at which s.i stands.
func (s *scanner) quoted() string {
	rest := s.s[s.i+1:]
	for j := range len(rest) {
		switch rest[j] {
		case '"':
			s.i += j + 2
			return rest[:j]
		case '\\':
			return s.escaped(j)
		}
	}
	s.fail("text without an end")
	return ""
}

// escaped reads the text at which s.i stands, which has its first escape
// behind plain bytes. Texts never get longer by it: one piece of memory does
// for all of them.
func (s *scanner) escaped(plain int) string {
	if s.room.Cap()-s.room.Len() < len(s.s)-s.i {
		s.room = strings.Builder{}
		s.room.Grow(len(s.s) - s.i)
		s.left -= len(s.s) - s.i
	}
	start := s.room.Len()
	from := s.i + 1
	for j := from + plain; j < len(s.s); {
		switch s.s[j] {
		case '"':
			s.room.WriteString(s.s[from:j])
			s.i = j + 1
			return s.room.String()[start:]
		case '\\':
			r, n := escape(s.s[j:])
			if n == 0 {
				s.i = j
				s.fail("bad escape")
				return ""
			}
			s.room.WriteString(s.s[from:j])
			if r < utf8.RuneSelf {
				s.room.WriteByte(byte(r))
			} else {
				s.room.WriteRune(r)
			}
			j += n
			from = j
		default:
			j++
		}
	}
	s.fail("text without an end")
	return ""
}

// escape answers what the escape at the beginning of e stands for and its
// length, 0 if it is none. Half a surrogate pair stands for U+FFFD.
func escape(e string) (rune, int) {
	if len(e) < 2 {
		return 0, 0
	}
	switch c := e[1]; c {
	case '"', '\\', '/', '\'':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r := hex4(e)
		if r < 0 {
			return 0, 0
		}
		if utf16.IsSurrogate(r) {
			if pair := utf16.DecodeRune(r, hex4(e[6:])); pair != utf8.RuneError {
				return pair, 12
			}
			r = utf8.RuneError
		}
		return r, 6
	}
	return 0, 0
}

// hex4 is the unit of the escape \uXXXX at the beginning of e, -1 if it is none.
func hex4(e string) rune {
	if len(e) < 6 || e[0] != '\\' || e[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range []byte(e[2:6]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// number reads the text of a number, as JSON spells it but with leading zeros.
func (s *scanner) number() string {
	start := s.i
	digits := func() bool {
		from := s.i
		for s.i < len(s.s) && s.s[s.i] >= '0' && s.s[s.i] <= '9' {
			s.i++
		}
		return s.i > from
	}
	at := func(c byte) bool {
		if s.i < len(s.s) && s.s[s.i] == c {
			s.i++
			return true
		}
		return false
	}
	at('-')
	ok := digits()
	if at('.') {
		ok = digits() && ok
	}
	if at('e') || at('E') {
		_ = at('-') || at('+')
		ok = digits() && ok
	}
	if !ok {
		s.fail("no number")
		return ""
	}
	return s.s[start:s.i]
}

// word reads w, which nothing that continues it may follow.
func (s *scanner) word(w string) bool {
	rest := s.s[s.i:]
	if !strings.HasPrefix(rest, w) {
		return false
	}
	if len(rest) > len(w) {
		if c := rest[len(w)]; c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return false
		}
	}
	s.i += len(w)
	return true
}

// scalar reads a text, number or truth value as text; null answers false.
func (s *scanner) scalar() (string, bool) {
	switch c := s.peek(); {
	case c == '"':
		v := s.quoted()
		return v, s.err == nil
	case c == '-' || c >= '0' && c <= '9':
		v := s.number()
		return v, s.err == nil
	case c == 't' && s.word("true"):
		return "true", true
	case c == 'f' && s.word("false"):
		return "false", true
	case c == 'n' && s.word("null"):
		return "", false
	case c == '{' || c == '[':
		s.fail("an object or array where a text is due")
	default:
		s.fail("no value")
	}
	return "", false
}

// text reads a text; numbers and truth values become one, null an empty one.
func (s *scanner) text() string {
	v, _ := s.scalar()
	return v
}

// integer reads a number between least and most, in quotes or not; null is 0.
func (s *scanner) integer(least, most int64) int64 {
	v, ok := s.scalar()
	if !ok {
		return 0
	}
	n, ok := parseInt(v)
	if !ok || n < least || n > most {
		s.fail("no integer in its range")
		return 0
	}
	return n
}

func (s *scanner) int64() int64 { return s.integer(math.MinInt64, math.MaxInt64) }
func (s *scanner) int32() int32 { return int32(s.integer(math.MinInt32, math.MaxInt32)) }

// parseInt reads a decimal integer.
func parseInt(v string) (int64, bool) {
	digits := v
	negative := len(v) > 0 && v[0] == '-'
	if negative {
		digits = v[1:]
	}
	if len(digits) == 0 || len(digits) > 32 {
		return 0, false
	}
	var n uint64
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' || n > math.MaxInt64/10 {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	switch {
	case negative && n <= 1<<63:
		return -int64(n), true
	case !negative && n <= math.MaxInt64:
		return int64(n), true
	}
	return 0, false
}

// skip reads a value of any kind and forgets it.
func (s *scanner) skip() {
	switch s.peek() {
	case '{':
		for ok := s.enter('{'); ok && s.more('}'); {
			s.name()
			s.skip()
		}
	case '[':
		for ok := s.enter('['); ok && s.more(']'); {
			s.skip()
		}
	case '"':
		s.skipQuoted()
	default:
		s.scalar()
	}
}

// skipQuoted is quoted without its memory.
func (s *scanner) skipQuoted() {
	for j := s.i + 1; j < len(s.s); j++ {
		switch s.s[j] {
		case '"':
			s.i = j + 1
			return
		case '\\':
			_, n := escape(s.s[j:])
			if n == 0 {
				s.i = j
				s.fail("bad escape")
				return
			}
			j += n - 1
		}
	}
	s.fail("text without an end")
}

// raw reads a value of any kind and answers its text.
func (s *scanner) raw() string {
	s.peek()
	start := s.i
	s.skip()
	if s.err != nil {
		return ""
	}
	return s.s[start:s.i]
}
