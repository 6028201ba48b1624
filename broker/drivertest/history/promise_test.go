package history_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/drivertest/history"
)

// ok notes values that were stored.
func ok(h *history.History, ns ...int) {
	for _, n := range ns {
		h.Invoke(val(n), "")
		h.Answer(val(n), history.OK)
	}
}

// came notes deliveries of values from offset 0 on.
func came(h *history.History, group string, ns ...int) {
	for i, n := range ns {
		h.Settle(h.Deliver(group, history.Body(val(n), 64), "lane", int64(i)), history.Acked)
	}
}

func wantVerdict(t *testing.T, h *history.History, r history.Rules, want string) {
	t.Helper()
	err := h.Check(r).Err()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestCheck_Final(t *testing.T) {
	t.Parallel()
	final := history.Rules{Final: []string{"last"}, SharedLanes: true}
	for _, c := range []struct {
		name string
		run  func(h *history.History)
		want string
	}{
		{"all well", func(h *history.History) { ok(h, 1, 2); came(h, "live", 1, 2); came(h, "last", 1, 2) }, ""},
		{"unknown, seen, and gone", func(h *history.History) {
			h.Invoke(val(1), "")
			came(h, "live", 1)
		}, "1 × vanished: p/1"},
		{"another value at the same place", func(h *history.History) {
			ok(h, 1, 2)
			came(h, "live", 1, 2)
			came(h, "last", 2, 1)
		}, "place with two values"},
		{"not where send said", func(h *history.History) {
			ok(h, 1)
			h.Stored(val(1), "lane", 3)
			ok(h, 2)
			h.Settle(h.Deliver("last", history.Body(val(2), 64), "lane", 3), history.Acked)
			h.Settle(h.Deliver("last", history.Body(val(1), 64), "lane", 4), history.Acked)
		}, "place with two values"},
		{"a hole", func(h *history.History) {
			ok(h, 1, 2)
			h.Deliver("last", history.Body(val(1), 64), "lane", 0)
			h.Deliver("last", history.Body(val(2), 64), "lane", 2)
		}, "1 × gap"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := &history.History{}
			c.run(h)
			wantVerdict(t, h, final, c.want)
		})
	}
}

func TestCheck_Halves(t *testing.T) {
	t.Parallel()
	type step struct {
		commit bool
		o      history.Outcome
	}
	for _, c := range []struct {
		name  string
		steps []step
		came  bool
		want  string
	}{
		{"undecided and hidden", nil, false, ""},
		{"undecided and visible", nil, true, "was not committed"},
		{"committed", []step{{true, history.OK}}, true, ""},
		{"committed and lost", []step{{true, history.OK}}, false, "1 × lost"},
		{"commit without an answer", []step{{true, history.Unknown}}, true, ""},
		{"commit without an answer, not done", []step{{true, history.Unknown}}, false, ""},
		{"rolled back and visible", []step{{false, history.OK}}, true, "was rolled back"},
		{"rolled back after a commit that was refused", []step{{true, history.Failed}, {false, history.OK}}, true, "was rolled back"},
		{"commit stays", []step{{true, history.OK}, {false, history.OK}}, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := &history.History{}
			h.Prepare(val(1))
			for _, s := range c.steps {
				h.Decide(val(1), s.commit, s.o)
			}
			if c.came {
				came(h, "g", 1)
			}
			wantVerdict(t, h, history.Rules{Groups: []string{"g"}}, c.want)
		})
	}
}

func TestCheck_Positions(t *testing.T) {
	t.Parallel()
	at := func(h *history.History, committed int64, durable bool) {
		h.Position("g", "lane", committed, 10, durable)
	}
	for _, c := range []struct {
		name string
		run  func(h *history.History)
		want string
	}{
		{"forward", func(h *history.History) { at(h, 1, true); at(h, 5, false); at(h, 5, true) }, ""},
		{"beyond the end", func(h *history.History) { at(h, 11, false) }, "which ends at 10"},
		{"back", func(h *history.History) { at(h, 5, false); at(h, 4, false) }, "without a reason"},
		{"back after a fault", func(h *history.History) { at(h, 3, true); at(h, 5, false); h.Fault("crash"); at(h, 4, false) }, ""},
		{"back behind what was durable", func(h *history.History) { at(h, 3, true); h.Fault("crash"); at(h, 2, false) }, "was durable"},
		{"back after a reset", func(h *history.History) { at(h, 3, true); h.Reset("g"); at(h, 0, true) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := &history.History{}
			c.run(h)
			wantVerdict(t, h, history.Rules{}, c.want)
		})
	}
}

func TestCheck_Due(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rules := history.Rules{Groups: []string{"g"}, Tick: time.Millisecond, Late: time.Second}
		h := &history.History{}
		ok(h, 1)
		h.Due(val(1), time.Now().Add(time.Minute))
		wantVerdict(t, h, rules, "")
		time.Sleep(time.Minute - time.Millisecond)
		came(h, "g", 1)
		wantVerdict(t, h, rules, "")
		ok(h, 2, 3)
		h.Due(val(2), time.Now().Add(time.Minute))
		h.Due(val(3), time.Now().Add(time.Minute))
		came(h, "g", 2)
		wantVerdict(t, h, rules, "came 1m0s early")
		time.Sleep(2 * time.Minute)
		wantVerdict(t, h, rules, "1 × lost: p/3")
	})
}

func TestCheck_Endings(t *testing.T) {
	t.Parallel()
	deliver := func(h *history.History, lane string, offset int64, e history.Ending) {
		h.Settle(h.Deliver("g", history.Body(val(1), 64), lane, offset), e)
	}
	for _, c := range []struct {
		name string
		run  func(h *history.History)
		want string
	}{
		{"given back, and nothing", func(h *history.History) { deliver(h, "a", 0, history.Again) }, "never came again"},
		{"given back, and a copy", func(h *history.History) { deliver(h, "a", 0, history.Again); deliver(h, "retry", 0, history.Acked) }, ""},
		{"dead, and not to be found", func(h *history.History) { deliver(h, "a", 0, history.Dead) }, "not in the dead letters"},
		{"dead", func(h *history.History) {
			deliver(h, "a", 0, history.Dead)
			h.Deliver("dead", history.Body(val(1), 64), "dlq", 0)
		}, ""},
		{"a copy and, after a crash, the original", func(h *history.History) {
			deliver(h, "a", 0, history.Again)
			h.Fault("crash")
			deliver(h, "retry", 0, history.Acked)
			deliver(h, "a", 0, history.Acked)
		}, ""},
		{"two copies of one", func(h *history.History) {
			deliver(h, "a", 0, history.Again)
			deliver(h, "retry", 0, history.Acked)
			deliver(h, "retry", 1, history.Acked)
		}, "duplicate"},
		{"a copy perhaps, and the original", func(h *history.History) {
			deliver(h, "a", 0, history.Unsure)
			deliver(h, "a", 0, history.Acked)
			deliver(h, "retry", 0, history.Acked)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := &history.History{}
			ok(h, 1)
			c.run(h)
			wantVerdict(t, h, history.Rules{Groups: []string{"g"}, Dead: map[string]string{"g": "dead"}}, c.want)
		})
	}
}
