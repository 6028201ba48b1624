// Package tcp is the rows of bench-tcp: `sluice serve` and the servers of Apache
// RocketMQ, each as child processes, driven over loopback by the same clients in
// the same rounds. A server that is not being measured stands still.
package tcp

import (
	"fmt"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/row"
)

// class is what an answer to a send promises.
type class string

const (
	// async: the kernel has the message; it is synced within half a second.
	async class = "async"
	// durable: the message is on the disk.
	durable class = "sync"
)

// callers are the numbers of callers of rows R1 and R2.
var callers = [...]int{1, 8, 64}

const (
	// many callers.
	many = 64
	// pipes are the connections of the pipelining client.
	pipes = 8
	// publishers of the end-to-end row; together they keep window messages
	// under way.
	publishers = 8
	window     = 4096
)

// Suite is the table of bench-tcp. Its steps work when a bed was made for them.
func Suite(d *Bed) row.Suite { return row.Suite{Rows: Table(), Steps: d.steps()} }

// topic is the one that everything of a class goes to.
func (c class) topic() string { return "bench-" + string(c) }

// transactions is the topic of transactions.
func (c class) transactions() string { return "bench-tx-" + string(c) }

// once is a topic for one case of one round.
func (c class) once(name string, round int) string {
	return fmt.Sprintf("bench-%s-%s-%d", name, c, round)
}

// calm is how long servers may take to come to themselves after they stood
// still: what is due in them is done at once.
const calm = 300 * time.Millisecond
