package memstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluicemq/sluice/idempotency"
)

// ErrFull is in the error of Begin when every place is taken by a record that
// has not expired.
var ErrFull = errors.New("every place is taken by a record that has not expired")

// Options configures [New]. The zero value is usable.
type Options struct {
	// MaxKeys bounds the records and fence counters that are kept. Beyond it
	// Begin refuses new keys: to forget a record that has not expired would
	// let a duplicate through. Defaults to 1,000,000 (about 250 MiB).
	MaxKeys int
}

// fenceGrace is how much longer the fence counter lives than a record that is
// done.
const fenceGrace = time.Minute

// Store keeps records in a map. It starts no goroutine: a call removes a few
// expired records on its way.
type Store struct {
	max int

	mu      sync.Mutex
	entries map[idempotency.Key]*entry
}

type state uint8

const (
	absent state = iota
	processing
	done
)

// entry is a record and the fence counter of its key, each with its own end.
type entry struct {
	state state
	owner string
	token uint64                 // fence of the owner, or of the attempt that completed
	how   idempotency.Completion // answer of the completion, for its repetition
	until time.Time

	fence      uint64
	fenceUntil time.Time
}

// New returns an empty store.
func New(o Options) *Store {
	if o.MaxKeys <= 0 {
		o.MaxKeys = 1_000_000
	}
	return &Store{max: o.MaxKeys, entries: make(map[idempotency.Key]*entry)}
}

// Begin implements [idempotency.Store].
func (s *Store) Begin(ctx context.Context, k idempotency.Key, owner string, lease, fenceTTL time.Duration) (idempotency.Claim, error) {
	if err := ended(ctx, "begin"); err != nil {
		return idempotency.Claim{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e := s.at(k, now)
	switch {
	case e == nil:
		if len(s.entries) >= s.max && !s.sweep(now, 10_000) {
			return idempotency.Claim{}, &idempotency.StoreError{Op: "begin", Store: "memory", NotDone: true, Err: ErrFull}
		}
		e = &entry{}
		s.entries[k] = e
	case e.state == done:
		return idempotency.Claim{State: idempotency.Done, Fence: e.token, Remaining: e.until.Sub(now)}, nil
	case e.state == processing && e.owner == owner:
		return idempotency.Claim{State: idempotency.Acquired, Fence: e.token, Remaining: e.until.Sub(now)}, nil
	case e.state == processing:
		return idempotency.Claim{State: idempotency.Busy, Fence: e.token, Remaining: e.until.Sub(now)}, nil
	}
	e.fence++
	e.keepFence(now.Add(max(fenceTTL, 2*lease)))
	e.state, e.owner, e.token, e.until = processing, owner, e.fence, now.Add(lease)
	s.sweep(now, 2)
	return idempotency.Claim{State: idempotency.Acquired, Fence: e.token, Remaining: lease}, nil
}

// Renew implements [idempotency.Store].
func (s *Store) Renew(ctx context.Context, k idempotency.Key, owner string, fence uint64, lease time.Duration) (bool, error) {
	if err := ended(ctx, "renew"); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e := s.at(k, now)
	if !e.heldBy(owner, fence) {
		return false, nil
	}
	e.until = now.Add(lease)
	e.keepFence(now.Add(2 * lease))
	return true, nil
}

// Complete implements [idempotency.Store].
func (s *Store) Complete(ctx context.Context, k idempotency.Key, owner string, fence uint64, ttl time.Duration) (idempotency.Completion, error) {
	if err := ended(ctx, "complete"); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	e := s.at(k, now)
	how := idempotency.Expired
	switch {
	case e == nil:
		// The bound is not applied: what has been done must be remembered.
		e = &entry{}
		s.entries[k] = e
	case e.state == done:
		if e.until.Before(now.Add(ttl)) {
			e.until = now.Add(ttl)
		}
		e.keepFence(e.until.Add(fenceGrace))
		if e.token == fence {
			return e.how, nil
		}
		return idempotency.Already, nil
	case e.heldBy(owner, fence):
		how = idempotency.Mine
	case e.state == processing:
		how = idempotency.TakenOver
	}
	e.state, e.owner, e.token, e.how, e.until = done, "", fence, how, now.Add(ttl)
	e.fence = max(e.fence, fence)
	e.keepFence(e.until.Add(fenceGrace))
	return how, nil
}

// Abort implements [idempotency.Store].
func (s *Store) Abort(ctx context.Context, k idempotency.Key, owner string, fence uint64) (bool, error) {
	if err := ended(ctx, "abort"); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.at(k, time.Now())
	if !e.heldBy(owner, fence) {
		return false, nil
	}
	e.state, e.owner = absent, ""
	return true, nil
}

// Len returns the number of keys that take up a place now, expired ones that
// were not removed yet included.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// at returns the entry of k as of now, without what has expired; nil if nothing
// is left of it. s.mu is held.
func (s *Store) at(k idempotency.Key, now time.Time) *entry {
	e := s.entries[k]
	if e == nil {
		return nil
	}
	if e.expire(now) {
		delete(s.entries, k)
		return nil
	}
	return e
}

// sweep looks at up to n entries, which map iteration picks at random, removes
// the expired ones and reports whether there was one. s.mu is held.
func (s *Store) sweep(now time.Time, n int) (removed bool) {
	for k, e := range s.entries {
		if n--; n < 0 {
			break
		}
		if e.expire(now) {
			delete(s.entries, k)
			removed = true
		}
	}
	return removed
}

// expire drops what has ended and reports whether the entry is empty.
func (e *entry) expire(now time.Time) bool {
	if e.state != absent && !e.until.After(now) {
		e.state, e.owner = absent, ""
	}
	return e.state == absent && !e.fenceUntil.After(now)
}

func (e *entry) heldBy(owner string, fence uint64) bool {
	return e != nil && e.state == processing && e.owner == owner && e.token == fence
}

// keepFence lets the counter live until t at least: it outlives the record, so
// that the next owner gets a higher fence.
func (e *entry) keepFence(t time.Time) {
	if t.After(e.fenceUntil) {
		e.fenceUntil = t
	}
}

func ended(ctx context.Context, op string) error {
	if ctx.Err() == nil {
		return nil
	}
	return &idempotency.StoreError{Op: op, Store: "memory", NotDone: true, Err: context.Cause(ctx)}
}
