package embedded

import (
	"context"
	"log/slog"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/delay"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// fireBatch is how many due messages are moved by one job.
const fireBatch = 256

// delays moves messages to their queues when they become due. One timer waits
// for the one that is due next.
type delays struct {
	e    *engine
	wake chan struct{} // buffer 1: a message comes before all others
}

func newDelays(e *engine) *delays { return &delays{e: e, wake: make(chan struct{}, 1)} }

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
func (d *delays) due() (due []delay.Item, wait time.Duration, more bool) {
	d.e.st.mu.Lock()
	defer d.e.st.mu.Unlock()
	due = d.e.st.delays.Due(d.e.nowMs(), fireBatch, nil)
	head, more := d.e.st.delays.Head()
	return due, d.e.until(head.DueMs), more
}

// fire moves due messages; it reports false if it should be tried again later.
func (d *delays) fire(due []delay.Item) bool {
	j := &fireJob{}
	size := 0
	for _, it := range due {
		f, err := d.e.fired(it)
		if err != nil {
			// A damaged message must not hold up the others: it is reported,
			// stays in the log, and is tried again after the next start.
			d.e.cfg.Logger.Error("a delayed message cannot be read", slog.Int64("position", it.Pos), slog.Any("error", err))
			d.e.st.mu.Lock()
			d.e.st.delays.Done(it.Pos)
			d.e.st.mu.Unlock()
			continue
		}
		size += len(f.payload)
		j.frames = append(j.frames, f)
	}
	err := d.e.w.do(context.WithoutCancel(d.e.root), nil, j, size)
	if err == nil {
		err = j.err
	}
	if err != nil && err.Code == driver.ResourceExhausted {
		d.e.cfg.Logger.Warn("due messages were not moved, trying again", slog.Any("error", err))
	}
	return err == nil
}

// fired encodes the visible copy of a delayed message. The copy names the
// position of the waiting one, so a replay knows that it is done with.
func (e *engine) fired(it delay.Item) (*frame, error) {
	s, _, _, err := e.read(it.Pos, sizeUnknown)
	if err != nil {
		return nil, err
	}
	o := outgoingOf(s)
	o.stored.PreparedTransactionOffset = it.Pos
	payload, err := o.payload()
	if err != nil {
		return nil, err
	}
	return &frame{payload: payload, fact: fact{kind: record.Fired, msg: messageFact{
		topic: s.Topic, queue: int(s.QueueID), tag: o.tag, id: o.id, keys: o.keys, ref: it.Pos,
	}}}, nil
}

// fireJob appends the visible copies of due messages.
type fireJob struct {
	frames []*frame
	err    *driver.Error
}

func (j *fireJob) stage(w *writer) {
	for i, f := range j.frames {
		m := &f.fact.msg
		w.st.mu.RLock()
		waits := w.st.delays.Waits(m.ref)
		w.st.mu.RUnlock()
		t := w.plan.topic(m.topic)
		if !waits || w.fired[m.ref] || m.queue >= len(t.next) {
			j.frames[i] = nil // fired before, or its topic was deleted
			continue
		}
		w.fired[m.ref] = true
		w.appendMessage(f, t, m.queue)
	}
}

func (j *fireJob) finish() {
	for _, f := range j.frames {
		if f != nil && f.err != nil {
			j.err = f.err
		}
	}
}
