package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bound is a goal for a value. The zero Bound is none.
type Bound struct {
	value float64
	sign  string
}

// AtLeast asks for v or more.
func AtLeast(v float64) Bound { return Bound{v, "≥"} }

// AtMost asks for v or less.
func AtMost(v float64) Bound { return Bound{v, "≤"} }

// Set reports whether there is a goal.
func (b Bound) Set() bool { return b.sign != "" }

// Holds reports whether v reaches the goal; no goal is always reached, and a
// value that is no number reaches none.
func (b Bound) Holds(v float64) bool {
	switch b.sign {
	case "≥":
		return v >= b.value
	case "≤":
		return v <= b.value
	default:
		return true
	}
}

// String returns "≥4", "≤0.5" or "-".
func (b Bound) String() string {
	if !b.Set() {
		return "-"
	}
	return b.sign + strconv.FormatFloat(math.Round(b.value*1e4)/1e4, 'f', -1, 64)
}

// Verdict is how a ratio stands to its goals.
type Verdict string

const (
	// Target: the target is met; the must as well.
	Target Verdict = "target"
	// Must: the must is met, and the target is missed or there is none.
	Must Verdict = "must"
	// Short: the must is missed, or there is no value.
	Short Verdict = "short"
	// Skipped: a peer is missing, and that was allowed.
	Skipped Verdict = "skipped"
)

// Ratio is one judged comparison.
type Ratio struct {
	Row  string
	Case string
	// Ours is our median and Ref that of what it is compared with; without a
	// reference the value is ours alone.
	Ours, Ref    float64
	HasRef       bool
	Must, Target Bound
	// Problem says why there is no value.
	Problem string
	// Excused: the problem is a missing peer, and that was allowed.
	Excused bool
}

// Value is ours over the reference.
func (r Ratio) Value() float64 {
	switch {
	case r.Problem != "":
		return math.NaN()
	case !r.HasRef:
		return r.Ours
	default:
		return r.Ours / r.Ref
	}
}

// Judged reports whether the ratio has a verdict. A note has none: it has no
// goal, and asks only that it could be measured.
func (r Ratio) Judged() bool { return r.Must.Set() || r.Target.Set() || r.Problem != "" }

// Met is the verdict. A missed target without a must is no shortfall.
func (r Ratio) Met() Verdict {
	v := r.Value()
	switch {
	case r.Excused:
		return Skipped
	case math.IsNaN(v) || !r.Must.Holds(v):
		return Short
	case r.Target.Set() && r.Target.Holds(v):
		return Target
	default:
		return Must
	}
}

// Line is the ratio on one line: "ratio row=4 case=… ours=… ref=… value=…
// must=… target=… met=…", and for a note the same with "note" and no verdict.
func (r Ratio) Line() string {
	var b strings.Builder
	word := "ratio"
	if !r.Judged() {
		word = "note"
	}
	fmt.Fprintf(&b, "%s row=%s case=%s ours=%s ref=%s value=%s", word, r.Row, r.Case, r.number(r.Ours), r.ref(), r.number(r.Value()))
	if r.Judged() {
		fmt.Fprintf(&b, " must=%v target=%v met=%s", r.Must, r.Target, r.Met())
	}
	if r.Problem != "" {
		fmt.Fprintf(&b, " why=%q", r.Problem)
	}
	return b.String()
}

func (r Ratio) ref() string {
	if !r.HasRef {
		return "-"
	}
	return r.number(r.Ref)
}

func (r Ratio) number(v float64) string {
	if r.Problem != "" {
		return "-"
	}
	return Number(v)
}

// Number formats v with three significant digits and without an exponent.
func Number(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	digits := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	return strconv.FormatFloat(v, 'f', max(digits, 0), 64)
}
