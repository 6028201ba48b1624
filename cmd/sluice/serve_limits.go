package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluicemq/sluice/broker/server"
)

// limits are those of a server that its operator may have to set, by the names
// of the flag. They are the numbers that grow with those who use it; the others
// bound what one request or peer may cost.
func limits(l *server.Limits) map[string]*int {
	return map[string]*int{
		"connections": &l.Connections, "per-address": &l.PerAddress, "topics": &l.Topics, "groups": &l.Groups,
		"delayed": &l.Delayed, "halves": &l.Halves,
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
		return number(1, 1<<20, to)(n)
	})
}
