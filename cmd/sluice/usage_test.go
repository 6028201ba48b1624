package main

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
)

func TestRun_WrongUsage(t *testing.T) {
	t.Parallel()
	dir := makeStore(t, small(), func(k *storeKit) { k.fill("orders", 1) })
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "usage:"},
		{[]string{"lock"}, `sluice: there is no command "lock"; see sluice help`},
		{[]string{"log"}, "sluice: log takes a command, verify or dump; see sluice help"},
		{[]string{"log", "repair", dir}, `log has no command "repair"`},
		{[]string{"log", "verify"}, "log verify takes the directory of a store; see sluice help log verify"},
		{[]string{"log", "verify", dir, dir}, "log verify takes one directory, not"},
		{[]string{"log", "verify", "-body", dir}, "flag provided but not defined: -body"},
		{[]string{"log", "dump", dir, "-limit"}, "flag needs an argument: -limit"},
		{[]string{"log", "dump", dir, "-limit", "many"}, `invalid value "many" for flag -limit`},
		{[]string{"log", "dump", dir, "-limit", "-1"}, "-limit takes 0 and more, not -1"},
		{[]string{"log", "dump", dir, "-from", "-1"}, "-from takes 0 and more, not -1"},
		{[]string{"log", "dump", "--", "-x"}, "-x"},
		{[]string{"version", "all"}, "version takes no arguments"},
		{[]string{"help", "broker"}, "there is no help for"},
	} {
		r := sluice(t, dir, c.args...)
		if r.code != exitFailed || r.out != "" || !strings.Contains(r.err, c.want) {
			t.Errorf("sluice %q: exit code %d, printed %q, told %q, want %q", c.args, r.code, r.out, r.err, c.want)
		}
	}
}

func TestRun_NoStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "shopping list")
	missing := filepath.Join(dir, "missing")
	for _, command := range []string{"verify", "dump"} {
		sluice(t, missing, "log", command, missing).has(t, exitFailed, "missing")
		empty := filepath.Join(dir, "empty-"+command)
		if err := os.Mkdir(empty, 0o700); err != nil {
			t.Fatal(err)
		}
		sluice(t, empty, "log", command, empty).has(t, exitFailed, "it is empty; name the directory of a store")
		if err := os.WriteFile(file, []byte("milk"), 0o600); err != nil {
			t.Fatal(err)
		}
		sluice(t, dir, "log", command, dir).has(t, exitFailed, `not a message store: there is no manifest, but "empty-`+command+`" and `)
		sluice(t, dir, "log", command, file).has(t, exitFailed, "not a directory")
	}
}

// Ctrl-C is neither damage nor a failure.
func TestRun_Interrupted(t *testing.T) {
	t.Parallel()
	dir := makeStore(t, small(), wide)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, command := range []string{"verify", "dump"} {
		var out, errs strings.Builder
		code := run(ctx, []string{"log", command, dir}, &out, &errs)
		if code != exitInterrupted || errs.String() != "sluice: interrupted\n" {
			t.Errorf("%s: exit code %d, told %q", command, code, errs.String())
		}
	}
	// In the middle of a dump, what was shown is whole.
	ctx, cancel = context.WithCancel(t.Context())
	var errs strings.Builder
	out := &cancelling{cancel: cancel}
	if code := run(ctx, []string{"log", "dump", dir, "-body"}, out, &errs); code != exitInterrupted {
		t.Errorf("exit code %d, told %q", code, errs.String())
	}
	if !strings.HasSuffix(out.String(), "\n") {
		t.Error("the last line is cut off")
	}
}

// cancelling interrupts when something is printed.
type cancelling struct {
	strings.Builder
	cancel func()
}

func (c *cancelling) Write(b []byte) (int, error) {
	c.cancel()
	return c.Builder.Write(b)
}

// broken is a pipe that nobody reads.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestRun_NobodyReads(t *testing.T) {
	t.Parallel()
	dir := makeStore(t, small(), wide)
	for _, command := range []string{"verify", "dump"} {
		var errs strings.Builder
		if code := run(t.Context(), []string{"log", command, dir}, broken{}, &errs); code != exitFailed {
			t.Errorf("%s: exit code %d, told %q", command, code, errs.String())
		}
	}
	for _, command := range []string{"version", "help"} {
		var errs strings.Builder
		if code := run(t.Context(), []string{command}, broken{}, &errs); code != exitFailed || !strings.HasPrefix(errs.String(), "sluice: print: ") {
			t.Errorf("%s: exit code %d, told %q", command, code, errs.String())
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := sluice(t, "missing", "version")
	if r.code != exitFine || !strings.HasPrefix(r.out, "sluice ") || strings.Count(r.out, "\n") != 1 {
		t.Errorf("exit code %d, printed %q", r.code, r.out)
	}
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.modified", Value: "true"},
	}}
	info.Main.Version = "v1.2.3"
	if got := version(info); !strings.HasPrefix(got, "sluice v1.2.3 commit 0123456789ab with changes go1.") {
		t.Errorf("got %q", got)
	}
	if got := version(&debug.BuildInfo{}); !strings.HasPrefix(got, "sluice (unknown) go1.") {
		t.Errorf("got %q", got)
	}
}
