package sql92

import (
	"cmp"
	"math"
	"strings"
)

// valueKind is the type of a value; the numbers are apart, because a text is
// read as a number of the kind it is compared with.
type valueKind uint8

const (
	valNull valueKind = iota
	valBool
	valInteger
	valLong
	valDouble
	valText
	// valFailed is no value: the evaluation ends and selects nothing.
	valFailed
)

// value is what a node evaluates to.
type value struct {
	kind valueKind
	num  int64 // 0 or 1, a whole number, or the bits of a double
	text string
}

func textValue(s string) value    { return value{kind: valText, text: s} }
func integerValue(i int64) value  { return value{kind: valInteger, num: i} }
func longValue(i int64) value     { return value{kind: valLong, num: i} }
func doubleValue(f float64) value { return value{kind: valDouble, num: int64(math.Float64bits(f))} }

func boolValue(b bool) value {
	if b {
		return value{kind: valBool, num: 1}
	}
	return value{kind: valBool}
}

func (v value) numeric() bool { return v.kind >= valInteger && v.kind <= valDouble }
func (v value) isTrue() bool  { return v.kind == valBool && v.num != 0 }
func (v value) double() float64 {
	if v.kind == valDouble {
		return math.Float64frombits(uint64(v.num))
	}
	return float64(v.num)
}

// negate changes the sign of a number; what is none becomes NULL.
func (v value) negate() value {
	switch v.kind {
	case valInteger, valLong:
		v.num = -v.num
		return v
	case valDouble:
		return doubleValue(-v.double())
	case valFailed:
		return v
	default:
		return value{}
	}
}

// compare orders two values, neither of them NULL nor failed. Values of
// different kinds that have no common one are ordered as if l were less, which
// makes them unequal. It fails for a text that does not convert, and for a
// truth value beside a text. Work is charged to w, if there is one.
func compare(l, r value, w *run) (order int, ok bool) {
	switch {
	case l.kind == valText && r.kind == valText:
		w.charge(min(len(l.text), len(r.text)))
		return strings.Compare(l.text, r.text), true
	case l.kind == valText && r.kind == valBool:
		l = boolValue(strings.EqualFold(l.text, "true"))
	case l.kind == valText:
		l, ok = l.as(r.kind, w)
		if !ok {
			return 0, false
		}
	case r.kind == valText && l.kind == valBool:
		return 0, false
	case r.kind == valText:
		r, ok = r.as(l.kind, w)
		if !ok {
			return 0, false
		}
	}
	switch {
	case l.kind == valBool && r.kind == valBool:
		return cmp.Compare(l.num, r.num), true
	case l.kind == valBool || r.kind == valBool:
		return -1, true
	case l.kind == valDouble || r.kind == valDouble:
		return compareDoubles(l.double(), r.double()), true
	default:
		return cmp.Compare(l.num, r.num), true
	}
}

// compareDoubles is the total order of Java: -0 is less than 0, and NaN is
// equal to itself and greater than everything else.
func compareDoubles(l, r float64) int {
	switch {
	case l < r:
		return -1
	case l > r:
		return 1
	}
	return cmp.Compare(rank(l), rank(r))
}

// rank tells apart what < and > do not.
func rank(f float64) int {
	switch {
	case math.IsNaN(f):
		return 1
	case f == 0 && math.Signbit(f):
		return -1
	default:
		return 0
	}
}

// as reads a text as a number of kind k.
func (v value) as(k valueKind, w *run) (value, bool) {
	w.charge(len(v.text))
	switch k {
	case valInteger:
		i, ok := readInteger(v.text, math.MaxInt32)
		return integerValue(i), ok
	case valLong:
		i, ok := readInteger(v.text, math.MaxInt64)
		return longValue(i), ok
	default:
		f, ok := readDouble(v.text)
		return doubleValue(f), ok
	}
}
