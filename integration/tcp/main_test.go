package tcp

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain requires that no test leaves a goroutine behind, and removes the
// program that they have built.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := program.remove(); err != nil {
		fmt.Fprintf(os.Stderr, "remove the program: %v\n", err)
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintf(os.Stderr, "the tests have left goroutines behind: %v\n", err)
		code = 1
	}
	os.Exit(code)
}
