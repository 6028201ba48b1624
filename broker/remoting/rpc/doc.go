// Package rpc is the client end of one connection of the remoting protocol.
// The command line, tests and the driver for real clusters use it.
//
// Any number of calls may be in flight; answers may come in any order. A
// request of the server is handed to the handler of the connection, one at a
// time. A connection that is lost stays lost: who wants to go on dials again,
// and learns from each [*Error] whether its request may have been done.
//
// A connection has up to three goroutines, which end with Close at the latest.
// All methods are safe for concurrent use.
package rpc
