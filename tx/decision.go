package tx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/sdk"
)

// Decision is the end of a half message.
type Decision = driver.Decision

// The decisions.
const (
	// Undecided: ask again later.
	Undecided = driver.Undecided
	// Commit makes the message visible.
	Commit = driver.Commit
	// Rollback makes it vanish.
	Rollback = driver.Rollback
)

var (
	// ErrNotStored comes with [RolledBack] when the half message could not be
	// stored, so that the local transaction was not run.
	ErrNotStored = errors.New("the half message was not stored; the local transaction was not run")
	// ErrConflict comes with [Conflicted].
	ErrConflict = errors.New("the broker has decided otherwise than the local transaction")
	// ErrStopped says that the application is stopping; nothing was done.
	ErrStopped = errors.New("the sender is stopped")
	// ErrAbandon is what a function of [Interrupt] may return. It is a testing aid.
	ErrAbandon = errors.New("the transaction was abandoned on purpose")
)

// PanicError is a panic of a local transaction or a checker.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns the value of the panic; the stack is in Stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// ErrorType names the error for spans and metrics.
func (e *PanicError) ErrorType() string { return "panic" }

// Local runs local transactions and remembers how they ended; *marker.Table is
// one. It is used by many goroutines at once.
type Local interface {
	// Run runs f in a transaction with the id and answers
	//   - Commit and nil: f is committed, and Decide will say so;
	//   - Commit and an error: it is committed, but not by this call;
	//   - Rollback and an error: nothing of f happened or ever will;
	//   - Undecided and an error: the outcome is not known.
	// It answers Rollback if Decide has answered Rollback for the id before.
	// f does not panic.
	Run(ctx context.Context, id string, f func(ctx context.Context, t *sql.Tx) error) (Decision, error)
	// Decide answers a check-back, in any process. Once it has answered
	// Commit or Rollback, no Run and no Decide for the id answers otherwise.
	// While a transaction is open it answers Undecided, without waiting for it.
	Decide(ctx context.Context, id string) (Decision, error)
}

// Half is a half message whose end the broker asks for.
type Half[T any] struct {
	// ID is the unique id of the message and of the transaction.
	ID string
	// Group is the producer group, Topic where the message will appear.
	Group, Topic string
	// Payload is the decoded body.
	Payload T
	// Delivery holds headers, keys and times of the message.
	Delivery *sdk.Delivery
	// Check counts the check-backs of this message from 1.
	Check int
}

// CheckFunc answers check-backs for messages with the payload T. An error counts
// as Undecided and is logged. ctx ends after [CheckTimeout].
type CheckFunc[T any] func(ctx context.Context, h *Half[T]) (Decision, error)

// Outcome is how a Send ended.
type Outcome uint8

const (
	// Unknown: whether the local transaction committed is not known here, such
	// as when the connection broke during COMMIT. A check-back decides.
	Unknown Outcome = iota
	// Committed: locally and at the broker; the message is visible.
	Committed
	// RolledBack: nothing happened locally, and the message will not appear.
	RolledBack
	// CommittedBrokerPending: committed locally, but the broker did not confirm
	// that it knows. A check-back finishes it; nothing has to be repeated.
	CommittedBrokerPending
	// Conflicted: the broker had been told the opposite, or no longer knows the
	// half message of a committed transaction: a checker or an operator decided
	// wrongly. The decision of the broker stands, and someone must act. It does
	// not happen with the checker of package marker.
	Conflicted
)

// String returns the name used in logs.
func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case RolledBack:
		return "rolled_back"
	case CommittedBrokerPending:
		return "committed_broker_pending"
	case Conflicted:
		return "conflicted"
	default:
		return "unknown"
	}
}

// Result is the answer of [Sender.Send].
type Result struct {
	// ID of the message and of the transaction.
	ID string
	// Outcome says how it ended.
	Outcome Outcome
	// EndErr is why the broker could not be told the end, with
	// [CommittedBrokerPending] and sometimes with [RolledBack]; a check-back
	// tells it.
	EndErr error
}
