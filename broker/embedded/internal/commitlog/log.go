package commitlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Log is an open log. Append, Reserve, NextPos, Flush, Sync, SyncTo,
// Checkpoint, TrimBefore and Close belong to one goroutine at a time, the
// writer; all other methods are safe for concurrent use, with the writer too.
type Log struct {
	opts  Options
	lock  io.Closer
	clock *clock
	store uint64
	epoch uint32

	// What follows belongs to the writer.
	buf    []byte  // frames that are not flushed, from flushed to next
	cuts   []int64 // positions in buf where a new segment begins
	next   int64   // position of the next frame
	base   int64   // base of the segment that the next frame goes to
	mapped *mapped // nil if the log is written

	// syncing is held during every sync of frames: one at a time, and none
	// after one has failed. noting guards man and the files it is kept in.
	// Neither is taken while the other is held.
	syncing sync.Mutex
	named   int64 // of names, how many are durable; guarded by syncing
	noting  sync.Mutex
	man     manifest

	names   atomic.Int64 // segments that got their name without a sync of the directory
	start   atomic.Int64
	flushed atomic.Int64
	synced  atomic.Int64
	segs    atomic.Pointer[[]*segment] // published before flushed
	holes   atomic.Pointer[[]Hole]
	failed  atomic.Pointer[failure]
	live    atomic.Pointer[live] // of a mapped log
	closed  atomic.Bool
}

// Close flushes, syncs, notes the end in the manifest and unlocks the store. A
// log that has failed is only unlocked, and Close answers why it failed. A
// second Close does nothing. A sync of SyncTo that runs ends first.
func (l *Log) Close() error {
	if l.closed.Load() {
		return nil
	}
	err := l.Failed()
	if err == nil {
		err = l.Flush()
	}
	errs := []error{l.stopMapped()}
	if l.Failed() == nil { // also without space for the last frames
		errs = append(errs, l.closeCleanly())
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.closed.Store(true)
	for _, s := range l.segments() {
		errs = append(errs, s.file.Close())
	}
	errs = append(errs, l.lock.Close())
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

func (l *Log) closeCleanly() error {
	if err := l.syncTo(l.flushed.Load()); err != nil {
		return err
	}
	return l.checkpoint(true)
}

// Failed is nil while the log works, else the error that ended it, which
// matches [ErrFailed].
func (l *Log) Failed() error {
	if f := l.failed.Load(); f != nil {
		return f.err
	}
	return nil
}

// Start is the position of the first frame that is kept.
func (l *Log) Start() int64 { return l.start.Load() }

// Flushed is the position behind the last frame that was written.
func (l *Log) Flushed() int64 { return l.flushed.Load() }

// Synced is the position behind the last frame that is durable.
func (l *Log) Synced() int64 { return l.synced.Load() }

// StoreID is the random number that was drawn when the store was made.
func (l *Log) StoreID() uint64 { return l.store }

// Now is the time of the broker. It runs with the monotonic clock from the
// wall time at Open, and never goes back: not when the wall clock is set back,
// and not over a restart, as far as the last manifest reaches; see
// [Log.RaiseTime].
func (l *Log) Now() time.Time { return l.clock.now() }

// RaiseTime moves the time of the broker forward to t if it is behind. Callers
// pass the latest time that replay has seen.
func (l *Log) RaiseTime(t time.Time) { l.clock.raise(t) }

// Holes lists the quarantined ranges that are left, in order. They are not to
// be changed.
func (l *Log) Holes() []Hole { return *l.holes.Load() }

// SegmentInfo describes one segment; End is the position behind its last frame
// that was flushed.
type SegmentInfo struct {
	Name      string
	Base, End int64
}

// Segments lists the segments in order.
func (l *Log) Segments() []SegmentInfo {
	end := l.flushed.Load()
	segs := l.segments()
	infos := make([]SegmentInfo, len(segs))
	for i, s := range segs {
		infos[i] = SegmentInfo{Name: s.name, Base: s.base, End: max(end, s.base)}
		if i > 0 {
			infos[i-1].End = s.base
		}
	}
	return infos
}

func (l *Log) segments() []*segment { return *l.segs.Load() }

func (l *Log) writable() error {
	if l.closed.Load() {
		return ErrClosed
	}
	return l.Failed()
}

// ioError decides what an error of something other than an append means: a
// sync is final whatever its number, want of space may pass.
func (l *Log) ioError(op string, err error) error {
	if _, ok := errors.AsType[*syncError](err); !ok && vfs.IsNoSpace(err) {
		return fmt.Errorf("%s: %w: %w", op, ErrFull, err)
	}
	return l.fail(op, err)
}

func (l *Log) fail(op string, err error) error {
	err = fmt.Errorf("%w: %s: %w", ErrFailed, op, err)
	if l.failed.CompareAndSwap(nil, &failure{err}) {
		l.opts.Logger.Error("the log has failed", slog.Any("error", err))
	}
	return l.Failed()
}
