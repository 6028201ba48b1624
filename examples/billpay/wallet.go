package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// The primary key of credits is the guarantee: it is written in the transaction
// that moves the money, so no broker, lock or cache can pay twice. movements is
// the journal that an auditor reads; it deliberately has no unique bill id, so
// that a payout that slipped through would be seen there and in the balance.
const walletSchema = `
CREATE TABLE IF NOT EXISTS balances(account TEXT PRIMARY KEY, cents INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS credits(bill_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS movements(n INTEGER PRIMARY KEY, bill_id TEXT NOT NULL, account TEXT NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS stopped(n INTEGER PRIMARY KEY, bill_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS suppressed(run TEXT PRIMARY KEY, duplicates INTEGER NOT NULL) WITHOUT ROWID;
`

// errPaidBefore says that the red packet of the bill was paid before.
var errPaidBefore = errors.New("the red packet was paid before")

// wallet is the database of the redpacket service.
type wallet struct{ db *sql.DB }

// Ping is the gate of the service: the wallet can be written.
func (w *wallet) Ping(ctx context.Context) error {
	return inTx(ctx, w.db, func(t *sql.Tx) error {
		_, err := t.ExecContext(ctx, `UPDATE balances SET cents = cents WHERE account = ''`)
		return err
	})
}

// Credit pays the red packet of a bill into its account, once. The second time
// it answers [errPaidBefore].
func (w *wallet) Credit(ctx context.Context, billID, account string, cents int64) error {
	err := inTx(ctx, w.db, func(t *sql.Tx) error {
		ok, err := changed(t.ExecContext(ctx, `INSERT INTO credits(bill_id) VALUES(?) ON CONFLICT DO NOTHING`, billID))
		if err != nil {
			return err
		}
		if !ok {
			return errPaidBefore
		}
		if _, err := t.ExecContext(ctx, `INSERT INTO movements(bill_id, account, cents) VALUES(?,?,?)`, billID, account, cents); err != nil {
			return err
		}
		_, err = t.ExecContext(ctx, `INSERT INTO balances(account, cents) VALUES(?,?)
			ON CONFLICT(account) DO UPDATE SET cents = cents + excluded.cents`, account, cents)
		return err
	})
	if err != nil {
		return fmt.Errorf("credit bill %s to account %s: %w", billID, account, err)
	}
	return nil
}

// Stopped notes that only the unique bill id stopped a second payout.
func (w *wallet) Stopped(ctx context.Context, billID string) error {
	if _, err := w.db.ExecContext(ctx, `INSERT INTO stopped(bill_id) VALUES(?)`, billID); err != nil {
		return fmt.Errorf("note the second payout of bill %s: %w", billID, err)
	}
	return nil
}

// Suppressed notes how many duplicates the decorator has stopped in this run of
// the process. The decorator counts in memory; a later run adds to it.
func (w *wallet) Suppressed(ctx context.Context, run string, duplicates int64) error {
	if _, err := w.db.ExecContext(ctx, `INSERT INTO suppressed(run, duplicates) VALUES(?,?)
		ON CONFLICT(run) DO UPDATE SET duplicates = excluded.duplicates`, run, duplicates); err != nil {
		return fmt.Errorf("note %d suppressed duplicates: %w", duplicates, err)
	}
	return nil
}
