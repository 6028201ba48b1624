package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/broker/server"
)

// defaultConnections is how many connections a server allows if nothing is said.
const defaultConnections = 1024

// limits are those of a server that its operator may have to set, by the names
// of the flag. They are the numbers that grow with those who use it; the others
// bound what one request or peer may cost.
func limits(l *server.Limits) map[string]*int {
	return map[string]*int{
		"connections": &l.Connections, "per-address": &l.PerAddress, "topics": &l.Topics, "groups": &l.Groups,
		"delayed": &l.Delayed, "halves": &l.Halves,
	}
}

// settings are the flags by which answers and warnings of a server name what it is
// configured with.
func settings() map[string]string {
	const fixed = "sluice serve has no flag for it"
	return map[string]string{
		"Limits.Connections": "-limit connections=N", "Limits.PerAddress": "-limit per-address=N", "Limits.Topics": "-limit topics=N",
		"Limits.Groups": "-limit groups=N", "Limits.Delayed": "-limit delayed=N", "Limits.Halves": "-limit halves=N",
		"Limits.Subscriptions": fixed, "Limits.HeldPulls": fixed, "Limits.Apart": fixed, "Config.AutoCreate": "-auto-create",
		"Config.TLSMode: TLSRequired": "-tls-mode required",
	}
}

// limitFlag declares -limit NAME=N, which may be given for each name.
func (f *serveFlags) limitFlag() {
	names := slices.Sorted(maps.Keys(limits(&server.Limits{})))
	form := fmt.Sprintf("NAME=N, with a name of %s and a number from 1 to %d", alternatives(names), 1<<20)
	f.value("limit", form, func(s string) error {
		name, n, ok := strings.Cut(s, "=")
		to := limits(&f.net.Limits)[name]
		if !ok || to == nil {
			return errForm
		}
		if *to != 0 {
			f.bad("-limit takes %s once, not %d and %s", name, *to, short(n))
		}
		return number(1, 1<<20, to)(n)
	})
}

// checkLimits refuses a limit that another one makes idle.
func (f *serveFlags) checkLimits() {
	all := cmp.Or(f.net.Limits.Connections, defaultConnections)
	if here := f.net.Limits.PerAddress; here > all {
		f.bad("-limit per-address takes 1 to %d, as many as connections, not %d", all, here)
	}
}
