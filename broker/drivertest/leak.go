package drivertest

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

// leakLabel marks the goroutines of one test: a goroutine inherits the pprof
// labels of the one that started it, so tests may run side by side and a
// driver's goroutines are still told apart.
const leakLabel = "drivertest"

// checkLeaks fails tb if goroutines that the test started are still there.
func checkLeaks(tb testing.TB, label string) {
	tb.Helper()
	var left []string
	for range 100 {
		if left = labelled(label); len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Errorf("goroutines are left after every Conn and the broker were closed:\n%s", strings.Join(left, "\n"))
}

// labelled returns the stacks of the goroutines with the label, without the
// calling one.
func labelled(label string) []string {
	var buf bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&buf, 1); err != nil {
		return []string{err.Error()}
	}
	mark := fmt.Sprintf("%q:%q", leakLabel, label)
	var left []string
	for entry := range strings.SplitSeq(buf.String(), "\n\n") {
		if strings.Contains(entry, mark) && !strings.Contains(entry, "drivertest.labelled") {
			left = append(left, entry)
		}
	}
	return left
}
