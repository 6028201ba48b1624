package commitlog

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

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

// Append adds a frame whose payload is the concatenation of parts, and answers
// its position and where its segment begins. The parts are copied once; there
// is no allocation but for the growth of the buffer that Flush empties.
//
// Append does no I/O: it answers [ErrTooLarge], [ErrFailed] or [ErrClosed], and
// then nothing was added. In a mapped log it writes the frame, so that Flushed
// is behind it afterwards; where a segment ends it may wait for the disk, and
// it may answer [ErrFull] too.
func (l *Log) Append(k Kind, parts ...[]byte) (pos, base int64, err error) {
	if err := l.writable(); err != nil {
		return 0, 0, err
	}
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > l.opts.MaxFrame {
		return 0, 0, fmt.Errorf("append %d bytes: %w, at most %d", n, ErrTooLarge, l.opts.MaxFrame)
	}
	pos = l.next
	h := header{kind: k, epoch: l.epoch, store: l.store, pos: pos, synced: l.synced.Load(), length: n}
	size := h.frameSize()
	if l.mapped != nil {
		if err := l.appendMapped(h, parts); err != nil {
			return 0, 0, err
		}
		return pos, l.base, nil
	}
	if used := pos - l.base; len(l.segments()) == 0 && len(l.cuts) == 0 || used > 0 && used+size > l.opts.SegmentBytes {
		l.cuts = append(l.cuts, pos)
		l.base = pos
	}
	at := len(l.buf)
	l.buf = slices.Grow(l.buf, int(size))[:at+int(size)]
	putFrame(l.buf[at:], h, parts)
	l.next = pos + size
	return pos, l.base, nil
}

// Buffered is how many bytes wait for Flush; none in a mapped log.
func (l *Log) Buffered() int { return len(l.buf) }

// Flush writes what was appended, with one write for each segment it touches.
// Afterwards it can be read, and it survives the end of the process, but not
// yet a power cut. Where a segment ends, Flush syncs it and makes a new one. In
// a mapped log there is nothing left to do.
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
	if terr := l.takeBack(s, pos); terr != nil {
		return errors.Join(terr, err)
	}
	return fmt.Errorf("append %d bytes to %s: %w: %w", len(run), s.name, ErrFull, err)
}

// takeBack removes, durably, what was written in part behind pos: a later
// frame of the same length could otherwise be followed by what was refused.
func (l *Log) takeBack(s *segment, pos int64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := l.Failed(); err != nil {
		return err
	}
	if err := s.file.Truncate(pos - s.base); err != nil {
		return l.fail("take back a write", err)
	}
	if err := s.file.Sync(); err != nil {
		return l.fail("take back a write", err)
	}
	l.synced.Store(pos)
	return nil
}

// roll ends the last segment and begins one at pos. What is in the old one
// becomes durable first, and the manifest says so before there is a frame in
// the new one.
func (l *Log) roll(pos, size int64) error {
	if err := l.syncTo(pos); err != nil {
		return err
	}
	if len(l.segments()) > 0 { // before the first one there is nothing to note
		if err := l.note(pos); err != nil {
			return err
		}
	}
	s, err := createSegment(l.opts.FS, pos, max(size, l.opts.SegmentBytes))
	if err != nil {
		return l.ioError("create segment "+segmentName(pos), err)
	}
	l.publish(s)
	return nil
}

func (l *Log) publish(s *segment) {
	segs := append(slices.Clip(l.segments()), s)
	l.segs.Store(&segs)
}
