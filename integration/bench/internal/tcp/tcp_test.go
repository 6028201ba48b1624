package tcp

import (
	"errors"
	"testing"

	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// TestSuite checks that goals name steps, and that steps serve goals.
func TestSuite(t *testing.T) {
	t.Parallel()
	for _, suite := range []row.Suite{Suite(&Bed{}), ClientSuite(&Bed{})} {
		for _, wrong := range suite.Check() {
			t.Error(wrong)
		}
	}
}

func TestUses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rows []string
		word string
		c    class
		want bool
	}{
		{[]string{"R1"}, ours, async, true},
		{[]string{"R1"}, peer, async, true},
		{[]string{"R1"}, ours, durable, false},
		{[]string{"R1"}, javaSend, async, false},
		{[]string{"R2"}, javaSend, async, true},
		{[]string{"R4"}, peer, durable, true},
		{[]string{"R4"}, peer, async, false},
		{[]string{"R7"}, ours, async, true},
		{[]string{"R9", "R10"}, ours, durable, false}, // a start begins its own
		{[]string{"R1", "R4"}, ours, durable, true},
	} {
		rows, err := row.Select(Table(), c.rows)
		if err != nil {
			t.Fatal(err)
		}
		if got := uses(row.Needed(rows), c.word, c.c); got != c.want {
			t.Errorf("rows %v use %s of %s: %v", c.rows, c.word, c.c, got)
		}
	}
}

func TestReadyAt(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		"sluice serve: ready at 127.0.0.1:4711\n":            "127.0.0.1:4711",
		"a log line\nsluice serve: ready at [::1]:1\nmore\n": "[::1]:1",
		"":                                    "",
		"sluice serve: ready at 127.0.0.1:47": "", // not all of the line
		"sluice serve: no disk\n":             "",
	} {
		got, err := readyAt(output, readyLine)
		if got != want || errors.Is(err, errNotReady) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", output, got, err, want)
		}
	}
}
