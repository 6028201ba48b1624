package commitlog_test

import (
	"os"
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes collections rare: the crash harness copies small file systems
// by the ten thousand, and keeps none.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}
