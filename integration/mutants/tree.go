package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// left are folders that no test needs, or that hold stores of failed tests.
var left = []string{".git", ".tools", filepath.Join("testdata", "failures")}

// copyTree makes the copy as the tree is now.
func (s *suite) copyTree() error {
	if err := os.RemoveAll(s.work); err != nil {
		return err
	}
	err := filepath.WalkDir(s.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.root, path)
		if err != nil {
			return err
		}
		to := filepath.Join(s.work, rel)
		switch {
		case e.IsDir() && slices.ContainsFunc(left, func(l string) bool { return rel == l || strings.HasSuffix(rel, string(filepath.Separator)+l) }):
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(to, 0o700)
		case !e.Type().IsRegular():
			return nil
		}
		return copyFile(path, to)
	})
	if err != nil {
		return fmt.Errorf("copy the tree: %w", err)
	}
	return nil
}

// copyFile keeps the time of a change, by which go finds results of builds.
func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, b, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

// apply changes the copy and requires that it compiles.
func (s *suite) apply(ctx context.Context, m mutant) error {
	path, err := filepath.Abs(m.path)
	if err != nil {
		return err
	}
	apply := fmt.Sprintf("git apply --whitespace=nowarn '%s'", path)
	if _, err := exec.LookPath("git"); err != nil {
		apply = fmt.Sprintf("patch -p1 --no-backup-if-mismatch --fuzz=0 <'%s'", path)
	}
	if out, err := s.shell(ctx, apply); err != nil {
		return fmt.Errorf("the patch does not apply: %w\n%s", err, out)
	}
	for _, module := range []string{".", "integration"} {
		if _, err := os.Stat(filepath.Join(s.work, module, "go.mod")); err != nil {
			continue
		}
		if out, err := s.shell(ctx, "cd "+module+" && go build ./..."); err != nil {
			return fmt.Errorf("the mutant does not compile: %w\n%s", err, out)
		}
	}
	return nil
}

// verdict is what a test command said.
type verdict struct {
	failed   bool   // a test failed
	broken   string // why it says nothing about the mutant, else empty
	evidence string // the first line of the failure
	output   string // its end
	took     time.Duration
}

// test runs one test command in the copy.
func (s *suite) test(ctx context.Context, command string) verdict {
	began := time.Now()
	out, err := s.shell(ctx, command)
	v := judge(out, err)
	v.took = time.Since(began)
	return v
}

// judge reads the output of a test command.
func judge(out string, err error) verdict {
	const most = 4000
	v := verdict{output: out}
	if len(out) > most {
		v.output = "…" + out[len(out)-most:]
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case strings.Contains(line, "[build failed]"), strings.Contains(line, "[setup failed]"):
			v.broken = "it does not compile"
			return v
		case strings.Contains(line, "no tests to run"), strings.Contains(line, "no test files"):
			v.broken = "it runs no test"
		case strings.HasPrefix(line, "--- SKIP"):
			v.broken = "it skips: " + line
		case v.evidence != "":
		case strings.HasPrefix(line, "--- FAIL"), strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "):
			v.evidence = line
		}
	}
	v.failed = err != nil && v.evidence != ""
	switch {
	case v.failed:
		v.broken = ""
	case err != nil && v.broken == "":
		v.broken = fmt.Sprintf("it failed without a failed test: %v", err)
	}
	return v
}

// shell runs a command at the top of the copy. What it has started ends with it.
func (s *suite) shell(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("it took longer than %v", s.timeout))
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.work, &out, &out
	// The copy belongs to no repository, whatever lies above it. A mutant is to
	// fail in a test, so it is not vetted, which takes as long as to compile it.
	cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(s.work), "GOFLAGS="+os.Getenv("GOFLAGS")+" -vet=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what was left behind
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return out.String(), err
}
