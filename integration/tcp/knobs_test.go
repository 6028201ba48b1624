package tcp

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long anything may take. It is generous, so that a slow
// machine is no failure.
const patience = 60 * time.Second

func torture() bool { return os.Getenv("TORTURE") == "1" }

func inCI() bool { return os.Getenv("CI") == "true" }

// count is how often something is done: as the variable says, else by where the
// test runs.
func count(t *testing.T, variable string, here, ci, most int) int {
	t.Helper()
	if s := os.Getenv(variable); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("%s is %q, it takes a number from 1", variable, s)
		}
		return n
	}
	switch {
	case torture():
		return most
	case inCI():
		return ci
	default:
		return here
	}
}

// aims are the answers behind which kills come: one kind, as TCPAIM says, else a
// mixture.
func aims(t *testing.T) []answer {
	t.Helper()
	switch s := os.Getenv("TCPAIM"); s {
	case "":
		return []answer{toNothing, toSend, toDecision}
	case "send":
		return []answer{toSend}
	case "decision":
		return []answer{toDecision}
	default:
		t.Fatalf("TCPAIM is %q, it takes send or decision", s)
		return nil
	}
}

// seeded prints the seed of a test and answers its source of choices.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SEED is %q, it takes a number", s)
		}
	}
	t.Logf("SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// fork is another source, for a goroutine of its own.
func fork(r *rand.Rand) *rand.Rand { return rand.New(rand.NewPCG(r.Uint64(), r.Uint64())) }

// between draws a duration from lo to hi.
func between(r *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(r.Int64N(int64(hi-lo)+1))
}

// pause waits, or until ctx ends, which it reports by false.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// storeDir is a directory for a store; if the test fails, it is kept.
func storeDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		to, err := keep(t.Name(), dir)
		if err != nil {
			t.Logf("the store could not be kept: %v", err)
			return
		}
		t.Logf("the store is kept in %s", to)
	})
	return dir
}

// keep copies dir below testdata/failures.
func keep(name, dir string) (to string, err error) {
	const failures = "testdata/failures"
	if err := os.MkdirAll(failures, 0o700); err != nil {
		return "", err
	}
	name = strings.NewReplacer("/", "-", " ", "-").Replace(name)
	if to, err = os.MkdirTemp(failures, name+time.Now().Format("-20060102-150405-")); err != nil {
		return "", err
	}
	return to, os.CopyFS(to, os.DirFS(dir))
}
