package commitlog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// readGuess is how much Read asks for at first when the caller's buffer tells
// nothing: most messages fit, and a page is read anyway.
const readGuess = 4096

// Read answers kind and payload of the frame at pos, a position that Append
// or replay answered. It verifies checksum, own position and store. The
// payload lies in buf if the frame fits, else in a new buffer. A caller that
// passes the last payload again allocates rarely; what buf held is lost.
//
// Errors match [ErrRange], [ErrCorrupt], [ErrClosed] or are those of the file
// system; none of them ends the log.
func (l *Log) Read(pos int64, buf []byte) (Kind, []byte, error) {
	return l.read(pos, readGuess, buf)
}

// ReadSized is [Log.Read] for callers that know the size of the payload: it
// reads exactly that much at once. A wrong size costs time only.
func (l *Log) ReadSized(pos int64, size int, buf []byte) (Kind, []byte, error) {
	return l.read(pos, int(FrameSize(max(0, size))), buf)
}

func (l *Log) read(pos int64, guess int, buf []byte) (Kind, []byte, error) {
	end := l.readable()
	if l.closed.Load() {
		return 0, nil, ErrClosed
	}
	segs := l.segments()
	i := segmentAt(segs, pos)
	if pos < l.start.Load() || pos > end-Overhead {
		return 0, nil, fmt.Errorf("read frame at %d: %w, it has %d to %d", pos, ErrRange, l.start.Load(), end)
	}
	end, err := l.beforeHole(pos, end)
	if err != nil {
		return 0, nil, fmt.Errorf("read frame at %d: %w", pos, err)
	}
	if i < 0 { // a trim went by
		return 0, nil, fmt.Errorf("read frame at %d: %w, it begins at %d", pos, ErrRange, l.start.Load())
	}
	s := segs[i]
	if i+1 < len(segs) {
		end = min(end, segs[i+1].base)
	}
	b, err := readAt(s, pos, int(min(int64(max(guess, Overhead)), end-pos)), buf)
	if err != nil {
		return 0, nil, l.readError(s, pos, err)
	}
	h, reason := parseHeader(b, end-pos)
	if reason == "" && (h.pos != pos || h.store != l.store) {
		reason = "the frame belongs elsewhere"
	}
	if reason != "" {
		return 0, nil, fmt.Errorf("read frame at %d: %w", pos, &CorruptError{Segment: s.name, Offset: pos - s.base, Length: headerLen, Reason: reason})
	}
	size := int(h.frameSize())
	if len(b) < size {
		if b, err = readAt(s, pos, size, b); err != nil {
			return 0, nil, l.readError(s, pos, err)
		}
	}
	payload, ok := checkFrame(b[:size])
	if !ok {
		return 0, nil, fmt.Errorf("read frame at %d: %w", pos,
			&CorruptError{Segment: s.name, Offset: pos - s.base, Length: int64(size), Reason: "the checksum of the frame does not match", Frame: true})
	}
	// To the front, so that the caller's next Read has all of the buffer.
	return h.kind, b[:copy(b, payload)], nil
}

// ReadRaw answers the n bytes at pos, unverified, with one read or, in the last
// segment of a mapped log, with one copy: for callers
// that read several frames at once and take each with ParseFrame. All of them
// must be flushed and lie in one segment, and before the next hole, else the
// error matches [ErrRange]; in a hole it is a [*CorruptError]. They lie in buf
// if its capacity suffices; what buf held is lost.
func (l *Log) ReadRaw(pos int64, n int, buf []byte) ([]byte, error) {
	end := l.readable()
	if l.closed.Load() {
		return nil, ErrClosed
	}
	segs := l.segments()
	i := segmentAt(segs, pos)
	if i >= 0 && i+1 < len(segs) {
		end = min(end, segs[i+1].base)
	}
	end, err := l.beforeHole(pos, end)
	if err != nil {
		return nil, fmt.Errorf("read %d bytes at %d: %w", n, pos, err)
	}
	if i < 0 || n < 0 || pos < l.start.Load() || pos > end || int64(n) > end-pos {
		return nil, fmt.Errorf("read %d bytes at %d: %w or of its segment", n, pos, ErrRange)
	}
	if lv := l.live.Load(); lv != nil && pos >= lv.base {
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		if lv.m.read(buf[:n], pos-lv.base) {
			return buf[:n], nil
		}
	}
	b, err := readAt(segs[i], pos, n, buf)
	if err != nil {
		return nil, l.readError(segs[i], pos, err)
	}
	return b, nil
}

// ParseFrame verifies the frame that begins at pos with the bytes b, which may
// be more than the frame, and answers its kind and its payload, a part of b.
// The error is a [*CorruptError] if there is no such frame.
func (l *Log) ParseFrame(pos int64, b []byte) (Kind, []byte, error) {
	reason := "the frame is longer than what is there"
	if len(b) >= Overhead {
		var h header
		if h, reason = parseHeader(b, int64(len(b))); reason == "" && (h.pos != pos || h.store != l.store) {
			reason = "the frame belongs elsewhere"
		}
		if reason == "" {
			if payload, ok := checkFrame(b[:h.frameSize()]); ok {
				return h.kind, payload, nil
			}
			reason = "the checksum of the frame does not match"
		}
	}
	e := &CorruptError{Segment: segmentName(pos), Length: int64(len(b)), Reason: reason}
	segs := l.segments()
	if i := segmentAt(segs, pos); i >= 0 {
		e.Segment, e.Offset = segs[i].name, pos-segs[i].base
	}
	return 0, nil, fmt.Errorf("parse frame at %d: %w", pos, e)
}

// beforeHole answers end or, if it comes first, where the next hole behind pos
// begins. If pos lies in a hole, the error is a [*CorruptError].
func (l *Log) beforeHole(pos, end int64) (int64, error) {
	holes := *l.holes.Load()
	i := holeFrom(holes, pos)
	switch {
	case i == len(holes):
		return end, nil
	case holes[i].Pos <= pos:
		return 0, holes[i].corrupt()
	}
	return min(end, holes[i].Pos), nil
}

// Scan calls f for every flushed frame from from on, which is the position of
// a frame, in order. It passes over holes. An error of f, or of reading, ends
// it. It is for tools: it reads a frame at a time.
func (l *Log) Scan(from int64, f func(Frame) error) error {
	var buf []byte
	for pos := max(from, l.Start()); ; {
		if h, ok := holeAt(*l.holes.Load(), pos); ok {
			pos = h.End
			continue
		}
		if pos >= l.readable() {
			return nil
		}
		k, p, err := l.Read(pos, buf)
		if err != nil {
			return err
		}
		segs := l.segments()
		i := segmentAt(segs, pos)
		if i < 0 {
			return fmt.Errorf("scan at %d: %w, it begins at %d", pos, ErrRange, l.Start())
		}
		if err := f(Frame{Pos: pos, Base: segs[i].base, Kind: k, Payload: p}); err != nil {
			return err
		}
		pos += FrameSize(len(p))
		buf = p
	}
}

// readable is the position that readers may go to: after a failure, what was
// written behind the durable part may vanish.
func (l *Log) readable() int64 {
	if l.failed.Load() != nil {
		return l.synced.Load()
	}
	return l.flushed.Load()
}

func readAt(s *segment, pos int64, n int, buf []byte) ([]byte, error) {
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if got, err := s.file.ReadAt(buf, pos-s.base); got < n {
		return nil, err
	}
	return buf, nil
}

func (l *Log) readError(s *segment, pos int64, err error) error {
	if errors.Is(err, fs.ErrClosed) {
		// The file went away under the reader: by Close, or by a trim.
		if l.closed.Load() {
			return ErrClosed
		}
		return fmt.Errorf("read frame at %d: %w, it begins at %d", pos, ErrRange, l.start.Load())
	}
	if errors.Is(err, io.EOF) {
		err = &CorruptError{Segment: s.name, Offset: pos - s.base, Length: headerLen, Reason: "the file ends before the frame"}
	}
	return fmt.Errorf("read frame at %d in %s: %w", pos, s.name, err)
}
