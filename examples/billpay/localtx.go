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

	mu   sync.Mutex
	held map[string]bool          // transactions that a sender of this process works on
	woke map[string]chan struct{} // senders that sleep until their check-back is answered
}

func newLocalTx(lc fx.Lifecycle, s *billStore, c chaos) (*localTx, error) {
	table, err := marker.New(s.db, marker.SQLite(), marker.Config{})
	if err != nil {
		return nil, err
	}
	lc.Append(fx.Hook{OnStart: table.Create})
	return &localTx{table: table, store: s, chaos: c, held: map[string]bool{}, woke: map[string]chan struct{}{}}, nil
}

// hold keeps check-backs from judging a transaction dead that a sender works on,
// from before its half message to release: on a busy machine they would roll back
// healthy payments.
func (l *localTx) hold(id string) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[id] = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, id)
	}
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
	d, err := l.table.Run(ctx, id, f)
	if stop == stopBeforeEnd && d == tx.Commit {
		return tx.Undecided, errStopped
	}
	return d, err
}

// Decide answers a check-back from the marker row, and ends the bill whose
// transaction can no longer commit.
func (l *localTx) Decide(ctx context.Context, id string) (tx.Decision, error) {
	l.mu.Lock()
	held := l.held[id]
	l.mu.Unlock()
	if held {
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
	l.wake(id)
	return d, nil
}

// sleep lets go of the transaction until its check-back was answered; the bound
// is for a broker that does not ask.
func (l *localTx) sleep(ctx context.Context, id string) {
	woke := make(chan struct{})
	l.mu.Lock()
	l.woke[id] = woke
	delete(l.held, id)
	l.mu.Unlock()
	bound := time.NewTimer(sleepAtMost)
	defer bound.Stop()
	select {
	case <-woke:
	case <-bound.C:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.woke, id) // wake has done so, unless it never came
	l.held[id] = true
}

// wake ends the sleep of the sender that was judged.
func (l *localTx) wake(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if woke := l.woke[id]; woke != nil {
		delete(l.woke, id)
		close(woke)
	}
}
