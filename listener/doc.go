// Package listener runs the consumers of a service: types with marker fields,
// registered with [Provide], each a loop that fetches, handles, retries and
// settles on its own.
//
//	type RedPackets struct {
//		_ listener.On    `topic:"bill-settled" group:"red-packet" tags:"water || power"`
//		_ listener.Retry `attempts:"16" backoff:"10s..2h"`
//	}
//
//	func (r *RedPackets) OnMessage(ctx context.Context, m *sdk.Message[BillSettled]) error
//
// The same can be said by options on Provide and by the configuration
// listeners.<name>.*; configuration wins over options, options over tags, tags
// over defaults. [Container.Dump] prints every value with its source.
//
// # Promises
//
// Every message is acknowledged, given back, retried or moved to the dead
// letters of its group; a panic, a timeout and runtime.Goexit are failed
// attempts like any other. A handler that is interrupted by a drain or by the
// loss of its lane has not failed. Messages of an [Orderly] listener are
// handled one after another per queue or per key, and retried in place.
//
// # Shutdown
//
// [Container.Stop] fetches no more, gives back what no handler has begun, waits
// for handlers, then ends their context with [ErrDraining], settles, and leaves
// the group last. It returns at least half a second before its deadline.
package listener
