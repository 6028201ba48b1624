package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

// table prints what a command has found: rows in columns that are aligned, or
// an object of JSON for each row.
type table struct {
	w       *bufio.Writer
	encoder *json.Encoder // nil for columns
	head    []string
	rows    [][]any
}

// table makes a table whose columns have these names.
func (r *remote) table(head ...string) *table {
	t := &table{w: bufio.NewWriterSize(r.stdout, 32<<10), head: head}
	if r.json {
		t.encoder = json.NewEncoder(t.w)
		t.encoder.SetEscapeHTML(false)
	}
	return t
}

// row adds a row: object is what it says in JSON, cells are its columns.
// Numbers are aligned at their ends.
func (t *table) row(object any, cells ...any) error {
	if t.encoder == nil {
		t.rows = append(t.rows, cells)
		return nil
	}
	if err := t.encoder.Encode(object); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// end prints what is left, and answers err with what printing adds to it. If
// there were no rows, and no err either, none is said.
func (t *table) end(err error, none string) error {
	if t.encoder == nil {
		switch {
		case len(t.rows) > 0:
			t.print()
		case none != "" && err == nil:
			fmt.Fprintln(t.w, none)
		}
	}
	return errors.Join(err, t.flush())
}

func (t *table) flush() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// print aligns the columns.
func (t *table) print() {
	width := make([]int, len(t.head))
	number, other := make([]bool, len(t.head)), make([]bool, len(t.head)) // which columns have such cells
	texts := make([][]string, len(t.rows))
	for i, name := range t.head {
		width[i] = len(name)
	}
	for r, row := range t.rows {
		texts[r] = make([]string, len(row))
		for i, cell := range row {
			s, isNumber := shown(cell)
			texts[r][i] = s
			width[i] = max(width[i], utf8.RuneCountInString(s))
			number[i] = number[i] || isNumber
			other[i] = other[i] || !isNumber && s != "-"
		}
	}
	line := func(cells []string) {
		var b strings.Builder
		for i, s := range cells {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(s))
			if i > 0 {
				b.WriteString("  ")
			}
			if number[i] && !other[i] {
				b.WriteString(pad + s)
			} else {
				b.WriteString(s + pad)
			}
		}
		fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
	}
	line(t.head)
	for _, row := range texts {
		line(row)
	}
}

// shown is a cell, and whether it is a number.
func shown(cell any) (text string, number bool) {
	switch v := cell.(type) {
	case int:
		return grouped(int64(v)), true
	case int64:
		return grouped(v), true
	case size:
		return v.String(), true
	case rate:
		return v.String(), true
	case time.Time:
		if v.IsZero() {
			return "-", false
		}
		return moment(v), false
	case cluster.Time:
		return shown(v.Time)
	case string:
		if v == "" {
			return "-", false
		}
		return plain(v), false
	default:
		return plain(fmt.Sprint(v)), false
	}
}

// grouped is a number with a comma for each thousand.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	least := 0
	if n < 0 {
		least = 1
	}
	for i := len(s) - 3; i > least; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size is a number of bytes.
type size int64

// String is such as "512 B" or "1.5 KiB".
func (n size) String() string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(int64(n), 10) + " B"
	}
	scaled, at := float64(n)/unit, 0
	for scaled >= unit && at < 3 {
		scaled /= unit
		at++
	}
	return strconv.FormatFloat(scaled, 'f', 1, 64) + " " + []string{"KiB", "MiB", "GiB", "TiB"}[at]
}

// rate is a number a second.
type rate float64

// String has one decimal.
func (r rate) String() string { return strconv.FormatFloat(float64(r), 'f', 1, 64) + "/s" }

// plain shows what others have written as it is, unless it has anything that a
// terminal could take for a command, or that would break the line.
func plain(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.QuoteToGraphic(s)
}

// ago is how long before now a time was, "" without one.
func ago(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d/time.Minute)) + "m" + strconv.Itoa(int(d%time.Minute/time.Second)) + "s"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h" + strconv.Itoa(int(d%time.Hour/time.Minute)) + "m"
	}
	return strconv.Itoa(int(d/(24*time.Hour))) + "d"
}

// details prints names and values in two columns.
func (t *table) details(pairs ...any) {
	if t.encoder != nil {
		return
	}
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, len(pairs[i].(string)))
	}
	for i := 0; i < len(pairs); i += 2 {
		s, _ := shown(pairs[i+1])
		fmt.Fprintf(t.w, "%-*s  %s\n", width, pairs[i], s)
	}
	fmt.Fprintln(t.w)
}
