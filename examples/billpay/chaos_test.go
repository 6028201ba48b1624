package main

import (
	"fmt"
	"math"
	"testing"
)

// The share is met, and one fault says nothing about another.
func TestChaos_Shares(t *testing.T) {
	t.Parallel()
	const n, share = 20_000, 0.1
	c := chaos{share: share, seed: 7}
	var rolled, stopped, early, both int
	for i := range n {
		id := fmt.Sprintf("B%06d", i)
		r, s := c.rollBack(id), c.stop(id)
		if r {
			rolled++
		}
		if s != stopNowhere {
			stopped++
		}
		if s == stopBeforeLocal || s == stopAndWake {
			early++
		}
		if r && s != stopNowhere {
			both++
		}
	}
	for name, got := range map[string][2]float64{
		"rolled back":     {float64(rolled) / n, share},
		"stopped":         {float64(stopped) / n, share},
		"stopped early":   {float64(early) / n, share / 2},
		"both, by chance": {float64(both) / n, share * share},
	} {
		if math.Abs(got[0]-got[1]) > 0.01 {
			t.Errorf("%s: a share of %.3f, want about %.3f", name, got[0], got[1])
		}
	}
}

func TestChaos_OnlyTheFirstAttemptFails(t *testing.T) {
	t.Parallel()
	c := chaos{share: 0.5, seed: 3}
	var failed, panicked int
	for i := range 1000 {
		id := fmt.Sprint("B", i)
		func() {
			defer func() {
				if recover() != nil {
					panicked++
				}
			}()
			if c.handle("ledger", id, 1) != nil {
				failed++
			}
		}()
		if err := c.handle("ledger", id, 2); err != nil {
			t.Fatalf("attempt 2: %v", err)
		}
		if err := (chaos{}).handle("ledger", id, 1); err != nil {
			t.Fatalf("no chaos: %v", err)
		}
	}
	if failed < 150 || panicked < 150 || failed+panicked < 400 || failed+panicked > 600 {
		t.Errorf("%d failed, %d panicked of 1000; want about 250 each", failed, panicked)
	}
}
