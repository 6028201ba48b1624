package embedded

import (
	"context"
	"log/slog"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/duetime"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// fireBatch is how many due messages are moved by one job.
const fireBatch = 256

// delays moves messages to their queues when they become due. One timer waits
// for the one that is due next.
type delays struct {
	e    *engine
	wake chan struct{} // buffer 1: a message comes before all others

	// What follows belongs to the goroutine of the service.
	items []duetime.Item
	job   fireJob
	size  int    // of the last payload, a guess for the next one
	topic string // of the last message
}

func newDelays(e *engine) *delays {
	return &delays{e: e, wake: make(chan struct{}, 1), size: sizeUnknown}
}

// notify says that the first due time may have changed.
func (d *delays) notify() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine of the service.
func (d *delays) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, wait, more := d.due()
		if len(due) > 0 {
			if d.fire(due) {
				continue
			}
			wait, more = retryWrite, true
		}
		var at <-chan time.Time
		if more {
			timer.Reset(wait)
			at = timer.C
		}
		select {
		case <-at:
		case <-d.wake:
		case <-d.e.root.Done():
			return
		}
	}
}

// due answers what is due, else how long the next one waits, if there is any.
func (d *delays) due() (due []duetime.Item, wait time.Duration, more bool) {
	st := d.e.st
	st.mu.Lock()
	defer st.mu.Unlock()
	d.items = st.delays.Take(d.e.nowMs(), fireBatch, d.items[:0])
	head, more := st.delays.Head()
	return d.items, d.e.until(head.DueMs), more
}

// fire moves due messages; it reports false if it should be tried again later.
// What is taken counts as waiting until the visible copy is applied.
func (d *delays) fire(due []duetime.Item) bool {
	j := &d.job
	j.reset()
	size := 0
	for _, it := range due {
		f := j.next()
		if err := d.encode(j, f, it); err != nil {
			// A damaged message must not hold up the others: it is reported,
			// stays in the log, and is tried again after the next start.
			d.e.cfg.Logger.Error("a delayed message cannot be read", slog.Int64("position", it.Pos), slog.Any("error", err))
			d.e.count.unread(err)
			j.frames = j.frames[:len(j.frames)-1]
			continue
		}
		size += f.size()
	}
	err := d.e.w.do(context.WithoutCancel(d.e.root), nil, j, size)
	if err == nil {
		err = j.err
	}
	if err == nil {
		return true
	}
	d.e.st.mu.Lock()
	d.e.st.delays.Back(j.left(due))
	d.e.st.mu.Unlock()
	if err.Code == driver.ResourceExhausted {
		d.e.cfg.Logger.Warn("due messages were not moved, trying again", slog.Any("error", err))
	}
	return false
}

// encode makes f the visible copy of a delayed message: the same bytes, and the
// position of the waiting one, so a replay knows that it is done with.
func (d *delays) encode(j *fireJob, f *frame, it duetime.Item) error {
	kind, b, err := d.e.log.ReadSized(it.Pos, d.size, nil)
	if err != nil {
		return err
	}
	d.size = len(b)
	if record.Kind(kind) != record.Delayed {
		return errNotMessage
	}
	if _, b, err = record.SplitDue(b); err != nil {
		return err
	}
	v, _, err := message.DecodeView(b)
	if err != nil {
		return err
	}
	message.PatchPrepared(b, it.Pos)
	f.head = b
	f.fact.kind = record.Fired
	f.fact.msg = messageFact{queue: int(v.QueueID), ref: it.Pos, queueID: it.Queue}
	j.out.copyFact(f, d.name(v.TopicBytes), v.PropertyBytes)
	return nil
}

// name is the text of a topic, of which neighbours mostly have the same.
func (d *delays) name(b []byte) string {
	if string(b) != d.topic {
		d.topic = string(b)
	}
	return d.topic
}

// fireJob appends the visible copies of due messages.
type fireJob struct {
	slab   []frame
	frames []*frame // nil for what is not to be moved after all
	out    outgoing
	err    *driver.Error
}

func (j *fireJob) reset() {
	if j.slab == nil {
		j.slab = make([]frame, fireBatch)
	}
	clear(j.slab)
	j.out.reset()
	j.frames, j.err = j.frames[:0], nil
}

// next is the frame for one more message.
func (j *fireJob) next() *frame {
	f := &j.slab[len(j.frames)]
	*f = frame{}
	j.frames = append(j.frames, f)
	return f
}

// left answers what was taken and is still to be moved.
func (j *fireJob) left(due []duetime.Item) []duetime.Item {
	var left []duetime.Item
	for _, f := range j.frames {
		if f == nil || f.err == nil && f.fact.pos > 0 {
			continue
		}
		for _, it := range due {
			if it.Pos == f.fact.msg.ref {
				left = append(left, it)
			}
		}
	}
	return left
}

// taken reports whether the message at pos is on its way still.
func (w *writer) taken(pos int64) bool {
	w.st.mu.RLock()
	defer w.st.mu.RUnlock()
	return w.st.delays.Taken(pos)
}

func (j *fireJob) stage(w *writer) {
	for i, f := range j.frames {
		m := &f.fact.msg
		t := w.plan.topic(m.topic)
		if t.t == nil || m.queue >= len(t.next) || t.t.queues[m.queue].id != m.queueID || w.fired[m.ref] || !w.taken(m.ref) {
			w.st.mu.Lock()
			w.st.delays.Done(m.ref) // its topic, or that of a redelivery, was deleted
			w.st.mu.Unlock()
			j.frames[i] = nil
			continue
		}
		if w.gone[m.queueID] != nil { // whether it comes is known in a moment
			f.err = &driver.Error{Code: driver.Unavailable, Retryable: true}
			continue
		}
		w.appendMessage(f, t, m.queue)
		if f.err == nil {
			w.fired[m.ref] = true
		}
	}
}

func (j *fireJob) finish() {
	for _, f := range j.frames {
		if f != nil && f.err != nil {
			j.err = f.err
		}
	}
}
