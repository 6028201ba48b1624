package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Recovery tells what Open found and did.
type Recovery struct {
	// Created: the directory was empty and is a new store now.
	Created bool
	// Clean: the log was closed in order the last time.
	Clean bool
	// ManifestFallback: the newest manifest could not be read, an older one
	// was used.
	ManifestFallback bool
	// Frames is how many frames there are between Start and End.
	Frames     int
	Start, End int64
	// TruncatedBytes is the length of the torn tail that was cut off.
	TruncatedBytes int64
	// RewrittenBytes is how much was written again to be surely durable.
	RewrittenBytes int64
	Epoch          uint32
	StoreID        uint64
}

// recovery is one run of Open over the segments.
type recovery struct {
	fs       vfs.FS
	logger   *slog.Logger
	man      manifest
	maxFrame int64
	replay   func(pos int64, k Kind, payload []byte) error

	segs   []*segment
	sizes  []int64
	epoch  uint32 // of the last good frame
	synced int64  // the largest durable position that anything proves
	buf    []byte // shared by all windows
	report Recovery
}

// openSegments opens what the manifest leads to expect, removes what a trim
// left over, and refuses gaps.
func (r *recovery) openSegments(bases []int64, fallback bool) error {
	for len(bases) > 1 && bases[0] < r.man.start && bases[1] <= r.man.start {
		if err := r.fs.Remove(segmentName(bases[0])); err != nil {
			return fmt.Errorf("remove a trimmed segment: %w", err)
		}
		bases = bases[1:]
	}
	if len(bases) == 0 {
		if r.man.synced > r.man.start {
			return &CorruptError{Segment: segmentName(r.man.start), Length: r.man.synced - r.man.start, Reason: "the segment is missing"}
		}
		return nil
	}
	if bases[0] > r.man.start && fallback {
		r.man.start = bases[0] // an older manifest does not know the last trim
	}
	if bases[0] != r.man.start {
		return &CorruptError{Segment: segmentName(r.man.start), Length: max(0, bases[0]-r.man.start), Reason: "the first segment is missing"}
	}
	for i, base := range bases {
		f, err := r.fs.OpenReadWrite(segmentName(base))
		if err != nil {
			return err
		}
		s := &segment{base: base, name: segmentName(base), file: f}
		r.segs = append(r.segs, s)
		size, err := f.Size()
		if err != nil {
			return err
		}
		if i+1 < len(bases) {
			if want := bases[i+1] - base; size < want {
				return &CorruptError{Segment: s.name, Offset: size, Length: want - size, Reason: "the segment is too short, the next one begins later"}
			}
			size = bases[i+1] - base
		}
		r.sizes = append(r.sizes, size)
	}
	return nil
}

// run reads everything and leaves a log whose every byte is durable.
func (r *recovery) run() error {
	r.epoch = 0
	r.synced = max(r.man.synced, r.man.start)
	r.report.Start, r.report.End = r.man.start, r.man.start
	if len(r.segs) == 0 {
		return nil
	}
	last := len(r.segs) - 1
	r.synced = max(r.synced, r.segs[last].base)
	for i := range r.segs {
		stop, reason, err := r.scan(i)
		if err != nil {
			return err
		}
		r.report.End = stop
		if i < last && stop != r.segs[i+1].base {
			return r.corrupt(i, stop, reason)
		}
		if i == last {
			return r.settleTail(stop, reason)
		}
	}
	return nil
}

// scan replays the frames of one segment. It answers the position behind the
// last one, and why there is no further one.
func (r *recovery) scan(i int) (stop int64, reason string, err error) {
	s, size := r.segs[i], r.sizes[i]
	w := window{file: s.file, size: size, b: r.buf[:0]}
	defer func() { r.buf = w.b }()
	for off := int64(0); ; {
		h, payload, reason, err := r.frame(&w, s.base, off)
		switch {
		case err != nil:
			return 0, "", fmt.Errorf("scan %s: %w", s.name, err)
		case reason == "" && h.store != r.man.store:
			reason = "the frame belongs to another store"
			if s.base+off == r.man.start {
				return 0, "", &CorruptError{Segment: s.name, Offset: off, Length: size - off, Reason: reason}
			}
		case reason == "" && h.epoch < r.epoch:
			reason = "the frame was cut off before and should not be there"
		}
		if reason != "" {
			return s.base + off, reason, nil
		}
		r.epoch = h.epoch
		r.synced = max(r.synced, h.synced)
		r.report.Frames++
		if r.replay != nil {
			if err := r.replay(h.pos, h.kind, payload); err != nil {
				return 0, "", fmt.Errorf("replay frame at %d: %w", h.pos, err)
			}
		}
		off += h.frameSize()
	}
}

// frame reads and verifies the frame at off; a reason says why it is none.
func (r *recovery) frame(w *window, base, off int64) (h header, payload []byte, reason string, err error) {
	rest := w.size - off
	if rest < Overhead {
		return h, nil, "the file ends", nil
	}
	b, err := w.peek(off, headerLen)
	if err != nil {
		return h, nil, "", err
	}
	h, reason = parseHeader(b, min(rest, FrameSize(int(r.maxFrame))))
	switch {
	case reason != "":
		return h, nil, reason, nil
	case h.pos != base+off:
		return h, nil, "the frame belongs elsewhere", nil
	}
	if b, err = w.peek(off, int(h.frameSize())); err != nil {
		return h, nil, "", err
	}
	payload, ok := checkFrame(b)
	if !ok {
		return h, nil, "the checksum of the frame does not match", nil
	}
	return h, payload, "", nil
}

// corrupt describes the bad place at stop in segment i up to the next frame.
func (r *recovery) corrupt(i int, stop int64, reason string) error {
	s := r.segs[i]
	ahead, err := r.lookAhead(i, stop)
	if err != nil {
		return err
	}
	end := s.base + r.sizes[i]
	if ahead.next >= 0 {
		end = ahead.next
	} else if i == len(r.segs)-1 {
		end = max(min(end, r.synced), stop)
	}
	return &CorruptError{Segment: s.name, Offset: stop - s.base, Length: end - stop, Reason: reason}
}

// settleTail decides what the end of the log is: the end, a torn tail, or
// corruption.
func (r *recovery) settleTail(stop int64, reason string) error {
	last := len(r.segs) - 1
	s := r.segs[last]
	if r.synced > stop {
		return r.corrupt(last, stop, reason)
	}
	if r.man.clean && r.man.synced == stop {
		// Nothing was written behind it, so there is nothing to look for.
		return nil
	}
	ahead, err := r.lookAhead(last, stop)
	if err != nil {
		return err
	}
	if ahead.synced > stop {
		return r.corrupt(last, stop, reason)
	}
	if err := r.rewrite(s, stop); err != nil {
		return fmt.Errorf("write the end of %s again: %w", s.name, err)
	}
	if ahead.end > stop {
		r.report.TruncatedBytes = ahead.end - stop
		if err := s.file.Truncate(stop - s.base); err != nil {
			return err
		}
		r.logger.Warn("cut a torn tail off the log", slog.String("segment", s.name),
			slog.Int64("offset", stop-s.base), slog.Int64("bytes", r.report.TruncatedBytes), slog.String("reason", reason))
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	return r.fs.SyncDir(".")
}

// ahead is what lies behind a place without a frame.
type ahead struct {
	next   int64 // position of the next valid frame, -1 if there is none
	synced int64 // the largest durable position that frames there prove
	end    int64 // position behind the last byte that is not zero
}

// lookAhead searches the rest of segment i for frames, from stop on: each one
// says how much was durable when it was built.
func (r *recovery) lookAhead(i int, stop int64) (ahead, error) {
	s, size := r.segs[i], r.sizes[i]
	a := ahead{next: -1, end: stop}
	zeros := make([]byte, min(windowSize, size))
	search := window{file: s.file, size: size, b: r.buf[:0]}
	verify := window{file: s.file, size: size} // apart, or it would move the bytes that are searched
	defer func() { r.buf = search.b }()
	for off := stop - s.base; off < size; {
		n := int(min(windowSize, size-off))
		b, err := search.peek(off, n)
		if err != nil {
			return a, fmt.Errorf("look ahead in %s: %w", s.name, err)
		}
		if bytes.Equal(b, zeros[:n]) {
			off += int64(n)
			continue
		}
		a.end = max(a.end, s.base+off+int64(len(bytes.TrimRight(b, "\x00"))))
		used, err := r.searchPiece(&a, &verify, s.base, off, b)
		if err != nil {
			return a, fmt.Errorf("look ahead in %s: %w", s.name, err)
		}
		off += used
	}
	return a, nil
}

// searchPiece notes the frames that begin in b, the bytes at off of a segment,
// and answers how far the search has come.
func (r *recovery) searchPiece(a *ahead, verify *window, base, off int64, b []byte) (used int64, err error) {
	magic := binary.BigEndian.AppendUint32(nil, frameMagic)
	last := off+int64(len(b)) == verify.size
	for at := 0; ; {
		next := bytes.Index(b[at:], magic)
		switch at += next; {
		case next < 0 && last:
			return int64(len(b)), nil
		case next < 0:
			return int64(len(b) - len(magic) + 1), nil // a magic may begin in the last bytes
		case at+headerLen > len(b) && last:
			return int64(len(b)), nil
		case at+headerLen > len(b):
			return int64(at), nil
		}
		h, reason := parseHeader(b[at:], verify.size-off-int64(at))
		if reason != "" || h.pos != base+off+int64(at) || h.store != r.man.store {
			at++
			continue
		}
		h, _, reason, err = r.frame(verify, base, off+int64(at))
		if err != nil {
			return 0, err
		}
		if reason != "" {
			at++
			continue
		}
		if a.next < 0 {
			a.next = h.pos
		}
		a.synced = max(a.synced, h.synced)
		a.end = max(a.end, h.pos+h.frameSize())
		if end := int64(at) + h.frameSize(); end >= int64(len(b)) {
			return end, nil
		}
		at += int(h.frameSize())
	}
}

// rewrite writes again what nothing proves to be durable: after a failed sync
// or a killed process it may be in the page cache only, clean.
func (r *recovery) rewrite(s *segment, stop int64) error {
	from := max(r.synced, s.base)
	w := window{file: s.file, size: stop - s.base, b: r.buf[:0]}
	defer func() { r.buf = w.b }()
	for off := from - s.base; off < stop-s.base; {
		n := int(min(windowSize, stop-s.base-off))
		b, err := w.peek(off, n)
		if err != nil {
			return err
		}
		if _, err := s.file.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(n)
		r.report.RewrittenBytes += int64(n)
	}
	return nil
}

func (r *recovery) close() error {
	var errs []error
	for _, s := range r.segs {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}
