package embedded

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// transactor is the half messages of one client.
type transactor struct{ c *conn }

// handleSize is the size of a handle: a version, the store, the position.
const handleSize = 1 + 8 + 8

func (e *engine) handle(pos int64) []byte {
	b := make([]byte, 0, handleSize)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint64(b, e.log.StoreID())
	return binary.BigEndian.AppendUint64(b, uint64(pos))
}

// position reads a handle of this store.
func (e *engine) position(handle []byte) (int64, bool) {
	if len(handle) != handleSize || handle[0] != 1 || binary.BigEndian.Uint64(handle[1:]) != e.log.StoreID() {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(handle[9:])), true
}

// Prepare stores a half message; see [driver.Transactor].
func (t transactor) Prepare(ctx context.Context, group string, m *driver.Message) (driver.Half, error) {
	fail := func(err *driver.Error) (driver.Half, error) {
		return driver.Half{}, withOp(err, "prepare half message of group "+group)
	}
	e, failure := t.c.use(ctx, "")
	if failure != nil {
		return fail(failure)
	}
	if e.w.full.Load() {
		return fail(fullError())
	}
	j := prepareJobs.Get().(*prepareJob)
	if err := e.prepareHalf(j, group, m); err != nil {
		j.recycle()
		return fail(driver.Errorf(driver.InvalidArgument, "", "%w", err))
	}
	if failure := e.w.do(ctx, t.c.done, j, j.frame.size()); failure != nil {
		return fail(failure)
	}
	id, pos, failure := j.id.Tx, j.pos, j.err
	j.recycle()
	if failure != nil {
		return fail(failure)
	}
	return driver.Half{TxID: id, Group: group, Handle: e.handle(pos)}, nil
}

// prepareHalf checks and encodes a half message.
func (e *engine) prepareHalf(j *prepareJob, group string, m *driver.Message) error {
	if err := driver.ValidGroup(group); err != nil {
		return err
	}
	if m == nil {
		return errors.New("the message is nil")
	}
	if err := envelope.Check(m, e.cfg.MaxBody); err != nil {
		return err
	}
	if !m.DeliverAt.IsZero() {
		return errors.New("a half message cannot be delayed; leave DeliverAt out")
	}
	id := m.ID
	if id == "" {
		id = e.ids.Next()
	}
	j.id, j.explicit, j.queue, j.key = halves.ID{Group: group, Tx: id}, m.QueueSet, m.Queue, m.OrderingKey
	f := &j.frame
	j.idText = append(j.idText[:0], id...)
	j.extra = message.AppendProperty(j.extra[:0], message.TranMsg, "true")
	j.extra = message.AppendProperty(j.extra, message.ProducerGroup, group)
	if err := j.out.encode(f, m, j.idText, j.extra, e.log.Now()); err != nil {
		return err
	}
	f.half, f.fact.kind = j.id, record.Half
	f.fact.msg.group, f.fact.msg.id = group, id
	return nil
}

// prepareJob stores a half message, unless there is one of the same identity.
// Jobs are used again and again.
type prepareJob struct {
	id       halves.ID
	explicit bool
	queue    int
	key      string
	out      outgoing
	idText   []byte
	extra    []byte
	frame    frame
	first    *frame // that of the same identity, staged before or by this job
	pos      int64
	err      *driver.Error
}

var prepareJobs = sync.Pool{New: func() any { return new(prepareJob) }} //nolint:gochecknoglobals // a pool has no state

// recycle gives j back, unless another job looks at its frame.
func (j *prepareJob) recycle() {
	if j.frame.shared {
		return
	}
	out, id, extra := j.out, j.idText, j.extra
	out.reset()
	*j = prepareJob{out: out, idText: id, extra: extra}
	if cap(out.b) <= keepEncoded {
		prepareJobs.Put(j)
	}
}

// detach copies what belongs to the caller of Prepare, which may give up before
// j is staged.
func (j *prepareJob) detach() { j.frame.body = bytes.Clone(j.frame.body) }

func (j *prepareJob) stage(w *writer) {
	if h := w.half(j.id); h.State != halves.None {
		j.pos = h.Pos
		return
	}
	if j.first = w.halves[j.id]; j.first != nil {
		j.first.shared = true
		return
	}
	m := &j.frame.fact.msg
	t, err := w.ensureTopic(m.topic)
	if err == nil {
		// The queue is chosen now, so that a bad one is refused now.
		m.queue, err = t.choose(m.topic, j.explicit, j.queue, j.key)
	}
	if err != nil {
		j.err = err
		return
	}
	j.first = &j.frame
	if w.append(j.first, 0) {
		w.halves[j.id] = j.first
	}
}

func (j *prepareJob) finish() {
	if j.first != nil {
		j.pos, j.err = j.first.fact.pos, j.first.err
	}
}

// undecided answers the applied state of the half message at pos, if it waits
// for a decision.
func (w *writer) undecided(pos int64) halves.Half {
	w.st.mu.RLock()
	defer w.st.mu.RUnlock()
	h, _ := w.st.halves.At(pos)
	return h
}

// half answers the applied state of a half message.
func (w *writer) half(id halves.ID) halves.Half {
	w.st.mu.RLock()
	defer w.st.mu.RUnlock()
	return w.st.halves.Get(id)
}

// Resolve decides a half message; see [driver.Transactor].
func (t transactor) Resolve(ctx context.Context, h driver.Half, d driver.Decision) error {
	fail := func(err *driver.Error) error {
		return asError(err, fmt.Sprintf("%s transaction %s of group %s", d, h.TxID, h.Group))
	}
	if d != driver.Commit && d != driver.Rollback {
		return fail(driver.Errorf(driver.InvalidArgument, "", "decision %d; it takes Commit or Rollback", d))
	}
	e, failure := t.c.use(ctx, "")
	if failure != nil {
		return fail(failure)
	}
	pos, ok := e.position(h.Handle)
	if !ok {
		return fail(driver.Errorf(driver.NotFound, "", "the handle is none of this broker"))
	}
	if failure = e.resolve(ctx, t.c.done, halves.ID{Group: h.Group, Tx: h.TxID}, pos, d); failure != nil {
		return fail(failure)
	}
	return nil
}

// resolve decides the half message id, which lies at pos.
func (e *engine) resolve(ctx context.Context, closed <-chan struct{}, id halves.ID, pos int64, d driver.Decision) *driver.Error {
	j, err := e.resolving(id, pos, d)
	if err != nil {
		return err
	}
	size := 0
	if j.frame != nil {
		size = j.frame.size()
	}
	if err := e.w.do(ctx, closed, j, size); err != nil {
		return err
	}
	err = j.err
	j.recycle()
	return err
}

// resolving makes the job that decides a half message. A commit is encoded
// here, so that the writer does not read.
func (e *engine) resolving(id halves.ID, pos int64, d driver.Decision) (*resolveJob, *driver.Error) {
	j := resolveJobs.Get().(*resolveJob)
	j.id, j.pos, j.decision = id, pos, d
	if d != driver.Commit {
		return j, nil
	}
	e.st.mu.RLock()
	h, open := e.st.halves.At(pos)
	e.st.mu.RUnlock()
	if open && h.ID == id {
		if err := e.committed(j, h); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// committed encodes the visible message of a half. It names the position of
// the half, so this one frame is the decision.
func (e *engine) committed(j *resolveJob, h halves.Half) *driver.Error {
	kind, b, err := e.log.ReadSized(h.Pos, h.Size, j.raw)
	if err != nil {
		e.count.unread(err)
		return readError(err, "")
	}
	j.raw = b
	v, _, err := message.DecodeView(b)
	if record.Kind(kind) != record.Half || err != nil {
		return driver.Errorf(driver.Internal, "", "the frame at %d is no half message", h.Pos)
	}
	f := &j.own
	s := v.Stored
	s.PreparedTransactionOffset = h.Pos
	s.SysFlag |= message.SysCommit
	if s.Topic = j.topic; string(v.TopicBytes) != j.topic {
		s.Topic = string(v.TopicBytes)
		j.topic = s.Topic
	}
	f.fact.msg = messageFact{queue: int(s.QueueID), ref: h.Pos}
	// All properties stay, the marks of a half message as well: clients
	// elsewhere see them on committed messages of RocketMQ, too.
	err = j.out.around(f, &s, func(b []byte) []byte { return append(b, v.PropertyBytes...) })
	if err != nil {
		return encodeError(err)
	}
	f.fact.kind = record.Committed
	j.out.copyFact(f, s.Topic, v.PropertyBytes)
	j.frame = f
	return nil
}

// resolveJob appends the one frame that decides a half message. Jobs are used
// again and again.
type resolveJob struct {
	raw   []byte // the half message
	topic string // of the last one
	out   outgoing
	own   frame

	id       halves.ID
	pos      int64
	decision driver.Decision
	frame    *frame // of a commit
	earlier  *frame // a decision in the same batch that this one repeats
	err      *driver.Error
}

var resolveJobs = sync.Pool{New: func() any { return new(resolveJob) }} //nolint:gochecknoglobals // a pool has no state

// recycle gives j back, unless another job looks at its frame.
func (j *resolveJob) recycle() {
	if j.own.shared {
		return
	}
	raw, topic, out := j.raw, j.topic, j.out
	out.reset()
	*j = resolveJob{raw: raw, topic: topic, out: out}
	if cap(raw)+cap(out.b) <= keepEncoded {
		resolveJobs.Put(j)
	}
}

func (j *resolveJob) stage(w *writer) {
	h := w.undecided(j.pos)
	if h.ID != j.id {
		h = w.half(j.id)
	}
	if h.State == halves.None || h.Pos != j.pos {
		j.frame = nil
		j.err = driver.Errorf(driver.NotFound, "", "group %s has no such half message, or it was decided long ago", j.id.Group)
		return
	}
	state := h.State
	if s, ok := w.decided[j.id]; ok {
		state, j.earlier = s.state, s.frame
		s.frame.shared = true
	}
	switch state.Verdict(j.decision) {
	case halves.Repeats:
		j.frame = nil
		return
	case halves.Contradicts:
		j.frame = nil
		j.err = driver.Errorf(driver.FailedPrecondition, "", "it was decided as %s before", opposite(j.decision))
		return
	default: // it decides, or nothing is known of the half message
	}
	j.earlier = nil
	if j.decision == driver.Rollback {
		j.own = frame{half: j.id, fact: fact{kind: record.RolledBack, ctl: &control{half: h.Pos}}, head: record.Decided{Half: h.Pos}.Append(nil)}
		j.frame = &j.own
		if w.control(j.frame) {
			w.decided[j.id] = stagedDecision{halves.RolledBack, j.frame}
		}
		return
	}
	if j.frame == nil { // it was no open half when the caller looked
		j.err = driver.Errorf(driver.Internal, "", "the half message at %d was not encoded", j.pos)
		return
	}
	m := &j.frame.fact.msg
	t, err := w.ensureTopic(m.topic)
	if err != nil {
		j.frame, j.err = nil, err
		return
	}
	j.frame.half = j.id
	// The topic may have been deleted and made anew with fewer queues.
	w.appendMessage(j.frame, t, m.queue%len(t.next))
	if j.frame.err == nil {
		w.decided[j.id] = stagedDecision{halves.Committed, j.frame}
	}
}

func opposite(d driver.Decision) driver.Decision {
	if d == driver.Commit {
		return driver.Rollback
	}
	return driver.Commit
}

func (j *resolveJob) finish() {
	switch {
	case j.frame != nil:
		j.err = j.frame.err
	case j.earlier != nil && j.earlier.err != nil:
		// What this one repeated, or contradicted, was not stored after all.
		j.err = j.earlier.err
	}
}

// parked answers the parked half messages, the oldest first.
func (e *engine) parked() []halves.Half {
	var parked []halves.Half
	e.st.mu.RLock()
	e.st.halves.Undecided(func(h halves.Half) {
		if h.State == halves.Parked {
			parked = append(parked, h)
		}
	})
	e.st.mu.RUnlock()
	slices.SortFunc(parked, func(a, b halves.Half) int {
		return cmp.Or(cmp.Compare(a.ParkedMs, b.ParkedMs), cmp.Compare(a.Pos, b.Pos))
	})
	return parked
}

// Parked lists half messages that stayed undecided, the longest parked first.
func (t transactor) Parked(ctx context.Context, limit int) ([]driver.ParkedHalf, error) {
	const op = "list parked half messages"
	if limit < 1 {
		return nil, driver.Errorf(driver.InvalidArgument, op, "limit is %d, it takes 1 and more", limit)
	}
	e, failure := t.c.use(ctx, op)
	if failure != nil {
		return nil, failure
	}
	parked := e.parked()
	var out []driver.ParkedHalf
	for _, h := range parked[:min(limit, len(parked))] {
		d, err := e.halfDelivery(h)
		if err != nil {
			return out, withOp(err, op)
		}
		out = append(out, driver.ParkedHalf{
			Half: driver.Half{TxID: h.Tx, Group: h.Group, Handle: e.handle(h.Pos)}, Message: d,
			Checks: h.Checks, ParkedAt: time.UnixMilli(h.ParkedMs),
		})
	}
	return out, nil
}

// halfDelivery shows a half message to its producer group.
func (e *engine) halfDelivery(h halves.Half) (*driver.Delivery, *driver.Error) {
	s, err := e.readHalf(h)
	if err != nil {
		return nil, err
	}
	d := newDelivery(&s)
	d.Offset = -1
	return d, nil
}

// readHalf reads a half message that is not decided.
func (e *engine) readHalf(h halves.Half) (message.Stored, *driver.Error) {
	size := h.Size
	if size == 0 {
		size = sizeUnknown
	}
	s, k, _, err := e.read(h.Pos, size)
	if err != nil {
		e.count.unread(err)
		return s, readError(err, "")
	}
	if k != record.Half {
		return s, driver.Errorf(driver.Internal, "", "the frame at %d is no half message", h.Pos)
	}
	return s, nil
}

// parkJob notes that a half message stayed undecided.
type parkJob struct {
	id     halves.ID
	checks int
	frame  *frame
}

func (j *parkJob) stage(w *writer) {
	h := w.half(j.id)
	if _, decided := w.decided[j.id]; decided || h.State != halves.Open {
		return
	}
	p := record.Park{Half: h.Pos, At: w.nowMs, Checks: j.checks}
	j.frame = &frame{fact: fact{kind: record.Parked, ctl: &control{half: p.Half, park: p}}, head: p.Append(nil)}
	w.control(j.frame)
}

func (j *parkJob) finish() {}
