// Command bench-store measures the bundled broker beside its peers and the
// limits of the machine, in interleaved rounds, and prints how it stands to its
// goals. It exits with 1 if one is short.
package main

import (
	"os"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
	"github.com/sluicemq/sluice/integration/bench/internal/program"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
	"github.com/sluicemq/sluice/integration/bench/internal/store"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == child.Argument {
		os.Exit(child.Main(os.Args[2:]))
	}
	os.Exit(bench().Main(os.Args[1:]))
}

// bench is the program. Its steps start what they need by themselves.
func bench() program.Program {
	suite := store.Suite()
	return program.Program{
		Name: "bench-store", Rows: suite.Rows, Span: 600 * time.Millisecond,
		Prepare: func(*row.Bench, []row.Row) ([]row.Step, func() error, error) {
			return suite.Steps, func() error { return nil }, nil
		},
	}
}
