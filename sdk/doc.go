// Package sdk is what a service touches: it sends messages, describes the ones it
// receives, and starts and stops everything in order. Package listener handles
// messages, package tx sends them in transactions.
//
// # Application
//
//	fx.New(
//		config.File("billpay.yaml"), config.Env("BILLPAY_"),
//		embedded.Module, // or another broker: the only line that changes
//		sdk.Module,
//		bills.Module,
//		sdk.Start(),     // last: consumption begins after, and ends before, everything else
//	).Run()
//
// [Module] provides a [*Client] and its [*Producer]; [Start] appends the one hook
// that opens the connection, starts the registered services phase by phase and
// stops them in reverse, always at least 500ms before the stop deadline. The
// settings are listed at [Settings].
//
// # Sending
//
// A [Producer] encodes a payload with the [Codec] of its content type, passes it
// through the [Interceptor] chain and sends it. A send is repeated, here and
// nowhere else, while that can help and the time of sluice.send.timeout lasts.
// The unique id of a message does not change over the tries. What the broker
// cannot carry, because of a name, a size, or a delay it does not have, is
// refused before anything is sent.
//
// # Errors
//
// Every operation answers with an [*Error]: a [Code], whether a repetition can
// help, and MaybeDone, which says that the broker may have carried the work out
// although it did not confirm it.
//
// # Observability
//
// Spans and metrics follow the OTel messaging conventions; providers are taken
// from the graph, never from globals, and their absence costs nothing. W3C trace
// context and baggage travel in the headers of a message.
//
// # Shutdown
//
// [Client.Close] takes no further message, waits for the asynchronous ones, then
// closes the connection. Afterwards no goroutine is left.
package sdk
