// Command bench-client measures the driver for RocketMQ's protocol beside
// Apache's clients, and with `sluice serve` beside RocketMQ, JetStream, kfake and
// what loopback allows, in interleaved rounds, and prints how it stands to its
// goals. It exits with 1 if one is short.
package main

import (
	"os"

	"github.com/sluicemq/sluice/integration/bench/internal/program"
	"github.com/sluicemq/sluice/integration/bench/internal/tcp"
)

func main() { os.Exit(bench().Main(os.Args[1:])) }

// bench is the program.
func bench() program.Program { return tcp.Program("bench-client", tcp.ClientSuite) }
