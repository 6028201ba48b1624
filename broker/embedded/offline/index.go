package offline

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// segment is what the frames of one segment say that its index should say too.
type segment struct {
	base   int64
	queues map[uint32][]entry // by offset
	gone   map[uint32]bool    // queues that were deleted in it
	// partial: there are messages whose queues have no known number.
	partial bool
}

// entry is a message in a queue.
type entry struct {
	offset, pos int64
	size        int32 // of the payload of its frame
	tag         int32
}

func newSegment(base int64) *segment {
	return &segment{base: base, queues: map[uint32][]entry{}, gone: map[uint32]bool{}}
}

// add notes a visible message.
func (s *segment) add(queue uint32, fr *Frame) {
	e := entry{offset: fr.Message.Offset, pos: fr.Pos, size: int32(fr.Length - commitlog.Overhead)}
	if fr.Message.Tag != "" {
		e.tag = message.TagCode(fr.Message.Tag)
	}
	s.queues[queue] = append(s.queues[queue], e)
}

// drop notes that queues are deleted: their messages may be in the index or
// not.
func (s *segment) drop(ids []uint32) {
	for _, id := range ids {
		s.gone[id] = true
		delete(s.queues, id)
	}
}

// differsError says how an index differs from the log.
type differsError string

func (e differsError) Error() string { return string(e) }

func missing(queue uint32, e entry) error {
	return differsError(fmt.Sprintf("queue %d offset %d is missing, which is at %d in the log", queue, e.offset, e.pos))
}

// compare reads the index file of s. The log was read up to end, and holes are
// what of it could not be.
func (s *segment) compare(fs vfs.FS, store uint64, end int64, holes []hole) (indexEnd int64, err error) {
	left := maps.Clone(s.queues)
	indexEnd, err = segindex.Verify(fs, indexName(s.base), store, func(queue uint32, offset int64, e segindex.Entry) error {
		at := left[queue]
		if e.Pos >= end || s.gone[queue] {
			return nil
		}
		if len(at) > 0 && at[0].offset == offset {
			left[queue] = at[1:]
			if got := (entry{offset, e.Pos, e.Size, e.Tag}); got != at[0] {
				return differsError(fmt.Sprintf("queue %d offset %d is at %d with size %d and tag %d, in the log at %d with %d and %d",
					queue, offset, got.pos, got.size, got.tag, at[0].pos, at[0].size, at[0].tag))
			}
			return nil
		}
		if len(at) > 0 && at[0].offset < offset {
			return missing(queue, at[0])
		}
		if s.partial || slices.ContainsFunc(holes, func(h hole) bool { return h.pos <= e.Pos && e.Pos < h.end }) {
			return nil
		}
		return differsError(fmt.Sprintf("queue %d offset %d is at %d, where the log has no such message", queue, offset, e.Pos))
	})
	if err != nil {
		return indexEnd, err
	}
	for _, queue := range slices.Sorted(maps.Keys(left)) {
		if at := left[queue]; len(at) > 0 && at[0].pos < indexEnd {
			return indexEnd, missing(queue, at[0])
		}
	}
	return indexEnd, nil
}

// hole is a range of the log that cannot be read.
type hole struct{ pos, end int64 }

// indexes judges the index files, one by one.
type indexes struct {
	fs     vfs.FS
	store  uint64
	report *Report

	missing []int64
}

// check judges the index file of a segment, which ends at end; last: no segment
// follows.
func (x *indexes) check(s *segment, end int64, last bool, holes []hole) {
	name := indexName(s.base)
	to, err := s.compare(x.fs, x.store, end, holes)
	switch {
	case vfs.IsNotExist(err):
		if !last || x.report.Clean && end > s.base {
			x.missing = append(x.missing, s.base)
		}
	case err != nil:
		x.damage(name, err)
	case to > end:
		x.note(name, "ends at %d, behind the log, which was read up to %d", to, end)
	case to < end && !last:
		x.note(name, "ends at %d, before its segment at %d: the next start makes it anew", to, end)
	}
}

// alone judges an index file without frames to compare it with, of a segment
// that is there or not.
func (x *indexes) alone(base int64, there bool) {
	name := indexName(base)
	_, err := segindex.Verify(x.fs, name, x.store, nil)
	switch {
	case vfs.IsNotExist(err):
	case err != nil:
		x.damage(name, err)
	case !there:
		x.note(name, "belongs to no segment: the next start removes it")
	}
}

func (x *indexes) damage(name string, err error) {
	d := Damage{File: name, Reason: err.Error(), Derived: true}
	if e, ok := errors.AsType[*segindex.DamagedError](err); ok {
		d.Offset, d.Reason = e.Offset, e.Reason
		if size, err := x.fs.Size(name); err == nil {
			d.Length = max(min(segindex.BlockSize, size-d.Offset), 0)
		}
	}
	x.report.Damage = append(x.report.Damage, d)
}

func (x *indexes) note(name, format string, args ...any) {
	x.report.Notes = append(x.report.Notes, Note{name, fmt.Sprintf(format, args...)})
}

// finish tells which files are missing.
func (x *indexes) finish() {
	switch n := len(x.missing); {
	case n == 1:
		x.note(indexName(x.missing[0]), "is missing: the next start makes it anew")
	case n > 1:
		x.note(indexName(x.missing[0]), "and %d more index files are missing: the next start makes them anew", n-1)
	}
}
