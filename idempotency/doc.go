// Package idempotency lets a listener handle each piece of work once, although
// brokers deliver it more often.
//
// A listener says so with a marker field, or with the option [Use] or [KeyFunc]:
//
//	type RedPackets struct {
//		_ listener.On    `topic:"bill-settled" group:"red-packet"`
//		_ idempotency.By `key:"bill_id" lease:"30s" ttl:"80h"`
//	}
//
// Before the handler runs, the key of the message is claimed in a [Store] for a
// lease that is renewed while the handler runs. A duplicate that comes meanwhile
// is deferred (never acknowledged, no attempt spent), one that comes afterwards
// is acknowledged without running the handler. A handler that fails gives the
// key back for the next attempt. The key is made of a namespace, the group, the
// topic the message was first sent to, and the business key, so every retry and
// every copy of a message has the same.
//
// # Two tiers
//
// This package with a Redis behind it means: one handler at a time, and almost
// always once. Nothing built on Redis can promise more. The handler runs again
// if the process dies between the effect and the done mark, if Redis loses its
// memory (a failover before replication, a restart without an append-only file,
// eviction), or if the process is stopped for longer than the lease and goes on
// as if nothing had happened.
//
// Exactly once needs the effect's own database: insert a unique key for the
// message in the same SQL transaction as the effect, and acknowledge when it is
// there already. That holds whatever happens to Redis, which then only saves
// work. Use it where a second effect costs money.
//
// # In the handler
//
// The context ends with the cause [ErrLeaseLost] before anybody else can own the
// key, because the local deadline counts from before the last request was sent.
// It is up to the handler to look: call [Check] right before an effect that no
// transaction covers, and hand [Fence], which grows with every owner of the key,
// to resources that can refuse a lower number.
//
// A handler that succeeds after its lease was lost is still acknowledged, and
// its key marked done: work that has happened is not undone.
//
// # When the store does not answer
//
// By default (closed) nothing runs: the message is deferred and, after some
// failures in a row, the whole listener stops fetching until the store answers.
// No attempt is spent. With onError:"open" the handler runs without protection;
// that is counted and logged.
//
// # Stores
//
// Packages redisstore and memstore hold stores and their fx modules, which
// include [Module]; package storetest holds the suite that a store of your own
// must pass.
package idempotency
