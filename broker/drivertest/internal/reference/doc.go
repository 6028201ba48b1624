// Package reference is the smallest broker that honours the whole contract of
// package driver: in memory, one mutex, no files, no speed. It proves the
// conformance suite from the other side: the suite passes here, and fails for
// each deliberate mistake that its tests put around it.
//
// A crash keeps everything that was stored and settled and forgets every
// member, which is what a broker with a synchronous log does.
package reference
