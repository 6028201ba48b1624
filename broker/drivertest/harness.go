package drivertest

import (
	"context"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Harness tells the suite how to get brokers of the kind under test.
type Harness struct {
	// Open makes a new, empty broker for one test. It is called once per test,
	// from the goroutine (and the bubble) of that test, and may register
	// t.Cleanup. It is required.
	Open func(t testing.TB) Broker
	// Virtual runs each test in a testing/synctest bubble. Choose it for
	// drivers that wait for time, channels and memory only, not for sockets.
	Virtual bool
	// Together runs the groups of tests at the same time, too, below a subtest of
	// that name: for brokers that tests share, where most of what a test does is
	// to wait.
	Together bool
	// Advance lets d pass for the broker. Defaults to time.Sleep, which is free
	// in a bubble.
	Advance func(d time.Duration)
	// Limits are the declared figures of the broker under test.
	Limits Limits
}

// Broker is the broker of one test.
type Broker struct {
	// Space begins the names of all topics, groups and clients of the test. It
	// differs from test to test where they share a broker; empty where each has
	// one of its own.
	Space string
	// Connect opens the client clientID. It is required, and works again after
	// CrashAndReopen and Reopen.
	Connect func(ctx context.Context, clientID string) (driver.Conn, error)
	// CreateTopic makes a topic with that many queues. Defaults to
	// Extensions().Topics, and if that is nil to nothing: topics come into
	// being when they are used, and then with a single lane, because tests that
	// ask for one queue expect one order.
	CreateTopic func(ctx context.Context, name string, queues int) error
	// CrashAndReopen ends the broker as a kill or a power cut does and starts
	// it on what had become durable. Every Conn made before is dead afterwards
	// and is closed by the suite. Nil: the harness cannot, those tests are
	// skipped.
	CrashAndReopen func(t testing.TB)
	// Reopen closes the broker cleanly and starts it again; the suite has
	// closed every Conn before. Nil: the harness cannot.
	Reopen func(t testing.TB)
	// Close ends the broker after the last test step. Nil: nothing to do.
	Close func(ctx context.Context) error
}

// Limits are figures by which the suite waits. The zero value fits a driver
// with the defaults of the bundled broker.
type Limits struct {
	// Within bounds everything that has to happen, rebalance included.
	// Defaults to one minute in a bubble, else 20 s.
	Within time.Duration
	// Quiet is how long the suite watches that something does not happen.
	// Defaults to 10 s in a bubble, else 700 ms.
	Quiet time.Duration
	// Delays are tried for delayed messages and for Retry and Return.
	// Defaults to 1.5 s, 20 s and 3 h in a bubble, else 300 ms and 1.2 s.
	// A broker with levels is tried with its own levels instead.
	Delays []time.Duration
	// DelayLate is how much later than asked a delayed message may come.
	// Defaults to 1 s.
	DelayLate time.Duration
	// RevokeTimeout is how long the driver waits for LaneEvents.Revoked before
	// it gives the lane away. Defaults to 30 s.
	RevokeTimeout time.Duration
	// SessionTimeout is the longest silence that costs a member its
	// membership; a member that fetches nothing must survive three times as
	// long. Defaults to 20 s in a bubble, else 500 ms.
	SessionTimeout time.Duration
	// CheckAfter and CheckEvery are the least time before the first check-back
	// and between two; CheckGap is the longest pause between two checks of one
	// half message, and CheckMax how many checks come before it is parked.
	// Default to 6 s, 30 s, 64 × CheckEvery and 15.
	CheckAfter, CheckEvery, CheckGap time.Duration
	CheckMax                         int
	// QueryLate is how long MessageQuery may not know of a message that was
	// stored: some brokers index behind. Defaults to not at all.
	QueryLate time.Duration
	// LargeBody is the size of the large body tried. Defaults to 1 MiB or the
	// MaxBody of the broker, whichever is less.
	LargeBody int
	// CountsAbandoned: deliveries that were never settled (lane lost, crash)
	// count as attempts, which a broker that counts deliveries cannot avoid.
	CountsAbandoned bool
	// ReturnsInPlace: a returned message waits where it is and keeps the
	// position of its lane back, so that what was settled behind it comes again
	// when the lane ends before it is settled.
	ReturnsInPlace bool
	// MachineRuns is how many random programs the group "machine" runs.
	// Defaults to 60 in a bubble, else 3; a quarter of it with -short.
	MachineRuns int
	// MachineSteps is the greatest number of steps of one. Defaults to 60.
	MachineSteps int
}

func (h Harness) withDefaults() Harness {
	l := &h.Limits
	pick := func(d *time.Duration, virtual, wall time.Duration) {
		if *d == 0 {
			*d = wall
			if h.Virtual {
				*d = virtual
			}
		}
	}
	pick(&l.Within, time.Minute, 20*time.Second)
	pick(&l.Quiet, 10*time.Second, 700*time.Millisecond)
	pick(&l.DelayLate, time.Second, time.Second)
	pick(&l.RevokeTimeout, 30*time.Second, 30*time.Second)
	pick(&l.SessionTimeout, 20*time.Second, 500*time.Millisecond)
	pick(&l.CheckAfter, 6*time.Second, 6*time.Second)
	pick(&l.CheckEvery, 30*time.Second, 30*time.Second)
	pick(&l.CheckGap, 64*l.CheckEvery, 64*l.CheckEvery)
	if len(l.Delays) == 0 {
		l.Delays = []time.Duration{300 * time.Millisecond, 1200 * time.Millisecond}
		if h.Virtual {
			l.Delays = []time.Duration{1500 * time.Millisecond, 20 * time.Second, 3 * time.Hour}
		}
	}
	count := func(n *int, virtual, wall int) {
		if *n == 0 {
			*n = wall
			if h.Virtual {
				*n = virtual
			}
		}
	}
	count(&l.CheckMax, 15, 15)
	count(&l.LargeBody, 1<<20, 1<<20)
	count(&l.MachineRuns, 60, 3)
	count(&l.MachineSteps, 60, 60)
	if testing.Short() {
		l.MachineRuns = (l.MachineRuns + 3) / 4
	}
	if h.Advance == nil {
		h.Advance = time.Sleep
	}
	return h
}
