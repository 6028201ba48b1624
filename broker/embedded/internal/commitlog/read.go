package commitlog

import (
	"errors"
	"fmt"
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
	if i < 0 || pos < l.start.Load() || pos+Overhead > end {
		return 0, nil, fmt.Errorf("read frame at %d: %w, it has %d to %d", pos, ErrRange, l.start.Load(), end)
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
			&CorruptError{Segment: s.name, Offset: pos - s.base, Length: int64(size), Reason: "the checksum of the frame does not match"})
	}
	// To the front, so that the caller's next Read has all of the buffer.
	return h.kind, b[:copy(b, payload)], nil
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
	return fmt.Errorf("read frame at %d in %s: %w", pos, s.name, err)
}
