package embedded

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// HalfID names a half message.
type HalfID struct {
	// Group is its producer group, Tx its unique id, Pos its physical offset.
	Group, Tx string
	Pos       int64
}

// Resolve begins to decide a half message. The error of its one result is
// [driver.NotFound] if there is none of that name at that position, and
// [driver.FailedPrecondition] if it was decided otherwise before; a repeated
// decision is fine. Only Commit and Rollback are decisions.
func (s *Store) Resolve(id HalfID, d driver.Decision) *Pending {
	if d != driver.Commit && d != driver.Rollback {
		return s.pending(nil, 0, driver.Errorf(driver.InvalidArgument, "", "decision %d; it takes Commit or Rollback", d))
	}
	j, err := s.e.resolving(halves.ID{Group: id.Group, Tx: id.Tx}, id.Pos, d)
	if err != nil {
		return s.pending(nil, 0, err)
	}
	size := 0
	if j.frame != nil {
		size = j.frame.size()
	}
	return s.pending(j, size, nil)
}

// results answers where the message of a commit lies, or why it was refused.
func (j *resolveJob) results(into []PutResult) []PutResult {
	r := PutResult{Pos: j.pos, Err: j.err}
	if j.frame != nil && j.err == nil {
		m := &j.frame.fact.msg
		r = PutResult{Pos: j.frame.fact.pos, Queue: m.queue, Offset: m.offset, StoredMs: m.storedMs}
	}
	return append(into, r)
}

// Check is one question to a producer group elsewhere.
type Check struct {
	HalfID
	// Number counts the questions about this half message since the store was
	// opened, from 1.
	Number int
	// Record is the half message as clients see it, with the topic and queue it
	// is meant for.
	Record []byte
}

// ParkedRecord is a half message that nobody decided.
type ParkedRecord struct {
	// Check has the number of questions that were asked.
	Check
	// ParkedMs is when the last one had its time, in milliseconds.
	ParkedMs int64
}

// Parked answers up to limit parked half messages, the oldest first. Resolve
// decides them still.
func (s *Store) Parked(limit int) ([]ParkedRecord, error) {
	parked := s.e.parked()
	out := make([]ParkedRecord, 0, min(limit, len(parked)))
	for _, h := range parked[:min(max(limit, 0), len(parked))] {
		r, err := s.Record(h.Pos, nil)
		if err != nil {
			return out, readError(err, "read parked half message "+h.Tx)
		}
		out = append(out, ParkedRecord{
			Check:    Check{HalfID: HalfID{Group: h.Group, Tx: h.Tx, Pos: h.Pos}, Number: h.Checks, Record: r.Bytes},
			ParkedMs: h.ParkedMs,
		})
	}
	return out, nil
}

// askedAgain is when a half message is asked for again that could not be asked
// for: no member could be reached.
const askedAgain = time.Second

// Checks makes a client elsewhere one of those that are asked for the decisions
// of a producer group, until leave is called. ask sends the question and reports
// whether it was sent; the answer comes by Resolve, at any time or never. A
// question that was not sent does not count. ask is called by one goroutine at
// a time and may block for a moment only.
func (s *Store) Checks(group string, ask func(Check) bool) (leave func()) {
	c := s.e.checks
	ctx, cancel := context.WithCancel(s.e.root)
	m := &checker{ctx: ctx, parallel: 1, abroad: ask}
	c.join(group, m)
	return sync.OnceFunc(func() {
		cancel()
		c.leave(group, m)
		m.wg.Wait()
	})
}

// askAbroad asks a client elsewhere. Until it has answered, the half message
// counts as undecided.
func (c *checks) askAbroad(m *checker, h halves.Half, k *check) fate {
	r, err := c.e.store.Record(h.Pos, nil)
	if err != nil {
		c.e.cfg.Logger.Error("a half message cannot be read", slog.String("transaction", h.Tx), slog.Any("error", err))
		return asked // it stays undecided; the next start tries again
	}
	if until := immuneUntil(r.Bytes, h.StoredMs); until > c.e.nowMs() {
		k.dueMs = until
		return askLater
	}
	sent := m.abroad(Check{HalfID: HalfID{Group: h.Group, Tx: h.Tx, Pos: h.Pos}, Number: k.count + 1, Record: r.Bytes})
	if !sent {
		k.dueMs = c.e.nowMs() + ceilDuration(askedAgain)
		return askLater
	}
	k.count++
	k.dueMs = c.e.nowMs() + c.pause(k.count) // the last one has its time for the answer, too
	return askLater
}

// immuneUntil is when a half message may be asked for at the soonest by its own
// wish, in milliseconds; 0 if it has none.
func immuneUntil(record []byte, storedMs int64) int64 {
	v, _, err := message.DecodeView(record)
	if err != nil {
		return 0
	}
	for name, value := range message.PropertiesOf(v.PropertyBytes) {
		if string(name) != message.CheckImmunitySeconds {
			continue
		}
		if n, err := strconv.ParseInt(string(value), 10, 32); err == nil && n > 0 {
			return storedMs + n*1000
		}
	}
	return 0
}
