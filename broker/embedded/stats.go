package embedded

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
)

// Stats is what a store looks like at a moment.
type Stats struct {
	// Start and End are positions in the log: of its first frame, and behind
	// its last one. Durable is the position up to which it is on stable
	// storage. Their differences are bytes.
	Start, Durable, End int64
	// Segments is the number of files of the log.
	Segments int
	// Topics is the number of topics, internal ones included.
	Topics int
	// Delayed is the number of messages that are not due yet, Halves that of
	// undecided half messages, parked ones included.
	Delayed, Halves int
	// Holes are the damaged ranges that are out of use; see [Quarantine].
	Holes []Hole
	// LostToRetention and LostToDamage count the queue offsets that groups have
	// met too late, or damaged, since the store was opened. A message that two
	// groups miss counts twice. Offsets that damage has left out though nothing
	// says that there were messages do not count; see [driver.GapError].Unsure.
	LostToRetention, LostToDamage int64
	// ReadErrors counts stored messages that could not be read since the store
	// was opened, whatever became of them.
	ReadErrors int64
	// Failed is why the store takes no writes any more, nil while it does.
	Failed error
}

// Hole is a range of the log whose bytes have changed.
type Hole struct {
	// File is the name of the file, Offset where the range begins in it and
	// Bytes its length.
	File          string
	Offset, Bytes int64
	// Reason is what was expected there.
	Reason string
}

// Stats answers the state of the store. It opens the store if nobody has yet;
// its errors are those of [Open].
func (b *Broker) Stats(ctx context.Context) (Stats, error) {
	e, err := b.open(ctx)
	if err != nil {
		return Stats{}, err
	}
	return e.stats(), nil
}

// stats answers the state of the store if it is open.
func (b *Broker) stats() (Stats, bool) {
	b.mu.Lock()
	a := b.attempt
	if b.closing {
		a = nil
	}
	b.mu.Unlock()
	if a == nil {
		return Stats{}, false
	}
	select {
	case <-a.done:
	default:
		return Stats{}, false
	}
	if a.err != nil {
		return Stats{}, false
	}
	return a.engine.stats(), true
}

func (e *engine) stats() Stats {
	s := Stats{
		Start: e.log.Start(), Durable: e.log.Synced(), End: e.log.Flushed(), Segments: len(e.log.Segments()),
		LostToRetention: e.count.retention.Load(), LostToDamage: e.count.damage.Load(), ReadErrors: e.count.reads.Load(),
	}
	for _, h := range e.log.Holes() {
		s.Holes = append(s.Holes, Hole{File: h.Segment, Offset: h.Offset, Bytes: h.End - h.Pos, Reason: h.Reason})
	}
	e.st.mu.RLock()
	s.Topics, s.Delayed, s.Halves = len(e.st.topics), e.st.delays.Len(), e.st.halves.Len()
	e.st.mu.RUnlock()
	if f := e.w.failed.Load(); f != nil {
		s.Failed = withOp(f, "write to store "+e.path)
	}
	return s
}

// counters count what should not happen.
type counters struct{ retention, damage, reads atomic.Int64 }

// lost counts a gap that a group has met.
func (c *counters) lost(g *driver.GapError) {
	if g.Reason == driver.Retention {
		c.retention.Add(g.Lost())
		return
	}
	c.damage.Add(g.Lost())
}

// unread counts a message that could not be read.
func (c *counters) unread(err error) {
	if errors.Is(err, commitlog.ErrClosed) || errors.Is(err, commitlog.ErrRange) {
		return
	}
	c.reads.Add(1)
}
