// Package cluster is what operators ask of a message cluster, over the
// remoting protocol: of sluice serve, or of an Apache RocketMQ cluster with its
// name servers.
//
// A [Cluster] connects when it is asked something, and keeps one connection to
// each address until Close. Each request has a time limit of its own, and is
// sent once: nothing here is tried again by itself. A question to several
// brokers answers what came, with the joined errors of those that did not
// answer.
//
// Errors are [*NotFoundError], [*NoQueueError], [*RefusedError] and
// [*UnreachableError], or the cause of the caller's context.
//
// A Cluster is safe for concurrent use. No goroutine outlives Close.
package cluster
