package marker_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/tx/marker"
)

// bundle is a marker table in a SQLite file of its own, beside a table of bills.
type bundle struct {
	db    *sql.DB
	table *marker.Table
}

func setup(t *testing.T, cfg marker.Config) *bundle {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bills.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	table, err := marker.New(db, marker.SQLite(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // creating twice is no error
		if err := table.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE bills (id TEXT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	return &bundle{db: db, table: table}
}

func (b *bundle) pay(id string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO bills VALUES (?)`, id)
		return err
	}
}

func (b *bundle) paid(t *testing.T, id string) bool {
	t.Helper()
	var n int
	if err := b.db.QueryRowContext(t.Context(), `SELECT count(*) FROM bills WHERE id = ?`, id).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n == 1
}

func (b *bundle) decide(t *testing.T, id string, want driver.Decision) {
	t.Helper()
	for range 2 { // a second check gets the same answer
		if got, err := b.table.Decide(t.Context(), id); got != want || err != nil {
			t.Fatalf("Decide(%s) = %v, %v; want %v", id, got, err, want)
		}
	}
}

func TestRun_CommitsRowAndWork(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	if d, err := b.table.Run(t.Context(), "tx1", b.pay("B-1")); d != driver.Commit || err != nil {
		t.Fatalf("Run = %v, %v", d, err)
	}
	b.decide(t, "tx1", driver.Commit)
	if !b.paid(t, "B-1") {
		t.Error("the work is not committed")
	}
}

func TestRun_ErrorRollsBack(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	broke := errors.New("account is closed")
	d, err := b.table.Run(t.Context(), "tx1", func(ctx context.Context, tx *sql.Tx) error {
		if err := b.pay("B-1")(ctx, tx); err != nil {
			return err
		}
		return broke
	})
	if d != driver.Rollback || !errors.Is(err, broke) {
		t.Fatalf("Run = %v, %v", d, err)
	}
	if b.paid(t, "B-1") {
		t.Error("work of a failed transaction is visible")
	}
	b.decide(t, "tx1", driver.Rollback)
}

func TestRun_PanicRollsBackAndKeepsTheStack(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	d, err := b.table.Run(t.Context(), "tx1", func(ctx context.Context, tx *sql.Tx) error {
		_ = b.pay("B-1")(ctx, tx)
		panic("out of ink")
	})
	p, ok := errors.AsType[*marker.PanicError](err)
	if d != driver.Rollback || !ok || p.Value != "out of ink" || !strings.Contains(string(p.Stack), "table_test.go") {
		t.Fatalf("Run = %v, %v", d, err)
	}
	if b.paid(t, "B-1") {
		t.Error("work of a panicked transaction is visible")
	}
}

// A slow sender that was judged dead can no longer commit.
func TestTombstoneBeatsSlowTransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	b.decide(t, "tx1", driver.Rollback)
	ran := false
	d, err := b.table.Run(t.Context(), "tx1", func(context.Context, *sql.Tx) error { ran = true; return nil })
	if d != driver.Rollback || !errors.Is(err, marker.ErrTombstone) {
		t.Fatalf("Run = %v, %v; want a rollback with ErrTombstone", d, err)
	}
	if ran {
		t.Error("the work was begun although the tombstone was there")
	}
}

// While the local transaction is open its outcome is unknown, and asking does
// not block the loop that asks.
func TestDecide_OpenTransactionIsUndecided(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{LockTimeout: 20 * time.Millisecond})
	d, err := b.table.Run(t.Context(), "tx1", func(ctx context.Context, tx *sql.Tx) error {
		if err := b.pay("B-1")(ctx, tx); err != nil {
			return err
		}
		if d, err := b.table.Decide(t.Context(), "tx1"); d != driver.Undecided || err != nil {
			t.Errorf("Decide during the transaction = %v, %v; want undecided", d, err)
		}
		return nil
	})
	if d != driver.Commit || err != nil {
		t.Fatalf("Run = %v, %v", d, err)
	}
	b.decide(t, "tx1", driver.Commit)
}

func TestRun_EndedContextRollsBack(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	d, err := b.table.Run(ctx, "tx1", func(ctx context.Context, tx *sql.Tx) error {
		err := b.pay("B-1")(ctx, tx)
		cancel()
		return err
	})
	if d == driver.Commit || err == nil {
		t.Fatalf("Run = %v, %v", d, err)
	}
	if b.paid(t, "B-1") {
		t.Error("work is visible though the context had ended before the commit")
	}
	b.decide(t, "tx1", driver.Rollback)
}

// Whoever is first decides; the visible work always agrees with the decision.
func TestRunAgainstDecide_OneWins(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{LockTimeout: time.Second})
	var commits atomic.Int32
	var wg sync.WaitGroup
	for i := range 60 {
		id := fmt.Sprintf("tx%d", i)
		var run, decided driver.Decision
		var pair sync.WaitGroup
		pair.Go(func() { run, _ = b.table.Run(t.Context(), id, b.pay(id)) })
		pair.Go(func() {
			for decided == driver.Undecided {
				var err error
				if decided, err = b.table.Decide(t.Context(), id); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			pair.Wait()
			if run != driver.Undecided && run != decided || b.paid(t, id) != (decided == driver.Commit) {
				t.Errorf("%s: run says %v, the check says %v, paid %v", id, run, decided, b.paid(t, id))
			}
			if run == driver.Commit {
				commits.Add(1)
			}
		})
		wg.Wait()
	}
	t.Logf("%d of 60 committed before the check", commits.Load())
}

func TestPrune(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{CheckHorizon: time.Hour})
	if _, err := b.table.Prune(t.Context(), time.Minute); err == nil || !strings.Contains(err.Error(), "check horizon 1h0m0s") {
		t.Fatalf("Prune below the horizon = %v", err)
	}
	if _, err := b.table.Run(t.Context(), "new", b.pay("B-1")); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour).UnixMilli()
	if _, err := b.db.ExecContext(t.Context(), `INSERT INTO sluice_tx VALUES ('old', 'committed', ?)`, old); err != nil {
		t.Fatal(err)
	}
	if n, err := b.table.Prune(t.Context(), time.Hour); n != 1 || err != nil {
		t.Fatalf("Prune = %d, %v; want 1", n, err)
	}
	b.decide(t, "new", driver.Commit)
}

func TestDecide_UnknownStateIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	if _, err := b.db.ExecContext(t.Context(), `INSERT INTO sluice_tx VALUES ('x', 'maybe', 0)`); err != nil {
		t.Fatal(err)
	}
	if d, err := b.table.Decide(t.Context(), "x"); d != driver.Undecided || err == nil {
		t.Fatalf("Decide = %v, %v", d, err)
	}
}

func TestDatabaseIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	_ = b.db.Close()
	if d, err := b.table.Decide(t.Context(), "x"); d != driver.Undecided || err == nil {
		t.Errorf("Decide = %v, %v", d, err)
	}
	if d, err := b.table.Run(t.Context(), "x", b.pay("x")); d != driver.Rollback || err == nil {
		t.Errorf("Run = %v, %v", d, err)
	}
	if err := b.table.Create(t.Context()); err == nil {
		t.Error("Create = nil")
	}
}

func TestNew_RefusesBadInput(t *testing.T) {
	t.Parallel()
	db := setup(t, marker.Config{}).db
	for want, try := range map[string]func() error{
		"dialect": func() error { _, err := marker.New(db, nil, marker.Config{}); return err },
		"table name": func() error {
			_, err := marker.New(db, marker.SQLite(), marker.Config{Name: "x; DROP TABLE y"})
			return err
		},
		"lock timeout":  func() error { _, err := marker.New(db, marker.SQLite(), marker.Config{LockTimeout: -1}); return err },
		"check horizon": func() error { _, err := marker.New(db, marker.SQLite(), marker.Config{CheckHorizon: -1}); return err },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want an error about the %s", err, want)
		}
	}
}

// A transaction that waits for the only connection is slow, not dead: a check
// in the same process must not put a tombstone in its way.
func TestDecide_WaitingTransactionIsUndecided(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{LockTimeout: 20 * time.Millisecond})
	b.db.SetMaxOpenConns(1)
	conn, err := b.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var run driver.Decision
	var wg sync.WaitGroup
	wg.Go(func() { run, err = b.table.Run(t.Context(), "tx1", b.pay("B-1")) })
	for b.db.Stats().WaitCount == 0 { // until Run waits for the connection
		runtime.Gosched()
	}
	if d, err := b.table.Decide(t.Context(), "tx1"); d != driver.Undecided || err != nil {
		t.Errorf("Decide = %v, %v; want undecided", d, err)
	}
	_ = conn.Close()
	wg.Wait()
	if run != driver.Commit || err != nil {
		t.Fatalf("Run = %v, %v", run, err)
	}
	b.decide(t, "tx1", driver.Commit)
}
