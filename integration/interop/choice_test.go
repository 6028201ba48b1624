package interop

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The targets.
const (
	apacheTarget = "apache"
	oursTarget   = "ours"
)

// choice is what a run is asked for, besides what is installed.
type choice struct {
	clients []string       // empty for those that are there
	only    *regexp.Regexp // on scenario/client
	targets []string
}

// pair is one scenario with one of its clients.
type pair struct{ scenario, client string }

// pairs are all that there are: those of the table, and those that run by
// themselves.
func pairs() []pair {
	all := []pair{{"volume", goClient}, {"service", spring}}
	for _, sc := range scenarios {
		for _, c := range sc.clients {
			all = append(all, pair{sc.name, c})
		}
	}
	for _, c := range outageClients {
		all = append(all, pair{"outage", c}) // and access behind it, never alone
	}
	return all
}

// newChoice reads what the variables of the environment choose. Of every name
// that there is not, and of a choice of nothing, it says what there is: a table
// without a row would look like a success.
func newChoice(clients, only, targets string) (choice, error) {
	c := choice{targets: []string{apacheTarget, oursTarget}}
	var err error
	if clients != "" {
		if c.clients, err = listed("SLUICE_INTEROP_CLIENTS", clients, clientOrder); err != nil {
			return c, err
		}
	}
	if targets != "" {
		if c.targets, err = listed("SLUICE_INTEROP_TARGETS", targets, c.targets); err != nil {
			return c, err
		}
	}
	if c.only, err = regexp.Compile(only); err != nil {
		return c, fmt.Errorf("SLUICE_INTEROP_ONLY: %w", err)
	}
	return c, nil
}

// listed splits a list with commas, all of whose words must be among known.
func listed(variable, list string, known []string) ([]string, error) {
	words := strings.Split(list, ",")
	for _, w := range words {
		if !slices.Contains(known, w) {
			return nil, fmt.Errorf("%s has %q, it takes %s, with commas between", variable, w, strings.Join(known, ", "))
		}
	}
	return words, nil
}

// selects fails if nothing would run with these clients.
func (c choice) selects(clients map[string]bool) error {
	var names, mine []string
	for _, p := range pairs() {
		if clients[p.client] && c.only.MatchString(p.scenario+"/"+p.client) {
			return nil
		}
		names = append(names, p.scenario)
	}
	for _, name := range clientOrder {
		if clients[name] {
			mine = append(mine, name)
		}
	}
	slices.Sort(names)
	return fmt.Errorf("SLUICE_INTEROP_ONLY=%s matches nothing that runs: it is a regular expression on scenario/client, such as tags/go; "+
		"of the clients %s run now (SLUICE_INTEROP=1 adds others), scenarios are %s",
		c.only, strings.Join(mine, ", "), strings.Join(slices.Compact(names), ", "))
}

// chosen is the choice of the environment.
func chosen() (choice, error) {
	return newChoice(os.Getenv("SLUICE_INTEROP_CLIENTS"), os.Getenv("SLUICE_INTEROP_ONLY"), os.Getenv("SLUICE_INTEROP_TARGETS"))
}

func TestChoice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ clients, only, targets, want string }{
		{"", "", "", ""},
		{"java-5,node", "^tags/", "ours", ""},
		{"", "^volume/go$", "", ""},
		{"", "^(outage|access)/", "", ""},
		{"", "^access/", "", "matches nothing that runs"},
		{"", "^(tags|batch)$", "", "matches nothing that runs: it is a regular expression on scenario/client, such as tags/go"},
		{"mqadmin", "^tags/", "", "of the clients mqadmin run now"},
		{"", "^service/", "", "scenarios are admin-client, answers,"},
		{"java5", "", "", `SLUICE_INTEROP_CLIENTS has "java5", it takes go, java-5, java-4, spring, node, mqadmin, with commas between`},
		{"go,", "", "", `SLUICE_INTEROP_CLIENTS has ""`},
		{"", "", "our", `SLUICE_INTEROP_TARGETS has "our", it takes apache, ours`},
		{"", "(", "", "SLUICE_INTEROP_ONLY: error parsing regexp"},
	} {
		c, err := newChoice(test.clients, test.only, test.targets)
		if err == nil {
			clients := map[string]bool{goClient: len(c.clients) == 0}
			for _, name := range c.clients {
				clients[name] = true
			}
			err = c.selects(clients)
		}
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
