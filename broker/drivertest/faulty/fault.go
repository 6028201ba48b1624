package faulty

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Op is one operation of the seam.
type Op uint8

// The operations that a fault can hit. Send and Settle are hit once per call,
// whatever the number of messages.
const (
	Open Op = iota
	Send
	Subscribe
	Health
	Fetch
	Settle
	Extend
	Seek
	Prepare
	Resolve
	Checks
	Parked
	CreateTopic
	DeleteTopic
	Topics
	Groups
	Lag
	ResetOffsets
	ByID
	ByKey
	Browse
	Request
	Reply
	Recall
	Close
)

var opNames = [...]string{
	"open", "send", "subscribe", "health", "fetch", "settle", "extend", "seek", "prepare", "resolve", "checks",
	"parked", "create topic", "delete topic", "topics", "groups", "lag", "reset offsets", "query by id", "query by key", "browse",
	"request", "reply", "recall", "close",
}

// String names the operation in lower case.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return "unknown operation"
}

// Fault is one thing that goes wrong.
type Fault struct {
	// Op is the operation to hit.
	Op Op
	// From is the first call to hit, counted from 1 since the fault was added.
	// Defaults to 1, the next call.
	From int
	// Times is how many calls to hit. Defaults to 1; negative: until cleared.
	Times int
	// Match narrows the fault to calls about this topic, group or lane, as the
	// operation has one. Defaults to nil, all calls.
	Match func(name string) bool
	// Delay passes before the call goes on; it ends early with the ctx.
	Delay time.Duration
	// Block holds the call until the channel is closed, the ctx ends or the
	// connection is killed. Nil: no block.
	Block <-chan struct{}
	// Err is answered. Defaults to a Timeout that is Retryable and MaybeDone,
	// unless the fault only delays or blocks.
	Err *driver.Error
	// Answer: the call is carried out and then Err is answered, as if the
	// answer had been lost. Otherwise the call is dropped before it arrives.
	Answer bool
}

// slow reports whether f only takes time.
func (f Fault) slow() bool { return f.Err == nil && !f.Answer && (f.Delay > 0 || f.Block != nil) }

// active is a fault with its count.
type active struct {
	Fault
	seen, hit int
}

// Faults is what goes wrong with the connections of one [Driver]. The zero
// value is not usable; use [New].
type Faults struct {
	mu     sync.Mutex
	faults []*active
	calls  [len(opNames)]int
	double [2]int // deliveries, sends still to be doubled; negative: all
	conns  []*conn
}

// New returns Faults without any.
func New() *Faults { return &Faults{} }

// Add makes x go wrong from now on and returns a func that clears it again.
func (f *Faults) Add(x Fault) (clear func()) {
	a := &active{Fault: x}
	a.From = max(1, x.From)
	if a.Times == 0 {
		a.Times = 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, a)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.faults = slices.DeleteFunc(f.faults, func(b *active) bool { return a == b })
	}
}

// Clear removes every fault and stops the doubling. Lost lanes stay lost and
// killed connections stay dead.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults, f.double = nil, [2]int{}
}

// Duplicate doubles the next n deliveries (op Fetch: each comes a second time
// in a later Fetch of its lane) or the next n messages (op Send: the broker
// stores them twice). A negative n doubles until [Faults.Clear].
func (f *Faults) Duplicate(op Op, n int) error {
	i := map[Op]int{Fetch: 0, Send: 1}
	k, ok := i[op]
	if !ok {
		return fmt.Errorf("duplicate %v: only fetch and send can be doubled", op)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.double[k] = n
	return nil
}

// Calls returns how many calls of op were made, faults included.
func (f *Faults) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if int(op) >= len(f.calls) {
		return 0
	}
	return f.calls[op]
}

// takeDouble reports whether the next item of kind k is to be doubled.
func (f *Faults) takeDouble(k int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.double[k] == 0 {
		return false
	}
	if f.double[k] > 0 {
		f.double[k]--
	}
	return true
}

// meet counts a call and returns the faults that hit it.
func (f *Faults) meet(op Op, name string) []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	var hit []Fault
	for _, a := range f.faults {
		if a.Op != op || a.Match != nil && !a.Match(name) {
			continue
		}
		a.seen++
		if a.seen >= a.From && (a.Times < 0 || a.hit < a.Times) {
			a.hit++
			hit = append(hit, a.Fault)
		}
	}
	return hit
}

// around carries out do under the faults that hit the call. dead is closed
// when the connection is killed.
func (f *Faults) around(ctx context.Context, dead <-chan struct{}, op Op, name string, do func() error) error {
	what := op.String()
	if name != "" {
		what += " " + name
	}
	select {
	case <-dead:
		return unavailable(what, false)
	default:
	}
	var after error
	for _, x := range f.meet(op, name) {
		if err := x.pass(ctx, dead, what); err != nil {
			return err
		}
		switch err := x.fail(what); {
		case x.slow():
		case x.Answer:
			after = err
		default:
			return err
		}
	}
	err := do()
	select {
	case <-dead: // the answer never arrived
		return unavailable(what, true)
	default:
	}
	if err == nil && after != nil {
		return after
	}
	return err
}

// pass lets the time of x go by.
func (f Fault) pass(ctx context.Context, dead <-chan struct{}, what string) error {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return driver.FromContext(ctx, what, false)
		case <-dead:
			return unavailable(what, true)
		}
	}
	if f.Block != nil {
		select {
		case <-f.Block:
		case <-ctx.Done():
			return driver.FromContext(ctx, what, true)
		case <-dead:
			return unavailable(what, true)
		}
	}
	return nil
}

func (f Fault) fail(what string) error {
	if f.Err != nil {
		e := *f.Err
		if e.Op == "" {
			e.Op = what
		}
		return &e
	}
	return &driver.Error{Code: driver.Timeout, Op: what, Retryable: true, MaybeDone: true, Err: context.DeadlineExceeded}
}

func unavailable(what string, maybeDone bool) *driver.Error {
	e := driver.Errorf(driver.Unavailable, what, "the connection was cut")
	e.Retryable, e.MaybeDone = true, maybeDone
	return e
}
