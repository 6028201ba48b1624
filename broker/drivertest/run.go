package drivertest

import (
	"context"
	"fmt"
	"runtime/pprof"
	"testing"
	"testing/synctest"

	"github.com/sluicemq/sluice/broker/driver"
)

// testCase is one sentence of the contract.
type testCase struct {
	group, name string
	needs       need
	run         func(e *env)
}

// groups lists the groups in the order in which they run.
func groups() [][]testCase {
	return [][]testCase{
		capabilityCases(), nameCases(), sendCases(), roundTripCases(), orderCases(), delayCases(), filterCases(),
		memberCases(), laneCases(), broadcastCases(), fetchCases(), settleCases(), deadLetterCases(), seekCases(),
		durableCases(), halfCases(), checkCases(), closeCases(), contextCases(), adminCases(), queryCases(),
		requestCases(), recallCases(),
	}
}

// Run runs the whole suite as subtests of t, logs its table and returns it.
func Run(t *testing.T, h Harness) *Report {
	t.Helper()
	h = h.withDefaults()
	r := &Report{}
	r.offered = probe(t, h)
	if h.Together {
		t.Run("together", func(t *testing.T) { runGroups(t, h, r) }) // ends when all have
	} else {
		runGroups(t, h, r)
	}
	t.Run("machine", func(t *testing.T) {
		o := Outcome{Group: "machine", Name: "model"}
		defer func() { o.Passed = !t.Failed(); r.add(o) }()
		Machine(t, h)
	})
	t.Logf("conformance:\n%s", r)
	return r
}

// runGroups runs every group.
func runGroups(t *testing.T, h Harness, r *Report) {
	for _, cases := range groups() {
		t.Run(cases[0].group, func(t *testing.T) {
			if h.Together {
				t.Parallel()
			}
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					runCase(t, h, c, r)
				})
			}
		})
	}
}

// runCase runs or skips one test and notes the outcome.
func runCase(t *testing.T, h Harness, c testCase, r *Report) {
	o := Outcome{Group: c.group, Name: c.name}
	defer func() {
		o.Passed = !t.Failed() && !o.Skipped
		r.add(o)
	}()
	if missing := c.needs &^ r.offered; missing != 0 {
		o.Skipped = true
		if broker := missing &^ harnessNeeds; broker != 0 {
			o.Reason = "broker: no " + broker.String()
		} else {
			o.Reason, o.ByHarness = "harness: no "+missing.String(), true
		}
		t.Skip(o.Reason)
	}
	bubble(t, h, func(t *testing.T) { execute(t, h, c.run) })
}

// bubble runs f in a synctest bubble if the harness asks for it.
func bubble(t *testing.T, h Harness, f func(t *testing.T)) {
	if h.Virtual {
		synctest.Test(t, f)
		return
	}
	f(t)
}

// probe asks one broker of the kind what it can do.
func probe(t *testing.T, h Harness) (n need) {
	t.Helper()
	bubble(t, h, func(t *testing.T) {
		execute(t, h, func(e *env) { n = offers(e.caps, e.ext, e.b) })
	})
	return n
}

// execute runs f with a broker of its own, closes everything and checks that
// no goroutine is left.
func execute(tb testing.TB, h Harness, f func(e *env)) {
	e := newEnv(tb, h)
	label := fmt.Sprintf("%s %p", tb.Name(), e)
	pprof.Do(context.Background(), pprof.Labels(leakLabel, label), func(context.Context) {
		defer func() {
			e.finish()
			checkLeaks(tb, label)
		}()
		e.start()
		f(e)
	})
}

// start opens the broker and its first client, which tells the capabilities.
func (e *env) start() {
	e.b = e.h.Open(e.TB)
	if e.b.Connect == nil {
		e.Fatal("drivertest: Harness.Open answered a Broker without Connect")
	}
	c := e.connect("main")
	e.main, e.caps, e.ext = c, c.Capabilities(), c.Extensions()
	if e.caps.MaxBody > 0 {
		e.lim.LargeBody = min(e.lim.LargeBody, e.caps.MaxBody)
	}
}

var _ driver.LaneEvents = (*member)(nil)
