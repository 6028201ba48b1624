package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// span is what the test reads of a line of stdouttrace.
type span struct {
	Name        string
	SpanContext struct{ TraceID, SpanID string }
	Parent      struct{ TraceID, SpanID string }
	Attributes  []struct {
		Key   string
		Value struct{ Value any }
	}
	Links []struct {
		SpanContext struct{ TraceID, SpanID string }
	}
	Status struct{ Code, Description string }
}

func (s span) attr(key string) any {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.Value
		}
	}
	return nil
}

func readSpans(t *testing.T, path string) []span {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var spans []span
	for d := json.NewDecoder(f); ; {
		var s span
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			return spans
		} else if err != nil {
			t.Fatal(err)
		}
		spans = append(spans, s)
	}
}

// One bill is one trace: half message, local transaction, check-back (its
// sender stops before END), delivery to every service, a failed attempt, its
// retry and the settlements.
func TestTrace_FollowsOneBill(t *testing.T) {
	t.Parallel()
	const id = "B000001"
	c := chaos{share: 0.5} // with a seed under which all of that happens to the bill
	for c.rollBack(id) || c.stop(id) != stopBeforeEnd || !c.hits("handle red-packet", id) {
		c.seed++
	}
	seed := strconv.FormatUint(c.seed, 10)
	path := filepath.Join(t.TempDir(), "spans")
	r := runHere(t.Context(), strings.NewReader(sample(1, 1, 500)), "-bills", "-", "-trace", path, "-chaos", "0.5", "-seed", seed, "-json")
	if got := r.wantInOrder(t, 1); got.Committed != 1 || got.CheckedBack != 1 {
		t.Fatalf("%+v", got)
	}
	all := readSpans(t, path)
	root := slices.IndexFunc(all, func(s span) bool { return s.Name == "pay bill" })
	if root < 0 {
		t.Fatal("there is no span for the payment")
	}
	trace := all[root].SpanContext.TraceID
	var spans []span
	for _, s := range all {
		if s.SpanContext.TraceID == trace {
			spans = append(spans, s)
		}
	}
	has := func(what string, match func(span) bool) {
		t.Helper()
		if !slices.ContainsFunc(spans, match) {
			t.Errorf("the trace has no span for %s", what)
		}
	}
	process := func(listener string, attempt float64, failed bool) func(span) bool {
		return func(s span) bool {
			return s.Name == "process "+topicSettled && s.attr("sluice.listener") == listener &&
				s.attr("sluice.attempt") == attempt && (s.Status.Code == "Error") == failed
		}
	}
	named := func(name string) func(span) bool { return func(s span) bool { return s.Name == name } }
	has("the half message", named("prepare "+topicSettled))
	has("the local transaction", named("local "+topicSettled))
	has("the check-back", named("check "+topicSettled))
	has("the failed attempt", process("red-packet", 1, true))
	has("the retry", process("red-packet", 2, false))
	has("its settlement", named("retry "+topicSettled))
	for _, listener := range []string{"ledger", "notify", "closer-payments"} {
		has(listener, func(s span) bool { return s.attr("sluice.listener") == listener && s.Status.Code != "Error" })
	}
	ids := map[string]bool{}
	for _, s := range all {
		ids[s.SpanContext.SpanID] = true
	}
	for _, s := range spans {
		if s.Parent.SpanID != "0000000000000000" && !ids[s.Parent.SpanID] {
			t.Errorf("the parent of %q is not in the file", s.Name)
		}
	}
	if t.Failed() {
		for _, s := range all {
			t.Logf("%s %s %v %v %v %s", s.SpanContext.TraceID[:6], s.Name, s.attr("sluice.listener"), s.attr("sluice.attempt"),
				s.attr("messaging.consumer.group.name"), s.Status.Code)
		}
	}
}
