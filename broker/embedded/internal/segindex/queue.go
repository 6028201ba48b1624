package segindex

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Entry is one message of a queue.
type Entry struct {
	// Pos is the position of its frame in the log.
	Pos int64
	// StoredMs is when it was stored, Unix milliseconds. It never decreases
	// along a queue.
	StoredMs int64
	// Tag is the hash of its tag, 0 without one.
	Tag int32
	// Size is the size of the payload of its frame in bytes. It is 0 for a
	// message that is lost; Pos is then where that became known.
	Size int32
}

// Queue is a list of entries that only grows at one end and is trimmed at the
// other. Reading is safe in any goroutine.
type Queue struct {
	set      *Set
	id       uint32
	min, max atomic.Int64

	mu           sync.Mutex
	oldest, tail *run // those in memory, which are the youngest
	// Where the last Read of a file was, with its row: who reads on finds it
	// without a search.
	hint    *part
	hintRow dirRow
}

// ID is the number of the queue.
func (q *Queue) ID() uint32 { return q.id }

// Max is the offset that the next entry gets.
func (q *Queue) Max() int64 { return q.max.Load() }

// Min is the offset of the oldest entry that is kept; Max if there is none.
func (q *Queue) Min() int64 { return q.min.Load() }

// SetStart makes an empty queue begin at offset next; it does nothing if the
// queue has entries or is there already. It belongs to the writer.
func (q *Queue) SetStart(next int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.min.Load() < q.max.Load() || next <= q.max.Load() {
		return
	}
	if !q.set.begin(q, next) {
		return
	}
	// Min first: nobody may see entries that are not there.
	q.min.Store(next)
	q.max.Store(next)
}

// Read fills buf with consecutive entries from offset on and answers how many
// they are: less than len(buf) only at the end of the queue, or before
// something that the next Read will answer an error for. At Max and beyond
// that is 0, without an error. Errors: [ErrTrimmed], [ErrDamaged],
// [ErrClosed], and what the file system says.
func (q *Queue) Read(offset int64, buf []Entry) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		if k, err = q.readSome(offset+int64(n), buf[n:]); k == 0 {
			break
		}
		n += k
	}
	if n > 0 {
		err = nil // it is met again
	}
	return n, err
}

// readSome reads from one part.
func (q *Queue) readSome(offset int64, buf []Entry) (int, error) {
	if q.set.closed.Load() {
		return 0, ErrClosed
	}
	if offset < q.min.Load() {
		return 0, ErrTrimmed
	}
	if offset >= q.max.Load() {
		return 0, nil
	}
	q.mu.Lock()
	p, rs, ok := q.inMemory(offset)
	hint, hintRow := q.hint, q.hintRow
	q.mu.Unlock()
	if ok {
		return rs.read(p, offset, buf), nil
	}
	s := q.set.scratch()
	defer q.set.pool.Put(s)
	p, at, err := q.locate(offset, hint, hintRow, s)
	if err != nil {
		return 0, err
	}
	if p != hint || at != hintRow {
		q.mu.Lock()
		q.hint, q.hintRow = p, at
		q.mu.Unlock()
	}
	n, err := p.disk.Load().read(at, offset, buf, s)
	return n, q.set.readError(p, err)
}

// inMemory finds the rows that hold offset, if they are in memory; mu is held.
func (q *Queue) inMemory(offset int64) (p *part, rs rows, ok bool) {
	for r := q.oldest; r != nil; r = r.next {
		if offset >= r.first && offset < r.end() {
			return r.part, r.rows, true
		}
	}
	return nil, rs, false
}

// locate finds the file that holds offset and the queue's row in it.
func (q *Queue) locate(offset int64, hint *part, hintRow dirRow, s *scratch) (*part, dirRow, error) {
	if hint != nil && hintRow.holds(offset) && !hint.gone.Load() {
		return hint, hintRow, nil
	}
	parts := q.set.onDisk()
	lo := 0
	if hint != nil && offset >= hintRow.next() {
		lo = partAfter(parts, hint.base)
		if lo < len(parts) { // the next one, most of the time
			at, err := q.set.dirRow(parts[lo], q.id, s)
			if err != nil || at.holds(offset) {
				return parts[lo], at, err
			}
		}
	}
	// Offsets ascend: it is in the last part that begins at or before it.
	var found dirRow
	hi := len(parts)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		at, err := q.set.dirRow(parts[mid], q.id, s)
		if err != nil {
			return nil, dirRow{}, err
		}
		if at.first() > offset {
			hi = mid
			continue
		}
		found, lo = at, mid+1
	}
	if lo > 0 && found.holds(offset) {
		return parts[lo-1], found, nil
	}
	if offset < q.min.Load() {
		return nil, dirRow{}, ErrTrimmed
	}
	return nil, dirRow{}, q.missing(parts, lo, offset)
}

// missing says that no file holds an entry that exists.
func (q *Queue) missing(parts []*part, lo int, offset int64) error {
	if len(parts) == 0 {
		return &DamagedError{Reason: "there is no file"}
	}
	d := parts[max(lo-1, 0)].disk.Load()
	return d.damaged(1, "entry %d of queue %d is in no file", offset, q.id)
}

// AtTime is the offset of the first entry that was stored at or after ms, Unix
// milliseconds; Max if all are older. Errors: as those of Read.
func (q *Queue) AtTime(ms int64) (int64, error) {
	for {
		offset, err := q.atTime(ms)
		if errors.Is(err, ErrTrimmed) {
			continue // a part went away meanwhile; the next try does not see it
		}
		return max(offset, q.Min()), err
	}
}

func (q *Queue) atTime(ms int64) (int64, error) {
	if q.set.closed.Load() {
		return 0, ErrClosed
	}
	end := q.max.Load()
	type piece struct {
		part *part
		rows rows
	}
	var inMemory []piece
	q.mu.Lock()
	for r := q.oldest; r != nil; r = r.next {
		inMemory = append(inMemory, piece{r.part, r.rows})
	}
	q.mu.Unlock()
	// What is not in memory at this point can be read from a file.
	s := q.set.scratch()
	defer q.set.pool.Put(s)
	for _, p := range q.set.onDisk() {
		if len(inMemory) > 0 && p.base >= inMemory[0].part.base {
			break
		}
		offset, ok, err := q.set.atTime(p, q.id, ms, s)
		if ok || err != nil {
			return offset, err
		}
	}
	for _, m := range inMemory {
		if offset, ok := m.rows.atTime(m.part, ms); ok {
			return offset, nil
		}
	}
	return end, nil
}

// forget drops the oldest run from memory if it is r.
func (q *Queue) forget(r *run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.oldest != r {
		return // the queue was dropped
	}
	if q.oldest = r.next; r.next == nil {
		q.tail = nil
	}
}

// raise moves Min up.
func (q *Queue) raise(to int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if to > q.min.Load() {
		q.min.Store(to)
	}
}

// drop empties the queue for good.
func (q *Queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.min.Store(q.max.Load())
	q.oldest, q.tail, q.hint = nil, nil, nil
}
