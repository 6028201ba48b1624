package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is one patch.
type mutant struct {
	name   string // of the file, without ".patch"
	path   string
	breaks string
	tests  []string // commands of which each has to fail
}

// load reads the patches of a folder in the order of their names; only selects
// some of them.
func load(dir, only string) ([]mutant, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	var out []mutant
	var errs []error
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".patch")
		if !selected(name, only) {
			continue
		}
		m, err := read(name, path)
		errs = append(errs, err)
		out = append(out, m)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no patch %q in %s", cmp.Or(only, "*.patch"), dir)
	}
	return out, nil
}

// selected reports whether only names the mutant: "M1" means M1 and M1-…, not
// M10.
func selected(name, only string) bool {
	if only == "" {
		return true
	}
	for want := range strings.SplitSeq(only, ",") {
		want = strings.TrimSpace(want)
		if name == want || strings.HasPrefix(name, want+"-") {
			return true
		}
	}
	return false
}

// read reads the lines in front of the diff.
func read(name, path string) (mutant, error) {
	m := mutant{name: name, path: path}
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer func() { _ = f.Close() }() // only read
	lines := bufio.NewScanner(f)
	diff := false
	for !diff && lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "# breaks:"); ok {
			m.breaks = strings.TrimSpace(text)
		}
		if text, ok := strings.CutPrefix(line, "# test:"); ok {
			m.tests = append(m.tests, strings.TrimSpace(text))
		}
		diff = strings.HasPrefix(line, "diff --git ") || strings.HasPrefix(line, "--- ")
	}
	switch {
	case lines.Err() != nil:
		return m, fmt.Errorf("read %s: %w", path, lines.Err())
	case !diff:
		return m, fmt.Errorf("%s holds no diff", path)
	case m.breaks == "":
		return m, fmt.Errorf("%s has no line \"# breaks: …\" in front of the diff", path)
	case len(m.tests) == 0:
		return m, fmt.Errorf("%s has no line \"# test: …\" in front of the diff", path)
	}
	return m, nil
}
