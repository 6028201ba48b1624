package tx_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/tx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startChecks(t *testing.T, c *sdk.Client, senders ...tx.AnySender) *tx.Checks {
	t.Helper()
	checks, err := tx.NewChecks(c, senders...)
	if err != nil {
		t.Fatal(err)
	}
	if err := checks.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := checks.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return checks
}

// abandon leaves a half message as a sender does that died.
func abandon(t *testing.T, s *tx.Sender[billSettled], id string) {
	t.Helper()
	if res, err := s.Send(t.Context(), billSettled{id}, work(errDied), sdk.ID(id)); res.Outcome != tx.Unknown || err == nil {
		t.Fatalf("Send = %v, %v", res, err)
	}
}

// T1, T2: what a dead sender left is decided from the row, with a tombstone.
func TestChecks_DecideFromTheRow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, r := newBroker(), newRows()
		c := newClient(t, b)
		s := newSender(t, c, r)
		abandon(t, s, "before-local")
		abandon(t, s, "before-end")
		r.state["before-end"] = tx.Commit
		startChecks(t, c, s)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for id, want := range map[string]tx.Decision{"before-local": tx.Rollback, "before-end": tx.Commit} {
			if d, n, _ := b.state(id); d != want || n != 1 {
				t.Errorf("%s: %v after %d checks, want %v after 1", id, d, n, want)
			}
		}
		if res, err := s.Send(t.Context(), billSettled{}, work(nil), sdk.ID("before-local")); res.Outcome != tx.RolledBack || err == nil {
			t.Errorf("the slow sender still committed: %v, %v", res.Outcome, err)
		}
	})
}

func TestChecks_OwnCheckerGetsThePayload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		c := newClient(t, b)
		var calls atomic.Int32
		s := newSender(t, c, newRows(), tx.Checker(func(ctx context.Context, h *tx.Half[billSettled]) (tx.Decision, error) {
			if _, limited := ctx.Deadline(); !limited {
				t.Error("the check has no deadline")
			}
			if h.ID != "B-1" || h.Payload.BillID != "B-1" || h.Group != "bills" || h.Topic != "bill-settled" || h.Check != int(calls.Add(1)) {
				t.Errorf("half = %+v", h)
			}
			switch h.Check {
			case 1:
				panic("out of ink")
			case 2:
				return tx.Commit, errors.New("database is away")
			case 3:
				return tx.Undecided, nil
			default:
				return tx.Commit, nil
			}
		}))
		abandon(t, s, "B-1")
		startChecks(t, c, s)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if d, n, _ := b.state("B-1"); d != tx.Commit || n != 4 {
			t.Errorf("%v after %d checks, want commit after 4", d, n)
		}
	})
}

func TestChecks_UnknownTypeAndBadPayloadStayUndecided(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		c := newClient(t, b)
		s := newSender(t, c, newRows(), tx.Checker(func(context.Context, *tx.Half[billSettled]) (tx.Decision, error) { return tx.Commit, nil }))
		abandon(t, s, "bad-payload")
		b.halves["bad-payload"].message.Body = []byte("{")
		abandon(t, newSender(t, c, newRows(), tx.TypeName("of another service")), "unknown-type")
		abandon(t, s, "good")
		startChecks(t, c, s)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for id, want := range map[string]tx.Decision{"bad-payload": tx.Undecided, "unknown-type": tx.Undecided, "good": tx.Commit} {
			if d, _, _ := b.state(id); d != want {
				t.Errorf("%s: %v, want %v", id, d, want)
			}
		}
	})
}

// A group that the broker dropped is joined again.
func TestChecks_JoinAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, r := newBroker(), newRows()
		b.leaveOnce = &driver.Error{Code: driver.Unavailable, Retryable: true}
		c := newClient(t, b)
		s := newSender(t, c, r)
		abandon(t, s, "B-1")
		startChecks(t, c, s)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if d, _, _ := b.state("B-1"); d != tx.Rollback {
			t.Errorf("the half message is %v", d)
		}
	})
}

// A check-back under way is answered before the stop returns.
func TestChecks_StopWaitsForTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		c := newClient(t, b)
		asked := make(chan struct{})
		s := newSender(t, c, newRows(), tx.Checker(func(ctx context.Context, _ *tx.Half[billSettled]) (tx.Decision, error) {
			close(asked)
			select {
			case <-time.After(2 * time.Second):
				return tx.Commit, nil
			case <-ctx.Done():
				return tx.Undecided, context.Cause(ctx)
			}
		}))
		abandon(t, s, "B-1")
		checks := startChecks(t, c, s)
		<-asked
		if err := checks.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d, _, _ := b.state("B-1"); d != tx.Commit {
			t.Errorf("the half message is %v", d)
		}
	})
}

func TestChecks_Refusals(t *testing.T) {
	t.Parallel()
	b := newBroker()
	c := newClient(t, b)
	s := newSender(t, c, newRows())
	if _, err := tx.NewChecks(c, s, s); err == nil ||
		!strings.Contains(err.Error(), `two senders of group bills have the type name "tx_test.billSettled"`) {
		t.Errorf("two senders of one type: %v", err)
	}
	b.noHalves = true
	checks, err := tx.NewChecks(c, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := checks.Start(t.Context()); sdk.CodeOf(err) != sdk.Unsupported || !strings.Contains(err.Error(), "tx_test.billSettled (group bills): transactions on broker halves: the broker stores no half messages") {
		t.Errorf("Start = %v", err)
	}
	if _, err := s.Send(t.Context(), billSettled{}, work(nil)); sdk.CodeOf(err) != sdk.Unsupported {
		t.Errorf("Send = %v", err)
	}
	if err := checks.Stop(t.Context()); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if res, err := s.Send(t.Context(), billSettled{}, work(nil)); res.Outcome != tx.RolledBack || !errors.Is(err, tx.ErrStopped) {
		t.Errorf("Send after Stop = %v, %v", res.Outcome, err)
	}
}
