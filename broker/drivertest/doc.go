// Package drivertest is the conformance suite of the broker seam: every
// sentence of the contract in package driver is a test here, and every driver
// passes the same suite. A third party needs one test function:
//
//	func TestConformance(t *testing.T) {
//		drivertest.Run(t, drivertest.Harness{
//			Open: func(t testing.TB) drivertest.Broker {
//				b := mybroker.Open(t.TempDir())
//				return drivertest.Broker{Connect: b.Connect, Close: b.Close}
//			},
//		}).RequireComplete(t)
//	}
//
// # What a run does
//
// Each test gets a broker of its own from [Harness.Open], connects one or
// several clients, and ends by closing the clients and then the broker, both of
// which must leave no goroutine behind. With [Harness.Virtual] each test runs
// in a testing/synctest bubble, where hours of delay cost nothing; otherwise
// it runs in real time with the durations of [Limits].
//
// A test is skipped only when [driver.Capabilities] or [driver.Extensions] say
// that the broker cannot do the thing, and then the group "honesty" checks that
// asking for it answers Unsupported; or when the harness lacks the means, such
// as a crash. The table logged at the end says what ran and why the rest did
// not, and [Report.RequireComplete] turns the second kind of skip into a
// failure.
//
// # Names
//
// Subtests are named group/test, such as "settle/return_counts_no_attempt".
// The names are stable, so that a driver's documentation may refer to them and
// -run may select them.
//
// [Machine] runs random programs against a model on top of the fixed tests; Run
// includes it as the group "machine". Package history checks what long or
// chaotic runs recorded, and package faulty breaks a driver on purpose.
package drivertest
