package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a file below dir.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// patch is a mutant that replaces "return 42" by another line.
func patch(header, line string) string {
	return header + `diff --git a/answer.go b/answer.go
--- a/answer.go
+++ b/answer.go
@@ -1,3 +1,3 @@
 package answer
 
-func Answer() int { return 42 }
+` + line + "\n"
}

// TestRun has a tree of its own, with mutants of every kind.
func TestRun(t *testing.T) {
	t.Parallel()
	const tests = "# breaks: the answer\n# test: go test -run Answer -count=1 .\n"
	for _, c := range []struct {
		name, source, patch string
		code                int
		want                []string
	}{
		{"caught", "42", patch(tests, "func Answer() int { return 41 }"), 0,
			[]string{"without a patch: go test", "M1-x: the answer; by --- FAIL: TestAnswer", "1 of 1 caught"}},
		{"caught by a panic", "42", patch(tests, `func Answer() int { panic("x") }`), 0, []string{"1 of 1 caught"}},
		{"missed", "42", patch(tests, "func Answer() int { return 40 + 2 }"), 1, []string{"MISSED", "0 of 1 caught"}},
		{"does not compile", "42", patch(tests, "func Answer() int { return x }"), 1, []string{"INVALID", "does not compile", "0 of 1 caught"}},
		{"does not apply", "42", strings.Replace(patch(tests, "x"), "-func", "-fun", 1), 1, []string{"INVALID", "does not apply", "0 of 1 caught"}},
		{"the tests do not compile", "42", patch(tests, "func answer() int { return 42 }"), 1, []string{"INVALID", "does not compile", "0 of 1 caught"}},
		{"the tests fail anyway", "43", patch(tests, "func Answer() int { return 41 }"), 1, []string{"without a patch the tests have to pass"}},
		{"one of two commands", "42", patch(tests+"# test: go test -run Other -count=1 .\n", "func Answer() int { return 41 }"), 1,
			[]string{"caught", "MISSED", "0 of 1 caught"}},
		{"no test of that name", "42", patch("# breaks: it\n# test: go test -run Nothing .\n", "x"), 1, []string{"it runs no test"}},
		{"no command", "42", patch("# breaks: it\n", "x"), 1, []string{`no line "# test: …"`}},
		{"no diff", "42", tests, 1, []string{"holds no diff"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root, patches := answering(t, c.source, c.patch)
			var out strings.Builder
			code := run(t.Context(), []string{"-root", root, "-patches", patches, "-timeout", "2m"}, &out)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q", want)
				}
			}
			if t.Failed() {
				t.Log(out.String())
			}
			if b, err := os.ReadFile(filepath.Join(root, "answer.go")); err != nil || !strings.Contains(string(b), "return 42") {
				t.Errorf("the tree itself was changed: %q, %v", b, err)
			}
		})
	}
}

// answering is a tree whose test wants an answer, and a folder with one patch.
func answering(t *testing.T, want, patch string) (root, patches string) {
	t.Helper()
	root, patches = t.TempDir(), t.TempDir()
	write(t, root, "go.mod", "module answer\n\ngo 1.26\n")
	write(t, root, "answer.go", "package answer\n\nfunc Answer() int { return 42 }\n")
	write(t, root, "answer_test.go", "package answer\n\nimport \"testing\"\n\nfunc TestAnswer(t *testing.T) {\n\tif Answer() != "+
		want+" {\n\t\tt.Error(Answer())\n\t}\n}\n\nfunc TestOther(*testing.T) {}\n")
	write(t, root, ".git/HEAD", "not to be copied")
	write(t, patches, "M1-x.patch", patch)
	return root, patches
}

// TestRun_Proven goes to the patches at once, and still tells a command that
// runs no test from one that fails.
func TestRun_Proven(t *testing.T) {
	t.Parallel()
	for test, want := range map[string]string{"Answer": "1 of 1 caught", "Nothing": "it runs no test"} {
		root, patches := answering(t, "42", patch("# breaks: the answer\n# test: go test -run "+test+" .\n", "func Answer() int { return 41 }"))
		var out strings.Builder
		code := run(t.Context(), []string{"-root", root, "-patches", patches, "-proven"}, &out)
		if text := out.String(); (code == 0) != (test == "Answer") || !strings.Contains(text, want) || strings.Contains(text, "without a patch") {
			t.Errorf("exit code %d\n%s", code, text)
		}
	}
}

func TestRun_NoPatches(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if code := run(t.Context(), []string{"-root", t.TempDir(), "-patches", t.TempDir()}, &out); code == 0 {
		t.Errorf("nothing to catch is a success: %s", out.String())
	}
}

func TestSelected(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		only string
		want bool
	}{
		{"", true}, {"M1", true}, {"M2, M1", true}, {"M1-ack-before-fsync", true}, {"M", false}, {"M10", false},
	} {
		if got := selected("M1-ack-before-fsync", c.only); got != c.want {
			t.Errorf("-only %q selects M1-ack-before-fsync: %t, want %t", c.only, got, c.want)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit status 1")
	for _, c := range []struct {
		name, out string
		err       error
		failed    bool
		broken    string
	}{
		{"passes", "ok  \tx\t0.1s\n", nil, false, ""},
		{"fails", "--- FAIL: TestX (0.00s)\n    x\nFAIL\n", failed, true, ""},
		{"a subtest fails, another skips", "    --- SKIP: TestX/b (0.00s)\n    --- FAIL: TestX/a\n", failed, true, ""},
		{"races", "WARNING: DATA RACE\n--- FAIL: TestX\n", failed, true, ""},
		{"panics", "panic: runtime error: index out of range\n", failed, true, ""},
		{"does not compile", "# x\nx.go:1: undefined\nFAIL\tx [build failed]\n", failed, false, "does not compile"},
		{"skips", "--- SKIP: TestX (0.00s)\nok  \tx\n", nil, false, "it skips"},
		{"runs nothing", "ok  \tx\t0.1s [no tests to run]\n", nil, false, "runs no test"},
		{"never ends", "", tookTooLong(), false, "without a failed test"},
	} {
		v := judge(c.out, c.err)
		if v.failed != c.failed || (c.broken == "") != (v.broken == "") || !strings.Contains(v.broken, c.broken) {
			t.Errorf("%s: got failed %t, broken %q; want %t, %q", c.name, v.failed, v.broken, c.failed, c.broken)
		}
	}
}

func tookTooLong() error { return errors.New("it took longer than 1s") }

// TestPatches requires the patches of this folder to be well formed.
func TestPatches(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("*.patch")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skip("there is no patch")
	}
	if _, err := load(".", ""); err != nil {
		t.Error(err)
	}
}
