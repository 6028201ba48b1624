package embedded

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
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
	op := fmt.Sprintf("prepare half message of group %s", group)
	e, failure := t.c.use(ctx, op)
	if failure != nil {
		return driver.Half{}, failure
	}
	id, j, err := e.prepareHalf(group, m)
	if err != nil {
		return driver.Half{}, driver.Errorf(driver.InvalidArgument, op, "%w", err)
	}
	if failure := e.w.do(ctx, t.c.done, j, len(j.frame.payload)); failure != nil {
		return driver.Half{}, withOp(failure, op)
	}
	if j.err != nil {
		return driver.Half{}, withOp(j.err, op)
	}
	return driver.Half{TxID: id, Group: group, Handle: e.handle(j.pos)}, nil
}

// prepareHalf checks and encodes a half message.
func (e *engine) prepareHalf(group string, m *driver.Message) (id string, j *prepareJob, err error) {
	if err := driver.ValidGroup(group); err != nil {
		return "", nil, err
	}
	if m == nil {
		return "", nil, fmt.Errorf("the message is nil")
	}
	if err := e.checkMessage(m); err != nil {
		return "", nil, err
	}
	if !m.DeliverAt.IsZero() {
		return "", nil, fmt.Errorf("a half message cannot be delayed; leave DeliverAt out")
	}
	if id = m.ID; id == "" {
		id = e.ids.Next()
	}
	o := newOutgoing(m, id, e.log.Now())
	b := message.AppendProperty([]byte(o.stored.Properties), message.TranMsg, "true")
	o.stored.Properties = string(message.AppendProperty(b, message.ProducerGroup, group))
	payload, err := o.payload()
	if err != nil {
		return "", nil, err
	}
	return id, &prepareJob{
		id: halves.ID{Group: group, Tx: id}, explicit: m.QueueSet, queue: m.Queue, key: m.OrderingKey,
		frame: &frame{payload: payload, fact: fact{kind: record.Half, msg: messageFact{
			topic: m.Topic, tag: o.tag, id: id, keys: o.keys, group: group,
		}}},
	}, nil
}

// prepareJob stores a half message, unless there is one of the same identity.
type prepareJob struct {
	id       halves.ID
	explicit bool
	queue    int
	key      string
	frame    *frame
	first    *frame // that of the same identity in the same batch
	pos      int64
	err      *driver.Error
}

func (j *prepareJob) stage(w *writer) {
	if h := w.half(j.id); h.State != halves.None {
		j.pos = h.Pos
		return
	}
	if j.first = w.halves[j.id]; j.first != nil {
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
	j.first = j.frame
	if w.append(j.frame, 0) {
		w.halves[j.id] = j.frame
	}
}

func (j *prepareJob) finish() {
	if j.first != nil {
		j.pos, j.err = j.first.fact.pos, j.first.err
	}
}

// half answers the applied state of a half message.
func (w *writer) half(id halves.ID) halves.Half {
	w.st.mu.RLock()
	defer w.st.mu.RUnlock()
	return w.st.halves.Get(id)
}

// Resolve decides a half message; see [driver.Transactor].
func (t transactor) Resolve(ctx context.Context, h driver.Half, d driver.Decision) error {
	op := fmt.Sprintf("%s transaction %s of group %s", d, h.TxID, h.Group)
	if d != driver.Commit && d != driver.Rollback {
		return driver.Errorf(driver.InvalidArgument, op, "decision %d; it takes Commit or Rollback", d)
	}
	e, failure := t.c.use(ctx, op)
	if failure != nil {
		return failure
	}
	pos, ok := e.position(h.Handle)
	if !ok {
		return driver.Errorf(driver.NotFound, op, "the handle is none of this broker")
	}
	return asError(e.resolve(ctx, t.c.done, halves.ID{Group: h.Group, Tx: h.TxID}, pos, d), op)
}

// resolve decides the half message id, which lies at pos.
func (e *engine) resolve(ctx context.Context, closed <-chan struct{}, id halves.ID, pos int64, d driver.Decision) *driver.Error {
	j := &resolveJob{id: id, pos: pos, decision: d}
	e.st.mu.RLock()
	h := e.st.halves.Get(id)
	e.st.mu.RUnlock()
	size := 0
	if d == driver.Commit && h.Pos == pos && h.State.Verdict(d) == halves.Decides {
		// Encoded here, so that the writer does not read.
		if j.frame, j.err = e.committed(pos); j.err != nil {
			return j.err
		}
		size = len(j.frame.payload)
	}
	if err := e.w.do(ctx, closed, j, size); err != nil {
		return err
	}
	return j.err
}

// committed encodes the visible message of a half. It names the position of
// the half, so this one frame is the decision.
func (e *engine) committed(pos int64) (*frame, *driver.Error) {
	s, k, _, err := e.read(pos, sizeUnknown)
	if err != nil {
		return nil, readError(err, "")
	}
	if k != record.Half {
		return nil, driver.Errorf(driver.Internal, "", "the frame at %d is no half message", pos)
	}
	o := outgoingOf(s)
	props := message.SetProperty(s.Properties, message.TranMsg, "")
	o.stored.Properties = message.SetProperty(props, message.ProducerGroup, "")
	o.stored.PreparedTransactionOffset = pos
	payload, err := o.payload()
	if err != nil {
		return nil, encodeError(err)
	}
	return &frame{payload: payload, fact: fact{kind: record.Committed, msg: messageFact{
		topic: s.Topic, queue: int(s.QueueID), tag: o.tag, id: o.id, keys: o.keys, ref: pos,
	}}}, nil
}

// resolveJob appends the one frame that decides a half message.
type resolveJob struct {
	id       halves.ID
	pos      int64
	decision driver.Decision
	frame    *frame // of a commit
	earlier  *frame // a decision in the same batch that this one repeats
	err      *driver.Error
}

func (j *resolveJob) stage(w *writer) {
	h := w.half(j.id)
	if h.State == halves.None || h.Pos != j.pos {
		j.frame = nil
		j.err = driver.Errorf(driver.NotFound, "", "group %s has no such half message, or it was decided long ago", j.id.Group)
		return
	}
	state := h.State
	if s, ok := w.decided[j.id]; ok {
		state, j.earlier = s.state, s.frame
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
		j.frame = &frame{fact: fact{kind: record.RolledBack, half: h.Pos}, payload: record.Decided{Half: h.Pos}.Append(nil)}
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
	var out []driver.ParkedHalf
	for _, h := range parked[:min(limit, len(parked))] {
		d, err := e.halfDelivery(h.Pos)
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
func (e *engine) halfDelivery(pos int64) (*driver.Delivery, *driver.Error) {
	s, k, _, err := e.read(pos, sizeUnknown)
	if err != nil {
		return nil, readError(err, "")
	}
	if k != record.Half {
		return nil, driver.Errorf(driver.Internal, "", "the frame at %d is no half message", pos)
	}
	d := newDelivery(&s)
	d.Offset = -1
	return d, nil
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
	j.frame = &frame{fact: fact{kind: record.Parked, half: p.Half, park: p}, payload: p.Append(nil)}
	w.control(j.frame)
}

func (j *parkJob) finish() {}
