// Command bench-tcp measures `sluice serve` beside Apache RocketMQ, JetStream
// and what loopback allows, in interleaved rounds and with the same clients, and
// prints how it stands to its goals. It exits with 1 if one is short.
package main

import (
	"os"

	"github.com/sluicemq/sluice/integration/bench/internal/program"
	"github.com/sluicemq/sluice/integration/bench/internal/tcp"
)

func main() { os.Exit(bench().Main(os.Args[1:])) }

// bench is the program.
func bench() program.Program { return tcp.Program("bench-tcp", tcp.Suite) }
