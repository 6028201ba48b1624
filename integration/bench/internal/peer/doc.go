// Package peer has below it what the broker is compared with, each configured
// as its own documentation recommends: NATS JetStream in this process, pebble,
// and Redis as a child process.
package peer

import "errors"

// ErrMissing says that a peer cannot run on this machine.
var ErrMissing = errors.New("peer is missing")
