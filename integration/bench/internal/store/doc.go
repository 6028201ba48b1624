// Package store is the rows of bench-store: the bundled broker in this process
// beside its peers and beside what the machine allows.
package store

import "github.com/sluicemq/sluice/integration/bench/internal/row"

// Suite is the table of bench-store with its steps.
func Suite() row.Suite { return row.Suite{Rows: Table(), Steps: Steps()} }
