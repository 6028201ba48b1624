package main

import (
	"context"
	"database/sql"
	"fmt"
)

// n grows with every append. lane and position tell where the broker made the
// message visible, which is the order that an orderly listener is promised.
const ledgerSchema = `
CREATE TABLE IF NOT EXISTS entries(
	n        INTEGER PRIMARY KEY,
	bill_id  TEXT NOT NULL UNIQUE,
	account  TEXT NOT NULL,
	cents    INTEGER NOT NULL,
	lane     TEXT NOT NULL,
	position INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS overlaps(n INTEGER PRIMARY KEY, account TEXT NOT NULL, bill_id TEXT NOT NULL);
`

// book is the database of the ledger service.
type book struct{ db *sql.DB }

// Append writes one movement. A bill that is in the book already is left as it is.
func (b *book) Append(ctx context.Context, s billSettled, lane string, position int64) error {
	if _, err := b.db.ExecContext(ctx,
		`INSERT INTO entries(bill_id, account, cents, lane, position) VALUES(?,?,?,?,?) ON CONFLICT DO NOTHING`,
		s.BillID, s.Account, s.AmountCents, lane, position); err != nil {
		return fmt.Errorf("append bill %s to account %s: %w", s.BillID, s.Account, err)
	}
	return nil
}

// Overlapped notes that two movements of one account were handled at once.
func (b *book) Overlapped(ctx context.Context, s billSettled) error {
	if _, err := b.db.ExecContext(ctx, `INSERT INTO overlaps(account, bill_id) VALUES(?,?)`, s.Account, s.BillID); err != nil {
		return fmt.Errorf("note an overlap on account %s: %w", s.Account, err)
	}
	return nil
}

// countInversions counts the breaches of what an orderly listener is promised:
//
//   - two handlers of one account at the same time, and
//   - two neighbouring movements of one account in the book whose messages stood
//     in the other order on their lane, or on two lanes.
//
// It says nothing about the order in which bills were paid: a half message
// becomes visible when its transaction is decided, and a transaction that its
// check-back decides is decided late. What became visible first is first.
func countInversions(ctx context.Context, db *sql.DB) (int, error) {
	var n int
	err := db.QueryRowContext(ctx, `
		SELECT (SELECT count(*) FROM overlaps) + (
			SELECT count(*) FROM (
				SELECT lane, position,
					lag(lane)     OVER (PARTITION BY account ORDER BY n) AS lane_before,
					lag(position) OVER (PARTITION BY account ORDER BY n) AS position_before
				FROM entries)
			WHERE lane_before IS NOT NULL AND (lane <> lane_before OR position <= position_before))`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count inversions: %w", err)
	}
	return n, nil
}
