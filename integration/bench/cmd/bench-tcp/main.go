// Command bench-tcp measures `sluice serve` beside Apache RocketMQ, JetStream
// and what loopback allows, in interleaved rounds and with the same clients, and
// prints how it stands to its goals. It exits with 1 if one is short.
package main

import (
	"errors"
	"flag"
	"os"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/program"
	"github.com/sluicemq/sluice/integration/bench/internal/row"
	"github.com/sluicemq/sluice/integration/bench/internal/tcp"
)

func main() { os.Exit(bench().Main(os.Args[1:])) }

// bench is the program.
func bench() program.Program {
	bed := &tcp.Bed{}
	return program.Program{
		Name: "bench-tcp", Rows: tcp.Table(), Span: 700 * time.Millisecond,
		Flags: func(flags *flag.FlagSet) {
			flags.DurationVar(&bed.Warm, "warm", 75*time.Second, "load on each of Apache's brokers before the first round")
			flags.StringVar(&bed.Sluice, "sluice", "", "a command to measure that was built before (default: built from this checkout)")
		},
		Prepare: func(b *row.Bench, rows []row.Row) ([]row.Step, func() error, error) {
			if err := bed.Open(b, rows); err != nil {
				return nil, nil, errors.Join(err, bed.Close())
			}
			return tcp.Suite(bed).Steps, bed.Close, nil
		},
	}
}
