package halves_test

import (
	"fmt"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
)

func TestState_Verdict(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s                halves.State
		commit, rollback halves.Verdict
	}{
		{halves.None, halves.Unknown, halves.Unknown},
		{halves.Open, halves.Decides, halves.Decides},
		{halves.Parked, halves.Decides, halves.Decides},
		{halves.Committed, halves.Repeats, halves.Contradicts},
		{halves.RolledBack, halves.Contradicts, halves.Repeats},
	} {
		if got := c.s.Verdict(driver.Commit); got != c.commit {
			t.Errorf("commit in state %d: got %d, want %d", c.s, got, c.commit)
		}
		if got := c.s.Verdict(driver.Rollback); got != c.rollback {
			t.Errorf("rollback in state %d: got %d, want %d", c.s, got, c.rollback)
		}
	}
}

func TestTable_TerminalStatesAbsorb(t *testing.T) {
	t.Parallel()
	tab := halves.New(10)
	id := halves.ID{Group: "g", Tx: "1"}
	tab.Prepared(id, 100, 5)
	tab.Prepared(id, 200, 9) // the first one stays
	tab.Park(100, 50, 15)
	if h := tab.Get(id); h.State != halves.Parked || h.Pos != 100 || h.StoredMs != 5 || h.ParkedMs != 50 || h.Checks != 15 {
		t.Fatalf("parked: %+v", h)
	}
	tab.Decide(100, halves.Committed)
	tab.Decide(100, halves.RolledBack)
	tab.Park(100, 60, 1)
	tab.Prepared(id, 300, 9)
	if h := tab.Get(id); h.State != halves.Committed || h.Pos != 100 {
		t.Fatalf("after the decision: %+v", h)
	}
	tab.Undecided(func(h halves.Half) { t.Errorf("%+v is decided", h) })
	if h := tab.Get(halves.ID{Group: "other", Tx: "1"}); h.State != halves.None {
		t.Fatalf("another group's: %+v", h)
	}
}

func TestTable_ForgetsOldDecisionsOnly(t *testing.T) {
	t.Parallel()
	const keep = 8
	tab := halves.New(keep)
	id := func(i int) halves.ID { return halves.ID{Group: "g", Tx: fmt.Sprint(i)} }
	tab.Prepared(id(-1), 1, 0) // stays open throughout
	for i := range 100 {
		pos := int64(i + 10)
		tab.Prepared(id(i), pos, 0)
		tab.Decide(pos, halves.RolledBack)
		for j := range i + 1 {
			want := halves.RolledBack
			if j <= i-keep {
				want = halves.None
			}
			if got := tab.Get(id(j)).State; got != want {
				t.Fatalf("after %d decisions half %d is in state %d, want %d", i+1, j, got, want)
			}
		}
	}
	if tab.Get(id(-1)).State != halves.Open {
		t.Fatal("an open half message was forgotten")
	}
}
