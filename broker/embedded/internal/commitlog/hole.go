package commitlog

import "sort"

// Policy says what Open does about durable bytes that have changed.
type Policy uint8

const (
	// Refuse makes Open fail with a [*CorruptError] and change nothing.
	Refuse Policy = iota
	// Quarantine makes a [Hole] of them, for good, and serves all the rest.
	Quarantine
)

// Hole is a range of positions whose frames are lost: they were damaged and
// quarantined. Its positions are never used again, and a Read inside answers a
// [*CorruptError]. Holes do not overlap; they vanish with the segments that a
// trim removes.
type Hole struct {
	// Pos is the position of the first lost frame, End that of the first frame
	// behind the hole, or where the log went on.
	Pos, End int64
	// Segment is the file that Pos lies or lay in, Offset where in it.
	Segment string
	Offset  int64
	// Reason is what was found there.
	Reason string
}

const (
	// maxHoles and maxReason bound the manifest, which is written often.
	maxHoles  = 4096
	maxReason = 200
)

// newHole is a hole in the segment that begins at base.
func newHole(pos, end, base int64, reason string) Hole {
	return Hole{Pos: pos, End: end, Segment: segmentName(base), Offset: pos - base, Reason: reason[:min(len(reason), maxReason)]}
}

func (h Hole) corrupt() *CorruptError {
	return &CorruptError{Segment: h.Segment, Offset: h.Offset, Length: h.End - h.Pos, Reason: "quarantined: " + h.Reason, Frame: true}
}

// holeFrom answers the index of the first hole of holes, which ascend, that
// ends behind pos.
func holeFrom(holes []Hole, pos int64) int {
	return sort.Search(len(holes), func(i int) bool { return holes[i].End > pos })
}

// holeAt answers the hole that holds pos.
func holeAt(holes []Hole, pos int64) (Hole, bool) {
	if i := holeFrom(holes, pos); i < len(holes) && holes[i].Pos <= pos {
		return holes[i], true
	}
	return Hole{}, false
}
