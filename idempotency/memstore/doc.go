// Package memstore is an idempotency.Store in the memory of this process.
//
// It is for tests and for services that run as a single process. It deduplicates
// nothing across processes and forgets everything when the process ends: after a
// restart a message that had been handled, but whose acknowledgement was lost,
// is handled again. Use redisstore where that matters.
//
// [Store] is bounded, starts no goroutine and needs no Close. It follows package
// time, so that in a testing/synctest bubble its leases expire in fake time.
package memstore
