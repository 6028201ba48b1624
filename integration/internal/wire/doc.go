// Package wire is as much of RocketMQ's remoting protocol as the tests need to
// ask a server something no client asks for: a request with a JSON header and
// its answer, and a reader for the JSON that Apache's servers write, which has
// bare numbers and whole objects for keys.
//
// It shares nothing with the product's own implementation on purpose: a mistake
// made there is not made here a second time.
package wire
