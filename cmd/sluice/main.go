// Command sluice looks at what the bundled broker has stored.
//
//	sluice log verify DIR                                            is it as it was written?
//	sluice log dump DIR [-from POS] [-limit N] [-topic T] [-body] [-json]   what does it say?
//	sluice version
//	sluice help
//
// It exits with 0 if all is well, 1 if it has found damage, 2 if it was called
// wrongly or cannot read, 130 if it was interrupted. It never writes into DIR.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitFine        = 0
	exitDamage      = 1
	exitFailed      = 2
	exitInterrupted = 130 // what shells expect after Ctrl-C
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second one ends it at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

const usage = `sluice looks at the store of a bundled broker, and never writes into it.

usage:
  sluice log verify DIR    read everything and name every damage
  sluice log dump DIR      show what is in the log, a line for each frame
  sluice version           say what this program was built from
  sluice help [COMMAND]    say more, such as: sluice help log dump

exit codes: 0 all is well, 1 damage was found, 2 wrong usage or DIR cannot be read
`

// run is the command; it answers the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitFailed
	}
	switch args[0] {
	case "log":
		return runLog(ctx, args[1:], stdout, stderr)
	case "version", "-version", "--version":
		return runVersion(args[1:], stdout, stderr)
	case "help", "-h", "-help", "--help":
		return runHelp(args[1:], stdout, stderr)
	}
	return wrong(stderr, "sluice help", "there is no command %q", args[0])
}

// runHelp shows the usage of a command.
func runHelp(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "log" {
		switch {
		case len(args) == 1:
			fmt.Fprint(stdout, usage)
			return exitFine
		case len(args) == 2 && args[1] == "verify":
			fmt.Fprint(stdout, verifyUsage)
			return exitFine
		case len(args) == 2 && args[1] == "dump":
			fmt.Fprint(stdout, dumpUsage)
			return exitFine
		}
	}
	if len(args) > 0 && args[0] != "help" && args[0] != "version" {
		return wrong(stderr, "sluice help", "there is no help for %q", args)
	}
	fmt.Fprint(stdout, usage)
	return exitFine
}

// wrong tells what is wrong with the arguments, and who knows more.
func wrong(stderr io.Writer, help, format string, args ...any) int {
	fmt.Fprintf(stderr, "sluice: "+format+"; see %s\n", append(args, help)...)
	return exitFailed
}

// failed tells that something could not be read.
func failed(stderr io.Writer, err error) int {
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "sluice: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(stderr, "sluice: %v\n", err)
	return exitFailed
}
