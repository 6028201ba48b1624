package apache

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/drivertest"
)

// line is a row of the table.
type line struct{ layout, what, took, outcome, result string }

// table is what make prints in the end.
var table struct {
	sync.Mutex
	lines []line
}

// keep adds a row, and keeps the table where make finds it.
func keep(t *testing.T, layout, what string, result fmt.Stringer, began time.Time) {
	outcome := "passed"
	if t.Failed() {
		outcome = "FAILED"
	}
	table.Lock()
	defer table.Unlock()
	table.lines = append(table.lines, line{layout, what, time.Since(began).Round(time.Second).String(), outcome, result.String()})
	if err := writeTable(table.lines); err != nil {
		t.Errorf("keep the table: %v", err)
	}
}

func writeTable(lines []line) error {
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b line) int { return strings.Compare(a.layout, b.layout) })
	all := append([]line{{"cluster", "what", "took", "outcome", "result"}}, lines...)
	var width [4]int
	for _, l := range all {
		for i, text := range []string{l.layout, l.what, l.took, l.outcome} {
			width[i] = max(width[i], len(text))
		}
	}
	var b strings.Builder
	for _, l := range all {
		fmt.Fprintf(&b, "%-*s  %-*s  %*s  %-*s  %s\n", width[0], l.layout, width[1], l.what, width[2], l.took, width[3], l.outcome, l.result)
	}
	dir := filepath.Join("..", ".cache")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "apache.txt"), []byte(b.String()), 0o644)
}

// counted is a report of the suite as one line.
type counted struct{ *drivertest.Report }

func (c *counted) String() string {
	if c.Report == nil {
		return "did not end"
	}
	passed, failed := 0, 0
	skipped := map[string]int{}
	for _, o := range c.Outcomes() {
		switch {
		case o.Passed:
			passed++
		case o.Skipped && o.ByHarness:
			skipped["not tried here"]++
		case o.Skipped:
			skipped[o.Reason]++
		default:
			failed++
		}
	}
	s := fmt.Sprintf("%d passed, %d failed", passed, failed)
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		s += fmt.Sprintf(", %d skipped (%s)", skipped[why], why)
	}
	return s
}
