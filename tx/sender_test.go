package tx_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/tx"
)

type billSettled struct {
	BillID string `json:"bill_id"`
}

// rows is a marker table in memory, so that time can be virtual: what
// tx/marker does in SQL, without its I/O.
type rows struct {
	mu    sync.Mutex
	state map[string]tx.Decision
}

func newRows() *rows { return &rows{state: map[string]tx.Decision{}} }

func (r *rows) Run(ctx context.Context, id string, f func(context.Context, *sql.Tx) error) (tx.Decision, error) {
	r.mu.Lock()
	before := r.state[id]
	r.mu.Unlock()
	switch before {
	case tx.Commit:
		return tx.Commit, errBefore
	case tx.Rollback:
		return tx.Rollback, errors.New("tombstone")
	}
	if err := f(ctx, nil); err != nil {
		if errors.Is(err, errDied) {
			return tx.Undecided, err
		}
		return tx.Rollback, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, dead := r.state[id]; dead {
		return tx.Rollback, errors.New("tombstone")
	}
	r.state[id] = tx.Commit
	return tx.Commit, nil
}

func (r *rows) Decide(_ context.Context, id string) (tx.Decision, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.state[id]; !ok {
		r.state[id] = tx.Rollback
	}
	return r.state[id], nil
}

func (r *rows) committed(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state[id] == tx.Commit
}

// errBefore says that the transaction of an earlier Run committed.
var errBefore = errors.New("committed before")

// errDied makes rows answer as if the process had died in the middle.
var errDied = errors.New("died")

func newSender(t *testing.T, c *sdk.Client, local tx.Local, opts ...tx.Option) *tx.Sender[billSettled] {
	t.Helper()
	opts = append([]tx.Option{tx.Topic("bill-settled"), tx.Group("bills")}, opts...)
	s, err := tx.NewSender[billSettled](tx.Params{Client: c, Local: local}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func work(err error) func(context.Context, *sql.Tx) error {
	return func(context.Context, *sql.Tx) error { return err }
}

func TestSend_Outcomes(t *testing.T) {
	t.Parallel()
	lost := &driver.Error{Code: driver.Timeout, Retryable: true, MaybeDone: true}
	down := &driver.Error{Code: driver.Unavailable, Retryable: true}
	refused := driver.Errorf(driver.FailedPrecondition, "resolve", "already rolled back")
	declined := errors.New("no cover")
	repeat := func(err error, n int) (out []error) {
		for range n {
			out = append(out, err)
		}
		return out
	}
	for name, c := range map[string]struct {
		faults  map[string][]error
		work    error
		outcome tx.Outcome
		err     error // in the tree of the error; nil: no error
		half    driver.Decision
		row     bool
		pending bool // the broker did not confirm
	}{
		"committed":                          {outcome: tx.Committed, half: tx.Commit, row: true},
		"rolled back":                        {work: declined, outcome: tx.RolledBack, err: declined, half: tx.Rollback},
		"died in the middle":                 {work: errDied, outcome: tx.Unknown, err: errDied, half: tx.Undecided},
		"half message answered late":         {faults: map[string][]error{"prepare": {lost}}, outcome: tx.Committed, half: tx.Commit, row: true},
		"end lost once":                      {faults: map[string][]error{"resolve": {lost}}, outcome: tx.Committed, half: tx.Commit, row: true},
		"broker gone after the local commit": {faults: map[string][]error{"resolve": repeat(down, 1000)}, outcome: tx.CommittedBrokerPending, half: tx.Undecided, row: true, pending: true},
		"broker gone after the rollback":     {faults: map[string][]error{"resolve": repeat(down, 1000)}, work: declined, outcome: tx.RolledBack, err: declined, half: tx.Undecided, pending: true},
		"rolled back behind our back":        {faults: map[string][]error{"resolve": {refused}}, outcome: tx.Conflicted, err: tx.ErrConflict, half: tx.Undecided, row: true, pending: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, r := newBroker(), newRows()
				if c.faults != nil {
					b.faults = c.faults
				}
				s := newSender(t, newClient(t, b), r)
				res, err := s.Send(t.Context(), billSettled{"B-1"}, work(c.work))
				if res.Outcome != c.outcome || !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
					t.Fatalf("Send = %v, %v; want %v, %v", res.Outcome, err, c.outcome, c.err)
				}
				if d, _, ok := b.state(res.ID); !ok || d != c.half {
					t.Errorf("the half message is %v (stored %v), want %v", d, ok, c.half)
				}
				if got := r.committed(res.ID); got != c.row {
					t.Errorf("the row is committed: %v, want %v", got, c.row)
				}
				if got := res.EndErr != nil; got != c.pending {
					t.Errorf("EndErr = %v, want one: %v", res.EndErr, c.pending)
				}
			})
		})
	}
}

// T1: without a stored half message the local transaction does not run.
func TestSend_HalfMessageRefused(t *testing.T) {
	t.Parallel()
	b := newBroker()
	b.faults["prepare"] = []error{driver.Errorf(driver.PermissionDenied, "prepare", "not you")}
	ran := false
	res, err := newSender(t, newClient(t, b), newRows()).Send(t.Context(), billSettled{}, func(context.Context, *sql.Tx) error { ran = true; return nil })
	if ran || res.Outcome != tx.RolledBack || !errors.Is(err, tx.ErrNotStored) || sdk.CodeOf(err) != sdk.PermissionDenied {
		t.Fatalf("Send = %v, %v; local ran: %v", res, err, ran)
	}
}

// The caller gives up while the local transaction commits: the broker still hears of it.
func TestSend_EndedContextKeepsTheEnd(t *testing.T) {
	t.Parallel()
	b := newBroker()
	ctx, cancel := context.WithCancel(t.Context())
	res, err := newSender(t, newClient(t, b), newRows()).Send(ctx, billSettled{}, func(context.Context, *sql.Tx) error { cancel(); return nil })
	if res.Outcome != tx.Committed || err != nil {
		t.Fatalf("Send = %v, %v", res.Outcome, err)
	}
	if d, _, _ := b.state(res.ID); d != tx.Commit {
		t.Errorf("the half message is %v", d)
	}
}

// panicky is a Local that lets panics through.
type panicky struct{ *rows }

func (panicky) Run(context.Context, string, func(context.Context, *sql.Tx) error) (tx.Decision, error) {
	panic("no database")
}

func TestSend_PanicInLocalIsUnknown(t *testing.T) {
	t.Parallel()
	res, err := newSender(t, newClient(t, newBroker()), panicky{newRows()}).Send(t.Context(), billSettled{}, work(nil))
	if res.Outcome != tx.Unknown || err == nil || !strings.Contains(err.Error(), "panic: no database") {
		t.Fatalf("Send = %v, %v", res.Outcome, err)
	}
}

func TestSend_KeepsOptionsAndID(t *testing.T) {
	t.Parallel()
	b := newBroker()
	s := newSender(t, newClient(t, b), newRows(), tx.TypeName("bill"))
	res, err := s.Send(t.Context(), billSettled{"B-7"}, work(nil), sdk.ID("T-7"), sdk.Tag("water"), sdk.Key("B-7"), sdk.OrderingKey("A-1"))
	if err != nil || res.ID != "T-7" {
		t.Fatalf("Send = %v, %v", res, err)
	}
	m := b.halves["T-7"].message
	if m.Topic != "bill-settled" || m.Tag != "water" || m.Keys[0] != "B-7" || m.OrderingKey != "A-1" ||
		m.Properties[tx.HeaderType] != "bill" || string(m.Body) != `{"bill_id":"B-7"}` {
		t.Errorf("half message = %+v", m)
	}
}

func TestNewSender_ReportsAllProblems(t *testing.T) {
	t.Parallel()
	wrong := tx.Checker(func(context.Context, *tx.Half[int]) (tx.Decision, error) { return tx.Commit, nil })
	_, err := tx.NewSender[billSettled](tx.Params{Client: newClient(t, newBroker())},
		tx.Topic("../bills"), tx.Group(""), tx.EndTimeout(-time.Second), tx.CheckParallel(-1), wrong)
	for _, want := range []string{"sender of tx_test.billSettled", `topic name "../bills"`, "no group; add tx.Group", "marker.Module", "end timeout -1s", "check parallelism -1", "*tx.Half[tx_test.billSettled]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if _, err := tx.NewSender[billSettled](tx.Params{}); err == nil {
		t.Error("a sender without a client is accepted")
	}
}

// One transaction is one trace: prepare, local and commit; the check links to it.
func TestSend_Spans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		recorder := tracetest.NewSpanRecorder()
		provider := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))
		b := newBroker()
		c := newClient(t, b, func(p *sdk.ClientParams) { p.TracerProvider = provider })
		s := newSender(t, c, newRows())
		startChecks(t, c, s)
		if _, err := s.Send(t.Context(), billSettled{"B-1"}, work(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Send(t.Context(), billSettled{"B-2"}, work(errDied)); !errors.Is(err, errDied) {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		var names []string
		traces := map[string][]string{}
		for _, span := range recorder.Ended() {
			names = append(names, span.Name())
			id := span.SpanContext().TraceID().String()
			traces[id] = append(traces[id], span.Name())
		}
		if len(traces) != 2 {
			t.Fatalf("%d traces, want one for each transaction: %v", len(traces), traces)
		}
		got := strings.Join(names, ", ")
		want := "prepare bill-settled, local bill-settled, commit bill-settled, prepare bill-settled, local bill-settled, check bill-settled"
		if got != want {
			t.Errorf("spans\n got %s\nwant %s", got, want)
		}
	})
}
