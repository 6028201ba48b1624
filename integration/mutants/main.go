// Command mutants proves that the tests of the store find what they are for: it
// breaks the store in known ways, one patch at a time, and runs the tests that
// have to notice.
//
//	go run ./mutants [-only M3,M4] [-timeout 10m] [-keep] [-proven]
//
// Each patch of the folder mutants, such as M1-ack-before-fsync.patch, is a diff
// against the top of the repository. Lines in front of the diff tell what it
// breaks and which commands must fail with it, each run by sh at the top of a
// copy of the tree:
//
//	# breaks: answers are given before the sync
//	# test: cd integration && SCHEDULES=500 go test ./durability -run R04 -count=1
//
// A mutant counts as caught if it compiles and each of its commands fails, in a
// test. The same commands have to pass without a patch, which is tried first;
// with -proven it was seen before. The tree itself is not touched. The last line is "8 of 8 caught"; the exit code is 1 unless all are.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	// The commands run in process groups of their own, so a signal ends them
	// here and not by itself.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(code)
}

// run is the command with its arguments; it answers the exit code.
func run(ctx context.Context, args []string, out io.Writer) int {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(out)
	root := flags.String("root", "", "top of the repository (default: found from here)")
	dir := flags.String("patches", "", "folder of the patches (default: integration/mutants)")
	only := flags.String("only", "", "names or beginnings of names of mutants, with commas between")
	timeout := flags.Duration("timeout", 10*time.Minute, "for one command")
	proven := flags.Bool("proven", false, "the commands are known to pass without a patch")
	keep := flags.Bool("keep", false, "keep the copies of the tree")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	s := &suite{out: out, root: *root, timeout: *timeout, keep: *keep, proven: *proven}
	caught, all, err := s.run(ctx, *dir, *only)
	if err != nil {
		fmt.Fprintf(out, "mutants: %v\n", err)
		return 1
	}
	fmt.Fprintf(out, "%d of %d caught\n", caught, all)
	if caught < all || all == 0 {
		return 1
	}
	return 0
}

// suite runs mutants.
type suite struct {
	out     io.Writer
	root    string // of the tree
	timeout time.Duration
	keep    bool
	proven  bool   // the commands pass without a patch
	work    string // the copy, at one place so that builds are found again
}

// run answers how many mutants were caught.
func (s *suite) run(ctx context.Context, dir, only string) (caught, all int, err error) {
	if s.root == "" {
		if s.root, err = findRoot(); err != nil {
			return 0, 0, err
		}
	}
	if dir == "" {
		dir = filepath.Join(s.root, "integration", "mutants")
	}
	mutants, err := load(dir, only)
	if err != nil {
		return 0, 0, err
	}
	temp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 0, 0, err
	}
	s.work = filepath.Join(temp, "tree")
	if s.keep {
		fmt.Fprintf(s.out, "the copies are kept in %s\n", temp)
	} else {
		defer func() { _ = os.RemoveAll(temp) }() // a folder of the system for this
	}
	if !s.proven {
		if err := s.baseline(ctx, mutants); err != nil {
			return 0, len(mutants), err
		}
	}
	for _, m := range mutants {
		if s.try(ctx, m) {
			caught++
		}
		if ctx.Err() != nil {
			return caught, len(mutants), context.Cause(ctx)
		}
	}
	return caught, len(mutants), nil
}

// findRoot looks for the top of the repository above the working directory:
// the module that holds this one.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/sluicemq/sluice\n") {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", fmt.Errorf("no go.mod of github.com/sluicemq/sluice above the working directory; use -root")
	}
}

// baseline runs every command once on a tree without a patch.
func (s *suite) baseline(ctx context.Context, mutants []mutant) error {
	if err := s.copyTree(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, m := range mutants {
		for _, test := range m.tests {
			if seen[test] {
				continue
			}
			seen[test] = true
			v := s.test(ctx, test)
			if v.failed {
				return fmt.Errorf("without a patch the tests have to pass: %s\n%s", test, v.output)
			}
			if v.broken != "" {
				return fmt.Errorf("without a patch: %s: %s\n%s", test, v.broken, v.output)
			}
			fmt.Fprintf(s.out, "ok       %6.1fs  without a patch: %s\n", v.took.Seconds(), test)
		}
	}
	return nil
}

// try reports whether m is caught, and prints a line for it.
func (s *suite) try(ctx context.Context, m mutant) bool {
	say := func(word string, took time.Duration, format string, args ...any) {
		fmt.Fprintf(s.out, "%-8s %6.1fs  %s: %s\n", word, took.Seconds(), m.name, fmt.Sprintf(format, args...))
	}
	began := time.Now()
	if err := s.copyTree(); err != nil {
		say("INVALID", time.Since(began), "%v", err)
		return false
	}
	if err := s.apply(ctx, m); err != nil {
		say("INVALID", time.Since(began), "%v", err)
		return false
	}
	for _, test := range m.tests {
		v := s.test(ctx, test)
		switch {
		case v.broken != "":
			say("INVALID", v.took, "%s: %s\n%s", test, v.broken, v.output)
			return false
		case !v.failed:
			say("MISSED", v.took, "%s; the tests pass all the same: %s", m.breaks, test)
			return false
		}
		say("caught", v.took, "%s; by %s", m.breaks, v.evidence)
	}
	return true
}
