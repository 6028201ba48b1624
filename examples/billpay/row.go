package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// header is the first line of every input; the order of the columns is fixed so
// that a file of another kind is refused instead of being half understood.
const header = "bill_id,account,kind,amount_cents,due_ms"

const (
	// maxLine bounds the memory that one hostile line can take.
	maxLine = 4 << 10
	// maxName is the length of a bill id, an account and a kind.
	maxName = 64
	// maxAmount, ten billion in the major unit, keeps the sum of any number of
	// bills that fits on a disk far from the end of int64.
	maxAmount = 1_000_000_000_000
	// maxDue, in milliseconds: a run waits for its last reminder.
	maxDue = 60_000
)

// row is one bill as it stands in the input.
type row struct {
	BillID      string
	Account     string
	Kind        string
	AmountCents int64
	DueMS       int64
	Line        int // in the input
}

// rowError reports one row that was skipped.
type rowError struct {
	Line int
	Err  error
}

// Error returns "line N: cause".
func (e *rowError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap returns the cause.
func (e *rowError) Unwrap() error { return e.Err }

// rowReader reads bills, one line each. It never holds more than one line, and
// no line longer than maxLine. It is used by one goroutine.
type rowReader struct {
	in   *bufio.Reader
	line int
	seen map[string]int // bill id to line, to name the first of two
}

// newRowReader reads the header; an error means that the input is no list of bills.
func newRowReader(in io.Reader) (*rowReader, error) {
	r := &rowReader{in: bufio.NewReaderSize(in, maxLine), seen: map[string]int{}}
	text, err := r.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("the input is empty; its first line must be %q", header)
	case err != nil:
		if _, bad := errors.AsType[*rowError](err); !bad {
			return nil, err
		}
		text = "something else"
	}
	text = strings.TrimPrefix(text, "\ufeff") // spreadsheets write one
	if text != header {
		return nil, fmt.Errorf("line 1 is %.80q; the header must be %q", text, header)
	}
	return r, nil
}

// Next returns the next bill, a [*rowError] for a row that is to be reported and
// skipped, or io.EOF. Any other error ends the input.
func (r *rowReader) Next() (row, error) {
	for {
		text, err := r.next()
		if err != nil {
			return row{}, err
		}
		if text == "" {
			continue
		}
		b, err := parseRow(text)
		if err == nil {
			if first, twice := r.seen[b.BillID]; twice {
				err = fmt.Errorf("bill %s stands on line %d already", b.BillID, first)
			}
		}
		if err != nil {
			return row{}, &rowError{Line: r.line, Err: err}
		}
		r.seen[b.BillID], b.Line = r.line, r.line
		return b, nil
	}
}

// next returns one line without its end.
func (r *rowReader) next() (string, error) {
	b, err := r.in.ReadSlice('\n')
	if len(b) > 0 {
		r.line++
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read line %d: %w", r.line, err)
		}
		return "", &rowError{Line: r.line, Err: fmt.Errorf("the line is longer than %d bytes", maxLine)}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read line %d: %w", r.line+1, err)
	}
	if len(b) == 0 {
		return "", io.EOF
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

func parseRow(text string) (row, error) {
	if i := strings.IndexByte(text, 0); i >= 0 {
		return row{}, fmt.Errorf("byte %d is NUL; the file is not text", i+1)
	}
	if !utf8.ValidString(text) {
		return row{}, errors.New("the line is not UTF-8")
	}
	c := csv.NewReader(strings.NewReader(text))
	c.FieldsPerRecord = -1
	f, err := c.Read()
	if err != nil {
		if pe, ok := errors.AsType[*csv.ParseError](err); ok {
			err = pe.Err // its own line number is always 1 here
		}
		return row{}, err
	}
	if len(f) != 5 {
		return row{}, fmt.Errorf("%d fields; a bill has 5: %s", len(f), header)
	}
	b := row{BillID: f[0], Account: f[1], Kind: f[2]}
	amount, amountErr := parseNumber("amount_cents", f[3], maxAmount)
	due, dueErr := parseNumber("due_ms", f[4], maxDue)
	b.AmountCents, b.DueMS = amount, due
	return b, errors.Join(
		checkName("bill_id", b.BillID), checkName("account", b.Account), checkName("kind", b.Kind), amountErr, dueErr)
}

// checkName keeps to what may stand in a message key and in a tag of any broker.
func checkName(column, s string) error {
	if s == "" || len(s) > maxName {
		return fmt.Errorf("%s has %d characters; 1 to %d are allowed", column, len(s), maxName)
	}
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			continue
		}
		return fmt.Errorf("%s %q holds %q; a-z A-Z 0-9 - _ . are allowed", column, s, c)
	}
	return nil
}

func parseNumber(column, s string, limit int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > limit {
		return 0, fmt.Errorf("%s is %.40q; a whole number from 1 to %d is allowed", column, s, limit)
	}
	return n, nil
}
