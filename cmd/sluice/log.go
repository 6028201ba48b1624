package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/offline"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// runLog are the commands about a log.
func runLog(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		return wrong(stderr, "sluice help", "log takes a command, verify or dump")
	}
	switch args[0] {
	case "verify":
		return runVerify(ctx, args[1:], stdout, stderr)
	case "dump":
		return runDump(ctx, args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		return runHelp(append([]string{"log"}, args[1:]...), stdout, stderr)
	}
	return wrong(stderr, "sluice help", "log has no command %q, it has verify and dump", args[0])
}

// parse reads flags, which may stand before and behind the one argument, the
// directory. If there is nothing to do, done is set and code is the exit code.
func parse(flags *flag.FlagSet, usage string, args []string, stdout, stderr io.Writer) (dir string, code int, done bool) {
	help := "sluice help " + flags.Name()
	flags.SetOutput(io.Discard)
	var dirs []string
	for {
		err := flags.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(stdout, usage)
			return "", exitFine, true
		case err != nil:
			return "", wrong(stderr, help, "%s: %v", flags.Name(), err), true
		}
		parsed := args[:len(args)-flags.NArg()]
		args = flags.Args()
		if len(parsed) > 0 && parsed[len(parsed)-1] == "--" {
			dirs = append(dirs, args...) // even if they begin with a dash
			break
		}
		if len(args) == 0 {
			break
		}
		dirs, args = append(dirs, args[0]), args[1:]
	}
	switch len(dirs) {
	case 1:
		return dirs[0], 0, false
	case 0:
		return "", wrong(stderr, help, "%s takes the directory of a store", flags.Name()), true
	}
	return "", wrong(stderr, help, "%s takes one directory, not %s", flags.Name(), strings.Join(dirs, " and ")), true
}

// open opens a directory to be read.
func open(dir string) (vfs.FS, error) { return vfs.Dir(dir, vfs.ReadOnly) }

// explain says which directory an error is about, and what to do.
func explain(dir string, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, offline.ErrVersion):
		return fmt.Errorf("%s: %w; use a newer sluice", dir, err)
	case vfs.IsNotExist(err):
		return fmt.Errorf("%s has changed meanwhile, try again: %w", dir, err)
	}
	return fmt.Errorf("%s: %w", dir, err)
}
