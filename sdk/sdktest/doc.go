// Package sdktest runs the listeners and senders of a service in a test: on the
// bundled broker in memory, with idempotency in memory, started and stopped with
// the test.
//
//	kit := sdktest.New(t, bonus.Module, fx.Supply(fakeWallet))
//	kit.Send("order-paid", OrderPaid{OrderID: "O-1"}, sdk.Key("O-1"))
//	kit.Await("bonus", 1)
//
// Nothing opens a socket or a file, so a kit also works inside a bubble of
// testing/synctest: there the waits of retries, delays and check-backs pass at
// once and are exact. Create the kit inside the bubble and call [Kit.Stop]
// before its function returns.
package sdktest
