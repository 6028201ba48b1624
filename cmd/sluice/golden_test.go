package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write what is printed into testdata")

// golden compares what was printed with a file of testdata.
func (r result) golden(t *testing.T, name string) {
	t.Helper()
	name = filepath.Join("testdata", name)
	got := r.stable()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	if r.code != exitFine || r.err != "" {
		t.Errorf("exit code %d, told %q", r.code, r.err)
	}
}

// What is printed is read by programs: it changes only on purpose.
func TestLog_Golden(t *testing.T) {
	t.Parallel()
	dir := makeStore(t, small(), all)
	for _, c := range []struct {
		file string
		args []string
	}{
		{"verify.txt", []string{"log", "verify", dir}},
		{"dump.txt", []string{"log", "dump", dir}},
		{"dump-body.txt", []string{"log", "dump", dir, "-from", "200", "-limit=3", "-body"}},
		{"dump-topic.txt", []string{"log", "dump", "-topic", "gone", dir}},
		{"dump-orders.txt", []string{"log", "dump", "-topic=orders", "-from=1420", dir}},
		{"dump.jsonl", []string{"log", "dump", "-json", dir}},
		{"dump-body.jsonl", []string{"log", "dump", "-json", "-body", "-limit", "2", "--", dir}},
	} {
		t.Run(c.file, func(t *testing.T) { sluice(t, dir, c.args...).golden(t, c.file) })
	}
}

// Every command has a help, however it is asked for.
func TestHelp_Golden(t *testing.T) {
	t.Parallel()
	var walk func(c command, path []string)
	walk = func(c command, path []string) {
		t.Run("sluice "+strings.Join(path, " "), func(t *testing.T) {
			file := strings.Join(append([]string{"help"}, path...), "-") + ".txt"
			r := sluice(t, "missing", append([]string{"help"}, path...)...)
			if c.name != "version" {
				r.golden(t, file)
			}
			for line := range strings.Lines(r.out) {
				if n := utf8.RuneCountInString(line); n > 112 {
					t.Errorf("a line has %d characters: %s", n, line)
				}
			}
			if len(path) == 0 || c.name == "version" {
				return
			}
			if again := sluice(t, "missing", append(path, "-h")...); again != r {
				t.Errorf("with -h it says %q", again.out)
			}
		})
		for _, s := range c.sub {
			walk(s, append(slices.Clone(path), s.name))
		}
	}
	walk(commands(), nil)
}
