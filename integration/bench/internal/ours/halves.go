package ours

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	producers = "bench-producers"
	// preparers make half messages at the same time.
	preparers = 64
	// checkers answer check-backs at the same time.
	checkers = 8
)

// Halves keeps so many half messages pending and measures, beside them, a half
// and its commit against a plain publish; then one sweep that asks for all of
// them, each answered with "undecided": its seconds, and the share of a core,
// over one second if it is faster than that.
func Halves(dir string, pending int, l measure.Loop) (measure.Figures, error) {
	f := measure.Figures{}
	s, err := Open(dir, embedded.Config{Sync: Written, CheckAfter: time.Hour})
	if err != nil {
		return nil, err
	}
	_, err = measure.Share(pending, preparers, func(int, int) error {
		_, err := s.conn.Extensions().Tx.Prepare(context.Background(), producers, half())
		return err
	})
	if err == nil {
		err = s.commits(l, f)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	return f, sweep(dir, pending, f)
}

func half() *driver.Message { return &driver.Message{Topic: topic, Body: measure.Body()} }

// commits measures plain publishing and halves with their commits.
func (s *Store) commits(l measure.Loop, f measure.Figures) error {
	plain, err := l.Run(s.publisher(l.Workers, 1).Publish)
	if err != nil {
		return err
	}
	tx, messages := s.conn.Extensions().Tx, make([]*driver.Message, l.Workers)
	for w := range messages {
		messages[w] = half()
	}
	both, err := l.Run(func(w int) (int, error) {
		h, err := tx.Prepare(context.Background(), producers, messages[w])
		if err != nil {
			return 0, err
		}
		return 1, tx.Resolve(context.Background(), h, driver.Commit)
	})
	f.Join("plain_", plain.Figures()).Join("commit_", both.Figures())
	return err
}

// sweep opens the store again, so that every half message is due at once, and
// joins the group that owes the decisions.
func sweep(dir string, pending int, f measure.Figures) error {
	s, err := Open(dir, embedded.Config{Sync: Written, CheckAfter: time.Millisecond, CheckEvery: time.Hour})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	asked := atomic.Int64{}
	time.Sleep(100 * time.Millisecond) // what opening has begun shall not count
	begin := measure.Read()
	err = s.conn.Extensions().Tx.Checks(ctx, producers, checkers, func(context.Context, driver.Half, *driver.Delivery, int) driver.Decision {
		if asked.Add(1) == int64(pending) {
			cancel()
		}
		return driver.Undecided
	})
	spent := begin.Spent()
	f["sweep_s"] = spent.Elapsed.Seconds()
	f["sweep_cpu_s"] = spent.CPU.Seconds()
	f["sweep_cores"] = spent.CPU.Seconds() / max(spent.Elapsed.Seconds(), 1)
	return errors.Join(err, s.Close())
}
