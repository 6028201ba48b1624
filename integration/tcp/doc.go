// Package tcp holds the proofs about "sluice serve" as a process of its own,
// built from this checkout and reached by TCP only.
//
// TestKill kills the server again and again under the load of producers and
// consumers that connect anew by themselves, and checks everything that was ever
// answered against everything that is there at the end. TestHostile lets peers
// send garbage, bombs and nothing at all while others are served.
//
// How much is run:
//
//	variable   here   CI=true   TORTURE=1   test
//	TCPKILLS   12     120       1000        TestKill, each mode
//	FRAMES     2000   10000     100000      TestHostile, malformed requests
//	NAMES      300    1200      10000       TestHostile, new names of each kind
//	SLOWLORIS  500    2000      2000        TestHostile, connections that drip
//
// Under CI TestKill stops after 50 s even if it has not killed that often, and
// says so. Some of its kills come before a server is ready, and some after it has
// worked for long. Of the others two in three come as soon as a send or a decision
// is answered; TCPAIM=send and TCPAIM=decision let all of them come behind the one
// or the other.
//
// SEED=n repeats the random choices of an earlier run, which every test prints;
// the moment at which a signal meets a process cannot be repeated. The store of a
// failed test is kept below testdata/failures.
//
// With the race detector in the tests it is in the server, too; its memory is
// not judged then.
package tcp
