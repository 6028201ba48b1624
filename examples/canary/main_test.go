package main_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The program tells its story and ends with 0. Only how the two instances share
// the third wave is left to chance.
func TestCanary(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "canary")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v\n%s\n%s", err, stdout.String(), stderr.String())
	}
	story := []string{
		`old      \| starts and is the only member of its group`,
		`old      \| handled 40 of 40 bills`,
		`canary   \| starts paused: it has joined no group, the old one notices nothing`,
		`old      \| handled 40 of 40 bills`,
		`canary   \| handled 0 of 40 bills`,
		`operator \| resume is refused`,
		`canary   \| is paused: .*the wallet does not answer`,
		`wallet   \| answers again`,
		`operator \| resume with one handler at a time: the gate is green, a little traffic comes`,
		`broker   \| lanes: [23] belong to the old one, [23] to the canary`,
		`old      \| handled [1-9]\d? of 40 bills`,
		`canary   \| handled [1-9]\d? of 40 bills`,
		`operator \| it holds: eight handlers for the canary; the old instance is paused and releases its lanes`,
		`broker   \| lanes: 0 belong to the old one, 5 to the canary`,
		`old      \| handled 0 of 40 bills`,
		`canary   \| handled 40 of 40 bills`,
		`result   \| 160 bills sent, 160 handled, 0 of them twice`,
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if len(lines) != len(story) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(story), stdout.String())
	}
	for i, want := range story {
		if !regexp.MustCompile("^" + want + "$").MatchString(lines[i]) {
			t.Errorf("line %d: got %q, want %s", i+1, lines[i], want)
		}
	}
}
