package idempotency

import (
	"context"
	"time"
)

// Store keeps the state of keys. Its four transitions are atomic, compare the
// owner (and the fence) before they change anything, and may be repeated: a
// call whose answer was lost is simply made again with the same arguments.
//
// A record is absent, processing (for as long as its lease runs) or done (for
// as long as its ttl runs). Times are relative durations of at least one
// millisecond that the store itself counts; no clock is compared across
// machines.
//
// Every method is safe for concurrent use and returns soon after ctx ends. An
// error means that the outcome is unknown (see [StoreError]); it never means
// "not locked". [github.com/sluicemq/sluice/idempotency/storetest] is the
// conformance suite.
type Store interface {
	// Begin claims k for owner, a string that is new for every attempt.
	// An absent record becomes processing under a lease and a fence that is
	// higher than every fence this key had before; fenceTTL is how long the
	// counter behind it is kept at least, and never shorter than the record.
	// A record that is processing for the same owner is answered as Acquired
	// with the same fence; its lease does not start again. Otherwise the
	// answer is Busy or Done, and nothing changes.
	Begin(ctx context.Context, k Key, owner string, lease, fenceTTL time.Duration) (Claim, error)
	// Renew makes the lease run for another lease from now. It reports false,
	// and changes nothing, if the record is not processing for this owner and
	// fence.
	Renew(ctx context.Context, k Key, owner string, fence uint64, lease time.Duration) (bool, error)
	// Complete makes the record done for at least ttl, whatever it was before:
	// work that has happened is not undone by a lost lease. The answer says
	// what it was; a repeated call answers the same again.
	Complete(ctx context.Context, k Key, owner string, fence uint64, ttl time.Duration) (Completion, error)
	// Abort makes the record absent if it is processing for this owner and
	// fence, and reports whether it was; otherwise it changes nothing.
	Abort(ctx context.Context, k Key, owner string, fence uint64) (bool, error)
}

// State is what Begin found.
type State uint8

const (
	// Acquired: the caller owns the key now.
	Acquired State = iota + 1
	// Busy: another attempt owns the key.
	Busy
	// Done: the work has been done.
	Done
)

// String returns the name used in metrics and logs.
func (s State) String() string {
	switch s {
	case Acquired:
		return "acquired"
	case Busy:
		return "busy"
	case Done:
		return "duplicate"
	default:
		return "unknown"
	}
}

// Claim is the answer of Begin.
type Claim struct {
	State State
	// Fence belongs to the owner named by State: the caller for Acquired, the
	// other attempt for Busy, the attempt that completed it for Done.
	Fence uint64
	// Remaining is how long the record lives unless it is renewed: the lease
	// for Acquired and Busy, the ttl for Done.
	Remaining time.Duration
}

// Completion says what Complete found.
type Completion uint8

const (
	// Mine: the record was processing for this owner; the normal case.
	Mine Completion = iota + 1
	// Expired: there was no record; the lease had run out.
	Expired
	// TakenOver: the record was processing for somebody else.
	TakenOver
	// Already: somebody else had completed it.
	Already
)

// String returns the name used in metrics and logs.
func (c Completion) String() string {
	switch c {
	case Mine:
		return "mine"
	case Expired:
		return "expired"
	case TakenOver:
		return "taken_over"
	case Already:
		return "already"
	default:
		return "unknown"
	}
}

// StoreError says that a store gave no answer. Whatever was asked may have been
// done, at once or later, unless NotDone is set.
type StoreError struct {
	// Op is begin, renew, complete, abort or verify.
	Op string
	// Store names the store and where it is, such as "redis 10.0.0.7:6379".
	Store string
	// NotDone: the request certainly changed nothing.
	NotDone bool
	// Err is the cause.
	Err error
}

// Error returns "idempotency begin on redis 10.0.0.7:6379: cause".
func (e *StoreError) Error() string {
	return "idempotency " + e.Op + " on " + e.Store + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *StoreError) Unwrap() error { return e.Err }
