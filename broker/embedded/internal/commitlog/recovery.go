package commitlog

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

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
	// Frames is how many frames were replayed: those from Replayed to End.
	Frames               int
	Start, Replayed, End int64
	// TruncatedBytes is the length of the torn tail that was cut off.
	TruncatedBytes int64
	// RewrittenBytes is how much was written again to be surely durable.
	RewrittenBytes int64
	// Holes are all quarantined ranges in order, New those that this Open has
	// quarantined.
	Holes, New []Hole
	Epoch      uint32
	StoreID    uint64
}

// recovery is one run over the segments. The walk only reads; it ends with a
// verdict, which settle carries out.
type recovery struct {
	fs       vfs.FS
	logger   *slog.Logger
	policy   Policy
	man      manifest
	maxFrame int64
	replay   func(Frame) error
	damaged  func(Hole)                                 // told of each new hole; nil if nobody else writes meanwhile
	bad      func(s *segment) func(int64, int64, error) // see window; may be nil

	segs      []*segment
	extents   []int64  // how many bytes of each segment may hold frames
	leftovers []string // segments that a trim was about to remove

	holes  []Hole // known and new, ascending
	epoch  uint32 // of the last good frame
	synced int64  // the largest durable position that anything proves
	cut    bool   // the log ends at report.End, what lies behind is no part of it
	buf    []byte // shared by all windows
	report Recovery
}

// openSegments opens the files of the log, from the manifest's start on. It
// writes nothing.
func (r *recovery) openSegments(bases []int64, fallback bool, open func(string) (vfs.File, error)) error {
	r.holes = r.man.holes
	for len(bases) > 1 && bases[1] <= r.man.start {
		r.leftovers = append(r.leftovers, segmentName(bases[0]))
		bases = bases[1:]
	}
	if len(bases) > 0 && bases[0] > r.man.start && fallback {
		r.man.start = bases[0] // an older manifest does not know the last trim
	}
	for _, base := range bases {
		f, err := open(segmentName(base))
		if err != nil {
			return err
		}
		r.segs = append(r.segs, &segment{base: base, name: segmentName(base), file: f})
	}
	r.extents = make([]int64, len(r.segs))
	for i := range r.segs {
		if err := r.measure(i); err != nil {
			return err
		}
	}
	return nil
}

// measure notes how much of segment i may hold frames, as of now.
func (r *recovery) measure(i int) error {
	size, err := r.segs[i].file.Size()
	if err != nil {
		return err
	}
	if i+1 < len(r.segs) {
		size = min(size, r.segs[i+1].base-r.segs[i].base)
	}
	r.extents[i] = size
	return nil
}

// present reports whether files are there for all positions before pos that are
// in no known hole.
func (r *recovery) present(pos int64) bool {
	for at := r.man.start; at < pos; {
		if h, ok := holeAt(r.holes, at); ok {
			at = h.End
			continue
		}
		i := segmentAt(r.segs, at)
		if i < 0 || at-r.segs[i].base >= r.extents[i] {
			return false
		}
		at = r.segs[i].base + r.extents[i]
	}
	return true
}

// walk replays everything from a position on, and decides where the log ends.
func (r *recovery) walk(from int64) error {
	r.epoch = 0
	r.synced = max(r.man.synced, r.man.start)
	r.report.Start, r.report.Replayed = r.man.start, from
	for pos := from; ; {
		if h, ok := holeAt(r.holes, pos); ok {
			pos = h.End
			continue
		}
		i := segmentAt(r.segs, pos)
		reason := "the segment is missing"
		if i >= 0 && pos-r.segs[i].base <= r.extents[i] {
			var err error
			if pos, reason, err = r.scan(i, pos); err != nil {
				return err
			}
			if _, ok := holeAt(r.holes, pos); ok || i+1 < len(r.segs) && pos == r.segs[i+1].base {
				continue
			}
		}
		next, end, err := r.judge(i, pos, reason)
		if err != nil {
			return err
		}
		if end {
			r.report.End = pos
			return nil
		}
		pos = next
	}
}

// scan replays the frames of segment i from pos on, up to the next hole. It
// answers the position behind the last one, and why there is no further one.
func (r *recovery) scan(i int, pos int64) (stop int64, reason string, err error) {
	s, size := r.segs[i], r.extents[i]
	if h := holeFrom(r.holes, pos); h < len(r.holes) {
		size = min(size, r.holes[h].Pos-s.base)
	}
	w := r.window(s, size)
	defer func() { r.buf = w.b }()
	for off := pos - s.base; ; {
		h, payload, reason, err := r.frame(w, s.base, off)
		switch {
		case err != nil:
			return 0, "", fmt.Errorf("scan %s: %w", s.name, err)
		case reason == "" && h.store != r.man.store:
			reason = "the frame belongs to another store"
			if h.pos == r.report.Replayed {
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
			if err := r.replay(Frame{Pos: h.pos, Base: s.base, Kind: h.kind, Payload: payload}); err != nil {
				return 0, "", fmt.Errorf("replay frame at %d: %w", h.pos, err)
			}
		}
		off += h.frameSize()
	}
}

// window reads the first size bytes of s through the shared buffer.
func (r *recovery) window(s *segment, size int64) *window {
	w := &window{file: s.file, size: size, b: r.buf[:0]}
	if r.bad != nil {
		w.unreadable = r.bad(s)
	}
	return w
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

// judge decides what the place at pos is, where segment i (-1: none) holds no
// frame: the end of the log, which may leave something to be cut off, or
// damage. It answers where to go on, unless it is the end.
func (r *recovery) judge(i int, pos int64, reason string) (next int64, end bool, err error) {
	if i == len(r.segs)-1 && r.man.clean && r.man.synced == pos && r.synced == pos {
		return pos, true, nil // nothing was written behind it, so there is nothing to look for
	}
	ahead, err := r.lookAhead(i, pos)
	if err != nil {
		return 0, false, err
	}
	r.synced = max(r.synced, ahead.synced)
	if r.synced <= pos {
		r.cut = len(r.segs) > 0
		if ahead.end > pos {
			r.report.TruncatedBytes = ahead.end - pos
			r.logger.Warn("the log has a torn tail", slog.Int64("position", pos),
				slog.Int64("bytes", r.report.TruncatedBytes), slog.String("reason", reason))
		}
		return pos, true, nil
	}
	if written, err := r.written(i, pos); written || err != nil {
		return pos, false, err
	}
	next = ahead.next
	if next < 0 {
		next = max(r.synced, ahead.end)
	}
	base, reason := r.blame(i, pos, reason, ahead)
	if h := holeFrom(r.holes, pos); h < len(r.holes) {
		next = min(next, r.holes[h].Pos)
	}
	hole := newHole(pos, next, base, reason)
	if r.policy == Refuse {
		if i >= 0 && i+1 < len(r.segs) {
			next = min(next, r.segs[i+1].base)
		}
		return 0, false, &CorruptError{Segment: hole.Segment, Offset: hole.Offset, Length: next - pos, Reason: reason}
	}
	return next, false, r.quarantine(hole)
}

// written reports whether the frame at pos of segment i, which should be there and
// was not, has come since it was looked for: somebody writes the store while it is
// inspected, and later frames were read later.
func (r *recovery) written(i int, pos int64) (bool, error) {
	if i < 0 || r.damaged == nil {
		return false, nil
	}
	if err := r.measure(i); err != nil {
		return false, err
	}
	s := r.segs[i]
	w := r.window(s, r.extents[i])
	h, _, reason, err := r.frame(w, s.base, pos-s.base)
	r.buf = w.b
	return reason == "" && h.store == r.man.store && h.epoch >= r.epoch, err
}

// blame answers the base of the segment that damage at pos is in, and what is
// wrong there. Where segment i (-1: none) ends in front of positions that were
// durable, and holds nothing behind pos, the one that should begin at pos is
// missing; unless segment i itself was cut off just there.
func (r *recovery) blame(i int, pos int64, reason string, a ahead) (base int64, why string) {
	if i < 0 {
		return pos, reason
	}
	base, to := r.segs[i].base, r.synced
	if i+1 < len(r.segs) {
		to = r.segs[i+1].base
	}
	switch {
	case !a.blank || r.extents[i] >= to-base || pos == base:
		return base, reason
	case pos-base == r.extents[i]:
		return base, "the file ends: it was cut off, or " + segmentName(pos) + " is missing"
	}
	return pos, "the segment is missing"
}

// quarantine notes a new hole.
func (r *recovery) quarantine(h Hole) error {
	if r.damaged != nil {
		r.damaged(h)
	} else if len(r.holes) >= maxHoles {
		reason := fmt.Sprintf("there are more than %d holes: %s", maxHoles, h.Reason)
		return &CorruptError{Segment: h.Segment, Offset: h.Offset, Length: h.End - h.Pos, Reason: reason}
	}
	r.holes = slices.Insert(slices.Clip(r.holes), holeFrom(r.holes, h.Pos), h)
	r.report.New = append(r.report.New, h)
	r.logger.Error("damage in the log is quarantined", slog.String("segment", h.Segment), slog.Int64("offset", h.Offset),
		slog.Int64("bytes", h.End-h.Pos), slog.String("reason", h.Reason))
	return nil
}

func (r *recovery) close() error {
	var errs []error
	for _, s := range r.segs {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}
