package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The program tells its story, line by line, leaves nothing behind and ends with 0.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	temp := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v\n%s\n%s", err, stdout.String(), stderr.String())
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the story took %v", took)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("it left %v behind", left)
	}
	rest := stdout.String()
	for _, chapter := range [][]string{ // the lines of a chapter come in any order
		{"producer | B-1, B-2, B-3 are settled"},
		{
			"handler  | B-1: red packet paid (attempt 1)",
			"handler  | B-2: the wallet is down (attempt 1), again in 200ms",
			"handler  | B-2: red packet paid (attempt 2)",
			"handler  | B-3: red packet paid (attempt 1)",
		},
		{"producer | B-1 is sent once more, as after a lost answer"},
		{"sluice   | B-1: a duplicate, skipped"},
		{"bills    | B-4: no message, its transaction failed (rolled_back: no cover)"},
		{"bills    | B-5: committed in the database, but the sender dies before it tells the broker (unknown)"},
		{"handler  | B-5: red packet paid (attempt 1)"},
		{"sluice   | B-5: the broker asked back and the marker row answered"},
		{"operator | pause; B-6 is settled and waits"},
		{"operator | resume; 0 paid meanwhile"},
		{"handler  | B-6: red packet paid (attempt 1)"},
		{"operator | stop, while B-7 is in its handler"},
		{"handler  | B-7: red packet paid (attempt 1)"},
		{"sluice   | drained: B-7 was finished, 6 of 6 red packets are paid, each once"},
	} {
		for n := len(chapter); n > 0; n-- {
			line, after, _ := strings.Cut(rest, "\n")
			i := 0
			for i < len(chapter) && chapter[i] != line {
				i++
			}
			if i == len(chapter) {
				t.Fatalf("got line %q, want one of %q; all of it:\n%s", line, chapter, stdout.String())
			}
			chapter[i], rest = "", after
		}
	}
	if rest != "" {
		t.Errorf("more lines: %q", rest)
	}
}
