package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// The units of [ParseSize].
const (
	KiB Size = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// String returns the size in the largest unit that divides it: "64MiB", "1000B".
func (s Size) String() string {
	for _, u := range []struct {
		name string
		size Size
	}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}} {
		if s != 0 && s%u.size == 0 {
			return strconv.FormatInt(int64(s/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// UnmarshalText implements [encoding.TextUnmarshaler] by [ParseSize].
func (s *Size) UnmarshalText(text []byte) error {
	v, err := ParseSize(string(text))
	*s = v
	return err
}

var sizeUnits = []struct {
	name string
	size Size
}{
	{"tib", TiB},
	{"gib", GiB},
	{"mib", MiB},
	{"kib", KiB},
	{"tb", 1e12},
	{"gb", 1e9},
	{"mb", 1e6},
	{"kb", 1e3},
	{"b", 1},
}

// ParseSize reads a number of bytes: 1048576, 64MiB, 1 GiB, 500kB. KiB, MiB, GiB
// and TiB are powers of 1024, kB, MB, GB and TB of 1000. It may not be negative.
func ParseSize(text string) (Size, error) {
	t := strings.ToLower(strings.TrimSpace(text))
	unit := Size(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(t, u.name); ok {
			t, unit = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseUint(t, 10, 63)
	if err != nil || n > math.MaxInt64/uint64(unit) {
		return 0, fmt.Errorf("%q is not a size; it takes a number of bytes such as 4096, 512KiB, 64MiB or 1GiB", text)
	}
	return Size(n) * unit, nil
}

// ParseDuration reads what [time.ParseDuration] reads, and days in front: 300ms,
// 10s, 2h30m, 7d, 1d12h.
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration; it takes a form such as 300ms, 10s, 2h30m or 7d", text)
	t := strings.TrimSpace(text)
	days, rest, ok := strings.Cut(t, "d")
	if !ok {
		d, err := time.ParseDuration(t)
		if err != nil {
			return 0, bad
		}
		return d, nil
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, bad
	}
	sum := time.Duration(n) * 24 * time.Hour
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || sum > math.MaxInt64-d {
			return 0, bad
		}
		sum += d
	}
	return sum, nil
}

// ParseBool reads true, yes, on and false, no, off, in any case.
func ParseBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "yes", "on":
		return true, nil
	case "false", "no", "off":
		return false, nil
	default:
		return false, fmt.Errorf("%q is neither true nor false; it takes true, yes, on, false, no or off", text)
	}
}

// ParseInt reads a whole decimal number.
func ParseInt(text string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number such as 16", text)
	}
	return n, nil
}

// ParseWord reads one of the words.
func ParseWord(text string, words ...string) (string, error) {
	t := strings.TrimSpace(text)
	if slices.Contains(words, t) {
		return t, nil
	}
	return "", fmt.Errorf("%q is unknown%s; it takes %s", text, didYouMean(t, words), orList(words))
}

// Range is two durations, From ≤ To.
type Range struct{ From, To time.Duration }

// String returns "10s..2h0m0s".
func (r Range) String() string { return r.From.String() + ".." + r.To.String() }

// UnmarshalText implements [encoding.TextUnmarshaler] by [ParseRange].
func (r *Range) UnmarshalText(text []byte) error {
	v, err := ParseRange(string(text))
	*r = v
	return err
}

// ParseRange reads two durations "10s..2h", or one, which is both ends. Neither
// may be negative.
func ParseRange(text string) (Range, error) {
	from, to, two := strings.Cut(text, "..")
	a, err := ParseDuration(from)
	b := a
	if two {
		var errTo error
		b, errTo = ParseDuration(to)
		err = errors.Join(err, errTo)
	}
	if err != nil || a < 0 || b < a {
		return Range{}, fmt.Errorf("%q is not a range of durations; it takes a form such as 10s..2h, the shorter first", text)
	}
	return Range{From: a, To: b}, nil
}

func didYouMean(word string, among []string) string {
	if n, ok := Nearest(word, among); ok {
		return fmt.Sprintf(" (did you mean %q?)", n)
	}
	return ""
}

func orList(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
