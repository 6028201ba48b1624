package embedded

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
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
	// spins is how often a job tries to get the write path before it queues. A
	// stay on the path takes about a microsecond, queueing two changes of
	// goroutines.
	spins = 64
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
	round   *round
	nowMs   int64
	broken  *driver.Error // why the round takes no more frames
	// unsynced and unnoted are when the oldest write happened that no sync, and
	// no checkpoint, has covered; zero for none.
	unsynced, unnoted time.Time
}

// checkpointAfter is when a write is noted in the manifest, which tells damage
// to the end of the log from a write that a crash has cut short. It costs a few
// syncs, so not each write is noted.
const checkpointAfter = 5 * time.Second

// stagedDecision is a decision that is not applied yet.
type stagedDecision struct {
	state halves.State
	frame *frame
}

func newWriter(log *commitlog.Log, st *state, mode Sync, logger *slog.Logger, queues int, autoCreate bool) *writer {
	return &writer{
		log: log, st: st, mode: mode, logger: logger, wake: make(chan struct{}, 1),
		plan:    plan{st: st, queues: queues, autoCreate: autoCreate, topics: map[string]*topicPlan{}, nextID: st.nextID},
		decided: map[halves.ID]stagedDecision{}, halves: map[halves.ID]*frame{}, fired: map[int64]bool{},
		round: newRound(),
	}
}

// syncs reports whether an answer means a sync.
func (w *writer) syncs() bool { return w.mode == SyncAlways }

// do runs j and waits for it. size is roughly what it will write. An error
// means that j must not be looked at: its caller gave up, by ctx or because
// closed was closed. MaybeDone of the error tells whether j was dropped for
// good or may be at work.
func (w *writer) do(ctx context.Context, closed <-chan struct{}, j job, size int) *driver.Error {
	if err := w.admit(size); err != nil {
		return err
	}
	if !w.enter() {
		return w.await(ctx, closed, w.enqueue(j, size))
	}
	r := w.run(j)
	w.leave()
	if r == nil {
		w.bytes.Add(-int64(size))
		return nil
	}
	defer w.bytes.Add(-int64(size))
	return waitFor(ctx, closed, r.done)
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
		return &driver.Error{Code: driver.ResourceExhausted, Retryable: true, RetryAfter: busyAfter, Err: errBusy}
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

// close lets what is pending end, and then the writer's goroutine.
func (w *writer) close() {
	w.closed.Store(true)
	w.notify()
}

// loop is the writer's goroutine: it ends rounds, syncs in the background and
// notes in the manifest what is durable. It ends after close.
func (w *writer) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var c commit
	for {
		w.seize()
		w.turn(&c)
		last := w.closed.Load() && c.round == nil && w.waiting.Load() == 0 && len(w.round.jobs) == 0
		w.over = w.over || last
		at := w.nextChore()
		w.leave()
		for _, r := range c.ended {
			close(r.done)
		}
		switch {
		case c.round != nil:
			c.err = c.sync()
			continue
		case last:
			return
		}
		var late <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			late = timer.C
		}
		select {
		case <-w.wake:
		case <-late:
		}
	}
}

// commit is what the writer's goroutine is about.
type commit struct {
	round *round       // that is to be synced, or was; nil for none
	sync  func() error // syncs it, outside of the path
	err   error        // that sync answered
	ended []*round     // to be answered once the path is free
}

// turn is what the writer's goroutine does each time it has the path: it ends
// the round that was synced, and begins with the one that has filled meanwhile,
// so that the disk waits for nobody.
func (w *writer) turn(c *commit) {
	clear(c.ended)
	c.ended = c.ended[:0]
	if c.round != nil {
		if c.err != nil {
			w.refuse(c.round, 0, writeError(c.err, true))
			w.fail(c.err)
		}
		w.conclude(c.round)
		c.ended = append(c.ended, c.round)
		c.round = nil
	}
	if w.waiting.Load() > 0 {
		w.serve()
	}
	w.housekeep()
	if len(w.round.jobs) == 0 {
		return
	}
	r := w.round
	w.round = newRound()
	if !w.flush(r) {
		w.conclude(r)
		c.ended = append(c.ended, r)
		w.notify() // look again, nothing was waited for
		return
	}
	c.round, c.err = r, nil
	_, c.sync = w.log.SyncTo()
}

// seize gets the write path before those that wait for it: they step aside as
// long as urgent is set.
func (w *writer) seize() {
	w.urgent.Store(true)
	defer w.urgent.Store(false)
	for n := range turns * spins {
		if w.path.TryLock() {
			return
		}
		if n%spins == 0 {
			runtime.Gosched() // the holder may not be running
		}
	}
	w.path.Lock() // the holder waits for the disk
}

// flush writes the frames of a round. Without success it says so on each frame
// that is not stored; with some that are, in a mode that syncs, it syncs them,
// because the plan has to begin anew from what is applied. It reports whether
// there is something left to sync. The path is held.
func (w *writer) flush(r *round) bool {
	if len(r.frames) == 0 {
		return false
	}
	err := w.log.Flush()
	if err == nil {
		return true
	}
	w.refuse(r, w.log.NextPos(), writeError(err, true))
	w.exhausted(err)
	if w.log.Failed() == nil && w.syncs() {
		_ = w.log.Sync() // final if it fails, see Failed
	}
	if err := w.log.Failed(); err != nil {
		w.refuse(r, 0, writeError(err, true))
		w.fail(err)
	}
	return false
}

// refuse notes on the frames of r at or behind from why they are not stored.
func (w *writer) refuse(r *round, from int64, why *driver.Error) {
	for _, f := range r.frames {
		if f.fact.pos >= from && f.err == nil {
			f.err = why
		}
	}
	w.plan.stale = true
}

// conclude makes visible what is stored and finishes the jobs of a round. The
// path is held.
func (w *writer) conclude(r *round) {
	for _, f := range r.frames {
		if f.err != nil {
			continue
		}
		if err := w.st.apply(&f.fact); err != nil {
			w.logger.Error("the broker wrote a frame that contradicts its state", slog.Any("error", err))
		}
	}
	if len(r.frames) > 0 {
		w.note(r)
	}
	for _, j := range r.jobs {
		j.finish()
	}
}

// note forgets what was staged and is applied now, and when there is something
// to sync or to note.
func (w *writer) note(r *round) {
	if len(w.decided)+len(w.halves)+len(w.fired) > 0 {
		w.forget(r)
	}
	if w.plan.stale {
		w.plan.forget()
	}
	switch {
	case w.mode > 0 && w.unsynced.IsZero():
		w.unsynced = time.Now()
		w.notify()
	case w.syncs() && w.unnoted.IsZero():
		w.unnoted = time.Now()
	}
}

// forget drops what r has staged from the maps.
func (w *writer) forget(r *round) {
	for _, f := range r.frames {
		delete(w.fired, f.fact.msg.ref)
		if w.halves[f.half] == f {
			delete(w.halves, f.half)
		}
		if w.decided[f.half].frame == f {
			delete(w.decided, f.half)
		}
	}
}

// nextChore is when housekeep has something to do; zero for never.
func (w *writer) nextChore() (at time.Time) {
	if w.failed.Load() != nil {
		return at
	}
	if !w.unnoted.IsZero() {
		at = w.unnoted.Add(checkpointAfter)
	}
	if !w.unsynced.IsZero() && w.mode > 0 {
		if late := w.unsynced.Add(time.Duration(w.mode)); at.IsZero() || late.Before(at) {
			at = late
		}
	}
	return at
}

// housekeep syncs in the background mode, and notes in the manifest what is
// durable. It is called with the path held, and gives it up for the sync.
func (w *writer) housekeep() {
	if w.failed.Load() != nil {
		return
	}
	if w.mode > 0 && !w.unsynced.IsZero() && time.Since(w.unsynced) >= time.Duration(w.mode) {
		w.unsynced = time.Time{}
		if w.log.Flush() == nil {
			_, sync := w.log.SyncTo()
			w.path.Unlock()
			err := sync()
			w.path.Lock()
			if err != nil {
				w.fail(err)
				return
			}
		}
	}
	if w.unnoted.IsZero() || time.Since(w.unnoted) < checkpointAfter {
		return
	}
	w.unnoted = time.Time{}
	if err := w.log.Checkpoint(); err != nil && w.log.Failed() != nil {
		w.fail(err) // want of space only means that less is noted
	}
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
