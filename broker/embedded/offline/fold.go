package offline

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// fold is what follows from the frames so far, as far as frames can contradict
// it.
type fold struct {
	// blind: frames are missing, so that what a frame relies on may have been
	// in them.
	blind bool
	// start is where the log begins; what lay before may be referred to.
	start  int64
	nextID uint32 // of the next new queue; not known if blind
	topics map[string]*topic
	// waiting are the positions of delayed and of half messages that no frame
	// has ended yet.
	delayed, undecided map[int64]struct{}
}

// topic is a topic with the numbers and next offsets of its queues. If it was
// declared by a frame that is lost, it is not there.
type topic struct {
	ids     []uint32
	next    []int64
	origins []string
	// ahead are the queues whose first message may be further than next: the log
	// begins behind messages that it does not say anything of any more, such as
	// those that were lost with a quarantined range.
	ahead map[int]bool
}

func newFold(start int64) *fold {
	return &fold{start: start, topics: map[string]*topic{}, delayed: map[int64]struct{}{}, undecided: map[int64]struct{}{}}
}

// begin makes f the state of a snapshot, of which frames are only compared with
// topics and queues.
func (f *fold) begin(s *snapshot) {
	f.nextID = s.nextID
	for _, t := range s.topics {
		ahead := map[int]bool{}
		for i := range t.Next {
			ahead[i] = true
		}
		f.topics[t.Name] = &topic{ids: t.IDs, next: slices.Clone(t.Next), origins: t.Origins, ahead: ahead}
	}
}

// lost says that frames are missing before the next one.
func (f *fold) lost() {
	f.blind = true
	clear(f.topics)
}

// apply folds a frame, and answers what it contradicts, "" for nothing. The
// queue is that of a visible message, if its number is known.
func (f *fold) apply(fr *Frame) (queue uint32, known bool, reason string) {
	switch fr.Kind {
	case KindMessage:
		return f.visible(fr.Message)
	case KindFired:
		reason = f.end(f.delayed, fr.Message.Ends, "delayed")
	case KindCommitted:
		reason = f.end(f.undecided, fr.Message.Ends, "undecided half")
	case KindRolledBack:
		reason = f.end(f.undecided, fr.Decision.Half, "undecided half")
	case KindParked:
		reason = f.waits(f.undecided, fr.Decision.Half, "undecided half")
	case KindDelayed:
		f.delayed[fr.Pos] = struct{}{}
	case KindHalf:
		f.undecided[fr.Pos] = struct{}{}
	case KindTopicCreated:
		reason = f.create(fr.Topic)
	case KindTopicDeleted:
		delete(f.topics, fr.Topic.Name)
	case KindPositions, KindSettings, KindGroupDeleted: // they may be of a topic that is gone, or go back
	}
	if !fr.Kind.visible() {
		return 0, false, reason
	}
	queue, known, more := f.visible(fr.Message)
	if reason == "" {
		reason = more
	}
	return queue, known, reason
}

// end ends the wait of the message at pos.
func (f *fold) end(waiting map[int64]struct{}, pos int64, what string) (reason string) {
	reason = f.waits(waiting, pos, what)
	delete(waiting, pos)
	return reason
}

// waits says that no message waits at pos, "" if one does or may have.
func (f *fold) waits(waiting map[int64]struct{}, pos int64, what string) (reason string) {
	if _, ok := waiting[pos]; !ok && !f.blind && pos >= f.start {
		return fmt.Sprintf("there is no %s message at %d", what, pos)
	}
	return ""
}

// visible gives a message its place in its queue.
func (f *fold) visible(m *Message) (queue uint32, known bool, reason string) {
	t := f.topics[m.Topic]
	if t == nil || m.Queue < 0 || m.Queue >= len(t.next) {
		if f.blind {
			return 0, false, ""
		}
		return 0, false, fmt.Sprintf("there is no queue %d of topic %q", m.Queue, m.Topic)
	}
	next := &t.next[m.Queue]
	switch {
	case *next < 0: // not known
	case m.Offset < *next:
		return t.ids[m.Queue], true, fmt.Sprintf("offset %d of queue %d of topic %q is used twice", m.Offset, m.Queue, m.Topic)
	case m.Offset > *next && !f.blind && !t.ahead[m.Queue]:
		reason = fmt.Sprintf("offsets %d to %d of queue %d of topic %q are missing", *next, m.Offset-1, m.Queue, m.Topic)
	}
	*next = m.Offset + 1
	delete(t.ahead, m.Queue)
	return t.ids[m.Queue], true, reason
}

// create makes a topic, adds queues to it, or lets its offsets jump.
func (f *fold) create(r *Topic) (reason string) {
	old := f.topics[r.Name]
	if f.blind && len(r.IDs) == 0 {
		delete(f.topics, r.Name) // the numbers of its queues cannot be known
		return ""
	}
	t := &topic{origins: r.Origins}
	if old != nil {
		t.ids, t.next, t.ahead = slices.Clone(old.ids), slices.Clone(old.next), old.ahead
	}
	for i := len(t.ids); i < r.Queues; i++ {
		id := f.nextID
		if i < len(r.IDs) {
			id = r.IDs[i]
		}
		next := int64(0)
		if old == nil && f.blind {
			next = -1 // it may have existed before
		}
		f.nextID = max(f.nextID, id+1)
		t.ids, t.next = append(t.ids, id), append(t.next, next)
	}
	for i, next := range r.Next {
		if i < len(t.next) {
			t.next[i] = max(t.next[i], next)
		}
	}
	f.topics[r.Name] = t
	if len(r.IDs) > 0 && !slices.Equal(t.ids[:min(len(t.ids), len(r.IDs))], r.IDs) {
		return fmt.Sprintf("topic %q has queues with the numbers %d, not %d", r.Name, t.ids, r.IDs)
	}
	return ""
}

// differs says what of a snapshot is not the state, "" for nothing.
func (f *fold) differs(s *snapshot) string {
	if f.blind {
		return ""
	}
	in := map[string]record.Topic{}
	for _, t := range s.topics {
		in[t.Name] = t
	}
	for _, name := range slices.Sorted(maps.Keys(f.topics)) {
		t, got := f.topics[name], in[name]
		if !slices.Equal(t.ids, got.IDs) || !slices.Equal(t.next, got.Next) || !slices.Equal(t.origins, got.Origins) {
			return fmt.Sprintf("topic %q is in it with queues %d at offsets %d, in the log with queues %d at %d",
				name, got.IDs, got.Next, t.ids, t.next)
		}
	}
	if len(in) > len(f.topics) {
		return "it holds topics that the log does not have"
	}
	return ""
}
