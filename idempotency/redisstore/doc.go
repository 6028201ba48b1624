// Package redisstore is an idempotency.Store in Redis, for single servers,
// Sentinel and Cluster.
//
// [Module] takes the application's redis.UniversalClient from the graph and
// never builds one; [New] does the same without fx:
//
//	fx.New(
//		fx.Provide(func() redis.UniversalClient {
//			return redis.NewUniversalClient(&redis.UniversalOptions{Addrs: addrs, ContextTimeoutEnabled: true})
//		}),
//		redisstore.Module,
//		…
//	)
//
// Each of the four transitions is one script, atomic on its server, sent by
// digest with the text as fallback. The keys of one message share a hash tag, so
// that they live in one slot. Only relative times are used; no clocks are
// compared. A request ends after a sixth of the lease at the latest, also if the
// client goes on waiting, and is sent again if its outcome is unknown.
//
// # What Redis must be
//
// A master with maxmemory-policy noeviction and an append-only file. [Store.Verify]
// checks that when the application starts: it warns, or refuses with
// Options.Strict. [Gate] is the same as a listener gate. A Redis that cannot be
// reached fails the start, with its address.
//
// # What Redis cannot be
//
// Replication is asynchronous, so a failover may forget locks and done marks;
// see the two tiers in package idempotency.
package redisstore
