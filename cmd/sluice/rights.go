package main

import (
	"errors"
	"strings"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/cmd/sluice/internal/cluster"
)

const adminRight = "an admin account"

// rights are what the account of a command has to have where there is access
// control. A command asks several things, and the first that is refused may be one
// nobody has heard of: what it takes as a whole is said by its help, and by errors.
func rights() map[string]string {
	return map[string]string{
		"topic list":     "any account, and lists the topics that the account has PUB or SUB on",
		"topic show":     "PUB or SUB on TOPIC",
		"topic create":   adminRight,
		"topic update":   adminRight,
		"topic delete":   adminRight,
		"group list":     "any account, and lists the groups that the account has SUB on",
		"group show":     "SUB on GROUP",
		"group members":  "SUB on GROUP",
		"group reset":    adminRight,
		"group delete":   adminRight,
		"lag":            "SUB on GROUP, or lists the groups that the account has SUB on",
		"message send":   "PUB on TOPIC",
		"message get":    "SUB on the topic of the message",
		"message find":   "SUB on TOPIC",
		"message browse": "SUB on TOPIC and on group TOOLS_CONSUMER",
		"dlq list":       "SUB on group sluice-redrive, and lists the groups that the account has SUB on",
		"dlq peek":       "SUB on GROUP and on group TOOLS_CONSUMER",
		"dlq redrive":    "SUB on GROUP and on groups TOOLS_CONSUMER and sluice-redrive, PUB where it sends",
		"dlq purge":      adminRight,
	}
}

// flagsFollow is the end of every usage.
const flagsFollow = "\nFlags of every such command:\n"

// remoteHelp is the help of a command: its usage, what its account has to have, and
// the flags that all commands have.
func remoteHelp(name, usage string) string {
	return strings.TrimSuffix(usage, flagsFollow) + "\nWith access control it takes " + rights()[name] + ".\n" + flagsFollow + remoteUsage
}

// needed says what the account has to have, after something was refused to it; ""
// if that was not why.
func (r *remote) needed(err error) string {
	e, ok := errors.AsType[*cluster.RefusedError](err)
	if !ok || e.Code != remoting.ResNoPermission || r.accessKey == "" {
		return ""
	}
	return "with access control " + r.name + " takes " + rights()[r.name]
}
