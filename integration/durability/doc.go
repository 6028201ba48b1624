// Package durability proves what the bundled broker promises about its store.
// It holds tests only, and they use the public API only: the broker on a file
// system that loses power, fails calls, rots or runs full, and the checker of
// package history as the judge.
//
// Every random test prints its seed when it fails; SEED=… runs that case alone
// and prints what it does. DURABILITY_SCHEDULES sets the number of random
// cases, CI=true the full figures, TORTURE=1 the figures for a release.
package durability
