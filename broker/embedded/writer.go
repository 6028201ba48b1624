package embedded

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

const (
	// batchBytes ends a group commit, so that a burst is answered in parts and
	// the buffer of the log stays small.
	batchBytes = 4 << 20
	// pendingBytes is how much may wait to be written. Beyond it the broker is
	// busy: the disk is slower than the senders, and waiting would only move
	// the queue from them to here.
	pendingBytes = 256 << 20
)

// job is one unit of work for the writer. Both methods run on the writer's
// goroutine and must not block.
type job interface {
	// stage looks at what is planned, refuses or appends frames.
	stage(w *writer)
	// finish sees the fate of the frames; what was stored is visible by then.
	finish()
}

// ticket is a job that waits for the writer.
type ticket struct {
	job  job
	size int
	// state goes from queued to started, or to dropped when the caller gave up
	// first; so the caller knows whether the work may have been done.
	state atomic.Uint32
	done  chan struct{}
}

const (
	queued uint32 = iota
	started
	dropped
)

// frame is one frame that a job appends.
type frame struct {
	fact    fact
	payload []byte
	err     *driver.Error // why it is not stored; has no Op
}

// writer owns the writing side of the log. One goroutine takes everything that
// is pending, stages it, flushes and syncs once, applies it to the state and
// answers: a group commit that never waits for company.
type writer struct {
	log    *commitlog.Log
	st     *state
	mode   Sync
	logger *slog.Logger

	mu      sync.Mutex
	pending []*ticket
	bytes   int
	closed  bool
	wake    chan struct{} // buffer 1: "look again"
	failed  atomic.Pointer[driver.Error]

	// What follows belongs to the writer's goroutine.

	plan    plan
	decided map[halves.ID]stagedDecision // in this batch
	halves  map[halves.ID]*frame         // in this batch
	fired   map[int64]bool               // in this batch
	frames  []*frame
	broken  *driver.Error // why this batch takes no more frames
	nowMs   int64
	// unsynced and unnoted are when the oldest write happened that no sync, and
	// no checkpoint, has covered; zero for none.
	unsynced, unnoted time.Time
}

// checkpointAfter is when a write is noted in the manifest, which tells damage
// to the end of the log from a write that a crash has cut short. It costs a few
// syncs, so not each write is noted.
const checkpointAfter = 5 * time.Second

// stagedDecision is a decision in the batch at hand.
type stagedDecision struct {
	state halves.State
	frame *frame
}

func newWriter(log *commitlog.Log, st *state, mode Sync, logger *slog.Logger, queues int, autoCreate bool) *writer {
	return &writer{
		log: log, st: st, mode: mode, logger: logger, wake: make(chan struct{}, 1),
		plan:    plan{st: st, queues: queues, autoCreate: autoCreate, topics: map[string]*topicPlan{}},
		decided: map[halves.ID]stagedDecision{}, halves: map[halves.ID]*frame{}, fired: map[int64]bool{},
	}
}

// submit hands j over. size is roughly what it will write.
func (w *writer) submit(j job, size int) (*ticket, *driver.Error) {
	t := &ticket{job: j, size: size, done: make(chan struct{})}
	w.mu.Lock()
	switch {
	case w.closed:
		w.mu.Unlock()
		return nil, closedError("")
	case w.bytes > pendingBytes:
		w.mu.Unlock()
		return nil, &driver.Error{Code: driver.ResourceExhausted, Retryable: true, RetryAfter: busyAfter, Err: errBusy}
	}
	w.pending = append(w.pending, t)
	w.bytes += size
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return t, nil
}

// do runs j and waits for it. An error means that j must not be looked at: its
// caller gave up, by ctx or because closed was closed. MaybeDone of the error
// tells whether j was dropped for good or may be at work.
func (w *writer) do(ctx context.Context, closed <-chan struct{}, j job, size int) *driver.Error {
	t, err := w.submit(j, size)
	if err != nil {
		return err
	}
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		if t.state.CompareAndSwap(queued, dropped) {
			return driver.FromContext(ctx, "", false)
		}
		return driver.FromContext(ctx, "", true)
	case <-closed:
		e := closedError("")
		e.MaybeDone = !t.state.CompareAndSwap(queued, dropped)
		return e
	}
}

// close lets the writer finish what is pending and end.
func (w *writer) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take takes pending tickets, up to batchBytes of them.
func (w *writer) take() (ts []*ticket, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, size := 0, 0
	for n < len(w.pending) && (n == 0 || size+w.pending[n].size <= batchBytes) {
		size += w.pending[n].size
		n++
	}
	w.bytes -= size
	ts = w.pending[:n:n]
	if w.pending = w.pending[n:]; len(w.pending) == 0 {
		w.pending = nil
	}
	return ts, w.closed
}

// run is the writer's goroutine. It ends after close.
func (w *writer) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ts, closed := w.take()
		if len(ts) > 0 {
			w.batch(ts)
			w.housekeep()
			continue
		}
		if closed {
			return
		}
		var late <-chan time.Time
		if at := w.nextChore(); !at.IsZero() {
			timer.Reset(time.Until(at))
			late = timer.C
		}
		select {
		case <-w.wake:
		case <-late:
			w.housekeep()
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
// durable.
func (w *writer) housekeep() {
	if w.failed.Load() != nil {
		return
	}
	if w.mode > 0 && !w.unsynced.IsZero() && time.Since(w.unsynced) >= time.Duration(w.mode) {
		w.unsynced = time.Time{}
		if err := w.log.Sync(); err != nil {
			w.fail(err)
			return
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

// batch is one group commit.
func (w *writer) batch(ts []*ticket) {
	w.nowMs = w.log.Now().UnixMilli()
	w.broken = w.failed.Load()
	for i, t := range ts {
		if !t.state.CompareAndSwap(queued, started) {
			ts[i] = nil
			continue
		}
		t.job.stage(w)
	}
	w.commit()
	for _, t := range ts {
		if t != nil {
			t.job.finish()
			close(t.done)
		}
	}
	clear(w.frames)
	w.frames = w.frames[:0]
	clear(w.decided)
	clear(w.halves)
	clear(w.fired)
}

// append adds a frame to the batch. The physical offset of a message is filled
// in; skip is where in the payload the message begins.
func (w *writer) append(f *frame, skip int) bool {
	if w.broken != nil {
		f.err = w.broken
		return false
	}
	f.fact.pos, f.fact.size = w.log.Reserve(len(f.payload)), len(f.payload)
	if skip >= 0 {
		m := &f.fact.msg
		m.storedMs = w.nowMs
		message.PatchOffsets(f.payload[skip:], int32(m.queue), m.offset, f.fact.pos)
		message.PatchStoreTimestamp(f.payload[skip:], m.storedMs)
	}
	pos, err := w.log.Append(commitlog.Kind(f.fact.kind), f.payload)
	if err == nil && pos != f.fact.pos {
		err = commitlog.ErrFailed // the message would name a wrong offset
	}
	if err != nil {
		f.err = writeError(err, false)
		if f.err.Code != driver.InvalidArgument {
			w.broken = f.err
		}
		return false
	}
	w.frames = append(w.frames, f)
	return true
}

// control appends a frame that holds no message.
func (w *writer) control(f *frame) bool { return w.append(f, -1) }

// commit makes the frames of the batch durable and visible, or says on each
// why it is not stored.
func (w *writer) commit() {
	cause := w.broken
	if len(w.frames) == 0 && cause == nil {
		return
	}
	if len(w.frames) > 0 && w.log.Failed() == nil {
		if err := w.log.Flush(); err != nil {
			cause = writeError(err, true)
		}
	}
	stored := int64(math.MaxInt64) // frames below it are in the log
	if cause != nil {
		stored = w.log.NextPos()
	}
	if w.log.Failed() == nil && w.mode == SyncAlways && len(w.frames) > 0 {
		_ = w.log.Sync() // final if it fails, see Failed
	}
	if err := w.log.Failed(); err != nil {
		cause, stored = writeError(err, true), 0
		w.fail(err)
	}
	w.st.mu.Lock()
	for _, f := range w.frames {
		if f.fact.pos >= stored {
			f.err = cause
			continue
		}
		if err := w.st.apply(&f.fact); err != nil {
			w.logger.Error("the broker wrote a frame that contradicts its state", slog.Any("error", err))
		}
	}
	w.st.mu.Unlock()
	if cause != nil {
		w.plan.forget()
	}
	now := time.Now()
	if w.mode > 0 && w.unsynced.IsZero() {
		w.unsynced = now
	}
	if w.mode == SyncAlways && w.unnoted.IsZero() && len(w.frames) > 0 {
		w.unnoted = now
	}
}

// fail notes that the log takes no writes until it is opened again.
func (w *writer) fail(err error) {
	if w.failed.CompareAndSwap(nil, writeError(err, false)) {
		w.logger.Error("the store has failed: it serves what is stored and takes nothing more until it is opened again",
			slog.Any("error", err))
	}
}

// plan is the state of the topics as it will be once everything that was
// staged is applied. The writer's goroutine owns it.
type plan struct {
	st         *state
	queues     int
	autoCreate bool
	topics     map[string]*topicPlan
}

// topicPlan is one topic; without queues it does not exist.
type topicPlan struct {
	next    []int64 // offset that the next message of a queue gets
	origins []string
	turn    uint32 // round robin
	created *frame // what made it what it is, if that was staged
}

// forget drops the plan after something was staged and not stored.
func (p *plan) forget() { clear(p.topics) }

// topic answers the plan of a topic, which may say that there is none.
func (p *plan) topic(name string) *topicPlan {
	if t := p.topics[name]; t != nil {
		return t
	}
	t := &topicPlan{}
	p.st.mu.RLock()
	if s := p.st.topics[name]; s != nil {
		t.origins = s.origins
		for _, q := range s.queues {
			t.next = append(t.next, q.Max())
		}
	}
	p.st.mu.RUnlock()
	p.topics[name] = t
	return t
}

// ensureTopic answers the plan of a topic and creates it if need be.
func (w *writer) ensureTopic(name string) (*topicPlan, *driver.Error) {
	t := w.plan.topic(name)
	if len(t.next) > 0 {
		return t, nil
	}
	queues := w.plan.queues
	switch {
	case internalTopic(name):
		queues = 1
	case !w.plan.autoCreate:
		return nil, driver.Errorf(driver.NotFound, "", "topic %q does not exist and is not created by its first use (NoAutoCreate)", name)
	}
	return t, w.createTopic(t, record.Topic{Name: name, Queues: queues, Origins: t.origins})
}

// createTopic makes a topic or adds queues to it.
func (w *writer) createTopic(t *topicPlan, r record.Topic) *driver.Error {
	f := &frame{fact: fact{kind: record.TopicCreated, topic: r}, payload: r.Append(nil)}
	t.created = f
	if !w.control(f) {
		return f.err
	}
	t.next = append(t.next, make([]int64, r.Queues-len(t.next))...)
	t.origins = r.Origins
	return nil
}

// ensureRetryQueue answers the queue of the group's retry topic that holds
// redeliveries for topic.
func (w *writer) ensureRetryQueue(group, name string) (int, *driver.Error) {
	retry := retryTopic(group)
	t := w.plan.topic(retry)
	for i, o := range t.origins {
		if o == name {
			return i, nil
		}
	}
	// A retry topic that was made by a send of somebody has queues without an
	// origin; the first origins get them.
	origins := append(append([]string(nil), t.origins...), name)
	n := len(origins) - 1
	return n, w.createTopic(t, record.Topic{Name: retry, Queues: max(len(t.next), len(origins)), Origins: origins})
}

// place gives a message its queue and its offset there.
func (t *topicPlan) place(m *messageFact, queue int, delayed bool) {
	m.queue = queue
	if delayed {
		m.offset = 0
		return
	}
	m.offset = t.next[queue]
	t.next[queue]++
}

// choose picks a queue: the explicit one, that of the ordering key, else the
// next in turn.
func (t *topicPlan) choose(name string, explicit bool, queue int, key string) (int, *driver.Error) {
	n := len(t.next)
	switch {
	case explicit && (queue < 0 || queue >= n):
		return 0, driver.Errorf(driver.InvalidArgument, "", "topic %q has no queue %d; it has 0 to %d", name, queue, n-1)
	case explicit:
		return queue, nil
	case key != "":
		return keyQueue(key, n), nil
	}
	t.turn++
	return int(t.turn-1) % n, nil
}

// keyQueue is RocketMQ's SelectMessageQueueByHash: the Java hash of the key,
// without its sign, modulo the number of queues.
func keyQueue(key string, queues int) int {
	h := int(message.TagCode(key)) % queues
	if h < 0 {
		h = -h
	}
	return h
}
