// Package storetest is the conformance suite for implementations of
// idempotency.Store. Every sentence of that contract is a test here; a store
// that passes [Run] may stand behind the idempotency decorator.
//
// A store whose clock is package time runs the suite in fake time
// ([Harness.Bubble]), which takes milliseconds; a store with a clock of its own,
// such as a Redis server, runs it in real time.
package storetest
