package embedded

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// marking follows in a replay what is left to be done about holes of the log.
// The mark of a topic, a frame with the offsets at which its queues go on, is
// written behind a hole before anything else is. A crash in between leaves
// topics without one, and holes that no later start finds anew.
type marking struct {
	end int64 // behind the last frame
	// topics are those that were there when the first mark behind the last hole
	// was written, without those that were marked; nil if there was no mark.
	topics map[string]bool
}

// frame is told of each frame: between two that do not follow each other there
// is a hole.
func (m *marking) frame(fr commitlog.Frame) {
	if fr.Pos != m.end {
		m.topics = nil
	}
	m.end = fr.Pos + commitlog.FrameSize(len(fr.Payload))
}

// topic is told of each frame of a topic, before st is.
func (m *marking) topic(st *state, r record.Topic) {
	if len(r.Next) == 0 {
		return
	}
	if m.topics == nil {
		m.topics = map[string]bool{}
		for name := range st.topics {
			m.topics[name] = true
		}
	}
	delete(m.topics, r.Name)
}

// unmarked is what is left to be done about holes: which, and to which topics.
type unmarked struct {
	holes  []commitlog.Hole
	topics map[string]bool // nil for all
}

// left answers what is left to be done after a replay. What lies before the
// place where it began was dealt with before the checkpoint was written.
func (m *marking) left(rec commitlog.Recovery) unmarked {
	holes := slices.DeleteFunc(slices.Clone(rec.Holes), func(h commitlog.Hole) bool { return h.Pos < rec.Replayed })
	n := len(holes)
	if n == 0 {
		return unmarked{}
	}
	if holes[n-1].Pos >= m.end {
		m.topics = nil // nothing lies behind the last hole
	}
	if m.topics != nil && len(m.topics) == 0 {
		return unmarked{}
	}
	return unmarked{holes, m.topics}
}

// mostIn is how many messages a hole can have held at the most.
func mostIn(h commitlog.Hole) int64 { return (h.End - h.Pos) / commitlog.FrameSize(message.LeastSize) }

// mayHold is how many messages of q the holes can have held of which nothing
// later in the log tells. Offsets ascend along the log, so the last entry of a
// queue says how far the queue had come there, whatever was lost before it; only
// the holes behind it count.
func (u *unmarked) mayHold(q *topicQueue) (most int64) {
	last := int64(-1)
	var one [1]segindex.Entry
	if n, err := q.Read(q.Max()-1, one[:]); err == nil && n == 1 {
		last = one[0].Pos // else nothing is known, and every hole counts
	}
	for _, h := range u.holes {
		if h.Pos > last {
			most += mostIn(h)
		}
	}
	return most
}

// mark makes durable what follows from damage: the topics as they are, with
// offsets behind all those that lost messages may have had, so that none is ever
// used twice. Nothing else is written before it.
func (e *engine) mark(rec commitlog.Recovery) *driver.Error {
	for _, h := range rec.New {
		e.cfg.Logger.Error("a damaged range of the log is out of use; the messages in it are lost", slog.String("segment", h.Segment),
			slog.Int64("offset", h.Offset), slog.Int64("bytes", h.End-h.Pos), slog.Int64("messages_at_most", mostIn(h)),
			slog.String("reason", h.Reason))
	}
	if len(e.unmarked.holes) == 0 && !e.restored {
		return nil
	}
	j := &markJob{unmarked: e.unmarked, restored: e.restored}
	if err := e.w.do(context.WithoutCancel(e.root), nil, j, 0); err != nil {
		return err
	}
	if j.err == nil && j.unsure > 0 {
		e.cfg.Logger.Warn("queues leave out the offsets that lost messages at their ends may have had, if there were any",
			slog.Int("queues", j.unsure))
	}
	e.unmarked, e.restored = unmarked{}, false
	return j.err
}

// markJob notes topics with their queues and raised offsets.
type markJob struct {
	unmarked
	restored bool
	unsure   int // queues that nothing behind a hole tells of
	frames   []*frame
	err      *driver.Error
}

func (j *markJob) stage(w *writer) {
	if len(j.holes) > 0 {
		j.mark(w)
	}
	if j.restored && j.err == nil {
		j.repeat(w) // behind the topics that they are of
	}
}

// repeat notes all positions and settings again: a checkpoint has brought some of
// them back.
func (j *markJob) repeat(w *writer) {
	w.st.mu.RLock()
	defer w.st.mu.RUnlock()
	for _, k := range slices.SortedFunc(maps.Keys(w.st.positions), progressKey.compare) {
		f := positionsFrame(w.st.positions[k].record(k))
		w.control(f)
		j.frames = append(j.frames, f)
	}
	for _, k := range slices.SortedFunc(maps.Keys(w.st.settings), settingKey.compare) {
		f := settingFrame(record.Setting{Scope: k.scope, Name: k.name, Value: w.st.settings[k]})
		w.control(f)
		j.frames = append(j.frames, f)
	}
}

// mark notes the topics.
func (j *markJob) mark(w *writer) {
	w.st.mu.RLock()
	names := slices.Sorted(maps.Keys(w.st.topics))
	groups := slices.SortedFunc(maps.Keys(w.st.positions), progressKey.compare)
	w.st.mu.RUnlock()
	// The redeliveries of a group may have been lost with the topic that held
	// them; with an empty one in its place nobody would hear of it.
	for _, k := range groups {
		if k.client != "" || len(w.plan.topic(k.topic).next) == 0 {
			continue
		}
		if _, err := w.ensureRetryQueue(k.group, k.topic); err != nil {
			j.err = err
			return
		}
		names = append(names, retryTopic(k.group))
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if j.topics != nil && !j.topics[name] {
			continue
		}
		t := w.plan.topic(name)
		r := record.Topic{Name: name, Queues: len(t.next), Origins: t.t.origins}
		for i, q := range t.t.queues {
			most := j.mayHold(q)
			if most > 0 {
				j.unsure++
			}
			r.IDs = append(r.IDs, q.id)
			r.Next = append(r.Next, t.next[i]+most)
		}
		f := &frame{fact: fact{kind: record.TopicCreated, ctl: &control{topic: r, made: t.t}}, head: r.Append(nil)}
		if w.control(f) {
			copy(t.next, r.Next)
		}
		j.frames = append(j.frames, f)
	}
}

func (j *markJob) finish() {
	for _, f := range j.frames {
		if f.err != nil {
			j.err = f.err
		}
	}
}
