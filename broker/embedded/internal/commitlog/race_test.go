//go:build race

package commitlog_test

// raceEnabled: the harnesses run in one goroutine each, where the detector
// only costs time, so they run fewer schedules.
const raceEnabled = true
