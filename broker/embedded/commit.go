package embedded

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// checkpointAfter is when a write is noted in the manifest, which tells damage
// to the end of the log from a write that a crash has cut short. It costs a few
// syncs, so not each write is noted.
const checkpointAfter = 5 * time.Second

// close lets what is pending end, and then the writer's goroutine.
func (w *writer) close() {
	w.closed.Store(true)
	w.notify()
}

// loop is the writer's goroutine: it ends rounds, syncs in the background and
// notes in the manifest what is durable. It ends after close.
func (w *writer) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var c commit
	for {
		w.seize()
		w.turn(&c)
		last := w.closed.Load() && c.round == nil && w.waiting.Load() == 0 && len(w.round.jobs) == 0
		w.over = w.over || last
		at := w.nextChore()
		w.leave()
		for _, r := range c.ended {
			close(r.done)
		}
		switch {
		case c.round != nil:
			c.err = c.sync()
			continue
		case last:
			return
		}
		var late <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			late = timer.C
		}
		select {
		case <-w.wake:
		case <-late:
		}
	}
}

// commit is what the writer's goroutine is about.
type commit struct {
	round *round       // that is to be synced, or was; nil for none
	sync  func() error // syncs it, outside of the path
	err   error        // that sync answered
	ended []*round     // to be answered once the path is free
}

// turn is what the writer's goroutine does each time it has the path: it ends
// the round that was synced, and begins with the one that has filled meanwhile,
// so that the disk waits for nobody.
func (w *writer) turn(c *commit) {
	clear(c.ended)
	c.ended = c.ended[:0]
	if c.round != nil {
		if c.err != nil {
			w.refuse(c.round, 0, writeError(c.err, true))
			w.fail(c.err)
		}
		w.conclude(c.round)
		c.ended = append(c.ended, c.round)
		c.round = nil
	}
	if w.waiting.Load() > 0 {
		w.serve()
	}
	w.housekeep()
	if len(w.round.jobs) == 0 {
		return
	}
	r := w.round
	w.round = newRound()
	if !w.flush(r) {
		w.conclude(r)
		c.ended = append(c.ended, r)
		w.notify() // look again, nothing was waited for
		return
	}
	c.round, c.err = r, nil
	_, c.sync = w.log.SyncTo()
}

// seize gets the write path before those that wait for it: they step aside as
// long as urgent is set.
func (w *writer) seize() {
	w.urgent.Store(true)
	defer w.urgent.Store(false)
	for n := range turns * spins {
		if w.path.TryLock() {
			return
		}
		if n%spins == 0 {
			runtime.Gosched() // the holder may not be running
		}
	}
	w.path.Lock() // the holder waits for the disk
}

// flush writes the frames of a round. Without success it says so on each frame
// that is not stored; with some that are, in a mode that syncs, it syncs them,
// because the plan has to begin anew from what is applied. It reports whether
// there is something left to sync. The path is held.
func (w *writer) flush(r *round) bool {
	if len(r.frames) == 0 {
		return false
	}
	err := w.log.Flush()
	if err == nil {
		return true
	}
	w.refuse(r, w.log.NextPos(), writeError(err, true))
	w.exhausted(err)
	if w.log.Failed() == nil && w.syncs() {
		_ = w.log.Sync() // final if it fails, see Failed
	}
	if err := w.log.Failed(); err != nil {
		w.refuse(r, 0, writeError(err, true))
		w.fail(err)
	}
	return false
}

// refuse notes on the frames of r at or behind from why they are not stored.
func (w *writer) refuse(r *round, from int64, why *driver.Error) {
	for _, f := range r.frames {
		if f.fact.pos >= from && f.err == nil {
			f.err = why
		}
	}
	w.plan.stale = true
}

// conclude makes visible what is stored and finishes the jobs of a round. The
// path is held.
func (w *writer) conclude(r *round) {
	for _, f := range r.frames {
		if f.err != nil {
			continue
		}
		if err := w.st.apply(&f.fact); err != nil {
			w.logger.Error("the broker wrote a frame that contradicts its state", slog.Any("error", err))
		}
	}
	if len(r.frames) > 0 {
		w.note(r)
	}
	for _, j := range r.jobs {
		j.finish()
	}
}

// note forgets what was staged and is applied now, and when there is something
// to sync or to note.
func (w *writer) note(r *round) {
	if len(w.decided)+len(w.halves)+len(w.fired)+len(w.gone) > 0 {
		w.forget(r)
	}
	if w.plan.stale {
		w.plan.forget()
	}
	switch {
	case w.mode > 0 && w.unsynced.IsZero():
		w.unsynced = time.Now()
		w.notify()
	case w.syncs() && w.unnoted.IsZero():
		w.unnoted = time.Now()
	}
}

// forget drops what r has staged from the maps.
func (w *writer) forget(r *round) {
	for _, f := range r.frames {
		delete(w.fired, f.fact.msg.ref)
		for id, by := range w.gone {
			if by == f {
				delete(w.gone, id)
			}
		}
		if w.halves[f.half] == f {
			delete(w.halves, f.half)
		}
		if w.decided[f.half].frame == f {
			delete(w.decided, f.half)
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
// durable. It is called with the path held, and gives it up for the sync.
func (w *writer) housekeep() {
	if w.failed.Load() != nil {
		return
	}
	if w.mode > 0 && !w.unsynced.IsZero() && time.Since(w.unsynced) >= time.Duration(w.mode) {
		w.unsynced = time.Time{}
		if w.log.Flush() == nil {
			_, sync := w.log.SyncTo()
			w.path.Unlock()
			err := sync()
			w.path.Lock()
			if err != nil {
				w.fail(err)
				return
			}
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
