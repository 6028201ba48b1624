package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// States of a bill. Paid and rolled back are final: for this run and the next.
const (
	stateAnnounced  = "announced"
	statePaid       = "paid"
	stateRolledBack = "rolled_back"
)

// try names the transaction that a bill is paid in: the first is 1, and a later
// run that finds the bill still announced begins another, because the process
// that worked on the earlier one is gone. See [billStore.Reopen].
const billSchema = `
CREATE TABLE IF NOT EXISTS bills(
	bill_id      TEXT PRIMARY KEY,
	account      TEXT NOT NULL,
	kind         TEXT NOT NULL,
	amount_cents INTEGER NOT NULL,
	due_at_ms    INTEGER NOT NULL,
	due_ms       INTEGER NOT NULL,
	reminded     INTEGER NOT NULL DEFAULT 0,
	state        TEXT NOT NULL DEFAULT 'announced',
	try          INTEGER NOT NULL DEFAULT 1,
	closed       INTEGER NOT NULL DEFAULT 0,
	resent       INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS bills_open ON bills(state) WHERE state = 'announced';
CREATE INDEX IF NOT EXISTS bills_unreminded ON bills(reminded) WHERE reminded = 0;
CREATE TABLE IF NOT EXISTS checks(tx_id TEXT PRIMARY KEY, decision TEXT NOT NULL) WITHOUT ROWID;
`

// errNotOpen is why a bill cannot be paid: it is paid, rolled back or closed.
var errNotOpen = errors.New("the bill is not open any more")

// bill is a row of the bills database.
type bill struct {
	row
	DueAt time.Time
	Try   int
}

// txID names the transaction of the bill's current try. It is the unique id of
// the half message too, so that a half message names its marker row.
func (b *bill) txID() string { return b.BillID + "/" + strconv.Itoa(b.Try) }

// splitTxID is the inverse of [bill.txID].
func splitTxID(id string) (billID string, try int, ok bool) {
	billID, n, ok := strings.Cut(id, "/")
	try, err := strconv.Atoi(n)
	return billID, try, ok && err == nil
}

// billStore is the database of the bills service.
type billStore struct{ db *sql.DB }

// Announce stores the rows that are new and answers them. A row that is there
// already with the same content is left out; one with another content is a
// [*rowError] in conflicts.
func (s *billStore) Announce(ctx context.Context, rows []row, now time.Time) (fresh []bill, conflicts []error, err error) {
	err = inTx(ctx, s.db, func(t *sql.Tx) error {
		for _, r := range rows {
			b := bill{row: r, DueAt: now.Add(time.Duration(r.DueMS) * time.Millisecond), Try: 1}
			isNew, err := changed(t.ExecContext(ctx,
				`INSERT INTO bills(bill_id, account, kind, amount_cents, due_ms, due_at_ms) VALUES(?,?,?,?,?,?) ON CONFLICT DO NOTHING`,
				r.BillID, r.Account, r.Kind, r.AmountCents, r.DueMS, b.DueAt.UnixMilli()))
			if err != nil {
				return err
			}
			if isNew {
				fresh = append(fresh, b)
				continue
			}
			known := row{Line: r.Line}
			if err := t.QueryRowContext(ctx, `SELECT bill_id, account, kind, amount_cents, due_ms FROM bills WHERE bill_id = ?`, r.BillID).
				Scan(&known.BillID, &known.Account, &known.Kind, &known.AmountCents, &known.DueMS); err != nil {
				return err
			}
			if known != r {
				conflicts = append(conflicts, &rowError{Line: r.Line, Err: fmt.Errorf(
					"bill %s was announced before with account %s, kind %s, amount_cents %d, due_ms %d",
					r.BillID, known.Account, known.Kind, known.AmountCents, known.DueMS)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("announce %d bills: %w", len(rows), err)
	}
	return fresh, conflicts, nil
}

// Reopen begins another try for every bill that an earlier process left open
// and answers those bills. The half message of the earlier try, if there was
// one, is rolled back by its check-back: no sender of it lives, and what [billStore.Pay]
// would have changed needs the earlier try.
func (s *billStore) Reopen(ctx context.Context) (open []bill, err error) {
	err = inTx(ctx, s.db, func(t *sql.Tx) error {
		if _, err := t.ExecContext(ctx, `UPDATE bills SET try = try + 1 WHERE state = 'announced'`); err != nil {
			return err
		}
		open, err = scanBills(t.QueryContext(ctx, billColumns+`WHERE state = 'announced' ORDER BY due_at_ms, bill_id`))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reopen bills: %w", err)
	}
	return open, nil
}

// Unreminded answers the bills whose reminder may not have been sent.
func (s *billStore) Unreminded(ctx context.Context) ([]bill, error) {
	return scanBills(s.db.QueryContext(ctx, billColumns+`WHERE reminded = 0 ORDER BY due_at_ms, bill_id`))
}

// Reminded notes that the reminders of the bills were sent.
func (s *billStore) Reminded(ctx context.Context, bs []bill) error {
	err := inTx(ctx, s.db, func(t *sql.Tx) error {
		for i := range bs {
			if _, err := t.ExecContext(ctx, `UPDATE bills SET reminded = 1 WHERE bill_id = ?`, bs[i].BillID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("note %d reminders: %w", len(bs), err)
	}
	return nil
}

// Pay is the local transaction of the half message b.txID(). resend notes that
// the bill is going to be announced twice.
func (s *billStore) Pay(ctx context.Context, t *sql.Tx, b *bill, resend bool) error {
	ok, err := changed(t.ExecContext(ctx,
		`UPDATE bills SET state = 'paid', resent = ? WHERE bill_id = ? AND try = ? AND state = 'announced'`, resend, b.BillID, b.Try))
	if err == nil && !ok {
		err = errNotOpen
	}
	if err != nil {
		return fmt.Errorf("pay bill %s: %w", b.BillID, err)
	}
	return nil
}

// RollBack ends the bill if txID is still its current try: whoever calls it
// knows that this transaction can never commit.
func (s *billStore) RollBack(ctx context.Context, txID string) error {
	id, try, ok := splitTxID(txID)
	if !ok {
		return fmt.Errorf("roll back %q: this is no transaction of a bill", txID)
	}
	if _, err := s.db.ExecContext(ctx,
		`UPDATE bills SET state = 'rolled_back' WHERE bill_id = ? AND try = ? AND state = 'announced'`, id, try); err != nil {
		return fmt.Errorf("roll back bill %s: %w", id, err)
	}
	return nil
}

// Checked notes that a check-back decided a half message; asking twice counts once.
func (s *billStore) Checked(ctx context.Context, txID, decision string) error {
	if _, err := s.db.ExecContext(ctx, `INSERT INTO checks(tx_id, decision) VALUES(?,?) ON CONFLICT DO NOTHING`, txID, decision); err != nil {
		return fmt.Errorf("note the check of %s: %w", txID, err)
	}
	return nil
}

// Close closes a bill that was not paid. decided is false while the bill is
// neither paid nor rolled back: then it is too early to say.
func (s *billStore) Close(ctx context.Context, billID string) (decided bool, err error) {
	err = inTx(ctx, s.db, func(t *sql.Tx) error {
		var state string
		if err := t.QueryRowContext(ctx, `SELECT state FROM bills WHERE bill_id = ?`, billID).Scan(&state); err != nil {
			return err
		}
		if state == stateAnnounced {
			return nil
		}
		decided = true
		if state == statePaid {
			return nil
		}
		_, err := t.ExecContext(ctx, `UPDATE bills SET closed = 1 WHERE bill_id = ?`, billID)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("close bill %s: %w", billID, err)
	}
	return decided, nil
}

const billColumns = `SELECT bill_id, account, kind, amount_cents, due_ms, due_at_ms, try FROM bills `

func scanBills(rows *sql.Rows, err error) ([]bill, error) {
	if err != nil {
		return nil, fmt.Errorf("read bills: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var bs []bill
	for rows.Next() {
		var b bill
		var dueAt int64
		if err := rows.Scan(&b.BillID, &b.Account, &b.Kind, &b.AmountCents, &b.DueMS, &dueAt, &b.Try); err != nil {
			return nil, fmt.Errorf("read bills: %w", err)
		}
		b.DueAt = time.UnixMilli(dueAt)
		bs = append(bs, b)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read bills: %w", err)
	}
	return bs, nil
}
