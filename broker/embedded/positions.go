package embedded

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

const (
	// positionsEvery is how long a changed position may stay in memory only;
	// with the write itself that is less than the second that is promised.
	positionsEvery = 500 * time.Millisecond
	// retryWrite is the pause after a write that found no space.
	retryWrite = time.Second
)

// flusher stores positions: soon after they change, and at once where a lane
// ends.
type flusher struct {
	e     *engine
	wake  chan struct{} // buffer 1
	mu    sync.Mutex    // taken with slot.mu held
	dirty map[*slot]struct{}
}

func newFlusher(e *engine) *flusher {
	return &flusher{e: e, wake: make(chan struct{}, 1), dirty: map[*slot]struct{}{}}
}

// later notes that s has changed.
func (f *flusher) later(s *slot) {
	f.mu.Lock()
	first := len(f.dirty) == 0
	f.dirty[s] = struct{}{}
	f.mu.Unlock()
	if first {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// take answers the slots that have changed since the last call.
func (f *flusher) take() []*slot {
	f.mu.Lock()
	defer f.mu.Unlock()
	slots := make([]*slot, 0, len(f.dirty))
	for s := range f.dirty {
		slots = append(slots, s)
	}
	clear(f.dirty)
	return slots
}

// run stores what changes until the engine ends, and once more then.
func (f *flusher) run() {
	pause := positionsEvery
	for {
		select {
		case <-f.wake:
		case <-f.e.root.Done():
			f.store(f.take())
			return
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-f.e.root.Done():
		}
		t.Stop()
		pause = positionsEvery
		if !f.store(f.take()) {
			pause = retryWrite
		}
	}
}

// now stores the position of a lane that ends. It goes through the writer even
// if nothing has changed, because a position may be on its way and not durable
// yet. If it cannot be stored, the lane goes on from memory, and a restart
// repeats more.
func (f *flusher) now(s *slot) { f.store([]*slot{s}) }

// store writes the positions of slots; what could not be written stays dirty.
func (f *flusher) store(slots []*slot) bool {
	if len(slots) == 0 {
		return true
	}
	j := &positionsJob{slots: slots}
	err := f.e.w.do(context.WithoutCancel(f.e.root), nil, j, 0)
	if err == nil {
		err = j.err
	}
	if err == nil {
		return true
	}
	if err.Code == driver.ResourceExhausted { // it may pass; a failed store does not
		f.e.cfg.Logger.Warn("positions were not stored, trying again", slog.Any("error", err))
		for _, s := range slots {
			s.touch()
		}
	}
	return false
}

// positionsJob stores what the slots look like when the writer comes to it, so
// that a later job can never be overtaken by older positions.
type positionsJob struct {
	slots  []*slot
	frames []*frame
	err    *driver.Error
}

func (j *positionsJob) stage(w *writer) {
	byKey := map[progressKey]*record.GroupPositions{}
	var order []*record.GroupPositions
	for _, s := range j.slots {
		if len(w.plan.topic(s.topic).next) == 0 {
			continue // deleted meanwhile
		}
		lane, changed := s.snapshot()
		if !changed {
			continue
		}
		k := s.key()
		g := byKey[k]
		if g == nil {
			g = &record.GroupPositions{Group: k.group, Topic: k.topic, Client: k.client}
			byKey[k] = g
			order = append(order, g)
		}
		g.Lanes = append(g.Lanes, lane)
	}
	for _, g := range order {
		f := positionsFrame(*g)
		w.control(f)
		j.frames = append(j.frames, f)
	}
}

func (j *positionsJob) finish() {
	for _, f := range j.frames {
		if f.err != nil {
			j.err = f.err
		}
	}
}
