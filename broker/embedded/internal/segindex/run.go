package segindex

import "sort"

// chunkRows is how many rows lie together in memory: 8 KiB, so that a long run
// never has to be moved.
const chunkRows = 512

// firstRows is the room of a run that begins.
const firstRows = 4

// run is what one queue has in one part, while that is in memory. The queue's
// mutex guards it. Rows do not change once they are added.
type run struct {
	part  *part
	queue *Queue
	next  *run // the younger one of the same queue
	rows
}

// rows are packed entries of offsets that follow each other. A copy is a
// snapshot that can be read without a lock while the original grows.
type rows struct {
	first int64
	full  []*[chunkRows]row
	tail  []row
	skips []skip // rows that stand for more than one entry
}

// skip says that up to and including row i there are more entries than rows.
type skip struct {
	i    int
	more int64
}

func (r *rows) len() int { return len(r.full)*chunkRows + len(r.tail) }

// span is the number of entries.
func (r *rows) span() int64 {
	n := int64(r.len())
	if k := len(r.skips); k > 0 {
		n += r.skips[k-1].more
	}
	return n
}

func (r *rows) end() int64 { return r.first + r.span() }

func (r *rows) at(i int) row {
	if c := i / chunkRows; c < len(r.full) {
		return r.full[c][i%chunkRows]
	}
	return r.tail[i%chunkRows]
}

func (r *rows) add(x row) {
	if len(r.tail) == cap(r.tail) {
		r.grow()
	}
	if more := x.more(); more > 0 {
		r.skips = append(r.skips, skip{r.len(), r.span() - int64(r.len()) + more})
	}
	r.tail = append(r.tail, x)
}

func (r *rows) grow() {
	if len(r.tail) == chunkRows {
		r.full = append(r.full, (*[chunkRows]row)(r.tail))
		r.tail = make([]row, 0, chunkRows)
		return
	}
	tail := make([]row, len(r.tail), min(chunkRows, max(firstRows, 4*len(r.tail))))
	copy(tail, r.tail)
	r.tail = tail
}

// offsetOf is the offset of the first entry that row i stands for.
func (r *rows) offsetOf(i int) int64 {
	k := sort.Search(len(r.skips), func(k int) bool { return r.skips[k].i >= i })
	if k == 0 {
		return r.first + int64(i)
	}
	return r.first + int64(i) + r.skips[k-1].more
}

// find answers the row that stands for the entry at offset.
func (r *rows) find(offset int64) int {
	k := sort.Search(len(r.skips), func(k int) bool { return r.offsetOf(r.skips[k].i) > offset })
	if k == 0 {
		return int(offset - r.first)
	}
	last := r.skips[k-1] // the last one that begins at or before offset
	return max(last.i, int(offset-r.first-last.more))
}

// read unpacks entries from offset on into buf.
func (r *rows) read(p *part, offset int64, buf []Entry) (n int) {
	epochs := p.epochs()
	if len(r.skips) == 0 {
		i := int(offset - r.first)
		n = min(len(buf), r.len()-i)
		for k := range buf[:n] {
			buf[k] = unpack(p.base, epochs, r.at(i+k))
		}
		return n
	}
	i := r.find(offset)
	before := offset - r.offsetOf(i)
	for ; n < len(buf) && i < r.len(); i++ {
		x := r.at(i)
		n += repeat(buf[n:], unpack(p.base, epochs, x), 1+x.more()-before)
		before = 0
	}
	return n
}

// repeat fills the first of buf, up to times, with e.
func repeat(buf []Entry, e Entry, times int64) int {
	buf = buf[:min(int64(len(buf)), times)]
	for i := range buf {
		buf[i] = e
	}
	return len(buf)
}

// atTime is the offset of the first entry stored at or after ms.
func (r *rows) atTime(p *part, ms int64) (offset int64, ok bool) {
	epochs := p.epochs()
	i := sort.Search(r.len(), func(i int) bool { return unpack(p.base, epochs, r.at(i)).StoredMs >= ms })
	return r.offsetOf(i), i < r.len()
}

func unpack(base int64, epochs []epoch, r row) Entry {
	e := Entry{
		Pos: base + int64(r.rel), StoredMs: epochAt(epochs, r.rel).ms + int64(r.ms),
		Tag: r.tag, Size: int32(r.size),
	}
	if e.Size == 0 {
		e.Tag = 0
	}
	return e
}
