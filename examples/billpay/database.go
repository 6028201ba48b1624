package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"

	"go.uber.org/fx"
	_ "modernc.org/sqlite" // the SQLite driver, without cgo
)

// folder holds the databases of the services, one file each, and the broker.
type folder string

// open opens the database of one service; nothing is read or written yet.
// A commit is on the disk when it returns, which money demands. There is one
// connection: SQLite has one writer, and queueing here is cheaper
// than there.
func (f folder) open(service string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", f.dsn(service, url.Values{
		"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)"},
		"_txlock": {"immediate"},
	}))
	if err != nil {
		return nil, fmt.Errorf("open the database of %s: %w", service, err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// databases opens the database of each service of this process and closes what
// no service came to close, because the application did not start.
type databases struct {
	folder folder

	mu   sync.Mutex
	open []*sql.DB
}

// Own opens the database of one service, makes its tables when the application
// starts, and closes it when the application has stopped using it.
func (d *databases) Own(lc fx.Lifecycle, service, schema string) (*sql.DB, error) {
	db, err := d.folder.open(service)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.open = append(d.open, db)
	d.mu.Unlock()
	lc.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			// All or none: other processes look whether they are there.
			err := inTx(ctx, db, func(t *sql.Tx) error {
				_, err := t.ExecContext(ctx, schema)
				return err
			})
			if err != nil {
				return fmt.Errorf("make the tables of %s: %w", d.folder.path(service), err)
			}
			return nil
		},
		OnStop: func(context.Context) error { return db.Close() },
	})
	return db, nil
}

// Close closes what is still open.
func (d *databases) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, db := range d.open {
		errs = append(errs, db.Close()) // a second time is no error
	}
	return errors.Join(errs...)
}

// view opens the database of a service for reading, beside its owner.
func (f folder) view(service string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", f.dsn(service, url.Values{
		"_pragma": {"busy_timeout(10000)", "query_only(1)"},
	}))
	if err != nil {
		return nil, fmt.Errorf("open the database of %s: %w", service, err)
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

func (f folder) path(service string) string { return filepath.Join(string(f), service+".db") }

func (f folder) dsn(service string, q url.Values) string {
	// A question mark or a per cent sign in a folder's name must not start the query.
	path := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(f.path(service))
	return "file:" + path + "?" + q.Encode()
}

// inTx runs f in one transaction of db.
func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	t, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(t); err != nil {
		_ = t.Rollback() // the cause of the rollback says more than its failure
		return err
	}
	return t.Commit()
}

// changed reports whether a statement changed a row.
func changed(res sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
