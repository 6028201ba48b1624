package tx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	_ "modernc.org/sqlite"
	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/faulty"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/sdk"
	"github.com/sluicemq/sluice/tx"
	"github.com/sluicemq/sluice/tx/marker"
)

// box is the bundled broker in memory, behind a driver that can fail.
type box struct {
	broker *embedded.Broker
	faults *faulty.Faults
	conn   driver.Conn // of an onlooker, without faults
}

func open(t *testing.T, dir string, cfg embedded.Config) *box {
	t.Helper()
	b, err := embedded.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	x := &box{broker: b, faults: faulty.New(), conn: b.Connect("onlooker")}
	t.Cleanup(x.close)
	return x
}

func (x *box) close() {
	_ = x.conn.Close(context.Background())
	_ = x.broker.Close(context.Background())
}

func (x *box) client(t *testing.T) *sdk.Client {
	t.Helper()
	c, err := sdk.NewClient(sdk.ClientParams{Drivers: []driver.Driver{faulty.Driver(x.broker.Driver(), x.faults)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// visible lists the ids that consumers of bill-settled can see.
func (x *box) visible(t *testing.T) []string {
	t.Helper()
	ids := []string{}
	for queue := range 4 {
		ds, err := x.conn.Extensions().Query.Browse(t.Context(), "bill-settled", queue, 0, 1000)
		if err != nil && driver.CodeOf(err) != driver.NotFound {
			t.Fatal(err)
		}
		for _, d := range ds {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// half finds a half message again, as a repeated Prepare does.
func (x *box) half(t *testing.T, id string) driver.Half {
	t.Helper()
	h, err := x.conn.Extensions().Tx.Prepare(t.Context(), "bills", &driver.Message{ID: id, Topic: "bill-settled"})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (x *box) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := x.visible(t); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("visible %q, want %q", got, want)
	}
}

// T1, T2: the broker asks, and the row answers, by a tombstone if there is none.
func TestEmbedded_CheckBack(t *testing.T) {
	t.Parallel()
	for step, want := range map[tx.Step]bool{tx.AfterPrepare: false, tx.AfterLocal: true} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x, r := open(t, "", embedded.Config{}), newRows()
				c := x.client(t)
				s := newSender(t, c, r, tx.Interrupt(func(_ context.Context, at tx.Step, _ string) error {
					if at == step {
						return tx.ErrAbandon
					}
					return nil
				}))
				startChecks(t, c, s)
				if res, err := s.Send(t.Context(), billSettled{"B-1"}, work(nil), sdk.ID("B-1")); res.Outcome != tx.Unknown || !errors.Is(err, tx.ErrAbandon) {
					t.Fatalf("Send = %v, %v", res.Outcome, err)
				}
				x.expect(t)
				time.Sleep(10 * time.Second)
				if want {
					x.expect(t, "B-1")
				} else {
					x.expect(t)
				}
				if r.committed("B-1") != want {
					t.Errorf("committed: %v", !want)
				}
			})
		})
	}
}

// T3: the answers to the end are lost, and the end is repeated: one message.
func TestEmbedded_EndLostAndRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := open(t, "", embedded.Config{})
		x.faults.Add(faulty.Fault{Op: faulty.Prepare, Answer: true, Times: 2})
		x.faults.Add(faulty.Fault{Op: faulty.Resolve, Answer: true, Times: 3})
		c := x.client(t)
		s := newSender(t, c, newRows())
		startChecks(t, c, s)
		res, err := s.Send(t.Context(), billSettled{"B-1"}, work(nil), sdk.ID("B-1"))
		if res.Outcome != tx.Committed || err != nil {
			t.Fatalf("Send = %v, %v", res.Outcome, err)
		}
		h := x.half(t, "B-1")
		for range 10 {
			if err := x.conn.Extensions().Tx.Resolve(t.Context(), h, driver.Commit); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Hour)
		x.expect(t, "B-1")
	})
}

// The broker is cut off after the local commit: pending, then visible once.
func TestEmbedded_BrokerPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := open(t, "", embedded.Config{})
		clear := x.faults.Add(faulty.Fault{Op: faulty.Resolve, Times: -1, Err: &driver.Error{Code: driver.Unavailable, Retryable: true}})
		c := x.client(t)
		s := newSender(t, c, newRows())
		began := time.Now()
		res, err := s.Send(t.Context(), billSettled{"B-1"}, work(nil), sdk.ID("B-1"))
		if res.Outcome != tx.CommittedBrokerPending || err != nil || sdk.CodeOf(res.EndErr) != sdk.Unavailable {
			t.Fatalf("Send = %+v, %v", res, err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("Send tried for %v", took)
		}
		clear()
		startChecks(t, c, s)
		time.Sleep(40 * time.Second)
		x.expect(t, "B-1")
	})
}

// T6: for ten minutes no member of the group lives. No check is used up, and
// the first one decides.
func TestEmbedded_NobodyToAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := open(t, "", embedded.Config{})
		c := x.client(t)
		var first atomic.Int32
		s := newSender(t, c, newRows(), tx.Checker(func(_ context.Context, h *tx.Half[billSettled]) (tx.Decision, error) {
			first.CompareAndSwap(0, int32(h.Check))
			return tx.Commit, nil
		}))
		abandon(t, s, "B-1")
		time.Sleep(10 * time.Minute)
		x.expect(t)
		startChecks(t, c, s)
		time.Sleep(30 * time.Second)
		x.expect(t, "B-1")
		if first.Load() != 1 {
			t.Errorf("the first check that was answered had the number %d", first.Load())
		}
	})
}

// T7: an operator decides the opposite while the local transaction runs.
func TestEmbedded_OperatorDecidesOtherwise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := open(t, "", embedded.Config{})
		s := newSender(t, x.client(t), newRows())
		declined := errors.New("no cover")
		for id, c := range map[string]struct {
			operator driver.Decision
			work     error
		}{"B-1": {driver.Rollback, nil}, "B-2": {driver.Commit, declined}} {
			res, err := s.Send(t.Context(), billSettled{id}, func(ctx context.Context, _ *sql.Tx) error {
				return errors.Join(x.conn.Extensions().Tx.Resolve(ctx, x.half(t, id), c.operator), c.work)
			}, sdk.ID(id))
			if res.Outcome != tx.Conflicted || !errors.Is(err, tx.ErrConflict) || !errors.Is(err, c.work) && c.work != nil {
				t.Errorf("%s: Send = %v, %v", id, res.Outcome, err)
			}
		}
		time.Sleep(time.Hour)
		x.expect(t, "B-2") // what was decided first stands
	})
}

// T9, T8: a checker that never knows: fifteen check-backs, then the half message
// is parked and waits for a decision by hand. All of it in less than a second.
func TestEmbedded_FifteenChecksThenParked(t *testing.T) {
	t.Parallel()
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		x := open(t, "", embedded.Config{})
		c := x.client(t)
		var asked atomic.Int32
		s := newSender(t, c, newRows(), tx.Checker(func(context.Context, *tx.Half[billSettled]) (tx.Decision, error) {
			asked.Add(1)
			return tx.Undecided, nil
		}))
		startChecks(t, c, s)
		abandon(t, s, "B-1")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if asked.Load() != 15 {
			t.Errorf("%d checks, want 15", asked.Load())
		}
		parked, err := x.conn.Extensions().Tx.Parked(t.Context(), 10)
		if err != nil || len(parked) != 1 || parked[0].Half.TxID != "B-1" || parked[0].Checks != 15 {
			t.Fatalf("Parked = %+v, %v", parked, err)
		}
		x.expect(t)
		for range 2 {
			if err := x.conn.Extensions().Tx.Resolve(t.Context(), parked[0].Half, driver.Commit); err != nil {
				t.Fatal(err)
			}
		}
		x.expect(t, "B-1")
		if parked, err = x.conn.Extensions().Tx.Parked(t.Context(), 10); len(parked) != 0 || err != nil {
			t.Errorf("still parked: %+v, %v", parked, err)
		}
	})
	if took := time.Since(began); took > time.Minute { // a fraction of a second; hours would mean real time
		t.Errorf("it took %v", took)
	}
}

// T10: two processes of the group answer; there is one decision.
func TestEmbedded_TwoMembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, r := open(t, "", embedded.Config{}), newRows()
		var first *tx.Sender[billSettled]
		for range 2 {
			c := x.client(t)
			s := newSender(t, c, r)
			startChecks(t, c, s)
			if first == nil {
				first = s
			}
		}
		want := 0
		for i := range 20 {
			id := fmt.Sprintf("B-%d", i)
			abandon(t, first, id)
			if i%2 == 0 {
				r.mu.Lock()
				r.state[id] = tx.Commit
				r.mu.Unlock()
				want++
			}
		}
		time.Sleep(time.Minute)
		if got := x.visible(t); len(got) != want {
			t.Errorf("visible %q, want %d", got, want)
		}
	})
}

// A local transaction that is slower than the check can no longer commit.
func TestEmbedded_TombstoneBeatsSlowTransaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, r := open(t, "", embedded.Config{}), newRows()
		c := x.client(t)
		s := newSender(t, c, r)
		startChecks(t, c, s)
		res, err := s.Send(t.Context(), billSettled{"B-1"}, func(context.Context, *sql.Tx) error {
			time.Sleep(20 * time.Second)
			return nil
		}, sdk.ID("B-1"))
		if res.Outcome != tx.RolledBack || err == nil || res.EndErr != nil {
			t.Errorf("Send = %+v, %v", res, err)
		}
		time.Sleep(time.Hour)
		x.expect(t)
		if r.committed("B-1") {
			t.Error("it committed all the same")
		}
	})
}

// Whatever is lost and whoever dies: a message is visible once exactly if its
// transaction committed, and never otherwise (I1, I2, I3).
func TestEmbedded_VisibleExactlyIfCommitted(t *testing.T) {
	t.Parallel()
	type send struct {
		dies     tx.Step // 0: it lives
		work     int     // 0 commits, 1 fails, 2 dies, 3 is slow
		prepare  int     // answers of Prepare that are lost
		resolve  int     // answers of Resolve that are lost, then as many requests
		repeated bool    // the same id again
	}
	gen := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) send {
		return send{
			dies: tx.Step(rapid.IntRange(0, 2).Draw(t, "dies")), work: rapid.IntRange(0, 3).Draw(t, "work"),
			prepare: rapid.IntRange(0, 3).Draw(t, "prepare"), resolve: rapid.IntRange(0, 9).Draw(t, "resolve"),
			repeated: rapid.Bool().Draw(t, "repeated"),
		}
	}), 1, 6)
	rapid.Check(t, func(rt *rapid.T) {
		plan := gen.Draw(rt, "plan")
		var problems []string
		synctest.Test(t, func(t *testing.T) { // rapid's failure must not cross a goroutine
			x, r := open(t, "", embedded.Config{}), newRows()
			c := x.client(t)
			var now send
			s := newSender(t, c, r, tx.Interrupt(func(_ context.Context, at tx.Step, _ string) error {
				if at == now.dies {
					return tx.ErrAbandon
				}
				return nil
			}))
			startChecks(t, c, s)
			for i, p := range plan {
				id := fmt.Sprintf("B-%d", i)
				now = p
				x.faults.Clear()
				if p.prepare > 0 {
					x.faults.Add(faulty.Fault{Op: faulty.Prepare, Answer: true, Times: p.prepare})
				}
				if p.resolve > 0 {
					x.faults.Add(faulty.Fault{Op: faulty.Resolve, Answer: p.resolve%2 == 0, Times: p.resolve})
				}
				f := func(context.Context, *sql.Tx) error {
					switch p.work {
					case 1:
						return errors.New("no cover")
					case 2:
						return errDied
					case 3:
						time.Sleep(9 * time.Second)
					}
					return nil
				}
				for range map[bool]int{true: 2, false: 1}[p.repeated] {
					res, err := s.Send(t.Context(), billSettled{id}, f, sdk.ID(id))
					if committed := r.committed(id); err == nil && !committed || res.Outcome == tx.Conflicted {
						problems = append(problems, fmt.Sprintf("%s: %v, %v, but the row is committed: %v", id, res.Outcome, err, committed))
					}
				}
			}
			x.faults.Clear()
			time.Sleep(time.Hour)
			count := map[string]int{}
			for _, id := range x.visible(t) {
				count[id]++
			}
			for i := range plan {
				id := fmt.Sprintf("B-%d", i)
				if want := map[bool]int{true: 1}[r.committed(id)]; count[id] != want {
					problems = append(problems, fmt.Sprintf("%s is visible %d times, want %d", id, count[id], want))
				}
			}
		})
		if len(problems) > 0 {
			rt.Fatalf("plan %+v:\n%s", plan, strings.Join(problems, "\n"))
		}
	})
}

// The whole of it with a database and a store on disk: the process dies at each
// place, another one starts on the same files and decides.
func TestEmbedded_RestartDecidesFromSQLite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		at   tx.Step
		want bool
	}{"before the local transaction": {tx.AfterPrepare, false}, "after the local commit": {tx.AfterLocal, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cfg := embedded.Config{CheckAfter: 20 * time.Millisecond, CheckEvery: 20 * time.Millisecond, CheckMax: 1000}
			start := func() (*box, *sql.DB, *sdk.Client, *tx.Sender[billSettled]) {
				db, err := sql.Open("sqlite", filepath.Join(dir, "bills.db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
				if err != nil {
					t.Fatal(err)
				}
				table, err := marker.New(db, marker.SQLite(), marker.Config{})
				if err == nil {
					err = table.Create(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
				x := open(t, filepath.Join(dir, "broker"), cfg)
				client := x.client(t)
				return x, db, client, newSender(t, client, table, tx.Interrupt(func(_ context.Context, at tx.Step, _ string) error {
					if at == c.at {
						return tx.ErrAbandon
					}
					return nil
				}))
			}
			x, db, client, s := start()
			if _, err := s.Send(t.Context(), billSettled{"B-1"}, work(nil), sdk.ID("B-1")); !errors.Is(err, tx.ErrAbandon) {
				t.Fatal(err)
			}
			_ = client.Close(t.Context())
			x.close()
			_ = db.Close()

			x, db, client, s = start()
			defer func() { _ = db.Close() }()
			startChecks(t, client, s)
			want := driver.Rollback
			if c.want {
				want = driver.Commit
			}
			// The half message is decided once the opposite is refused.
			opposite := driver.Commit + driver.Rollback - want
			table, _ := marker.New(db, marker.SQLite(), marker.Config{})
			for deadline := time.Now().Add(20 * time.Second); ; {
				if n := len(x.visible(t)); n == map[bool]int{true: 1}[c.want] {
					var rows int
					if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM sluice_tx`).Scan(&rows); err == nil && rows == 1 {
						break
					}
				}
				if time.Now().After(deadline) {
					t.Fatalf("visible %q", x.visible(t))
				}
				time.Sleep(5 * time.Millisecond)
			}
			if d, err := table.Decide(t.Context(), "B-1"); d != want || err != nil {
				t.Errorf("the row says %v, %v; want %v", d, err, want)
			}
			for deadline := time.Now().Add(20 * time.Second); ; {
				err := x.conn.Extensions().Tx.Resolve(t.Context(), x.half(t, "B-1"), want)
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal(err)
				}
			}
			if err := x.conn.Extensions().Tx.Resolve(t.Context(), x.half(t, "B-1"), opposite); driver.CodeOf(err) != driver.FailedPrecondition {
				t.Errorf("the opposite of the decision = %v", err)
			}
		})
	}
}
