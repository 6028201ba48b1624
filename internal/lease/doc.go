// Package lease keeps leases alive while somebody works under them, and says so
// in time when one cannot be kept.
//
// A lease is a right that a backend grants for a limited time: a delivery that
// is invisible to others, an idempotency key. One [Renewer] looks after any
// number of them with a single scheduling goroutine; renewals run in a bounded
// number of goroutines of their own, so that a backend that hangs delays
// neither the clock nor, below that bound, the leases of another backend.
//
// # What is promised
//
// Every lease has a local deadline on the monotonic clock. A renewal that
// succeeds moves it; nothing else does. Past it the owner is told, once, that
// the lease is lost, whether the backend answers, refuses or hangs. Because the
// deadline counts from the moment before a request is sent, less a margin for
// clock drift ([Deadline]), the owner hears of it before the backend can give
// the right to somebody else.
//
// That holds while this process runs. A process that is stopped (SIGSTOP, a
// paused virtual machine) hears of it when it runs again; what it does in the
// first instant after that is covered by no lease.
package lease
