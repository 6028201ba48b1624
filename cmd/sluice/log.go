package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sluicemq/sluice/broker/embedded/offline"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// parse reads flags and the one argument, the directory. If there is nothing
// to do, done is set and code is the exit code.
func parse(flags *flagSet, args []string, stdout, stderr io.Writer) (dir string, code int, done bool) {
	dirs, done := flags.parse(args, stdout)
	if done {
		return "", exitFine, true
	}
	if code, ok := flags.report(stderr); !ok {
		return "", code, true
	}
	help := "sluice help " + flags.name
	switch len(dirs) {
	case 1:
		return dirs[0], 0, false
	case 0:
		return "", wrong(stderr, help, "%s takes the directory of a store", flags.name), true
	}
	return "", wrong(stderr, help, "%s takes one directory, not %s", flags.name, strings.Join(dirs, " and ")), true
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
	case errors.Is(err, offline.ErrNotAStore):
		return fmt.Errorf("%s: %w; name the directory of a store", dir, err)
	case vfs.IsNotExist(err):
		return fmt.Errorf("%s has changed meanwhile, try again: %w", dir, err)
	}
	return fmt.Errorf("%s: %w", dir, err)
}
