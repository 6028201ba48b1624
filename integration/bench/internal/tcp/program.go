package tcp

import (
	"errors"
	"flag"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/program"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// Program is a benchmark of servers and their clients; suite is [Suite] or
// [ClientSuite].
func Program(name string, suite func(*Bed) row.Suite) program.Program {
	bed := &Bed{Program: name}
	s := suite(bed)
	return program.Program{
		Name: name, Rows: s.Rows, Span: 700 * time.Millisecond,
		Flags: func(flags *flag.FlagSet) {
			flags.DurationVar(&bed.Warm, "warm", 75*time.Second, "load on each of Apache's brokers before the first round")
			flags.StringVar(&bed.Sluice, "sluice", "", "a command to measure that was built before (default: built from this checkout)")
		},
		Prepare: func(b *row.Bench, rows []row.Row) ([]row.Step, func() error, error) {
			if err := bed.Open(b, rows); err != nil {
				return nil, nil, errors.Join(err, bed.Close())
			}
			return s.Steps, bed.Close, nil
		},
	}
}
