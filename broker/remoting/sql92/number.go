package sql92

import (
	"strconv"
	"strings"
)

// readInteger reads an optional sign and digits, as Java's parseInt and
// parseLong do; most is the largest value, the smallest is one further from 0.
func readInteger(s string, most uint64) (int64, bool) {
	negative := false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		negative = s[0] == '-'
		s = s[1:]
	}
	if s == "" {
		return 0, false
	}
	if negative {
		most++
	}
	var n uint64
	for i := range len(s) {
		d := uint64(s[i] - '0')
		if !isDigit(s[i]) || n > (most-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	if negative {
		return -int64(n), true // -2^63 is its own negation
	}
	return int64(n), true
}

// readDouble reads what Java's Double.parseDouble reads: blanks around, NaN and
// Infinity, decimal and hexadecimal numbers with an optional f or d behind.
// Beyond the range is an infinity.
func readDouble(s string) (float64, bool) {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	body := s
	if body != "" && (body[0] == '-' || body[0] == '+') {
		body = body[1:]
	}
	if body != "NaN" && body != "Infinity" {
		n := doubleLen(body)
		if n == 0 {
			return 0, false
		}
		s = s[:len(s)-len(body)+n]
		if rest := body[n:]; rest != "" && rest != "f" && rest != "F" && rest != "d" && rest != "D" {
			return 0, false
		}
	} else if body == "NaN" {
		s = body // the sign of NaN means nothing
	}
	f, _ := strconv.ParseFloat(s, 64) // of the form only the range can be wrong
	return f, true
}

// doubleLen is the length of the number at the start of s, 0 for none.
func doubleLen(s string) int {
	if len(s) > 1 && s[0] == '0' && s[1]|0x20 == 'x' {
		return hexLen(s)
	}
	n := digits(s)
	some := n > 0
	if n < len(s) && s[n] == '.' {
		d := digits(s[n+1:])
		some = some || d > 0
		n += 1 + d
	}
	if !some {
		return 0
	}
	return n + exponentLen(s[n:])
}

// hexLen is doubleLen of a hexadecimal number, which needs its exponent.
func hexLen(s string) int {
	n, some := 2, false
	for point := false; n < len(s); n++ {
		c := s[n] | 0x20
		switch {
		case isDigit(s[n]) || 'a' <= c && c <= 'f':
			some = true
			continue
		case s[n] == '.' && !point:
			point = true
			continue
		}
		break
	}
	if !some || n == len(s) || s[n]|0x20 != 'p' {
		return 0
	}
	n++
	if n < len(s) && (s[n] == '+' || s[n] == '-') {
		n++
	}
	d := digits(s[n:])
	if d == 0 {
		return 0
	}
	return n + d
}
