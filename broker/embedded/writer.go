package embedded

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// pendingBytes is how much may wait to be written. Beyond it the broker is
	// busy: the disk is slower than the senders, and waiting would only move
	// the queue from them to here.
	pendingBytes = 256 << 20
	// spins is how often a job tries to get the write path before it queues. So
	// many tries take about as long as a stay on the path, a microsecond or
	// two; queueing takes two changes of goroutines.
	spins = 1000
	// turns is how often whoever leaves the write path works off what queued
	// meanwhile, before the writer's goroutine takes over.
	turns = 8
)

// job is one unit of work on the write path.
type job interface {
	// stage looks at what is planned, refuses or appends frames. It runs on the
	// write path and must not block.
	stage(w *writer)
	// finish sees the fate of the frames; what was stored is visible by then.
	// It must not block.
	finish()
}

// ticket is a job that waits for the write path.
type ticket struct {
	job  job
	size int
	// state goes from queued to started, or to dropped when the caller gave up
	// first; so the caller knows whether the work may have been done.
	state atomic.Uint32
	// staged is closed when the job was staged; round or err is set by then,
	// or none if the job is finished.
	staged chan struct{}
	round  *round
	err    *driver.Error // the writer has ended
}

const (
	queued uint32 = iota
	started
	dropped
)

// frame is one frame that a job appends: the payload is head, body and tail,
// one after the other.
type frame struct {
	fact             fact
	head, body, tail []byte
	half             halves.ID     // that it prepares or decides
	err              *driver.Error // why it is not stored; has no Op
	// shared: another job looks at err when it finishes. It is set on the path,
	// before the round of the frame is concluded.
	shared bool
}

func (f *frame) size() int { return len(f.head) + len(f.body) + len(f.tail) }

// round is one group commit: what was staged since the one before.
type round struct {
	frames []*frame
	jobs   []job
	done   chan struct{} // closed when the jobs are finished
}

func newRound() *round { return &round{done: make(chan struct{})} }

// writer is the writing side of the log. Whoever holds path is the writer: it
// stages jobs, which append frames.
//
// Where an answer means no sync, the caller itself goes through the path,
// writes to the operating system, applies and leaves; who finds the path taken
// for longer queues, and is served by the one who holds it.
//
// Where it means a sync, a job only joins the round at hand. The writer's
// goroutine ends the round: one write, one sync outside of the path, while the
// next round fills, then everything becomes visible and is answered. Nobody
// waits for company: a round that finds the disk idle is synced at once.
//
// Lock order: path, slot.mu, state.mu; path, writer.mu.
type writer struct {
	log    *commitlog.Log
	st     *state
	mode   Sync
	logger *slog.Logger
	wake   chan struct{} // buffer 1: "look again"
	failed atomic.Pointer[driver.Error]
	full   atomic.Bool // no new messages are taken: the disk is full
	// onFull is told, on the path, that there was no space. It must not block.
	onFull func()
	bytes  atomic.Int64 // that wait, for the path or for a sync

	mu      sync.Mutex
	pending []*ticket
	waiting atomic.Int32 // len(pending)
	closed  atomic.Bool

	// What follows belongs to whoever holds path.

	path    sync.Mutex
	urgent  atomic.Bool // the writer's goroutine wants the path
	over    bool        // the writer's goroutine has ended, nothing is staged any more
	plan    plan
	decided map[halves.ID]stagedDecision // staged and not applied
	halves  map[halves.ID]*frame         // the same
	fired   map[int64]bool               // the same
	gone    map[uint32]*frame            // queues of retry topics that a staged deletion empties
	round   *round
	nowMs   int64
	broken  *driver.Error // why the round takes no more frames
	// unsynced and unnoted are when the oldest write happened that no sync, and
	// no checkpoint, has covered; zero for none.
	unsynced, unnoted time.Time
}

// stagedDecision is a decision that is not applied yet.
type stagedDecision struct {
	state halves.State
	frame *frame
}

func newWriter(log *commitlog.Log, st *state, mode Sync, logger *slog.Logger, queues int, autoCreate bool) *writer {
	return &writer{
		log: log, st: st, mode: mode, logger: logger, wake: make(chan struct{}, 1),
		plan:    plan{st: st, queues: queues, autoCreate: autoCreate, topics: map[string]*topicPlan{}, nextID: st.nextID},
		decided: map[halves.ID]stagedDecision{}, halves: map[halves.ID]*frame{}, fired: map[int64]bool{}, gone: map[uint32]*frame{},
		round: newRound(),
	}
}

// emptied notes the queues of retry topics that the deletion f empties once it
// is applied: what becomes due until then must not go there behind it.
func (w *writer) emptied(f *frame, pick func(retry, origin string) bool) {
	w.st.mu.RLock()
	defer w.st.mu.RUnlock()
	for name, t := range w.st.topics {
		for i, origin := range t.origins {
			if pick(name, origin) {
				w.gone[t.queues[i].id] = f
			}
		}
	}
}

// syncs reports whether an answer means a sync.
func (w *writer) syncs() bool { return w.mode == SyncAlways }

// do runs j and waits for it. size is roughly what it will write. An error
// means that j must not be looked at: its caller gave up, by ctx or because
// closed was closed. MaybeDone of the error tells whether j was dropped for
// good or may be at work.
func (w *writer) do(ctx context.Context, closed <-chan struct{}, j job, size int) *driver.Error {
	p, err := w.begin(j, size)
	if err != nil {
		return err
	}
	return p.wait(ctx, closed)
}

// begun is a job that was begun: finished, or to be waited for.
type begun struct {
	w    *writer
	size int
	line *ticket // waits for the path
	done <-chan struct{}
}

// begin stages j, or puts it in line for that, in the order of the calls. What
// the job refers to belongs to the caller again when begin returns.
func (w *writer) begin(j job, size int) (begun, *driver.Error) {
	if err := w.admit(size); err != nil {
		return begun{}, err
	}
	p := begun{w: w, size: size}
	if !w.enter() {
		p.line = w.enqueue(j, size)
		return p, nil
	}
	r := w.run(j)
	w.leave()
	if r == nil {
		w.bytes.Add(-int64(size))
		return p, nil
	}
	p.done = r.done
	return p, nil
}

// finished reports whether wait would answer without waiting.
func (p *begun) finished() bool {
	if p.line == nil {
		return p.done == nil || isClosed(p.done)
	}
	if !isClosed(p.line.staged) {
		return false
	}
	return p.line.round == nil || isClosed(p.line.round.done)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wait waits for the end of the job; see [writer.do]. It is called once.
func (p *begun) wait(ctx context.Context, closed <-chan struct{}) *driver.Error {
	switch {
	case p.line != nil:
		return p.w.await(ctx, closed, p.line)
	case p.done == nil:
		return nil
	}
	defer p.w.bytes.Add(-int64(p.size))
	return waitFor(ctx, closed, p.done)
}

// start runs j without waiting for it.
func (w *writer) start(j job, size int) *driver.Error {
	if err := w.admit(size); err != nil {
		return err
	}
	if !w.enter() {
		t := w.enqueue(j, size)
		go func() { // the bytes count until they are written
			if <-t.staged; t.round != nil {
				<-t.round.done
			}
			w.bytes.Add(-int64(size))
		}()
		return nil
	}
	r := w.run(j)
	w.leave()
	if r != nil {
		go func() {
			<-r.done
			w.bytes.Add(-int64(size))
		}()
		return nil
	}
	w.bytes.Add(-int64(size))
	return nil
}

// admit counts size bytes in, or refuses them.
func (w *writer) admit(size int) *driver.Error {
	if w.closed.Load() {
		return closedError("")
	}
	if w.bytes.Add(int64(size)) > pendingBytes+int64(size) {
		w.bytes.Add(-int64(size))
		return &driver.Error{Code: driver.ResourceExhausted, Retryable: true, RetryAfter: busyAfter, Err: ErrBusy}
	}
	return nil
}

// enter tries to get the write path without sleeping.
func (w *writer) enter() bool {
	for range spins {
		if w.waiting.Load() > 0 {
			return false // who queues comes first
		}
		if !w.urgent.Load() && w.path.TryLock() {
			if !w.over {
				return true
			}
			w.path.Unlock()
			return false
		}
	}
	return false
}

// enqueue puts j in line. Whoever leaves the path next serves it.
func (w *writer) enqueue(j job, size int) *ticket {
	if d, ok := j.(interface{ detach() }); ok {
		d.detach()
	}
	t := &ticket{job: j, size: size, staged: make(chan struct{})}
	w.mu.Lock()
	w.pending = append(w.pending, t)
	w.waiting.Store(int32(len(w.pending)))
	w.mu.Unlock()
	if w.path.TryLock() { // or else its holder looks again
		w.leave()
	}
	return t
}

// await waits for a ticket and its round.
func (w *writer) await(ctx context.Context, closed <-chan struct{}, t *ticket) *driver.Error {
	release := func() { w.bytes.Add(-int64(t.size)) }
	select {
	case <-t.staged:
	case <-ctx.Done():
		release()
		return driver.FromContext(ctx, "", !t.state.CompareAndSwap(queued, dropped))
	case <-closed:
		release()
		e := closedError("")
		e.MaybeDone = !t.state.CompareAndSwap(queued, dropped)
		return e
	}
	defer release()
	if t.round == nil {
		return t.err
	}
	return waitFor(ctx, closed, t.round.done)
}

// waitFor waits for the end of a round. Who gives up does not know its end.
func waitFor(ctx context.Context, closed <-chan struct{}, done <-chan struct{}) *driver.Error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return driver.FromContext(ctx, "", true)
	case <-closed:
		e := closedError("")
		e.MaybeDone = true
		return e
	}
}

// run stages j. It answers the round to wait for, or nil if j is finished. The
// path is held.
func (w *writer) run(j job) *round {
	w.nowMs = w.log.Now().UnixMilli()
	w.broken = w.failed.Load()
	j.stage(w)
	r := w.round
	r.jobs = append(r.jobs, j)
	if !w.syncs() {
		w.flush(r)
		w.conclude(r)
		r.reset()
		return nil
	}
	if len(r.jobs) == 1 {
		w.notify()
	}
	return r
}

// notify makes the writer's goroutine look again.
func (w *writer) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// leave works off what queued and gives up the path.
func (w *writer) leave() {
	for turn := 0; ; turn++ {
		if w.waiting.Load() > 0 {
			w.serve()
		}
		over := w.over
		w.path.Unlock()
		if w.waiting.Load() == 0 {
			return
		}
		if turn >= turns && !over {
			w.notify()
			return
		}
		if !w.path.TryLock() {
			return // that one serves
		}
	}
}

// serve stages what queued; the path is held.
func (w *writer) serve() {
	w.mu.Lock()
	ts := w.pending
	w.pending = nil
	w.waiting.Store(0)
	w.mu.Unlock()
	w.nowMs = w.log.Now().UnixMilli()
	w.broken = w.failed.Load()
	r := w.round
	before := len(r.jobs)
	for _, t := range ts {
		if w.over {
			t.err = closedError("")
			continue
		}
		if !t.state.CompareAndSwap(queued, started) {
			continue
		}
		t.job.stage(w)
		r.jobs = append(r.jobs, t.job)
		if w.syncs() {
			t.round = r
		}
	}
	if !w.syncs() {
		w.flush(r)
		w.conclude(r)
		r.reset()
	} else if before == 0 && len(r.jobs) > 0 {
		w.notify()
	}
	for _, t := range ts {
		close(t.staged)
	}
}

// reset empties a round that nobody waits for.
func (r *round) reset() {
	clear(r.frames)
	clear(r.jobs)
	r.frames, r.jobs = r.frames[:0], r.jobs[:0]
}

// append adds a frame to the round. The physical offset of a message is filled
// in; skip is where in the head the message begins, below zero for a frame
// without one. The path is held.
func (w *writer) append(f *frame, skip int) bool {
	if w.broken != nil {
		f.err = w.broken
		return false
	}
	f.fact.pos, f.fact.size = w.log.NextPos(), f.size()
	if skip >= 0 {
		m := &f.fact.msg
		m.storedMs = w.nowMs
		message.PatchOffsets(f.head[skip:], int32(m.queue), m.offset, f.fact.pos)
		message.PatchStoreTimestamp(f.head[skip:], m.storedMs)
	}
	pos, base, err := w.log.Append(commitlog.Kind(f.fact.kind), f.head, f.body, f.tail)
	f.fact.base = base
	if err == nil && pos != f.fact.pos {
		err = commitlog.ErrFailed // the message would name a wrong offset
	}
	if err != nil {
		f.err = writeError(err, false)
		if f.err.Code != driver.InvalidArgument {
			w.broken = f.err
		}
		w.exhausted(err)
		if failed := w.log.Failed(); failed != nil {
			w.fail(failed)
		}
		return false
	}
	w.round.frames = append(w.round.frames, f)
	return true
}

// control appends a frame that holds no message.
func (w *writer) control(f *frame) bool { return w.append(f, -1) }

// exhausted passes on that there was no space.
func (w *writer) exhausted(err error) {
	if w.onFull != nil && errors.Is(err, commitlog.ErrFull) {
		w.onFull()
	}
}

// fail notes that the log takes no writes until it is opened again.
func (w *writer) fail(err error) {
	if w.failed.CompareAndSwap(nil, writeError(err, false)) {
		w.logger.Error("the store has failed: it serves what is stored and takes nothing more until it is opened again",
			slog.Any("error", err))
	}
}
