package durability_test

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// workers is how many random cases run side by side.
const workers = 2

// torture says that the figures of a release are wanted, full those of a gate.
func torture() bool { return os.Getenv("TORTURE") == "1" }

func full() bool { return os.Getenv("CI") == "true" || torture() }

func pick(short, gate, release int) int {
	switch {
	case torture():
		return release
	case full():
		return gate
	default:
		return short
	}
}

// cases is how many random cases a test runs; the variable overrides it.
func cases(t *testing.T, variable string, short, gate, release int) int {
	t.Helper()
	if text := os.Getenv(variable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s=%s is no number", variable, text)
		}
		return n
	}
	return pick(short, gate, release)
}

func replaying() bool { return os.Getenv("SEED") != "" }

// seeds are the seeds from and below to: 1 to n, or the one that SEED names.
func seeds(t *testing.T, n int) (from, to int) {
	t.Helper()
	text := os.Getenv("SEED")
	if text == "" {
		return 1, n + 1
	}
	seed, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("SEED=%s is no number", text)
	}
	return seed, seed + 1
}

// forSeeds runs f for each seed in a bubble of its own.
func forSeeds(t *testing.T, n int, f func(t *testing.T, seed uint64)) {
	from, to := seeds(t, n)
	inParallel(t, to-from, func(t *testing.T, i int) { f(t, uint64(from+i)) })
}

// bubble runs f in a bubble, in which time passes only while nothing else can.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// inParallel runs cases 0 to n-1, each in a bubble.
func inParallel(t *testing.T, n int, f func(t *testing.T, i int)) {
	outside(t, n, func(t *testing.T, i int) {
		bubble(t, func(t *testing.T) { f(t, i) })
	})
}

// outside runs cases 0 to n-1, which make their bubbles themselves.
func outside(t *testing.T, n int, f func(t *testing.T, i int)) {
	var next atomic.Int64
	t.Run("cases", func(t *testing.T) {
		for i := range workers {
			t.Run(fmt.Sprintf("worker %d", i), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					i := int(next.Add(1)) - 1
					if i >= n {
						return
					}
					f(t, i)
				}
			})
		}
	})
}
