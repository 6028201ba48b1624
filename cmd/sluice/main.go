// Command sluice is the server of the bundled broker, the operator's tool for
// it and for Apache RocketMQ, and a reader of what the broker has stored.
//
//	sluice serve [-dir DIR] [-listen ADDRESS] …   serve the broker to RocketMQ clients
//	sluice topic list|show|create|update|delete   topics of a cluster
//	sluice group list|show|members|reset|delete   consumer groups of a cluster
//	sluice lag [GROUP]                            how far groups are behind
//	sluice message send|get|find|browse           messages of a cluster
//	sluice dlq list|peek|redrive|purge            dead letters of a cluster
//	sluice log verify|dump DIR                    what a store says, without a server
//	sluice version
//	sluice help [COMMAND]
//
// It exits with 0 if all is well; 1 if what was asked for is not there or was
// refused, or if damage was found; 2 if it was called wrongly, or something
// cannot be reached or read; 130 if it was interrupted.
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
	exitDamage      = 1 // of a store
	exitRefused     = 1 // by a server
	exitUnclean     = 1 // the end of serve
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
