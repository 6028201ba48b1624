package drivertest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
)

// need is what a test asks of the broker or of the harness.
type need uint32

const (
	needDelay need = 1 << iota
	needRetryDelay
	needTags
	needSQL
	needOneWay
	needBroadcast
	needOrdered
	needQueues
	needDurable
	needMaxBody
	needMaxBatch
	needTx
	needDecidesOnce
	needTopics
	needGroups
	needQuery
	needRequests
	needRecall
	// What follows is up to the harness, not to the broker.
	needCrash
	needReopen
)

const harnessNeeds = needCrash | needReopen

// needNames are the names of the bits, lowest first.
var needNames = [...]string{
	"Delay", "RetryDelay", "Tags", "SQL", "OneWay", "Broadcast", "Ordered", "Queues", "Durable", "MaxBody", "MaxBatch",
	"Extensions.Tx", "DecidesOnce", "Extensions.Topics", "Extensions.Groups", "Extensions.Query",
	"Extensions.Requests", "Extensions.Recall",
	"Broker.CrashAndReopen", "Broker.Reopen",
}

// offers lists what the broker claims and what the harness can do.
func offers(c driver.Capabilities, x driver.Extensions, b Broker) need {
	var n need
	for bit, have := range map[need]bool{
		needDelay: c.Delay != driver.NoDelay, needRetryDelay: c.RetryDelay != driver.NoDelay,
		needTags: c.Tags, needSQL: c.SQL, needOneWay: c.OneWay, needBroadcast: c.Broadcast,
		needOrdered: c.Ordered, needQueues: c.Queues, needDurable: c.Durable,
		needMaxBody: c.MaxBody > 0, needMaxBatch: c.MaxBatch > 0,
		needTx: x.Tx != nil, needDecidesOnce: c.DecidesOnce, needTopics: x.Topics != nil, needGroups: x.Groups != nil, needQuery: x.Query != nil,
		needRequests: x.Requests != nil, needRecall: x.Recall != nil,
		needCrash: b.CrashAndReopen != nil, needReopen: b.Reopen != nil,
	} {
		if have {
			n |= bit
		}
	}
	return n
}

func (n need) String() string {
	var names []string
	for i, name := range needNames {
		if n&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Outcome is how one test of the suite ended.
type Outcome struct {
	Group, Name string
	// Passed and Skipped exclude each other; neither means failed.
	Passed, Skipped bool
	// Reason says why it was skipped.
	Reason string
	// ByHarness: it was skipped because the harness lacks the means, not
	// because the broker says it cannot.
	ByHarness bool
}

// Report says what a run of the suite covered. It is complete when [Run] returns.
type Report struct {
	mu       sync.Mutex
	outcomes []Outcome
	offered  need
}

func (r *Report) add(o Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes = append(r.outcomes, o)
}

// Outcomes returns the tests that ran or were skipped, in the order of their
// names. Tests that -run did not select are absent.
func (r *Report) Outcomes() []Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.outcomes)
	slices.SortFunc(out, func(a, b Outcome) int {
		return strings.Compare(a.Group+"/"+a.Name, b.Group+"/"+b.Name)
	})
	return out
}

// RequireComplete fails t for every test that was skipped although the broker
// claims the capability, that is: because the harness could not crash or reopen.
func (r *Report) RequireComplete(t testing.TB) {
	t.Helper()
	for _, o := range r.Outcomes() {
		if o.Skipped && o.ByHarness {
			t.Errorf("%s/%s was skipped though the broker claims what it needs: %s", o.Group, o.Name, o.Reason)
		}
	}
}

// String is the table that a driver's README may show: per group how many
// tests passed, failed and were skipped, and for which reasons.
func (r *Report) String() string {
	type row struct {
		passed, failed, skipped int
		reasons                 []string
	}
	rows, order := map[string]*row{}, []string{}
	for _, o := range r.Outcomes() {
		g := rows[o.Group]
		if g == nil {
			g = &row{}
			rows[o.Group] = g
			order = append(order, o.Group)
		}
		switch {
		case o.Passed:
			g.passed++
		case o.Skipped:
			g.skipped++
			if !slices.Contains(g.reasons, o.Reason) {
				g.reasons = append(g.reasons, o.Reason)
			}
		default:
			g.failed++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-12s %6s %6s %7s  %s\n", "group", "passed", "failed", "skipped", "reason")
	for _, name := range order {
		g := rows[name]
		fmt.Fprintf(&b, "%-12s %6d %6d %7d  %s\n", name, g.passed, g.failed, g.skipped, strings.Join(g.reasons, "; "))
	}
	return b.String()
}
