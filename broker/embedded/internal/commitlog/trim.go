package commitlog

import (
	"errors"
	"fmt"
	"slices"
)

// TrimBefore drops the segments that end at or before pos and are durable, but
// never the last one: Start is then the position of the first frame that is
// left. Readers below it are answered [ErrRange].
func (l *Log) TrimBefore(pos int64) error {
	if err := l.writable(); err != nil {
		return err
	}
	segs := l.segments()
	// What is not durable may still be in the hands of a sync.
	pos = min(pos, l.synced.Load())
	n := 0
	for n+1 < len(segs) && segs[n+1].base <= pos {
		n++
	}
	if n == 0 {
		return nil
	}
	start := segs[n].base
	holes := *l.holes.Load()
	holes = slices.Clone(holes[holeFrom(holes, start):])
	// The manifest first: a segment that is missing without it is corruption.
	err := l.rewriteManifest(func(m *manifest) bool {
		m.start, m.holes = start, holes
		return true
	})
	if err != nil {
		return err
	}
	rest := segs[n:]
	l.start.Store(start)
	l.segs.Store(&rest)
	l.holes.Store(&holes)
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
