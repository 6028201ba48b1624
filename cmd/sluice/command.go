package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/sdk/config"
)

// command is a word of the command line.
type command struct {
	name string
	// usage is what help says; its first line is the form.
	usage string
	// run does it, for a command without further ones.
	run func(ctx context.Context, args []string, stdout, stderr io.Writer) int
	// sub are the words that may follow.
	sub []command
}

const usage = `sluice serves the bundled broker to RocketMQ clients, and looks after it or after a RocketMQ cluster.

usage:
  sluice serve [-dir DIR] [-listen ADDRESS]      serve the broker: name server and broker on one port
  sluice topic list|show|create|update|delete    topics
  sluice group list|show|members|reset|delete    consumer groups
  sluice lag [GROUP]                             how far groups are behind
  sluice message send|get|find|browse            messages
  sluice dlq list|peek|redrive|purge             dead letters
  sluice log verify|dump DIR                     what a store says, without a server and without a write
  sluice version                                 what this program was built from
  sluice help [COMMAND]                          more, such as: sluice help topic create

topic, group, lag, message and dlq talk to the name server at -addr or $SLUICE_ADDR; see sluice help topic.

exit codes: 0 all is well, 1 not found or refused, or damage was found, 2 wrong usage, or what is asked
cannot be reached or read, 130 interrupted
`

const logUsage = `usage: sluice log COMMAND DIR

Looks at the store of a bundled broker, and never writes into it.

  sluice log verify DIR    read everything and name every damage
  sluice log dump DIR      show what is in the log, a line for each frame

exit codes: 0 all is well, 1 damage was found, 2 wrong usage or DIR cannot be read
`

// commands is the whole command line.
func commands() command {
	return command{name: "sluice", usage: usage, sub: []command{
		{name: "serve", usage: serveUsage, run: runServe},
		{name: "topic", usage: topicUsage, sub: topicCommands()},
		{name: "group", usage: groupUsage, sub: groupCommands()},
		{name: "lag", usage: remoteHelp("lag", lagUsage), run: runLag},
		{name: "message", usage: messageUsage, sub: messageCommands()},
		{name: "dlq", usage: dlqUsage, sub: dlqCommands()},
		{name: "log", usage: logUsage, sub: []command{
			{name: "verify", usage: verifyUsage, run: runVerify},
			{name: "dump", usage: dumpUsage, run: runDump},
		}},
		{name: "version", usage: usage, run: runVersion},
	}}
}

// find answers the word, nil if there is none.
func (c *command) find(word string) *command {
	i := slices.IndexFunc(c.sub, func(s command) bool { return s.name == word })
	if i < 0 {
		return nil
	}
	return &c.sub[i]
}

// names are the words that may follow.
func (c *command) names() []string {
	names := make([]string, len(c.sub))
	for i, s := range c.sub {
		names[i] = s.name
	}
	return names
}

// meant is a question about the word that was probably meant. One that is among
// them was meant as it is: something else is wrong.
func meant(word string, among []string) string {
	if slices.Contains(among, word) {
		return ""
	}
	if near, ok := config.Nearest(word, among); ok {
		return fmt.Sprintf(" (did you mean %s?)", near)
	}
	return ""
}

// run is the command line; it answers the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := commands()
	at, path := &root, ""
	for {
		if at.run != nil {
			return at.run(ctx, args, stdout, stderr)
		}
		if len(args) == 0 {
			if at == &root {
				fmt.Fprint(stderr, usage)
				return exitFailed
			}
			return wrong(stderr, "sluice help"+path, "%s takes a command, %s", at.name, alternatives(at.names()))
		}
		word := args[0]
		args = args[1:]
		switch word {
		case "help", "-h", "-help", "--help":
			return runHelp(append(strings.Fields(path), args...), stdout, stderr)
		case "-version", "--version":
			if at == &root {
				word = "version"
			}
		}
		next := at.find(word)
		switch {
		case strings.HasPrefix(word, "-"):
			return wrong(stderr, "sluice help"+path, "%s takes a command first, %s, and flags such as %s behind it", at.name, alternatives(at.names()), short(word))
		case next != nil:
			at, path = next, path+" "+next.name
		case at == &root:
			return wrong(stderr, "sluice help", "there is no command %q%s", word, meant(word, at.names()))
		default:
			return wrong(stderr, "sluice help"+path, "%s has no command %q%s, it has %s", at.name, word, meant(word, at.names()), conjunction(at.names()))
		}
	}
}

// runHelp shows the usage of a command.
func runHelp(args []string, stdout, stderr io.Writer) int {
	root := commands()
	at := &root
	for _, word := range args {
		if at == &root && word == "help" {
			break
		}
		next := at.find(word)
		if next == nil {
			return wrong(stderr, "sluice help", "there is no help for %q%s", strings.Join(args, " "), meant(word, at.names()))
		}
		at = next
	}
	if _, err := fmt.Fprint(stdout, at.usage); err != nil {
		return failed(stderr, fmt.Errorf("print: %w", err))
	}
	return exitFine
}

// alternatives is "a, b or c".
func alternatives(words []string) string { return listed(words, "or") }

// conjunction is "a, b and c".
func conjunction(words []string) string { return listed(words, "and") }

func listed(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " " + last + " " + words[n]
}
