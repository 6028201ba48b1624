//go:build !race

package segindex_test

const raceEnabled = false
