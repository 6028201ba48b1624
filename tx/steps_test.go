package tx_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/tx"
)

func TestSend_PanicInTheFunctionRollsBack(t *testing.T) {
	t.Parallel()
	b, r := newBroker(), newRows()
	cause := errors.New("out of ink")
	res, err := newSender(t, newClient(t, b), r).Send(t.Context(), billSettled{}, func(context.Context, *sql.Tx) error { panic(cause) })
	p, ok := errors.AsType[*tx.PanicError](err)
	if res.Outcome != tx.RolledBack || !ok || !errors.Is(err, cause) || !strings.Contains(string(p.Stack), "steps_test.go") {
		t.Fatalf("Send = %v, %v", res.Outcome, err)
	}
	if d, _, _ := b.state(res.ID); d != tx.Rollback {
		t.Errorf("the half message is %v", d)
	}
}

func TestSend_RefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	b := newBroker()
	s := newSender(t, newClient(t, b), newRows())
	for name, try := range map[string]func() (tx.Result, error){
		"no local transaction": func() (tx.Result, error) { return s.Send(t.Context(), billSettled{}, nil) },
		"cannot be delayed": func() (tx.Result, error) {
			return s.Send(t.Context(), billSettled{}, work(nil), sdk.Delay(time.Second))
		},
		"key": func() (tx.Result, error) { return s.Send(t.Context(), billSettled{}, work(nil), sdk.Key("a b")) },
	} {
		if res, err := try(); res.Outcome != tx.RolledBack || sdk.CodeOf(err) != sdk.InvalidArgument || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, res.Outcome, err)
		}
	}
	if b.prepares != 0 {
		t.Errorf("%d half messages", b.prepares)
	}
}

// The sender dies at each place where it can; afterwards the row and the half
// message agree, after one check-back at most.
func TestSend_KillPoints(t *testing.T) {
	t.Parallel()
	declined := errors.New("no cover")
	for name, c := range map[string]struct {
		at     tx.Step
		work   error
		row    bool
		half   tx.Decision
		checks int
	}{
		"before the local transaction": {at: tx.AfterPrepare, half: tx.Rollback, checks: 1},
		"inside it":                    {work: errDied, half: tx.Rollback, checks: 1},
		"after the local commit":       {at: tx.AfterLocal, row: true, half: tx.Commit, checks: 1},
		"after the local rollback":     {at: tx.AfterLocal, work: declined, half: tx.Rollback, checks: 1},
		"after the end":                {row: true, half: tx.Commit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, r := newBroker(), newRows()
				client := newClient(t, b)
				s := newSender(t, client, r, tx.Interrupt(func(_ context.Context, at tx.Step, id string) error {
					if at == c.at && id == "B-1" {
						return tx.ErrAbandon
					}
					return nil
				}))
				res, err := s.Send(t.Context(), billSettled{"B-1"}, work(c.work), sdk.ID("B-1"))
				if c.at != 0 && (res.Outcome != tx.Unknown || !errors.Is(err, tx.ErrAbandon)) {
					t.Fatalf("Send = %v, %v", res.Outcome, err)
				}
				startChecks(t, client, s)
				time.Sleep(3 * time.Second)
				synctest.Wait()
				if d, n, _ := b.state("B-1"); d != c.half || n != c.checks {
					t.Errorf("the half message is %v after %d checks, want %v after %d", d, n, c.half, c.checks)
				}
				if r.committed("B-1") != c.row {
					t.Errorf("the row is committed: %v", !c.row)
				}
			})
		})
	}
}

// The opposite of what the broker has decided is seen, in both directions.
func TestSend_RolledBackButCommittedAtTheBroker(t *testing.T) {
	t.Parallel()
	b := newBroker()
	b.faults["resolve"] = []error{driver.Errorf(driver.FailedPrecondition, "resolve", "already committed")}
	declined := errors.New("no cover")
	res, err := newSender(t, newClient(t, b), newRows()).Send(t.Context(), billSettled{}, work(declined))
	if res.Outcome != tx.Conflicted || !errors.Is(err, tx.ErrConflict) || !errors.Is(err, declined) {
		t.Fatalf("Send = %v, %v", res.Outcome, err)
	}
}

// Running transactions end before the check-backs do, and new ones are refused.
func TestChecks_StopWaitsForRunningSends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		c := newClient(t, b)
		s := newSender(t, c, newRows())
		checks := startChecks(t, c, s)
		sent := make(chan tx.Result, 1)
		go func() {
			res, err := s.Send(t.Context(), billSettled{}, func(context.Context, *sql.Tx) error { time.Sleep(700 * time.Millisecond); return nil })
			if err != nil {
				t.Error(err)
			}
			sent <- res
		}()
		synctest.Wait()
		began := time.Now()
		if err := checks.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if res := <-sent; res.Outcome != tx.Committed || time.Since(began) < 700*time.Millisecond {
			t.Errorf("outcome %v after %v", res.Outcome, time.Since(began))
		}
	})
}

// A stop that runs out of time says what it left, and ends the checkers.
func TestChecks_StopRunsOutOfTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		c := newClient(t, b)
		asked, cause := make(chan struct{}), make(chan error, 1)
		s := newSender(t, c, newRows(), tx.CheckTimeout(time.Hour),
			tx.Checker(func(ctx context.Context, _ *tx.Half[billSettled]) (tx.Decision, error) {
				close(asked)
				<-ctx.Done()
				cause <- context.Cause(ctx)
				return tx.Undecided, nil
			}))
		abandon(t, s, "B-1")
		checks, err := tx.NewChecks(c, s)
		if err == nil {
			err = checks.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		<-asked
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := checks.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop = %v", err)
		}
		if err := <-cause; !errors.Is(err, tx.ErrStopped) {
			t.Errorf("the checker ended because of %v", err)
		}
	})
}

// A checker that hangs is ended by its deadline and asked again.
func TestChecks_Deadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBroker()
		c := newClient(t, b)
		s := newSender(t, c, newRows(), tx.CheckTimeout(500*time.Millisecond),
			tx.Checker(func(ctx context.Context, h *tx.Half[billSettled]) (tx.Decision, error) {
				if h.Check == 1 {
					<-ctx.Done()
					return tx.Undecided, context.Cause(ctx)
				}
				return tx.Commit, nil
			}))
		abandon(t, s, "B-1")
		startChecks(t, c, s)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if d, n, _ := b.state("B-1"); d != tx.Commit || n != 2 {
			t.Errorf("%v after %d checks", d, n)
		}
	})
}
