package world

import (
	"bytes"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/drivertest/history"
)

// Do runs one operation and notes what was promised by its answer.
func (w *World) Do(o Op) {
	w.Helper()
	w.note("%s", o)
	w.results = append(w.results, o.String())
	if w.conn == nil && !w.Open() {
		return
	}
	t := w.topicFor(topicName(o.Topic))
	if t == nil {
		return
	}
	switch o.Kind {
	case Send:
		w.send(t, []*driver.Message{w.message(t, o.X, bodySize(o.X))}, time.Time{})
	case Batch:
		var ms []*driver.Message
		for i := range 1 + o.N {
			ms = append(ms, w.message(t, o.X+i, bodySize(o.X+i)))
		}
		if w.Split {
			for _, m := range ms {
				w.send(t, []*driver.Message{m}, time.Time{})
			}
			break
		}
		w.send(t, ms, time.Time{})
	case Roll:
		w.roll(t)
	case Delayed:
		m := w.message(t, o.X, 100)
		m.DeliverAt = time.Now().Add(delayOf(o.X))
		w.send(t, []*driver.Message{m}, m.DeliverAt)
	case Prepare:
		w.prepare(t, o.X)
	case PrepareAgain:
		w.prepareAgain(o.X)
	case Commit:
		w.resolve(o.X, driver.Commit)
	case Rollback:
		w.resolve(o.X, driver.Rollback)
	case Ack, Retry, Dead, Return:
		w.consume(t, o, map[Kind]driver.Outcome{Ack: driver.Ack, Retry: driver.Retry, Dead: driver.DeadLetter, Return: driver.Return}[o.Kind])
	case Leave:
		w.leave(t)
	case Create:
		w.create(t, 1+o.N%3)
	case Delete:
		w.remove(t)
	case Reset:
		w.reset(t)
	case Pass:
		w.pass([]time.Duration{30 * time.Millisecond, 600 * time.Millisecond, 2 * time.Second, 7 * time.Second}[o.X%4])
		w.seeLag(o.X%4 > 1)
	case Reopen:
		w.Close()
		if _, dead := w.disk.Dead(); !dead {
			w.Open()
		}
	case Query:
		w.query(t, o.X)
	case Keep:
		w.keep(t, o.X)
	case Forget:
		w.forget(o.X)
	default:
	}
	w.idle()
	w.watch()
}

// watch notes if the store has failed.
func (w *World) watch() {
	if w.conn == nil {
		return
	}
	err := w.conn.Health(w.ctx())
	if err == nil {
		return
	}
	_ = w.typed("health", err)
	w.failed = true
	if _, dead := w.disk.Dead(); !dead && !w.Lenient {
		w.Failf("the store has failed though nothing was broken: %v", err)
	}
}

func bodySize(x int) int { return [...]int{0, 60, 300, 700, 4000}[x%5] }

// message makes the next message of a topic.
func (w *World) message(t *topic, x, size int) *driver.Message {
	v := w.value(t)
	m := &driver.Message{ID: fmt.Sprintf("id-%d", v.Counter), Topic: t.name, Body: history.Body(v, size), Keys: []string{fmt.Sprintf("key-%d", x%5)}}
	if x%2 == 0 || w.Plain {
		m.OrderingKey = fmt.Sprintf("order-%d", x%3)
	}
	t.values[m.ID] = v
	t.keys[v] = m.Keys[0]
	return m
}

func laneName(topic string, queue int) string { return fmt.Sprintf("%s/%d", topic, queue) }

func (w *World) send(t *topic, ms []*driver.Message, due time.Time) {
	w.Helper()
	key := "in order"
	if !due.IsZero() {
		key = ""
	}
	for _, m := range ms {
		v := t.values[m.ID]
		t.h.Invoke(v, key)
		if !due.IsZero() {
			t.h.Due(v, due.Truncate(time.Millisecond))
			t.due = later(t.due, due)
		}
	}
	for i, r := range w.conn.Send(w.ctx(), driver.SendRequest{Messages: ms}) {
		v := t.values[ms[i].ID]
		o := w.outcome("send "+v.String(), r.Err)
		t.h.Answer(v, o)
		t.used(o)
		if o == history.OK {
			w.acks++
			t.h.Stored(v, laneName(t.name, r.Queue), r.Offset)
			w.results = append(w.results, fmt.Sprintf("%v %v at %d/%d", v, r.Status, r.Queue, r.Offset))
			if r.Status != driver.Stored {
				w.Failf("send %v: status %v without an error", v, r.Status)
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// roll sends so much that another segment is needed.
func (w *World) roll(t *topic) {
	const size = maxBody - 4<<10
	var ms []*driver.Message
	for n := int64(0); n <= segmentBytes-size; n += size {
		ms = append(ms, w.message(t, int(n/size), size))
	}
	w.send(t, ms, time.Time{})
}

func (w *World) prepare(t *topic, x int) {
	m := w.message(t, x, 200)
	h := &half{id: m.ID, topic: t.name, value: t.values[m.ID], key: m.Keys[0]}
	delete(t.keys, h.value)
	delete(t.values, m.ID) // not of the topic before it is committed
	w.halves = append(w.halves, h)
	var err error
	h.handle, err = w.conn.Extensions().Tx.Prepare(w.ctx(), producers, m)
	o := w.outcome("prepare "+h.value.String(), err)
	h.prepared = o == history.OK
	t.used(o)
	if o != history.OK {
		w.halves = w.halves[:len(w.halves)-1]
		return
	}
	w.acks++
}

func (w *World) pickHalf(x int) *half {
	if len(w.halves) == 0 {
		return nil
	}
	return w.halves[x%len(w.halves)]
}

// prepareAgain repeats a Prepare, which must answer the same half.
func (w *World) prepareAgain(x int) {
	h := w.pickHalf(x)
	if h == nil || w.topicFor(h.topic) == nil {
		return
	}
	m := &driver.Message{ID: h.id, Topic: h.topic, Body: history.Body(h.value, 200)}
	again, err := w.conn.Extensions().Tx.Prepare(w.ctx(), producers, m)
	if o := w.outcome("prepare again "+h.value.String(), err); o == history.OK && !bytes.Equal(again.Handle, h.handle.Handle) {
		w.Failf("a second prepare of %s answered another half", h.id)
	}
}

// resolve decides a half message, or repeats or contradicts a decision.
func (w *World) resolve(x int, d driver.Decision) {
	h := w.pickHalf(x)
	if h == nil {
		return
	}
	w.Resolve(h, d)
}

// Resolve decides h.
func (w *World) Resolve(h *half, d driver.Decision) {
	w.Helper()
	t := w.topicFor(h.topic)
	if t == nil || h.state == unsure {
		return
	}
	commit := d == driver.Commit
	if h.state == undecided && commit {
		h.in = t
		t.values[h.id], t.keys[h.value] = h.value, h.key
		t.h.Invoke(h.value, "")
	}
	err := w.conn.Extensions().Tx.Resolve(w.ctx(), h.handle, d)
	o := w.outcome(fmt.Sprintf("%v %v", d, h.value), err, driver.FailedPrecondition)
	w.results = append(w.results, fmt.Sprintf("%v %v: %v", d, h.value, driver.CodeOf(err)))
	switch {
	case h.state == committed || h.state == rolledBack:
		same := commit == (h.state == committed)
		if same && driver.CodeOf(err) == driver.FailedPrecondition || !same && o == history.OK {
			w.Failf("%v of %v, which was decided before as state %d: %v", d, h.value, h.state, err)
		}
		return
	case driver.CodeOf(err) == driver.FailedPrecondition:
		w.Failf("%v of %v, which nobody decided: %v", d, h.value, err)
	}
	if commit {
		t.used(o)
		t.h.Answer(h.value, o)
	}
	if o == history.OK {
		w.acks++
	}
	switch {
	case o == history.Unknown:
		h.state, h.tried = unsure, d
	case o == history.OK && commit:
		h.state = committed
	case o == history.OK:
		h.state = rolledBack
	}
}

func (w *World) create(t *topic, queues int) {
	err := w.conn.Extensions().Topics.CreateTopic(w.ctx(), driver.TopicInfo{Name: t.name, Queues: queues})
	o := w.outcome("create", err, driver.AlreadyExists, driver.FailedPrecondition)
	w.results = append(w.results, fmt.Sprintf("create: %v", driver.CodeOf(err)))
	switch code := driver.CodeOf(err); {
	case err == nil && t.sure:
		w.Failf("topic %s was made a second time", t.name)
	case err == nil:
		w.acks++
		t.queues = queues
	case code == driver.AlreadyExists && t.queues != 0 && t.queues != queues:
		w.Failf("topic %s has %d queues, not %d: %v", t.name, t.queues, queues, err)
	case code == driver.AlreadyExists || code == driver.FailedPrecondition:
		o = history.OK
	}
	t.used(o)
}

func (w *World) remove(t *topic) {
	if w.Plain {
		w.leave(t) // or it would be refused
	}
	err := w.conn.Extensions().Topics.DeleteTopic(w.ctx(), t.name)
	o := w.outcome("delete", err, driver.NotFound, driver.FailedPrecondition)
	w.results = append(w.results, fmt.Sprintf("delete: %v", driver.CodeOf(err)))
	if err == nil {
		w.acks++
	}
	switch {
	case driver.CodeOf(err) == driver.NotFound && t.sure:
		w.Failf("topic %s is not there", t.name)
	case o == history.OK || driver.CodeOf(err) == driver.NotFound && w.alive():
		// A store that has failed does not know of a creation without an answer.
		delete(w.topics, t.name)
		delete(w.settings, ofTopic(t.name))
	case o == history.Unknown:
		t.dying = true
		w.set(ofTopic(t.name), "", o)
	}
}

func (w *World) reset(t *topic) {
	err := w.conn.Extensions().Groups.ResetOffsets(w.ctx(), Group, t.name, driver.Position{})
	// Even a reset that failed may have moved lanes in memory.
	if o := w.outcome("reset", err, driver.NotFound); driver.CodeOf(err) != driver.NotFound {
		t.h.Reset(Group)
		t.sealed, t.open = map[string]bool{}, map[string]bool{}
		_ = o
	}
}

// query looks for one message by its id.
func (w *World) query(t *topic, x int) {
	for id, v := range t.values {
		if x--; x%7 != 0 {
			continue
		}
		d, err := w.conn.Extensions().Query.ByID(w.ctx(), t.name, id)
		if err != nil {
			w.outcome("find "+id, err, driver.NotFound, driver.Corrupt)
			return
		}
		if got, err := history.Parse(d.Body); err != nil || got != v {
			w.Failf("id %s is %v (%v), want %v", id, got, err, v)
		}
		return
	}
}
