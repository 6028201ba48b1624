package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/integration/bench/internal/child"
)

// TestMain lets the test binary be the child that the program starts of itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == child.Argument {
		os.Exit(child.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// TestRun measures two rows in small: one of loops and one of child processes.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	raw := t.TempDir() + "/raw.jsonl"
	if _, err := bench().Run([]string{"-quick", "-rows", "5,16", "-dir", t.TempDir(), "-out", raw}, &out, t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ratio row=5 case=sync/8/group-commit-sync ", "ratio row=5 case=sync/1/fdatasync-p50 ",
		"ratio row=16 case=memory/10GiB-mib ", "ratio row=16 case=memory/against-0.1GiB ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output has no %q", want)
		}
	}
	if text := out.String(); strings.Contains(text, "why=") {
		t.Errorf("a ratio has no value:\n%s", text)
	}
	samples, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(samples, []byte("\n")); n != 6 {
		t.Errorf("%d raw samples, want one of each of 6 steps", n)
	}
}
