package commitlog

import (
	"errors"
	"log/slog"
	"sync"
	"time"
)

// keeper works beside the writer of a mapped log: one goroutine makes segments
// before they are needed, another makes full ones durable. They wait for each
// other's disk, not for each other.
type keeper struct {
	log     *Log
	running sync.WaitGroup
	// mu guards what follows and is taken while no lock of the log is held but
	// that of a sync;
	// changed is broadcast after every change, and when segments are durable.
	mu       sync.Mutex
	changed  *sync.Cond
	wanted   bool  // a segment is to be made
	making   bool  // one is being made
	awaited  bool  // the writer waits for it
	next     *tail // the one that is ready
	taken    bool  // the writer has it, and it still has the name of the next one
	attempts int   // to make one, that have ended
	err      error // of the last one
	last     *tail // the last segment, if pages of it are to be made present
	used     int64 // how much of it was, when that was asked for
	gone     []*shared
	stopping bool
}

const (
	// maxUnsettled is how many full segments may wait for the disk. More would
	// not be faster for long, and could lose more.
	maxUnsettled = 8
	// settleAt full segments are made durable at once; fewer ones after
	// settleAfter, so that a burst does not meet a busy disk and a quiet log
	// does not stay unsynced.
	settleAt    = 4
	settleAfter = time.Second
)

func newKeeper(l *Log) *keeper {
	k := &keeper{log: l}
	k.changed = sync.NewCond(&k.mu)
	return k
}

func (k *keeper) start() {
	k.running.Go(k.prepareAll)
	k.running.Go(k.settleAll)
}

// stop ends both goroutines and removes what nobody will use.
func (k *keeper) stop() error {
	k.mu.Lock()
	k.stopping = true
	k.changed.Broadcast()
	k.mu.Unlock()
	k.running.Wait()
	errs := []error{k.unmap()}
	if t := k.next; t != nil {
		k.next = nil
		errs = append(errs, t.m.Close(), t.file.Close(), k.log.opts.FS.Remove(preparedName))
	}
	return errors.Join(errs...)
}

// want says that t, the last segment, is used up to used: the pages behind that
// are made present, and if it is time for it, the next segment is made.
func (k *keeper) want(t *tail, used int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last, k.used = t, used
	if used >= int64(len(t.b)/wantPart) {
		k.wanted = true
	}
	k.changed.Broadcast()
}

// take answers a prepared segment; full or giveBack follows. It waits until not too much waits for the
// disk, and for an attempt to make a segment, whose error it answers.
func (k *keeper) take() (*tail, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.log.Failed() == nil && k.log.unsettled() >= maxUnsettled {
		k.changed.Wait()
	}
	k.awaited = true
	defer func() { k.awaited = false }()
	for before := k.attempts; ; {
		switch t := k.next; {
		case k.log.Failed() != nil:
			return nil, k.log.Failed()
		case t != nil:
			k.next, k.taken, k.wanted = nil, true, false
			return t, nil
		case k.attempts > before:
			return nil, k.err
		}
		if !k.making {
			k.wanted = true
			k.changed.Broadcast()
		}
		k.changed.Wait()
	}
}

// giveBack keeps what take answered for the next take.
func (k *keeper) giveBack(t *tail) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.next, k.taken = t, false
}

// full says that what take answered is the last segment now; t, perhaps nil,
// was the one before.
func (k *keeper) full(t *tail) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.taken = false
	k.last = nil
	if t != nil {
		k.gone = append(k.gone, t.m)
	}
	k.changed.Broadcast()
}

// prepareAll makes pages present and segments until the keeper stops.
func (k *keeper) prepareAll() {
	for {
		k.mu.Lock()
		for !k.stopping && k.last == nil && (!k.wanted || k.next != nil || k.taken) {
			k.changed.Wait()
		}
		if k.stopping {
			k.mu.Unlock()
			return
		}
		if t, used := k.last, k.used; t != nil {
			k.last = nil
			k.mu.Unlock()
			k.populate(t, used)
			continue
		}
		k.wanted, k.making = false, true
		k.mu.Unlock()
		t, err := k.prepare()
		k.mu.Lock()
		k.next, k.err, k.making = t, err, false
		k.attempts++
		k.changed.Broadcast()
		k.mu.Unlock()
	}
}

// prepare makes an empty segment under a name of its own.
func (k *keeper) prepare() (_ *tail, err error) {
	opts := k.log.opts
	f, err := createEmpty(opts.FS, preparedName, opts.SegmentBytes)
	if err != nil {
		return nil, err
	}
	t, err := mapTail(f)
	if err == nil && !k.hurry() {
		if err = t.populate(0); err != nil {
			err = errors.Join(err, t.m.Close())
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), opts.FS.Remove(preparedName))
	}
	return t, nil
}

// populate keeps pages ready in front of the writer.
func (k *keeper) populate(t *tail, used int64) {
	if err := t.populate(used); err != nil {
		k.log.opts.Logger.Warn("the segment is not populated", slog.Any("error", err)) // its writer may learn more
	}
}

// hurry reports whether the writer waits for a segment.
func (k *keeper) hurry() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.awaited
}

// settleAll makes full segments durable until the keeper stops.
func (k *keeper) settleAll() {
	var due time.Time // of what waits; zero if nothing does
	alarm := time.AfterFunc(settleAfter, func() {
		k.mu.Lock() // or the broadcast could come between a look and its wait
		defer k.mu.Unlock()
		k.changed.Broadcast()
	})
	defer alarm.Stop()
	for {
		ready := false
		k.mu.Lock()
		for !k.stopping {
			n := k.log.unsettled()
			if n <= 0 || k.log.Failed() != nil {
				n, due = 0, time.Time{}
			} else if due.IsZero() {
				due = time.Now().Add(settleAfter)
				alarm.Reset(settleAfter)
			}
			ready = n >= settleAt || n > 0 && !time.Now().Before(due)
			if ready || len(k.gone) > 0 {
				break
			}
			k.changed.Wait()
		}
		stopping := k.stopping
		k.mu.Unlock()
		if stopping {
			return
		}
		if err := k.unmap(); err != nil {
			_ = k.log.fail("unmap a full segment", err) // the writer learns it from Failed
		}
		if !ready {
			continue
		}
		due = time.Time{}
		k.settle()
		k.mu.Lock()
		k.changed.Broadcast()
		k.mu.Unlock()
	}
}

// settle makes the first full segment that is not yet durable so, and notes it.
func (k *keeper) settle() {
	l := k.log
	segs := l.segments()
	i := max(0, segmentAt(segs, l.synced.Load()))
	if i+1 >= len(segs) || l.Failed() != nil {
		return
	}
	end := segs[i+1].base
	if err := l.syncTo(end); err != nil {
		return // it is final and logged
	}
	if err := l.note(end); err != nil {
		l.opts.Logger.Warn("the manifest was not renewed", slog.Any("error", err))
	}
}

// unmap ends the mappings of full segments.
func (k *keeper) unmap() error {
	k.mu.Lock()
	gone := k.gone
	k.gone = nil
	k.mu.Unlock()
	var errs []error
	for _, m := range gone {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// unsettled is how many full segments are not durable.
func (l *Log) unsettled() int {
	segs := l.segments()
	return len(segs) - 1 - max(0, segmentAt(segs, l.synced.Load()))
}
