package main

import (
	"context"
	"database/sql"
	"fmt"
	"sort"
)

// audit compares what the bills database says was earned with what the balances
// in the wallet's database say was paid. It believes no counter and no unique
// key of the services.
type audit struct {
	// Lost is the number of paid bills whose red packet is in no balance.
	Lost int
	// DoublePayouts is the number of payouts that no paid bill accounts for:
	// second ones, and ones for bills that were not paid.
	DoublePayouts int
	// Findings says what was found, for people.
	Findings []string
}

// account sums up, in cents, what three tables say about one account.
type account struct {
	earned, journal, balance int64
	explained                bool // a finding about a bill of it says why the sums differ
}

// reconcile makes the audit. The journal tells which bill it was; the balances
// have the last word: money that moved outside the journal is a finding too.
func reconcile(ctx context.Context, bills, wallet *sql.DB) (audit, error) {
	accounts := map[string]*account{}
	of := func(name string) *account {
		if accounts[name] == nil {
			accounts[name] = &account{}
		}
		return accounts[name]
	}
	earned, payouts := map[string]*account{}, map[string][]*account{}
	err := each(ctx, bills, `SELECT bill_id, account, amount_cents FROM bills WHERE state = 'paid'`, func(id, acc string, amount int64) {
		earned[id] = of(acc)
		of(acc).earned += packet(amount)
	})
	if err == nil {
		// As of one moment: the wallet may be at work, in a process of its own.
		err = inTx(ctx, wallet, func(t *sql.Tx) error {
			err := each(ctx, t, `SELECT bill_id, account, cents FROM movements`, func(id, acc string, cents int64) {
				payouts[id] = append(payouts[id], of(acc))
				of(acc).journal += cents
			})
			if err != nil {
				return err
			}
			return each(ctx, t, `SELECT '', account, cents FROM balances`, func(_, acc string, cents int64) {
				of(acc).balance += cents
			})
		})
	}
	if err != nil {
		return audit{}, err
	}

	var a audit
	for id, acc := range earned {
		if len(payouts[id]) == 0 {
			a.Lost++
			acc.explained = true
			a.Findings = append(a.Findings, fmt.Sprintf("bill %s is paid, its red packet is not", id))
		}
	}
	for id, accs := range payouts {
		allowed := 0
		if earned[id] != nil {
			allowed = 1
		}
		if len(accs) <= allowed {
			continue
		}
		a.DoublePayouts += len(accs) - allowed
		for _, acc := range accs {
			acc.explained = true
		}
		a.Findings = append(a.Findings, fmt.Sprintf("bill %s earned %d red packets and got %d", id, allowed, len(accs)))
	}
	for name, acc := range accounts {
		a.balance(name, acc)
	}
	sort.Strings(a.Findings)
	return a, nil
}

// balance compares the balance of one account with its journal, and with what
// its bills earned unless a finding about one of them says why it differs.
func (a *audit) balance(name string, acc *account) {
	want := acc.journal
	if acc.balance == acc.journal && !acc.explained {
		want = acc.earned
	}
	switch {
	case acc.balance == want:
		return
	case acc.balance < want:
		a.Lost++
	default:
		a.DoublePayouts++
	}
	a.Findings = append(a.Findings, fmt.Sprintf("account %s holds %d cents; its bills earned %d and its journal says %d",
		name, acc.balance, acc.earned, acc.journal))
}

// querier is a database, or a transaction in one.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls f for every row of a query for two texts and a number.
func each(ctx context.Context, db querier, query string, f func(a, b string, n int64)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var a, b string
		var n int64
		if err := rows.Scan(&a, &b, &n); err != nil {
			return fmt.Errorf("%s: %w", query, err)
		}
		f(a, b, n)
	}
	return rows.Err()
}
