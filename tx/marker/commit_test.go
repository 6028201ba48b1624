package marker_test

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/tx/marker"
)

// A repetition with the id of a committed transaction must not be answered with
// a rollback: the sender would take back a message whose transaction stands.
func TestRun_SameIDAfterCommit(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	if d, err := b.table.Run(t.Context(), "tx1", b.pay("B-1")); d != driver.Commit || err != nil {
		t.Fatalf("Run = %v, %v", d, err)
	}
	ran := false
	d, err := b.table.Run(t.Context(), "tx1", func(context.Context, *sql.Tx) error { ran = true; return nil })
	if d != driver.Commit || !errors.Is(err, marker.ErrCommitted) || ran {
		t.Fatalf("second Run = %v, %v, ran %v; want commit, ErrCommitted, not run", d, err, ran)
	}
}

// A function that ends the transaction itself cannot make Run and the row disagree.
func TestRun_FunctionEndsTheTransaction(t *testing.T) {
	t.Parallel()
	failed := errors.New("after the commit")
	for name, c := range map[string]struct {
		end  func(*sql.Tx) error
		err  error
		want driver.Decision
	}{
		"commit":           {(*sql.Tx).Commit, nil, driver.Commit},
		"commit and fail":  {(*sql.Tx).Commit, failed, driver.Commit},
		"rollback":         {(*sql.Tx).Rollback, nil, driver.Rollback},
		"rollback, failed": {(*sql.Tx).Rollback, failed, driver.Rollback},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, marker.Config{})
			d, err := b.table.Run(t.Context(), "tx1", func(ctx context.Context, tx *sql.Tx) error {
				if err := errors.Join(b.pay("B-1")(ctx, tx), c.end(tx)); err != nil {
					t.Error(err)
				}
				return c.err
			})
			if d != c.want || err == nil || !errors.Is(err, c.err) && c.err != nil {
				t.Fatalf("Run = %v, %v; want %v and an error", d, err, c.want)
			}
			b.decide(t, "tx1", c.want)
			if b.paid(t, "B-1") != (c.want == driver.Commit) {
				t.Error("the work does not agree with the decision")
			}
		})
	}
}

func TestRun_EmptyIDIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, marker.Config{})
	if d, err := b.table.Run(t.Context(), "", b.pay("B-1")); d != driver.Rollback || err == nil {
		t.Fatalf("Run = %v, %v", d, err)
	}
}

// The answer to COMMIT is lost: the row says at once what became of it, and if
// the database cannot be asked, a check says so later.
func TestRun_LostCommit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		applied, gone bool
		want, later   driver.Decision
	}{
		"answer lost":               {applied: true, want: driver.Commit, later: driver.Commit},
		"request lost":              {want: driver.Rollback, later: driver.Rollback},
		"answer lost, server gone":  {applied: true, gone: true, want: driver.Undecided, later: driver.Commit},
		"request lost, server gone": {gone: true, want: driver.Undecided, later: driver.Rollback},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &flaky{dsn: "file:" + filepath.Join(t.TempDir(), "bills.db") + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)"}
			db := sql.OpenDB(f)
			defer func() { _ = db.Close() }()
			table, err := marker.New(db, marker.SQLite(), marker.Config{})
			if err == nil {
				err = table.Create(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			d, err := table.Run(t.Context(), "tx1", func(context.Context, *sql.Tx) error {
				f.lose.Store(true)
				f.applied.Store(c.applied)
				f.gone.Store(c.gone)
				return nil
			})
			if d != c.want || (err == nil) != (c.want == driver.Commit) {
				t.Fatalf("Run = %v, %v; want %v", d, err, c.want)
			}
			if err != nil && !errors.Is(err, errCut) {
				t.Errorf("the error hides the cause: %v", err)
			}
			f.gone.Store(false)
			if d, err := table.Decide(t.Context(), "tx1"); d != c.later || err != nil {
				t.Errorf("Decide = %v, %v; want %v", d, err, c.later)
			}
		})
	}
}

// A check does not wait for the busy timeout of the pool, nor for its only connection.
func TestDecide_NeverBlocks(t *testing.T) {
	t.Parallel()
	for name, conns := range map[string]int{"busy timeout of 5s": 0, "one connection": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, marker.Config{LockTimeout: 20 * time.Millisecond})
			b.db.SetMaxOpenConns(conns)
			d, err := b.table.Run(t.Context(), "tx1", func(context.Context, *sql.Tx) error {
				began := time.Now()
				if d, err := b.table.Decide(t.Context(), "tx1"); d != driver.Undecided || err != nil {
					t.Errorf("Decide = %v, %v; want undecided", d, err)
				}
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("the check blocked for %v", took)
				}
				return nil
			})
			if d != driver.Commit || err != nil {
				t.Fatalf("Run = %v, %v", d, err)
			}
		})
	}
}

// The SQL for PostgreSQL is run on a real server in the integration module; here
// it is read.
func TestPostgreSQL_Text(t *testing.T) {
	t.Parallel()
	d := marker.PostgreSQL()
	for got, want := range map[string]string{
		d.Insert("m"):                    `INSERT INTO m (id, state, at_ms) VALUES ($1, $2, $3)`,
		d.InsertIgnore("m"):              `INSERT INTO m (id, state, at_ms) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING`,
		d.Select("m"):                    `SELECT state FROM m WHERE id = $1`,
		d.Delete("m"):                    `DELETE FROM m WHERE at_ms < $1`,
		strings.Join(d.Schema("m"), ";"): `CREATE TABLE IF NOT EXISTS m (id TEXT PRIMARY KEY, state TEXT NOT NULL, at_ms BIGINT NOT NULL);CREATE INDEX IF NOT EXISTS m_at ON m (at_ms)`,
	} {
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for state, want := range map[string][2]bool{"23505": {true, false}, "55P03": {false, true}, "57014": {false, true}, "08006": {}} {
		err := errors.Join(errors.New("insert"), pgError(state))
		if d.IsDuplicate(err) != want[0] || d.IsLocked(err) != want[1] {
			t.Errorf("%s: duplicate %v, locked %v", state, d.IsDuplicate(err), d.IsLocked(err))
		}
	}
}

// pgError is an error as pgx and lib/pq make them.
type pgError string

func (e pgError) Error() string    { return "postgres: " + string(e) }
func (e pgError) SQLState() string { return string(e) }

var errCut = errors.New("connection reset by peer")

// flaky is SQLite whose COMMIT can lose its answer, and which can be gone.
type flaky struct {
	dsn                 string
	lose, applied, gone atomic.Bool
}

func (f *flaky) Driver() sqldriver.Driver { return &sqlite.Driver{} }

func (f *flaky) Connect(context.Context) (sqldriver.Conn, error) {
	if f.gone.Load() {
		return nil, errCut
	}
	c, err := f.Driver().Open(f.dsn)
	return &flakyConn{Conn: c, f: f}, err
}

type flakyConn struct {
	sqldriver.Conn

	f *flaky
}

func (c *flakyConn) IsValid() bool { return !c.f.gone.Load() }

func (c *flakyConn) ExecContext(ctx context.Context, q string, args []sqldriver.NamedValue) (sqldriver.Result, error) {
	return c.Conn.(sqldriver.ExecerContext).ExecContext(ctx, q, args)
}

func (c *flakyConn) QueryContext(ctx context.Context, q string, args []sqldriver.NamedValue) (sqldriver.Rows, error) {
	return c.Conn.(sqldriver.QueryerContext).QueryContext(ctx, q, args)
}

func (c *flakyConn) BeginTx(ctx context.Context, o sqldriver.TxOptions) (sqldriver.Tx, error) {
	t, err := c.Conn.(sqldriver.ConnBeginTx).BeginTx(ctx, o)
	return &flakyTx{Tx: t, f: c.f}, err
}

type flakyTx struct {
	sqldriver.Tx

	f *flaky
}

func (t *flakyTx) Commit() error {
	if !t.f.lose.Swap(false) {
		return t.Tx.Commit()
	}
	end := t.Rollback
	if t.f.applied.Load() {
		end = t.Tx.Commit
	}
	return errors.Join(end(), errCut)
}
