package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write bills.csv anew")

// sample makes a list of n bills of a few accounts. It draws from the same
// function as the faults, so it is the same on every machine.
func sample(n, accounts int, maxDueMS int64) string {
	draw := chaos{seed: 1}.draw
	kinds := []string{"water", "power", "gas", "phone"}
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := 1; i <= n; i++ {
		id := fmt.Sprintf("B%06d", i)
		pick := func(what string, below int64) int64 { return int64(draw(what, id) * float64(below)) }
		fmt.Fprintf(&b, "%s,A%03d,%s,%d,%d\n", id, 1+pick("account", int64(accounts)), kinds[pick("kind", int64(len(kinds)))],
			500+pick("amount", 50_000), maxDueMS/5+pick("due", maxDueMS*4/5))
	}
	return b.String()
}

// bills.csv is sample(1000, 60, 5000): go test -run TestShippedBills -update.
func TestShippedBills(t *testing.T) {
	t.Parallel()
	want := sample(1000, 60, 5000)
	if *update {
		if err := os.WriteFile("bills.csv", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("bills.csv")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("bills.csv is not what the generator makes; run with -update")
	}
}
