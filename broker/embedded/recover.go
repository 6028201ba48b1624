package embedded

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/internal/checkpoint"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
)

// recovering is one opening of a store.
type recovering struct {
	e       *engine
	decoder *decoder
	known   commitlog.Known
	marks   marking
	at      int64 // where replay is to begin, by the checkpoint
	began   bool  // it has
	err     error // of From, which cannot answer one

	// kept is what the newest checkpoint says that can be read although the state
	// is not made from it, at keptAt in the log; nil for none. It follows what is
	// said later of what it keeps.
	kept   *state
	keptAt int64
}

// recover opens the log and makes the state: from the newest checkpoint whose
// index files are all there, and the frames behind it; else from all frames.
func (e *engine) recover() (commitlog.Recovery, error) {
	r := &recovering{e: e, decoder: newDecoder()}
	log, rec, err := commitlog.Open(commitlog.Options{
		FS: e.fs, SegmentBytes: e.cfg.SegmentBytes, MaxFrame: maxFrame, Logger: e.cfg.Logger,
		Mapped: e.cfg.Sync != SyncAlways && !e.memory, OnCorruption: commitlog.Policy(e.cfg.OnCorruption), From: r.from,
	}, r.replay)
	if err = errors.Join(r.err, err); err != nil {
		if log != nil {
			err = errors.Join(err, log.Close())
		}
		return rec, err
	}
	e.log = log
	r.restore(rec)
	if e.st == nil { // From is not asked by an empty store
		e.st = newState(e.newSet(log.StoreID()))
	}
	e.unmarked = r.marks.left(rec)
	log.RaiseTime(time.UnixMilli(e.st.lastMs))
	e.keeper = newKeeper(e)
	return rec, nil
}

// from makes the state that replay begins with, and answers where that is.
func (r *recovering) from(k commitlog.Known) int64 {
	r.known = k
	if pos, ok := r.checkpoint(); ok {
		r.at = pos
		return pos
	}
	r.at = k.Start
	r.fromStart()
	return k.Start
}

// fromStart makes the state that a replay of all frames begins with.
func (r *recovering) fromStart() {
	set := r.e.newSet(r.known.StoreID)
	if r.err = set.Load(nil, 0); r.err == nil { // what is there is made anew
		r.e.st, r.err = r.stateAt(set)
	}
}

// checkpoint tries to begin from a checkpoint, the newest first.
func (r *recovering) checkpoint() (int64, bool) {
	k := r.known
	most := k.Synced
	for {
		pos, payload, skipped, err := checkpoint.Load(r.e.fs, checkpoint.State, k.StoreID, func(pos int64) bool {
			return pos >= k.Start && pos <= most
		})
		if most == k.Synced {
			r.unused(skipped...)
		}
		if err != nil {
			return 0, false
		}
		st := newState(r.e.newSet(k.StoreID))
		if err = st.load(k.Bases, pos, payload); err == nil {
			r.e.st = st
			return pos, true
		}
		r.unused(err, st.set.Close())
		if r.kept == nil {
			if st = newState(nil); st.decode(payload) == nil {
				r.kept, r.keptAt = st, pos
			}
		}
		most = pos - 1
	}
}

// unused says why more of the log is read than could be.
func (r *recovering) unused(why ...error) {
	for _, err := range why {
		if err != nil {
			r.e.cfg.Logger.Warn("a checkpoint is not used, more of the log is read", slog.Any("reason", err))
		}
	}
}

// stateAt is the state as of the beginning of the log, with set as its index:
// empty, or what was noted when older segments were removed.
func (r *recovering) stateAt(set *segindex.Set) (*state, error) {
	st := newState(set)
	if r.known.Start == 0 {
		return st, nil
	}
	_, payload, skipped, err := checkpoint.Load(r.e.fs, checkpoint.Base, r.known.StoreID, func(pos int64) bool {
		return pos == r.known.Start
	})
	if err == nil {
		if err = st.decode(payload); err == nil {
			st.base, st.ends = -1, nil // of segments that are gone
			return st, nil
		}
	}
	why := errors.Join(append(skipped, err)...)
	if r.e.cfg.OnCorruption != Quarantine {
		return st, &commitlog.CorruptError{Segment: checkpoint.Base.Name(r.known.Start), Reason: "it cannot be used: " + why.Error()}
	}
	r.e.cfg.Logger.Error("what is known from before the log begins is lost: topics without messages, and positions",
		slog.Any("reason", why))
	return newState(set), nil
}

// replay folds one frame. Index files are written on the way, so that memory
// stays bounded.
func (r *recovering) replay(fr commitlog.Frame) error {
	if !r.began {
		r.began = true
		if fr.Pos < r.at { // the log has found that it must read from its start
			r.unused(errors.New("the log in front of it is damaged"), r.e.st.set.Close())
			if r.kept == nil {
				r.kept, r.keptAt = r.e.st, r.at
			}
			r.fromStart()
		}
	}
	r.marks.frame(fr)
	if r.err != nil {
		return r.err
	}
	st := r.e.st
	f, err := r.decoder.decode(fr)
	if err == nil {
		if r.e.cfg.OnCorruption == Quarantine || len(r.known.Holes) > 0 {
			st.mend(f)
		}
		if r.kept != nil && fr.Pos >= r.keptAt {
			r.kept.follow(f)
		}
		if f.kind == record.TopicCreated {
			r.marks.topic(st, f.ctl.topic)
		}
		err = st.apply(f)
	}
	if err != nil {
		return corruptFrame(fr.Pos, err)
	}
	for st.set.Unwritten() > 0 {
		if err := st.set.WriteNext(); err != nil {
			r.e.cfg.Logger.Warn("an index file was not written, trying again later", slog.Any("error", err))
			break
		}
	}
	return nil
}

// follow takes over what a frame behind a checkpoint says of what is kept of it:
// topics, positions and settings.
func (s *state) follow(f *fact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f.kind {
	case record.TopicDeleted:
		delete(s.topics, f.ctl.topic.Name)
		delete(s.settings, settingKey{record.OfTopic, f.ctl.topic.Name})
		maps.DeleteFunc(s.positions, func(k progressKey, _ *progress) bool { return k.topic == f.ctl.topic.Name })
	case record.GroupDeleted:
		delete(s.settings, settingKey{record.OfGroup, f.ctl.setting.Name})
		maps.DeleteFunc(s.positions, func(k progressKey, _ *progress) bool { return k.group == f.ctl.setting.Name })
	case record.Positions:
		s.progressed(f.ctl.positions)
	case record.Settings:
		s.remember(f.ctl.setting)
	default: // the rest is made from the frames that are there
	}
}

// restore brings back what a checkpoint knows and the log does not any more,
// because of damage between the place where the replay began and the checkpoint:
// positions of groups, settings, and topics without messages. It comes last, so
// that queues get the same numbers when all is replayed without a checkpoint. What
// it brings back has to be written again, or it would be gone with the checkpoint.
func (r *recovering) restore(rec commitlog.Recovery) {
	st, from, at := r.e.st, r.kept, r.keptAt
	if from == nil {
		from, at = st, r.at // unless no frame was left at all, nothing is lost in front of it
	}
	lost := func(h commitlog.Hole) bool { return h.Pos >= rec.Replayed && h.Pos < at }
	if st == nil || !slices.ContainsFunc(rec.Holes, lost) {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(from.topics)) {
		t, old := from.topics[name], st.topics[name]
		if old != nil && len(old.queues) >= len(t.queues) {
			continue
		}
		now := t.record()
		now.IDs = nil // they may be those of others here
		st.topics[name] = st.grownTopic(old, now)
		if r.marks.topics != nil {
			r.marks.topics[name] = true
		}
	}
	for k, p := range from.positions {
		st.progressed(p.record(k))
	}
	maps.Copy(st.settings, from.settings)
	r.e.restored = true
}

// mend makes up for what was lost about the topic of a message, or of a group's
// position, with a damaged range: its creation, or that it was deleted and made
// anew.
func (s *state) mend(f *fact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.kind == record.Positions:
		s.mendConsumed(f.ctl.positions)
	case f.msg.topic != "" && f.msg.queue >= 0 && f.msg.queue < maxQueues:
		s.mendTopic(f)
	}
}

// mendConsumed makes the topic that a group has consumed: as far as the group had
// come, there were messages. mu is held.
func (s *state) mendConsumed(g record.GroupPositions) {
	r := record.Topic{Name: g.Topic}
	for _, l := range g.Lanes {
		if l.Queue < 0 || l.Queue >= maxQueues {
			continue
		}
		r.Queues = max(r.Queues, l.Queue+1)
		for len(r.Next) < r.Queues {
			r.Next = append(r.Next, 0)
		}
		r.Next[l.Queue] = l.Next
	}
	if r.Queues > 0 && s.topics[g.Topic] == nil {
		s.topics[g.Topic] = s.grownTopic(nil, r)
	}
}

// mendTopic is mend for a message. mu is held.
func (s *state) mendTopic(f *fact) {
	m := &f.msg
	t := s.topics[m.topic]
	r := record.Topic{Name: m.topic, Queues: m.queue + 1}
	switch {
	case t == nil:
	case m.queue >= len(t.queues):
		r.Origins = t.origins
	case visibleKind(f.kind) && t.queues[m.queue].next > m.offset:
		r.Queues = max(r.Queues, len(t.queues))
		s.deleteTopic(m.topic)
		t = nil
	default:
		return
	}
	s.topics[m.topic] = s.grownTopic(t, r)
}

// visibleKind reports whether frames of the kind have a place in a queue.
func visibleKind(k record.Kind) bool {
	return k == record.Message || k == record.Fired || k == record.Committed
}
