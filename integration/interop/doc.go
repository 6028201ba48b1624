// Package interop runs clients that nobody here wrote against Apache RocketMQ
// and against this project's server, side by side.
//
// Every scenario is written once. It runs with each client that can do it, on
// each target, and counts only if it passes on both. What the client saw is
// noted as a record: events with fields, such as the properties of a delivery,
// the offset of a send or the wait before a redelivery, with identifiers and
// times replaced by what is demanded of them. The record of one side is compared
// with that of the other field by field; a difference that is meant is a row of
// Differences, with its reason, and a row that no longer differs is a failure
// too. Apache's record is kept in testdata, so that the comparison also works
// where there is no JVM.
package interop
