package marker

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/tx"
)

var (
	// ErrTombstone says that the transaction was judged dead before it committed:
	// a check-back found no row and left one. Nothing of it happened.
	ErrTombstone = errors.New("the transaction was already rolled back by a check")
	// ErrCommitted says that a transaction with the same id committed earlier;
	// the function was not run again.
	ErrCommitted = errors.New("a transaction with this id committed before; its function was not run again")
)

// PanicError is a panic of the function given to [Table.Run]; the transaction
// was rolled back.
type PanicError = tx.PanicError

// States of a row.
const (
	committed  = "committed"
	rolledBack = "rolled_back"
)

// Config tunes a [Table]. The zero value is usable.
type Config struct {
	// Name of the table. Defaults to "sluice_tx".
	Name string
	// LockTimeout bounds how long a check waits for a transaction that is
	// still open before it answers Undecided. Defaults to 250ms.
	LockTimeout time.Duration
	// CheckHorizon is how long after its half message a transaction can still
	// be asked for; Prune refuses to go below it. It must cover the time until
	// the last check, and operators deciding parked halves. Defaults to 72h.
	CheckHorizon time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = "sluice_tx"
	}
	if c.LockTimeout == 0 {
		c.LockTimeout = 250 * time.Millisecond
	}
	if c.CheckHorizon == 0 {
		c.CheckHorizon = 72 * time.Hour
	}
	var errs []error
	if !tableName.MatchString(c.Name) {
		errs = append(errs, fmt.Errorf("table name %q; it takes letters, digits and _, and begins with a letter or _", c.Name))
	}
	if c.LockTimeout < 0 {
		errs = append(errs, fmt.Errorf("lock timeout %s is negative", c.LockTimeout))
	}
	if c.CheckHorizon < 0 {
		errs = append(errs, fmt.Errorf("check horizon %s is negative", c.CheckHorizon))
	}
	return c, errors.Join(errs...)
}

var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// Table is the marker table of one database. It is safe for concurrent use by
// any number of processes.
type Table struct {
	db  *sql.DB
	d   Dialect
	cfg Config

	mu      sync.Mutex
	running map[string]int // runs of this process by id, also those that wait for a connection
}

// New makes a Table on db, which the caller keeps and closes. It touches the
// database only when it is used; see [Table.Create].
func New(db *sql.DB, d Dialect, cfg Config) (*Table, error) {
	if db == nil || d == nil {
		return nil, errors.New("marker table: a database and a dialect (marker.SQLite(), marker.PostgreSQL()) are needed")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("marker table: %w", err)
	}
	return &Table{db: db, d: d, cfg: cfg}, nil
}

// Create makes the table unless it exists.
func (t *Table) Create(ctx context.Context) error {
	for _, stmt := range t.d.Schema(t.cfg.Name) {
		if _, err := t.db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("create marker table %s: %w", t.cfg.Name, err)
		}
	}
	return nil
}

// Run runs f and the row of id in one transaction. It answers
//
//   - Commit and nil: f and the row are committed;
//   - Commit and an error: they are committed, but not by this call
//     ([ErrCommitted]), or by f itself, which must not end the transaction;
//   - Rollback and an error: nothing happened; the error is f's, a
//     [*PanicError], [ErrTombstone], or that of the database;
//   - Undecided and an error: the answer to COMMIT was lost, and the database
//     could not be asked at once. Only a check tells.
//
// The transaction is rolled back when ctx ends before the commit.
func (t *Table) Run(ctx context.Context, id string, f func(ctx context.Context, tx *sql.Tx) error) (driver.Decision, error) {
	if id == "" {
		return driver.Rollback, errors.New("run a local transaction: the id is empty")
	}
	defer t.enter(id)()
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return driver.Rollback, fmt.Errorf("begin local transaction %s: %w", id, err)
	}
	finished := false
	defer func() {
		if !finished { // f ended its goroutine, as t.FailNow does
			_ = tx.Rollback()
		}
	}()
	if err := t.insert(ctx, tx, id); err != nil {
		finished = true
		err = errors.Join(err, ignoreDone(tx.Rollback()))
		if errors.Is(err, errDuplicate) {
			return t.byRow(ctx, id, err, true)
		}
		return driver.Rollback, err
	}
	err = contained(ctx, tx, f)
	finished = true
	if err != nil {
		switch undo := tx.Rollback(); {
		case errors.Is(undo, sql.ErrTxDone):
			// Either the context ended it, or f did, perhaps by a commit.
			return t.byRow(ctx, id, err, false)
		default:
			// A failed ROLLBACK rolls back with its connection: no COMMIT was sent.
			return driver.Rollback, errors.Join(err, undo)
		}
	}
	if err := tx.Commit(); err != nil {
		lost := !errors.Is(err, sql.ErrTxDone) // else f or the context ended it
		d, err := t.byRow(ctx, id, fmt.Errorf("commit local transaction %s: %w", id, err), false)
		if d == driver.Commit && lost {
			err = nil // only the answer was lost
		}
		return d, err
	}
	return driver.Commit, nil
}

// byRow answers for a transaction whose end this call did not see: the row
// decides, and a tombstone makes the answer final if there is none. before says
// that the row was there before the call.
func (t *Table) byRow(ctx context.Context, id string, cause error, before bool) (driver.Decision, error) {
	d, err := t.decide(context.WithoutCancel(ctx), id) // bounded by the lock timeout
	switch {
	case err != nil:
		return driver.Undecided, errors.Join(cause, err)
	case before && d == driver.Commit:
		return d, fmt.Errorf("local transaction %s: %w", id, ErrCommitted)
	case before && d == driver.Rollback:
		return d, fmt.Errorf("local transaction %s: %w", id, ErrTombstone)
	default:
		return d, cause
	}
}

// errDuplicate says that the id has a row.
var errDuplicate = errors.New("the id has a row already")

// insert puts the row first, so that a tombstone stops a slow transaction
// before it does its work.
func (t *Table) insert(ctx context.Context, tx *sql.Tx, id string) error {
	_, err := tx.ExecContext(ctx, t.d.Insert(t.cfg.Name), id, committed, time.Now().UnixMilli())
	switch {
	case err == nil:
		return nil
	case t.d.IsDuplicate(err):
		return fmt.Errorf("local transaction %s: %w", id, errDuplicate)
	default:
		return fmt.Errorf("mark local transaction %s in %s: %w", id, t.cfg.Name, err)
	}
}

func contained(ctx context.Context, tx *sql.Tx, f func(context.Context, *sql.Tx) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f(ctx, tx)
}

// ignoreDone drops the error of rolling back what database/sql already ended.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// enter notes that a transaction runs in this process until leave is called.
func (t *Table) enter(id string) (leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		t.running = map[string]int{}
	}
	t.running[id]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.running[id]--; t.running[id] == 0 {
			delete(t.running, id)
		}
	}
}

func (t *Table) runs(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[id] > 0
}

// Decide answers a check-back for id: Commit or Rollback from the row, which it
// inserts as rolled back when there is none; Undecided and nil while a local
// transaction with that id is open; Undecided and an error when the database
// does not answer. A transaction of this process counts as open from the call of
// Run: one that waits for a connection is slow, not dead.
func (t *Table) Decide(ctx context.Context, id string) (driver.Decision, error) {
	if t.runs(id) {
		return driver.Undecided, nil
	}
	return t.decide(ctx, id)
}

func (t *Table) decide(ctx context.Context, id string) (driver.Decision, error) {
	// The second half of the time is for getting a connection of the pool.
	waiting, cancel := context.WithTimeout(ctx, 2*t.cfg.LockTimeout)
	defer cancel()
	state, err := t.tombstone(waiting, id)
	switch {
	case err == nil && state == committed:
		return driver.Commit, nil
	case err == nil && state == rolledBack:
		return driver.Rollback, nil
	case err == nil:
		return driver.Undecided, fmt.Errorf("decide local transaction %s: the row in %s says %q", id, t.cfg.Name, state)
	case t.d.IsLocked(err), waiting.Err() != nil && ctx.Err() == nil:
		return driver.Undecided, nil
	default:
		return driver.Undecided, fmt.Errorf("decide local transaction %s: %w", id, err)
	}
}

func (t *Table) tombstone(ctx context.Context, id string) (state string, err error) {
	conn, err := t.db.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // back to the pool
	restore, err := t.d.LimitWait(ctx, conn, t.cfg.LockTimeout)
	if err != nil {
		return "", err
	}
	defer func() {
		// Not bounded by ctx, which may be what ended the wait.
		restoring, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if restore(restoring) != nil {
			// The connection keeps the short timeout: drop it from the pool.
			_ = conn.Raw(func(any) error { return sqldriver.ErrBadConn })
		}
	}()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	if _, err := tx.ExecContext(ctx, t.d.InsertIgnore(t.cfg.Name), id, rolledBack, time.Now().UnixMilli()); err != nil {
		return "", err
	}
	if err := tx.QueryRowContext(ctx, t.d.Select(t.cfg.Name), id).Scan(&state); err != nil {
		return "", err
	}
	// The tombstone counts only once it is committed: an answer before that
	// could be followed by a local commit.
	return state, tx.Commit()
}

// Prune deletes rows older than age and tells how many. An age below
// Config.CheckHorizon is refused: a check that finds no row would roll back
// what was committed.
func (t *Table) Prune(ctx context.Context, age time.Duration) (int64, error) {
	if age < t.cfg.CheckHorizon {
		return 0, fmt.Errorf("prune %s: age %s is below the check horizon %s; a later check would take a committed transaction for a dead one", t.cfg.Name, age, t.cfg.CheckHorizon)
	}
	res, err := t.db.ExecContext(ctx, t.d.Delete(t.cfg.Name), time.Now().Add(-age).UnixMilli())
	if err != nil {
		return 0, fmt.Errorf("prune %s: %w", t.cfg.Name, err)
	}
	return res.RowsAffected()
}
