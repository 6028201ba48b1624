package spin

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/tabwriter"
)

// variant is a model with its switches, and for each property whether it holds.
type variant struct {
	model, name string
	switches    []string
	holds       map[string]bool
}

var (
	txProperties   = []string{"atmostonce", "novisible_if_rolledback", "nolost_if_committed", "noresurrect", "resolved"}
	idemProperties = []string{"once", "noloss"}
)

// variants are the expectations: the plain tx.pml and idem.pml with a unique
// key in SQL hold in everything, every other one is wrong in something.
var variants = []variant{
	{"tx", "as it is", nil, allBut(txProperties)},
	{"tx", "two records, no look at the first", []string{"-DRMQ"}, allBut(txProperties, "atmostonce")},
	{"tx", "no tombstone", []string{"-DNOTOMB"}, allBut(txProperties, "nolost_if_committed")},
	{"tx", "both", []string{"-DRMQ", "-DNOTOMB"}, allBut(txProperties, "atmostonce", "nolost_if_committed", "noresurrect")},
	{"idem", "lock with a lease", nil, allBut(idemProperties, "once")},
	{"idem", "with fencing", []string{"-DFENCE"}, allBut(idemProperties, "once")},
	{"idem", "unique key in SQL", []string{"-DSQL"}, allBut(idemProperties)},
	{"idem", "SQL, busy is acknowledged", []string{"-DSQL", "-DACKBUSY"}, allBut(idemProperties, "noloss")},
	{"idem", "complete joins, lock", []string{"-DJOIN"}, allBut(idemProperties, "once")},
	{"idem", "complete joins, SQL", []string{"-DJOIN", "-DSQL"}, allBut(idemProperties)},
}

func allBut(properties []string, violated ...string) map[string]bool {
	m := map[string]bool{}
	for _, p := range properties {
		m[p] = true
	}
	for _, p := range violated {
		m[p] = false
	}
	return m
}

// TestModels checks every property of every variant and prints the table.
func TestModels(t *testing.T) {
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is not installed", tool)
			}
			t.Skipf("%s is not installed", tool)
		}
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for i, v := range variants {
		properties := idemProperties
		if v.model == "tx" {
			properties = txProperties
		}
		if i == 0 || variants[i-1].model != v.model {
			fmt.Fprintf(w, "%s\t%s\n", v.model, strings.Join(properties, "\t"))
		}
		verifier := compile(t, v)
		cells := make([]string, len(properties))
		for i, p := range properties {
			r := verify(t, verifier, p)
			cells[i] = r.String()
			if r.holds != v.holds[p] {
				t.Errorf("%s, %s (%s): property %s: %v, expected holds=%t\n%s",
					v.model, v.name, strings.Join(v.switches, " "), p, r, v.holds[p], r.output)
			}
		}
		fmt.Fprintf(w, "%s\t%s\n", v.name, strings.Join(cells, "\t"))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("properties of the models, with the number of states\n" + table.String())
}

// compile makes the verifier of a variant.
func compile(t *testing.T, v variant) string {
	t.Helper()
	model, err := filepath.Abs(v.model + ".pml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, argv := range [][]string{
		append(append([]string{"spin", "-a"}, v.switches...), model),
		{"gcc", "-O2", "-w", "-o", "pan", "pan.c"},
	} {
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
	}
	return filepath.Join(dir, "pan")
}

type result struct {
	holds  bool
	states string
	output string
}

// String is a cell of the table.
func (r result) String() string {
	if r.holds {
		return "holds (" + r.states + ")"
	}
	return "violated (" + r.states + ")"
}

var (
	errorsFound  = regexp.MustCompile(`errors: (\d+)`)
	statesStored = regexp.MustCompile(`(\d+) states, stored`)
)

// verify searches for a violation of the property. The search has to be
// complete where none is found.
func verify(t *testing.T, verifier, property string) result {
	t.Helper()
	args := []string{"-m100000", "-a", "-N", property}
	if property == "resolved" { // in the end: nobody who can act is kept from it for ever
		args = append(args, "-f")
	}
	cmd := exec.CommandContext(t.Context(), verifier, args...)
	cmd.Dir = filepath.Dir(verifier)
	out, err := cmd.CombinedOutput()
	text := string(out)
	found, states := errorsFound.FindStringSubmatch(text), statesStored.FindStringSubmatch(text)
	if found == nil || states == nil {
		t.Fatalf("verify %s: %v\n%s", property, err, text)
	}
	r := result{holds: found[1] == "0", states: states[1], output: text}
	if incomplete := strings.Contains(text, "Search not completed") || strings.Contains(text, "max search depth too small"); r.holds && incomplete {
		t.Errorf("the search for a violation of %s was not complete\n%s", property, text)
	}
	return r
}
