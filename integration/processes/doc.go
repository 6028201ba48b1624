// Package processes holds the tests that need real processes, a real file
// system or a real clock to break: kill -9, a cut of the power, a sync that
// fails in the kernel, a full disk, racing openers, a clock that jumps.
//
// A test starts its own binary again as a child (see roles_test.go), which opens
// a store through the public API, works on it and prints a line for everything
// it learns. The lines go through a pipe that outlives a kill, so what the
// parent has read is what the child was told. The parent notes them in a
// [github.com/sluicemq/sluice/broker/drivertest/history.History] and checks it.
//
// How many rounds are run:
//
//	variable   here   CI=true   TORTURE=1   test
//	KILLS      20     200       1000        TestKill, each mode
//	CUTS       -      -         1000        TestPowerCut
//	FAULTS     6      12        50          TestSyncFailure, each mode and call
//	FILLS      3      20        100         TestDiskFull, each kind
//	RACERS     50     50        200         TestLock
//	CLOCKLIVES 4      15        100         TestClock
//	DELAYS     10000  10000     1000000     TestDelays in memory
//	DELAYKILLS 4      20        200         TestDelaysKill
//
// SEED=n repeats the random choices of an earlier run, which every test prints.
// The moment at which a signal meets a process cannot be repeated. The store of
// a failed test is kept below testdata/failures.
package processes
