// Package driver is the seam between the Sluice framework and a message broker.
// Services import package sdk; only authors of brokers import driver.
//
// The seam is cut at the lane: what one consumer owns exclusively for a while,
// a queue of RocketMQ or of the bundled broker, or a whole JetStream consumer.
// A driver owns connections, membership, the assignment of lanes, offsets or
// acknowledgements, native delay and the storage of half messages. The
// framework owns everything that a user can see: concurrency, flow control,
// pause, retry policy, attempts, the decision to dead-letter, the order of
// handlers, codecs, interceptors, idempotency, tracing.
//
// # Contract
//
// Every method of [Conn], [Subscription], [Lane] and of the extensions is safe
// for concurrent use unless its comment says otherwise. No driver retries: it
// answers with an [*Error] that says whether a retry can help ([Error.Retryable])
// and whether the broker may have done the work already ([Error.MaybeDone]).
// The framework retries, once, in one place.
//
// Every sentence of the contract is a test in package drivertest, and every
// driver passes the same suite. What a broker cannot do is said as data in
// [Capabilities] and [Extensions] and is refused at start-up, never at the
// first message.
//
// The package depends on the standard library only. Until version 1.0 it grows
// by fields, not by methods, and may change between minor versions.
package driver
