package embedded

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/checkpoint"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const (
	// keepEvery is how often retention is looked at, and how soon what found no
	// space is tried again.
	keepEvery = 10 * time.Second
	// syncedSoon is how soon a checkpoint is tried again that waits for the log
	// to become durable.
	syncedSoon = time.Second
	// snapshotShare bounds what checkpoints cost: one is made when the log has
	// grown by that many times the size of the one before.
	snapshotShare = 4
	// snapshotRest bounds it once more, where there are very many topics: the
	// next one is made no sooner than that many times what the last one took on
	// the write path.
	snapshotRest = 50
)

// keeper looks after what is derived from the log, behind the back of the
// writer: it writes the index files of full segments, then a checkpoint, and
// removes what retention lets go.
type keeper struct {
	e    *engine
	wake chan struct{} // buffer 1: there is something to write

	mu   sync.Mutex // taken on the write path
	next *snapshot  // to be written
	at   int64      // position of the last one that was made
	size int64      // of it
	rest time.Time  // until when none is made, because the last one held up the path

	ballast *ballast // nil for a store in memory
}

func newKeeper(e *engine) *keeper {
	k := &keeper{e: e, wake: make(chan struct{}, 1), at: e.log.Flushed()}
	if !e.memory {
		k.ballast = &ballast{fs: e.fs, size: e.cfg.SegmentBytes}
	}
	return k
}

// rolled is told that a segment begins at base, and that the state is what lies
// before it.
func (k *keeper) rolled(base int64) {
	k.mu.Lock()
	if began := time.Now(); base-k.at >= snapshotShare*k.size && !began.Before(k.rest) {
		k.next, k.at = k.e.st.snapshot(base), base
		k.rest = began.Add(snapshotRest * time.Since(began))
	}
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// run is the goroutine of the service.
func (k *keeper) run() {
	var timer *time.Timer
	var pass time.Time // of retention
	if k.ballast != nil {
		if err := k.ballast.take(); err != nil { // not a matter of opening the store
			k.e.cfg.Logger.Warn("there is no ballast for the day on which the disk is full", slog.Any("error", err))
		}
	}
	for {
		again := k.write()
		if time.Since(pass) >= keepEvery {
			k.retain()
			pass = time.Now()
		}
		var late <-chan time.Time
		if again == 0 && k.e.st.full() > 0 && k.e.cfg.Retention.limits() {
			again = keepEvery
		}
		if k.room() {
			again = roomEvery
		}
		if again > 0 {
			timer = restart(timer, again)
			late = timer.C
		}
		select {
		case <-k.wake:
		case <-late:
		case <-k.e.root.Done():
			if timer != nil {
				timer.Stop()
			}
			return
		}
	}
}

// write writes what there is to write. It answers when to try again, 0 for not
// before there is more.
func (k *keeper) write() time.Duration {
	if k.e.w.failed.Load() != nil {
		return 0
	}
	for k.e.st.set.Unwritten() > 0 {
		if err := k.e.st.set.WriteNext(); err != nil {
			return k.failed("write an index file", err)
		}
	}
	k.mu.Lock()
	s := k.next
	k.mu.Unlock()
	if s == nil || !k.e.marked.Load() { // a later start would not look before it any more
		return 0
	}
	if k.e.log.Synced() < s.pos {
		return syncedSoon
	}
	b := s.encode()
	if err := checkpoint.Write(k.e.fs, checkpoint.State, k.e.log.StoreID(), s.pos, b); err != nil && !errors.Is(err, checkpoint.ErrTidy) {
		return k.failed("write a checkpoint", err)
	}
	k.mu.Lock()
	k.size = int64(len(b))
	if k.next == s {
		k.next = nil
	}
	k.mu.Unlock()
	return 0
}

// failed decides about an error: an index that contradicts itself is only an
// index, want of space may pass, anything else may be a sync that failed, on a
// disk that then cannot be trusted with the log either.
func (k *keeper) failed(what string, err error) time.Duration {
	if errors.Is(err, segindex.ErrMisuse) || errors.Is(err, segindex.ErrDamaged) {
		k.e.cfg.Logger.Error("the index cannot be written; the next start makes it anew", slog.String("what", what), slog.Any("error", err))
		return keepEvery
	}
	if vfs.IsNoSpace(err) {
		k.e.cfg.Logger.Warn("no space for what is derived from the log, trying again", slog.String("what", what), slog.Any("error", err))
		return keepEvery
	}
	k.e.w.fail(err)
	return 0
}

// finish notes the end of the log, so that the next opening reads nothing. The
// writer has ended.
func (k *keeper) finish() {
	if k.e.memory || !k.e.marked.Load() || k.e.w.failed.Load() != nil || k.e.log.Flush() != nil || k.e.log.Sync() != nil {
		return
	}
	if k.write() != 0 {
		return
	}
	err := k.e.st.set.WriteActive(k.e.log.Synced())
	if err == nil {
		err = checkpoint.Write(k.e.fs, checkpoint.State, k.e.log.StoreID(), k.e.log.Synced(), k.e.st.snapshot(k.e.log.Synced()).encode())
	}
	if err != nil {
		k.e.cfg.Logger.Warn("no checkpoint was written, the next start reads more of the log", slog.Any("error", err))
	}
}

// limits reports whether anything is ever removed.
func (r Retention) limits() bool { return r.Age > 0 || r.Bytes > 0 }

// full is the number of full segments.
func (s *state) full() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.ends)
}

// retain removes the oldest segments as far as Config.Retention says.
func (k *keeper) retain() {
	e := k.e
	if !e.cfg.Retention.limits() || e.w.failed.Load() != nil {
		return
	}
	to := e.st.removable(e.cfg.Retention, e.log.Start(), e.log.Flushed(), e.log.Synced(), e.nowMs())
	if to == e.log.Start() {
		return
	}
	if err := e.rebase(to); err != nil {
		k.failed("note what the oldest segments say", err)
		return
	}
	j := &trimJob{to: to}
	if err := e.w.do(context.WithoutCancel(e.root), nil, j, 0); err != nil || j.err != nil {
		return // the writer has said why
	}
	if err := e.st.trim(to); err != nil {
		k.failed("remove index files", err)
	}
	e.cfg.Logger.Info("removed the oldest part of the log", slog.Int64("before", to))
}

// removable is the position before which everything may go: the beginning of a
// segment before which all is durable.
func (s *state) removable(r Retention, start, end, synced, nowMs int64) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	to, removed := start, 0
	pin := end
	for i, seg := range s.ends {
		next := s.base
		if i+1 < len(s.ends) {
			next = s.ends[i+1].base
		}
		if next <= start {
			continue
		}
		old := r.Age > 0 && nowMs-seg.lastMs > r.Age.Milliseconds()
		large := r.Bytes > 0 && end-to > r.Bytes
		if !old && !large || removed == r.PerPass || next > synced {
			break
		}
		if pin == end {
			pin = s.pinned(end)
		}
		if next > pin {
			break
		}
		to = next
		removed++
	}
	return to
}

// pinned is the lowest position of a message that is still to become visible;
// mu is held.
func (s *state) pinned(end int64) int64 {
	if pos, ok := s.delays.MinPos(); ok {
		end = min(end, pos)
	}
	if pos, ok := s.halves.MinPos(); ok {
		end = min(end, pos)
	}
	return end
}

// trim forgets what lies before to.
func (s *state) trim(to int64) error {
	s.mu.Lock()
	n := 0
	for n < len(s.ends) && s.ends[n].base < to {
		n++
	}
	s.ends = append([]segmentEnd(nil), s.ends[n:]...)
	s.mu.Unlock()
	return s.set.TrimBefore(to)
}

// rebase notes the state as of to, which the log is about to begin with:
// topics, queue numbers and positions that no frame behind it says again. It is
// found by a fold over what is about to go.
func (e *engine) rebase(to int64) error {
	r := &recovering{e: e, decoder: newDecoder(), known: commitlog.Known{StoreID: e.log.StoreID(), Start: e.log.Start()}}
	st, err := r.stateAt(nil)
	if err != nil {
		return err
	}
	err = e.log.Scan(e.log.Start(), func(fr commitlog.Frame) error {
		if fr.Pos >= to {
			return errReached
		}
		f, err := r.decoder.decode(fr)
		if err != nil {
			return corruptFrame(fr.Pos, err)
		}
		if e.cfg.OnCorruption == Quarantine && f.msg.topic != "" {
			st.mend(f)
		}
		return st.apply(f)
	})
	if err != nil && !errors.Is(err, errReached) {
		return err
	}
	err = checkpoint.Write(e.fs, checkpoint.Base, e.log.StoreID(), to, st.snapshot(to).encode())
	if errors.Is(err, checkpoint.ErrTidy) {
		return nil // it is durable
	}
	return err
}

// trimJob removes the segments before a position.
type trimJob struct {
	to  int64
	err *driver.Error
}

func (j *trimJob) stage(w *writer) {
	err := w.log.TrimBefore(j.to)
	if err == nil {
		return
	}
	j.err = writeError(err, false)
	w.logger.Warn("the oldest part of the log was not removed", slog.Any("error", err))
	if failed := w.log.Failed(); failed != nil {
		w.fail(failed)
	}
}

func (j *trimJob) finish() {}
