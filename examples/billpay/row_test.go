package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll returns the bills and the reports of the rows that were skipped.
func readAll(t *testing.T, in io.Reader) ([]row, []string) {
	t.Helper()
	r, err := newRowReader(in)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	var skipped []string
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return rows, skipped
		}
		if _, ok := errors.AsType[*rowError](err); ok {
			skipped = append(skipped, err.Error())
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, b)
	}
}

func TestRowReader_ReadsBills(t *testing.T) {
	t.Parallel()
	const text = "\ufeff" + header + "\r\nB1,A1,water,100,1500\r\n\r\n\"B2\",A1,power,1,60000"
	rows, skipped := readAll(t, iotest.OneByteReader(strings.NewReader(text)))
	want := []row{{"B1", "A1", "water", 100, 1500, 2}, {"B2", "A1", "power", 1, 60000, 4}}
	if len(skipped) != 0 || len(rows) != 2 || rows[0] != want[0] || rows[1] != want[1] {
		t.Errorf("got %+v, skipped %q; want %+v", rows, skipped, want)
	}
}

// Each malformed row is reported with its line and skipped; the rest is read.
func TestRowReader_SkipsMalformedRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ line, want string }{
		"few fields":    {"B2,A1,water", "3 fields; a bill has 5"},
		"many fields":   {"B2,A1,water,1,1,1", "6 fields"},
		"negative":      {"B2,A1,water,-5,1000", `amount_cents is "-5"; a whole number from 1`},
		"zero":          {"B2,A1,water,0,1000", `amount_cents is "0"`},
		"fraction":      {"B2,A1,water,1.5,1000", `amount_cents is "1.5"`},
		"overflow":      {"B2,A1,water,99999999999999999999,1000", "amount_cents"},
		"late":          {"B2,A1,water,5,60001", `due_ms is "60001"; a whole number from 1 to 60000`},
		"NUL":           {"B2,A\x001,water,5,1000", "byte 5 is NUL"},
		"not UTF-8":     {"B2,A\xff1,water,5,1000", "not UTF-8"},
		"no id":         {",A1,water,5,1000", "bill_id has 0 characters; 1 to 64"},
		"space":         {"B 2,A1,water,5,1000", `bill_id "B 2" holds ' '`},
		"tag separator": {"B2,A1,water||gas,5,1000", "kind"},
		"open quote":    {`"B2,A1,water,5,1000`, `extraneous or missing " in quoted-field`},
		"long name":     {strings.Repeat("x", 65) + ",A1,water,5,1000", "bill_id has 65 characters"},
		"huge field":    {"B2,A1," + strings.Repeat("x", 10<<20) + ",5,1000", "longer than 4096 bytes"},
		"twice":         {"B1,A1,water,100,1000", "bill B1 stands on line 2 already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := header + "\nB1,A1,water,100,1000\n" + c.line + "\nB3,A1,water,100,1000\n"
			rows, skipped := readAll(t, strings.NewReader(text))
			if len(rows) != 2 || rows[1].BillID != "B3" {
				t.Errorf("got %+v; want the bills before and after", rows)
			}
			if len(skipped) != 1 || !strings.HasPrefix(skipped[0], "line 3: ") || !strings.Contains(skipped[0], c.want) {
				t.Errorf("reported %.200q; want line 3 and %q", skipped, c.want)
			}
		})
	}
}

func TestRowReader_RefusesOtherFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"empty":        {"", "the input is empty"},
		"other header": {"id,amount\n", `line 1 is "id,amount"; the header must be`},
		"no header":    {"B1,A1,water,100,1000\n", "the header must be"},
		"other order":  {"account,bill_id,kind,amount_cents,due_ms\n", "the header must be"},
		"binary":       {strings.Repeat("\x00", 1<<20), "the header must be"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newRowReader(strings.NewReader(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want %q", err, c.want)
			}
		})
	}
}

func TestRowReader_PassesReadErrorsOn(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	r, err := newRowReader(io.MultiReader(strings.NewReader(header+"\n"), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("got %v; want %v", err, broken)
	}
}

func FuzzRowReader(f *testing.F) {
	f.Add(header + "\nB1,A1,water,100,1000\n")
	f.Add(header + "\n\"B1,A1\n\x00,,,,\nB1,A1,water,-100,1000")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := newRowReader(strings.NewReader(text))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for {
			b, err := r.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if bad, ok := errors.AsType[*rowError](err); ok {
				if bad.Line < 2 {
					t.Fatalf("row error %v without a line", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := parseRow(fmt.Sprintf("%s,%s,%s,%d,%d", b.BillID, b.Account, b.Kind, b.AmountCents, b.DueMS))
			again.Line = b.Line
			if err != nil || again != b || seen[b.BillID] {
				t.Fatalf("%+v reads back as %+v, %v; seen before: %v", b, again, err, seen[b.BillID])
			}
			seen[b.BillID] = true
		}
	})
}
