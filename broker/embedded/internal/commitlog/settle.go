package commitlog

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// settle carries out what the walk has decided, and leaves a log whose every
// byte is durable.
func (r *recovery) settle() error {
	for _, name := range r.leftovers {
		if err := r.fs.Remove(name); err != nil {
			return fmt.Errorf("remove a trimmed segment: %w", err)
		}
	}
	if !r.cut {
		return nil
	}
	end := r.report.End
	last := segmentAt(r.segs, end)
	if err := r.rewrite(last); err != nil {
		return err
	}
	// From the end, so that a crash in between leaves no gap that was not
	// there before.
	for _, s := range slices.Backward(r.segs[last+1:]) {
		if err := errors.Join(s.file.Close(), r.fs.Remove(s.name)); err != nil {
			return fmt.Errorf("remove a segment behind the torn tail: %w", err)
		}
		r.segs = r.segs[:len(r.segs)-1]
		r.logger.Warn("removed a segment behind the torn tail", slog.String("segment", s.name))
	}
	if last >= 0 && r.report.TruncatedBytes > 0 {
		s := r.segs[last]
		size, err := s.file.Size()
		if err == nil && size > end-s.base {
			err = s.file.Truncate(end - s.base)
		}
		if err == nil {
			err = s.file.Sync()
		}
		if err != nil {
			return err
		}
	}
	return r.fs.SyncDir(".")
}

// rewrite writes again what nothing proves to be durable, up to the end of the
// log in segment last: after a failed sync or a killed process it may be in
// the page cache only, clean. It skips holes.
func (r *recovery) rewrite(last int) error {
	for i := max(0, segmentAt(r.segs, r.synced)); i <= last; i++ {
		s := r.segs[i]
		to := min(r.report.End, s.base+r.extents[i])
		for from := max(r.synced, s.base); from < to; {
			h := holeFrom(r.holes, from)
			stop := to
			if h < len(r.holes) {
				if r.holes[h].Pos <= from {
					from = r.holes[h].End
					continue
				}
				stop = min(stop, r.holes[h].Pos)
			}
			if err := r.rewriteRange(s, from-s.base, stop-s.base); err != nil {
				return fmt.Errorf("write the end of %s again: %w", s.name, err)
			}
			from = stop
		}
		if err := s.file.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) rewriteRange(s *segment, from, to int64) error {
	w := r.window(s, to)
	defer func() { r.buf = w.b }()
	for off := from; off < to; {
		n := int(min(windowSize, to-off))
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
