package marker

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"
)

// Dialect is the SQL of one database. [SQLite] and [PostgreSQL] are built in; a
// type of another package may add one.
type Dialect interface {
	// Name is lower case and used in errors.
	Name() string
	// Schema returns the statements that create table unless it exists.
	Schema(table string) []string
	// Insert returns a statement with the parameters id, state, time in
	// milliseconds; it fails on a duplicate id.
	Insert(table string) string
	// InsertIgnore is Insert that does nothing on a duplicate id.
	InsertIgnore(table string) string
	// Select returns the state of an id.
	Select(table string) string
	// Delete removes rows that are older than the parameter.
	Delete(table string) string
	// LimitWait bounds how long statements on c wait for a lock. The caller
	// calls restore before c goes back to the pool; it may fail, and then c
	// must be dropped.
	LimitWait(ctx context.Context, c *sql.Conn, d time.Duration) (restore func(context.Context) error, err error)
	// IsDuplicate reports whether err says that the id is there already,
	// IsLocked whether a lock was not got in time.
	IsDuplicate(err error) bool
	IsLocked(err error) bool
}

// SQLite is the dialect of SQLite 3.24 or later, tested with modernc.org/sqlite.
// Let the data source name set _pragma=busy_timeout and WAL mode: without a busy
// timeout every write that meets another one fails at once.
func SQLite() Dialect { return sqlite{} }

// PostgreSQL is the dialect of PostgreSQL 9.5 or later, tested with pgx.
func PostgreSQL() Dialect { return postgreSQL{} }

type sqlite struct{}

func (sqlite) Name() string { return "sqlite" }

func (sqlite) Schema(table string) []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS ` + table + ` (id TEXT PRIMARY KEY, state TEXT NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID`,
		`CREATE INDEX IF NOT EXISTS ` + table + `_at ON ` + table + ` (at_ms)`,
	}
}

func (sqlite) Insert(table string) string {
	return `INSERT INTO ` + table + ` (id, state, at_ms) VALUES (?, ?, ?)`
}

func (d sqlite) InsertIgnore(table string) string {
	return d.Insert(table) + ` ON CONFLICT (id) DO NOTHING`
}
func (sqlite) Select(table string) string { return `SELECT state FROM ` + table + ` WHERE id = ?` }
func (sqlite) Delete(table string) string { return `DELETE FROM ` + table + ` WHERE at_ms < ?` }

// LimitWait lowers the busy timeout: SQLite waits for it even when the context
// of the statement has ended.
func (sqlite) LimitWait(ctx context.Context, c *sql.Conn, d time.Duration) (func(context.Context) error, error) {
	var before int64
	if err := c.QueryRowContext(ctx, `PRAGMA busy_timeout`).Scan(&before); err != nil {
		return nil, err
	}
	set := func(ctx context.Context, ms int64) error {
		_, err := c.ExecContext(ctx, `PRAGMA busy_timeout = `+strconv.FormatInt(ms, 10))
		return err
	}
	restore := func(ctx context.Context) error { return set(ctx, before) }
	return restore, set(ctx, min(before, d.Milliseconds()))
}

// The result codes of SQLite, https://www.sqlite.org/rescode.html.
const (
	sqliteBusy          = 5
	sqliteLocked        = 6
	sqliteConstraintPK  = 1555
	sqliteConstraintUni = 2067
)

func (sqlite) IsDuplicate(err error) bool {
	c, ok := sqliteCode(err)
	return ok && (c == sqliteConstraintPK || c == sqliteConstraintUni)
}

func (sqlite) IsLocked(err error) bool {
	c, ok := sqliteCode(err)
	return ok && (c&0xff == sqliteBusy || c&0xff == sqliteLocked)
}

// sqliteCode reads the extended result code of modernc.org/sqlite's error
// without importing it: the user chooses the SQL driver.
func sqliteCode(err error) (int, bool) {
	var coded interface {
		error
		Code() int
	}
	if errors.As(err, &coded) {
		return coded.Code(), true
	}
	return 0, false
}

type postgreSQL struct{}

func (postgreSQL) Name() string { return "postgresql" }

func (postgreSQL) Schema(table string) []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS ` + table + ` (id TEXT PRIMARY KEY, state TEXT NOT NULL, at_ms BIGINT NOT NULL)`,
		`CREATE INDEX IF NOT EXISTS ` + table + `_at ON ` + table + ` (at_ms)`,
	}
}

func (postgreSQL) Insert(table string) string {
	return `INSERT INTO ` + table + ` (id, state, at_ms) VALUES ($1, $2, $3)`
}

func (d postgreSQL) InsertIgnore(table string) string {
	return d.Insert(table) + ` ON CONFLICT (id) DO NOTHING`
}

func (postgreSQL) Select(table string) string { return `SELECT state FROM ` + table + ` WHERE id = $1` }

func (postgreSQL) Delete(table string) string { return `DELETE FROM ` + table + ` WHERE at_ms < $1` }

func (postgreSQL) LimitWait(ctx context.Context, c *sql.Conn, d time.Duration) (func(context.Context) error, error) {
	// SET takes no parameters; the value is a number of ours. 0 means no limit.
	_, err := c.ExecContext(ctx, `SET lock_timeout = `+strconv.FormatInt(max(1, d.Milliseconds()), 10))
	return func(ctx context.Context) error {
		_, err := c.ExecContext(ctx, `RESET lock_timeout`)
		return err
	}, err
}

// The error codes of PostgreSQL, appendix A of its manual.
const (
	pgUniqueViolation  = "23505"
	pgLockNotAvailable = "55P03"
	pgQueryCanceled    = "57014"
)

func (postgreSQL) IsDuplicate(err error) bool { return sqlState(err) == pgUniqueViolation }

func (postgreSQL) IsLocked(err error) bool {
	s := sqlState(err)
	return s == pgLockNotAvailable || s == pgQueryCanceled
}

// sqlState reads the error code through the method that pgx and lib/pq share.
func sqlState(err error) string {
	var coded interface {
		error
		SQLState() string
	}
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}
