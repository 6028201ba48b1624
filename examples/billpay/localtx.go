package main

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"go.uber.org/fx"

	"github.com/sluicemq/sluice/tx"
	"github.com/sluicemq/sluice/tx/marker"
)

// sleepAtMost bounds how long -chaos lets a sender sleep. A cluster takes its
// time to ask; a sender that woke before would pay the bill after all.
const sleepAtMost = 20 * time.Second

// errStopped stands for a sender that died.
var errStopped = fmt.Errorf("the sender stops: %w", errChaos)

// localTx keeps the local transactions: the marker table, with the faults of -chaos
// around it and the bill's own state kept in step with it.
type localTx struct {
	table *marker.Table
	store *billStore
	chaos chaos

	mu     sync.Mutex
	open   map[string]bool          // transactions that run, or queue for the connection, in this process
	alarms map[string]chan struct{} // of senders that sleep until their check-back is answered
}

func newLocalTx(lc fx.Lifecycle, s *billStore, c chaos) (tx.Local, error) {
	table, err := marker.New(s.db, marker.SQLite(), marker.Config{})
	if err != nil {
		return nil, err
	}
	lc.Append(fx.Hook{OnStart: table.Create})
	return &localTx{table: table, store: s, chaos: c, open: map[string]bool{}, alarms: map[string]chan struct{}{}}, nil
}

// Run runs a local transaction, or stops before or after it as a sender that
// was killed would: the broker then hears nothing, and asks.
func (l *localTx) Run(ctx context.Context, id string, f func(context.Context, *sql.Tx) error) (tx.Decision, error) {
	billID, _, _ := splitTxID(id)
	stop := l.chaos.stop(billID)
	switch stop {
	case stopBeforeLocal:
		return tx.Undecided, errStopped
	case stopAndWake:
		l.sleep(ctx, id)
	default: // stops after the local transaction, or nowhere
	}
	l.setOpen(id, true)
	d, err := l.table.Run(ctx, id, f)
	l.setOpen(id, false)
	if stop == stopBeforeEnd && d == tx.Commit {
		return tx.Undecided, errStopped
	}
	return d, err
}

// Decide answers a check-back from the marker row, and ends the bill whose
// transaction can no longer commit. A transaction that waits for its turn is not
// judged dead: on a busy machine that would roll back healthy payments.
func (l *localTx) Decide(ctx context.Context, id string) (tx.Decision, error) {
	l.mu.Lock()
	open := l.open[id]
	l.mu.Unlock()
	if open {
		return tx.Undecided, nil
	}
	d, err := l.table.Decide(ctx, id)
	if err != nil || d == tx.Undecided {
		return d, err
	}
	if d == tx.Rollback {
		if err := l.store.RollBack(ctx, id); err != nil {
			return tx.Undecided, err
		}
	}
	if err := l.store.Checked(ctx, id, d.String()); err != nil {
		return tx.Undecided, err
	}
	if billID, _, _ := splitTxID(id); l.chaos.stop(billID) == stopAndWake {
		select {
		case l.alarm(id) <- struct{}{}:
		default: // it was asked about before
		}
	}
	return d, nil
}

// sleep returns when the check-back of the transaction was answered; the bound
// is for a broker that does not ask.
func (l *localTx) sleep(ctx context.Context, id string) {
	bound := time.NewTimer(sleepAtMost)
	defer bound.Stop()
	select {
	case <-l.alarm(id):
	case <-bound.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.alarms, id)
}

// alarm is what wakes the sender of a transaction. On a busy machine the
// check-back comes before the sender sleeps: whoever is first makes it.
func (l *localTx) alarm(id string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alarms[id] == nil {
		l.alarms[id] = make(chan struct{}, 1)
	}
	return l.alarms[id]
}

func (l *localTx) setOpen(id string, open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if open {
		l.open[id] = true
	} else {
		delete(l.open, id)
	}
}
