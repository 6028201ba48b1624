package apache

import (
	"flag"
	"os"
	"testing"
)

// TestMain lets more tests of the suite run side by side than there are
// processors: they wait for timers and brokers most of the time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
