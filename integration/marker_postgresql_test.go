package integration_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/integration/internal/pgtest"
	"github.com/sluicemq/sluice/tx/marker"
)

func openMarker(t *testing.T) (*sql.DB, *marker.Table) {
	t.Helper()
	db, err := sql.Open("pgx", pgtest.Start(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(8)
	table, err := marker.New(db, marker.PostgreSQL(), marker.Config{LockTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := table.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE bills (id TEXT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	return db, table
}

func pay(id string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO bills VALUES ($1)`, id)
		return err
	}
}

// The rules of the marker table on the real PostgreSQL.
func TestMarkerOnPostgreSQL(t *testing.T) {
	t.Parallel()
	db, table := openMarker(t)
	decide := func(id string, want driver.Decision) {
		t.Helper()
		if got, err := table.Decide(t.Context(), id); got != want || err != nil {
			t.Fatalf("Decide(%s) = %v, %v; want %v", id, got, err, want)
		}
	}

	if d, err := table.Run(t.Context(), "ok", pay("ok")); d != driver.Commit || err != nil {
		t.Fatalf("Run = %v, %v", d, err)
	}
	decide("ok", driver.Commit)

	decide("dead", driver.Rollback)
	if d, err := table.Run(t.Context(), "dead", pay("dead")); d != driver.Rollback || !errors.Is(err, marker.ErrTombstone) {
		t.Fatalf("Run after the tombstone = %v, %v", d, err)
	}

	// While the transaction is open, the check waits for its lock timeout only.
	d, err := table.Run(t.Context(), "open", func(ctx context.Context, tx *sql.Tx) error {
		began := time.Now()
		decide("open", driver.Undecided)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the check blocked for %v", took)
		}
		return pay("open")(ctx, tx)
	})
	if d != driver.Commit || err != nil {
		t.Fatalf("Run = %v, %v", d, err)
	}
	decide("open", driver.Commit)

	// The shortened lock timeout does not stay on a pooled connection.
	var timeout string
	if err := db.QueryRowContext(t.Context(), `SHOW lock_timeout`).Scan(&timeout); err != nil || timeout != "0" {
		t.Errorf("lock_timeout of the pool = %q, %v", timeout, err)
	}
}

// A connection that dies in the middle leaves nothing behind, and the check says so.
func TestMarkerOnPostgreSQL_LostConnection(t *testing.T) {
	t.Parallel()
	db, table := openMarker(t)
	d, err := table.Run(t.Context(), "cut", func(ctx context.Context, tx *sql.Tx) error {
		if err := pay("cut")(ctx, tx); err != nil {
			return err
		}
		var pid int
		if err := tx.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, `SELECT pg_terminate_backend($1)`, pid)
		return err
	})
	if d == driver.Commit || err == nil {
		t.Fatalf("Run = %v, %v", d, err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		got, err := table.Decide(t.Context(), "cut")
		if err != nil {
			t.Fatal(err)
		}
		if got == driver.Rollback {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the check still says %v", got)
		}
	}
}

func TestMarkerOnPostgreSQL_RaceHasOneWinner(t *testing.T) {
	t.Parallel()
	db, table := openMarker(t)
	for i := range 50 {
		id := fmt.Sprintf("race%d", i)
		var run, decided driver.Decision
		var wg sync.WaitGroup
		wg.Go(func() { run, _ = table.Run(t.Context(), id, pay(id)) })
		wg.Go(func() {
			for decided == driver.Undecided {
				var err error
				if decided, err = table.Decide(t.Context(), id); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Wait()
		var n int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM bills WHERE id = $1`, id).Scan(&n); err != nil {
			t.Fatal(err)
		}
		// On a slow machine Run may leave its answer to a check.
		if run != driver.Undecided && run != decided || (n == 1) != (decided == driver.Commit) {
			t.Fatalf("%s: run says %v, the check says %v, %d rows", id, run, decided, n)
		}
	}
}
