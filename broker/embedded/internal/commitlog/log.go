package commitlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Log is an open log. Append, Reserve, NextPos, Flush, Sync, Checkpoint,
// TrimBefore and Close belong to one goroutine at a time, the writer; all other
// methods are safe for concurrent use, with the writer too.
type Log struct {
	opts  Options
	lock  io.Closer
	clock *clock
	store uint64

	// What follows belongs to the writer.
	man  manifest
	buf  []byte  // frames that are not flushed, from flushed to next
	cuts []int64 // positions in buf where a new segment begins
	next int64   // position of the next frame
	base int64   // base of the segment that the next frame goes to

	start   atomic.Int64
	flushed atomic.Int64
	synced  atomic.Int64
	segs    atomic.Pointer[[]*segment] // published before flushed
	failed  atomic.Pointer[failure]
	closed  atomic.Bool
}

// keepBuffer is the largest write buffer that is kept for the next round.
const keepBuffer = 4 << 20

// NextPos is the position that the next Append answers, whatever its size. It
// goes back only when Flush drops frames; see there.
func (l *Log) NextPos() int64 { return l.next }

// Reserve is the position that an Append of a payload of size bytes would
// answer now, for callers that put the position into the payload.
func (l *Log) Reserve(size int) int64 {
	_ = size // a frame begins right behind the one before, also in a new segment
	return l.next
}

// Append adds a frame and answers its position. The frame is in memory until
// Flush, and payload is not kept. Append does no I/O: it answers [ErrTooLarge],
// [ErrFailed] or [ErrClosed], and then nothing was added.
func (l *Log) Append(k Kind, payload []byte) (pos int64, err error) {
	if err := l.writable(); err != nil {
		return 0, err
	}
	if len(payload) > l.opts.MaxFrame {
		return 0, fmt.Errorf("append %d bytes: %w, at most %d", len(payload), ErrTooLarge, l.opts.MaxFrame)
	}
	pos = l.next
	size := FrameSize(len(payload))
	if used := pos - l.base; len(l.segments()) == 0 && len(l.cuts) == 0 || used > 0 && used+size > l.opts.SegmentBytes {
		l.cuts = append(l.cuts, pos)
		l.base = pos
	}
	l.buf = appendFrame(l.buf, header{kind: k, epoch: l.man.epoch, store: l.store, pos: pos, synced: l.synced.Load()}, payload)
	l.next = pos + size
	return pos, nil
}

// Buffered is how many bytes wait for Flush.
func (l *Log) Buffered() int { return len(l.buf) }

// Flush writes what was appended, with one write for each segment it touches.
// Afterwards it can be read, and it survives the end of the process, but not
// yet a power cut. Where a segment ends, Flush syncs it and makes a new one.
//
// With an error nothing is left in the buffer, NextPos and Flushed are equal,
// and the frames at or behind them were dropped. If the error matches [ErrFull]
// they are surely not in the log, those before are, and the log goes on. If it
// matches [ErrFailed] it is unknown what a later Open finds of them.
func (l *Log) Flush() error {
	err := l.writable()
	if err == nil {
		err = l.flush()
	}
	if cap(l.buf) > keepBuffer {
		l.buf = nil
	}
	l.buf, l.cuts = l.buf[:0], l.cuts[:0]
	l.next = l.flushed.Load()
	if segs := l.segments(); len(segs) > 0 {
		l.base = segs[len(segs)-1].base
	}
	return err
}

func (l *Log) flush() error {
	b, pos := l.buf, l.flushed.Load()
	for i := 0; len(b) > 0; {
		run := b
		if i < len(l.cuts) && l.cuts[i] == pos {
			i++
			if i < len(l.cuts) {
				run = b[:l.cuts[i]-pos]
			}
			if err := l.roll(pos, int64(len(run))); err != nil {
				return err
			}
		} else if i < len(l.cuts) {
			run = b[:l.cuts[i]-pos]
		}
		if err := l.write(run, pos); err != nil {
			return err
		}
		pos += int64(len(run))
		l.flushed.Store(pos)
		b = b[len(run):]
	}
	return nil
}

// write appends run, whole frames, to the last segment, or nothing.
func (l *Log) write(run []byte, pos int64) error {
	segs := l.segments()
	s := segs[len(segs)-1]
	n, err := s.file.WriteAt(run, pos-s.base)
	if err == nil && n == len(run) {
		return nil
	}
	if err == nil {
		err = io.ErrShortWrite
	}
	if !vfs.IsNoSpace(err) {
		return l.fail("append", err)
	}
	// What was written in part must go, durably: a later frame of the same
	// length could otherwise be followed by what was refused here.
	if terr := s.file.Truncate(pos - s.base); terr != nil {
		return l.fail("take back a write", errors.Join(err, terr))
	}
	if serr := s.file.Sync(); serr != nil {
		return l.fail("take back a write", errors.Join(err, serr))
	}
	l.synced.Store(pos)
	return fmt.Errorf("append %d bytes to %s: %w: %w", len(run), s.name, ErrFull, err)
}

// roll ends the last segment and begins one at pos. What is in the old one
// becomes durable first, so that the existence of the new one proves it.
func (l *Log) roll(pos, size int64) error {
	if err := l.sync(); err != nil {
		return err
	}
	s, err := createSegment(l.opts.FS, pos, max(size, l.opts.SegmentBytes))
	if err != nil {
		return l.ioError("create segment "+segmentName(pos), err)
	}
	segs := append(l.segments()[:len(l.segments()):len(l.segments())], s)
	l.segs.Store(&segs)
	if len(segs) == 1 {
		return nil
	}
	// The new segment proves enough without a manifest; this one keeps the
	// time of the broker, so only its syncs matter.
	if err := l.checkpoint(false); err != nil {
		if l.failed.Load() != nil {
			return err
		}
		l.opts.Logger.Warn("the manifest was not renewed", slog.Any("error", err))
	}
	return nil
}

// Sync makes everything that was flushed durable. After an error that is
// final: see [ErrFailed].
func (l *Log) Sync() error {
	if err := l.writable(); err != nil {
		return err
	}
	return l.sync()
}

func (l *Log) sync() error {
	to := l.flushed.Load()
	if l.synced.Load() == to {
		return nil
	}
	segs := l.segments()
	s := segs[len(segs)-1]
	if err := s.file.Sync(); err != nil {
		return l.fail("sync "+s.name, err)
	}
	l.synced.Store(to)
	return nil
}

// Checkpoint notes in the manifest how much is durable and the time of the
// broker. It makes damage to the end of the log tell itself from a torn tail,
// and keeps time from going back if the wall clock is set back before the next
// Open. Call it when nothing else is urgent; it costs four syncs. An error that
// matches [ErrFull] changes nothing.
func (l *Log) Checkpoint() error {
	if err := l.writable(); err != nil {
		return err
	}
	return l.checkpoint(false)
}

func (l *Log) checkpoint(clean bool) error {
	man := l.man
	man.clean = clean
	man.synced = l.synced.Load()
	return l.writeManifest(man)
}

func (l *Log) writeManifest(man manifest) error {
	man.highWater = max(man.highWater, l.clock.now().UnixNano())
	if err := writeManifest(l.opts.FS, &man); err != nil {
		return l.ioError("write manifest", err)
	}
	l.man = man
	return nil
}

// TrimBefore drops the segments that end at or before pos, but never the last
// one: Start is then the position of the first frame that is left. Readers
// below it are answered [ErrRange].
func (l *Log) TrimBefore(pos int64) error {
	if err := l.writable(); err != nil {
		return err
	}
	segs := l.segments()
	n := 0
	for n+1 < len(segs) && segs[n+1].base <= pos {
		n++
	}
	if n == 0 {
		return nil
	}
	// The manifest first: a segment that is missing without it is corruption.
	man := l.man
	man.start = segs[n].base
	man.synced = l.synced.Load()
	if err := l.writeManifest(man); err != nil {
		return err
	}
	rest := segs[n:]
	l.start.Store(man.start)
	l.segs.Store(&rest)
	var errs []error
	for _, s := range segs[:n] {
		errs = append(errs, s.file.Close(), l.opts.FS.Remove(s.name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove trimmed segments, the next open tries again: %w", err)
	}
	if err := l.opts.FS.SyncDir("."); err != nil {
		return l.fail("sync directory", err)
	}
	return nil
}

// Close flushes, syncs, notes the end in the manifest and unlocks the store. A
// log that has failed is only unlocked, and Close answers why it failed. A
// second Close does nothing.
func (l *Log) Close() error {
	if l.closed.Load() {
		return nil
	}
	err := l.Failed()
	if err == nil {
		err = l.Flush()
		if l.Failed() == nil { // also without space for the last frames
			err = errors.Join(err, l.closeCleanly())
		}
	}
	l.closed.Store(true)
	errs := []error{err}
	for _, s := range l.segments() {
		errs = append(errs, s.file.Close())
	}
	errs = append(errs, l.lock.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

func (l *Log) closeCleanly() error {
	if err := l.sync(); err != nil {
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
