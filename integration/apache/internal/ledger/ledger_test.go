package ledger_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/integration/apache/internal/ledger"
)

var (
	refused = &driver.Error{Code: driver.Unavailable}
	perhaps = &driver.Error{Code: driver.Timeout, MaybeDone: true}
)

// attempts notes attempts to send a message and how they ended.
func attempts(l *ledger.Ledger, body string, outcomes ...error) {
	for _, err := range outcomes {
		l.Sending(body)
		l.Told(body, err)
	}
}

// What goes right or has a reason passes, and is counted by its kind.
func TestVerdict_Explained(t *testing.T) {
	l := ledger.New()
	attempts(l, "plain", nil)
	l.Received("plain", "q/0", 1)
	attempts(l, "retried", refused, nil)
	l.Received("retried", "q/1", 1)
	attempts(l, "doubled", perhaps, nil)
	l.Received("doubled", "q/2", 1)
	l.Received("doubled", "q/3", 1)
	attempts(l, "handed over", nil)
	l.Received("handed over", "q/4", 1)
	l.Received("handed over", "q/4", 2)
	attempts(l, "perhaps", perhaps)
	l.Received("perhaps", "q/5", 2)
	attempts(l, "perhaps not", perhaps)
	attempts(l, "not", refused)
	v := l.Verdict()
	if err := v.Err(); err != nil {
		t.Error(err)
	}
	if v.Sent != 7 || v.Acknowledged != 4 || v.Received != 5 || v.Maybe != 3 || v.AgainMaybe != 1 || v.AgainPosition != 1 {
		t.Errorf("got %+v", v)
	}
}

// A seeded fault of each kind is found.
func TestVerdict_Faults(t *testing.T) {
	for name, c := range map[string]struct {
		seed func(l *ledger.Ledger)
		list func(v ledger.Verdict) []string
	}{
		"a loss": {
			func(l *ledger.Ledger) { attempts(l, "m", nil) },
			func(v ledger.Verdict) []string { return v.Lost },
		},
		"a loss behind an attempt that may have been done": {
			func(l *ledger.Ledger) { attempts(l, "m", perhaps, nil) },
			func(v ledger.Verdict) []string { return v.Lost },
		},
		"a copy too many": {
			func(l *ledger.Ledger) {
				attempts(l, "m", nil)
				l.Received("m", "q/0", 1)
				l.Received("m", "q/1", 1)
			},
			func(v ledger.Verdict) []string { return v.Unexplained },
		},
		"one more than may have been done": {
			func(l *ledger.Ledger) {
				attempts(l, "m", perhaps, refused, nil)
				for _, place := range []string{"q/0", "q/1", "q/2"} {
					l.Received("m", place, 1)
				}
			},
			func(v ledger.Verdict) []string { return v.Unexplained },
		},
		"a copy twice in one life": {
			func(l *ledger.Ledger) {
				attempts(l, "m", nil)
				l.Received("m", "q/0", 7)
				l.Received("m", "q/0", 7)
			},
			func(v ledger.Verdict) []string { return v.Unexplained },
		},
		"a lie about what was not done": {
			func(l *ledger.Ledger) {
				attempts(l, "m", refused)
				l.Received("m", "q/0", 1)
			},
			func(v ledger.Verdict) []string { return v.Phantoms },
		},
		"a message that nobody sent": {
			func(l *ledger.Ledger) { l.Received("m", "q/0", 1) },
			func(v ledger.Verdict) []string { return v.Phantoms },
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := ledger.New()
			attempts(l, "beside it", nil)
			l.Received("beside it", "q/9", 1)
			c.seed(l)
			v := l.Verdict()
			if v.Err() == nil || len(c.list(v)) != 1 {
				t.Errorf("the fault was not found: %+v", v)
			}
			if n := len(slices.Concat(v.Lost, v.Phantoms, v.Unexplained)); n != 1 {
				t.Errorf("one fault was seeded, %d were found: %+v", n, v)
			}
		})
	}
}

// An error that is none of the driver's may mean anything.
func TestTold_ForeignError(t *testing.T) {
	l := ledger.New()
	attempts(l, "m", errors.New("?"))
	l.Received("m", "q/0", 1)
	if err := l.Verdict().Err(); err != nil {
		t.Error(err)
	}
}

func TestMissing(t *testing.T) {
	l := ledger.New()
	attempts(l, "a", nil)
	attempts(l, "b", perhaps)
	if n := l.Missing(); n != 1 {
		t.Errorf("%d are missing, want a", n)
	}
	l.Received("a", "q/0", 1)
	if n := l.Missing(); n != 0 {
		t.Errorf("%d are missing, want none", n)
	}
}
