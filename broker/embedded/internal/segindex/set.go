package segindex

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Set is the index of a log.
type Set struct {
	fs    vfs.FS
	store uint64

	closed atomic.Bool
	parts  atomic.Pointer[[]*part] // by base; replaced, not changed
	pool   sync.Pool               // of *scratch

	files   sync.Mutex // held by who writes, trims, loads or closes
	garbage []string   // files that could not be removed

	list sync.Mutex // held by who replaces parts

	mu     sync.RWMutex // guards the slice of queues
	queues []*Queue     // by number; nil where there is none

	// The writer's.
	active *part    // the last of parts, nil before Begin
	words  []uint64 // by queue: next offset and flags, as in a directory
	begun  []uint32 // queues that were told to begin since the last part was sealed
}

// New makes an empty set that keeps its files in the root of fs. The store is
// the identity of the log; files of other stores are not taken for its own.
func New(fs vfs.FS, store uint64) *Set {
	s := &Set{fs: fs, store: store}
	s.pool.New = func() any { return new(scratch) }
	s.parts.Store(new([]*part))
	return s
}

func (s *Set) scratch() *scratch { return s.pool.Get().(*scratch) }

// Queue answers the queue with number id, and makes it if there is none; its
// first entry will have offset 0. Numbers are never used again. An existing
// queue may be asked for in any goroutine, making one belongs to the writer.
func (s *Set) Queue(id uint32) *Queue {
	s.mu.RLock()
	q := s.queue(id)
	s.mu.RUnlock()
	if q != nil {
		return q
	}
	q = &Queue{set: s, id: id}
	s.put(q)
	s.words[id] = 0
	return q
}

// queue answers the queue, or nil; s.mu is held.
func (s *Set) queue(id uint32) *Queue {
	if uint64(id) < uint64(len(s.queues)) {
		return s.queues[id]
	}
	return nil
}

// put makes room for a queue and files it.
func (s *Set) put(q *Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for uint64(len(s.queues)) <= uint64(q.id) {
		s.queues = append(s.queues, nil)
	}
	for uint64(len(s.words)) <= uint64(q.id) {
		s.words = append(s.words, flagAbsent)
	}
	s.queues[q.id] = q
}

// all answers the queues there are.
func (s *Set) all() []*Queue {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return append([]*Queue(nil), s.queues...)
}

// Drop forgets a queue for good. Who still holds it finds it empty.
func (s *Set) Drop(id uint32) {
	s.mu.Lock()
	q := s.queue(id)
	if q != nil {
		s.queues[id] = nil
		s.words[id] |= flagAbsent
	}
	s.mu.Unlock()
	if q != nil {
		q.drop()
	}
}

// begin notes that the empty queue q begins at next, unless it was dropped.
func (s *Set) begin(q *Queue, next int64) bool {
	if s.words[q.id]&flagAbsent != 0 {
		return false
	}
	if s.words[q.id]&flagBegun == 0 {
		s.begun = append(s.begun, q.id)
	}
	s.words[q.id] = uint64(next) | flagBegun
	return true
}

// Begin says that a new segment of the log begins at base. It seals the active
// part, which stays readable in memory until it is written. A base that is not
// beyond all parts there are changes nothing.
func (s *Set) Begin(base int64) {
	if s.active != nil && base <= s.active.base {
		return
	}
	s.seal(base)
	s.list.Lock()
	defer s.list.Unlock()
	old := *s.parts.Load()
	if n := len(old); n > 0 && base < old[n-1].end {
		return
	}
	s.active = newPart(base)
	next := append(append(make([]*part, 0, len(old)+1), old...), s.active)
	s.parts.Store(&next)
}

// seal ends the active part at end.
func (s *Set) seal(end int64) {
	p := s.active
	if p == nil {
		return
	}
	s.list.Lock()
	p.end, p.rows, p.begun, p.sealed = end, append([]uint64(nil), s.words...), s.begun, true
	s.list.Unlock()
	for _, id := range s.begun {
		s.words[id] &^= flagBegun
	}
	p.freeRuns, p.freeRows = nil, nil
	s.begun, s.active = nil, nil
}

// Add appends an entry to q, which it gets offset in: [Queue.Max], or a larger
// one if the messages between are lost; lost entries take their places. The
// position lies in the segment that was begun last, less than 4 GiB behind its
// begin, and behind all that were added before. What breaks these rules is not
// added, and its part is never written; [Set.WriteNext] says why. Any number of
// lost entries in a row takes no more room than one.
func (s *Set) Add(q *Queue, offset int64, e Entry) {
	p := s.current(e.Pos)
	next := q.max.Load()
	rel, ok := p.relative(e.Pos)
	if !ok || offset < next || offset-next >= math.MaxUint32 || e.Size < 0 || s.words[q.id]&flagAbsent != 0 {
		p.fail(fmt.Errorf("entry at %d with offset %d in queue %d, which has %d: %w", e.Pos, offset, q.id, next, ErrMisuse))
		return
	}
	ms := p.packTime(rel, e.StoredMs)
	p.newest = rel
	q.mu.Lock()
	r := q.tail
	if r == nil || r.part != p {
		r = q.newRun(p, next)
	}
	lost := offset - next
	if e.Size == 0 {
		lost++
	}
	if lost > 0 {
		r.add(row{rel: rel, tag: int32(uint32(lost - 1)), ms: ms})
	}
	if e.Size > 0 {
		r.add(row{rel: rel, size: uint32(e.Size), tag: e.Tag, ms: ms})
	}
	q.max.Store(offset + 1)
	q.mu.Unlock()
	s.words[q.id] = s.words[q.id]&flagBegun | uint64(offset+1)
}

// current answers the active part. If the caller has begun none, it is one
// that Load will not find, or that refuses pos.
func (s *Set) current(pos int64) *part {
	if s.active == nil {
		if parts := *s.parts.Load(); len(parts) > 0 {
			pos = max(pos, parts[len(parts)-1].end)
		}
		s.Begin(pos)
	}
	return s.active
}

// newRun begins the queue's rows in the active part; mu is held.
func (q *Queue) newRun(p *part, first int64) *run {
	r := p.room()
	*r = run{part: p, queue: q, rows: rows{first: first, tail: p.rowRoom()}}
	if q.tail == nil {
		q.oldest = r
	} else {
		q.tail.next = r
	}
	q.tail = r
	p.runs = append(p.runs, r)
	return r
}

// AddKey notes that the message at pos is found under hash. The rules for pos
// are those of Add.
func (s *Set) AddKey(hash uint64, pos int64) {
	p := s.current(pos)
	rel, ok := p.relative(pos)
	if !ok {
		return
	}
	p.mu.Lock()
	p.keys.add(hash, rel)
	p.mu.Unlock()
}

// Lookup calls newestFirst for the positions that were added under hash, until
// it answers false. Different keys may have one hash: the caller compares the
// keys. Errors: [ErrDamaged], [ErrClosed], and what the file system says; some
// positions may have been told before.
func (s *Set) Lookup(hash uint64, newestFirst func(pos int64) bool) error {
	parts := *s.parts.Load()
	sc := s.scratch()
	defer s.pool.Put(sc)
	for i := len(parts) - 1; i >= 0; i-- {
		if s.closed.Load() {
			return ErrClosed
		}
		p := parts[i]
		tell := func(rel uint32) bool { return newestFirst(p.base + int64(rel)) }
		keys, d := p.snapshot()
		if d == nil {
			if !keys.find(hash, tell) {
				return nil
			}
			continue
		}
		goOn, err := d.find(hash, sc, tell)
		if err = s.readError(p, err); errors.Is(err, ErrTrimmed) {
			return nil // and so are the older ones
		}
		if err != nil || !goOn {
			return err
		}
	}
	return nil
}

// onDisk are the parts that are read from files: all but the youngest.
func (s *Set) onDisk() []*part {
	parts := *s.parts.Load()
	n := len(parts)
	for n > 0 && parts[n-1].disk.Load() == nil {
		n--
	}
	return parts[:n]
}

// partAfter is the number of the first part that begins after base.
func partAfter(parts []*part, base int64) int {
	return sort.Search(len(parts), func(i int) bool { return parts[i].base > base })
}

// dirRow reads the row of a queue in a part that is on disk.
func (s *Set) dirRow(p *part, id uint32, sc *scratch) (dirRow, error) {
	r, err := p.disk.Load().dirRow(id, sc)
	return r, s.readError(p, err)
}

// atTime finds the first entry of a queue at or after ms in one part on disk.
func (s *Set) atTime(p *part, id uint32, ms int64, sc *scratch) (offset int64, ok bool, err error) {
	d := p.disk.Load()
	if d.maxMs < ms {
		return 0, false, nil
	}
	r, err := d.dirRow(id, sc)
	if err != nil || r.count == 0 {
		return 0, false, s.readError(p, err)
	}
	offset, ok, err = d.atTime(r, ms, sc)
	return offset, ok && err == nil, s.readError(p, err)
}

// readError tells why reading a part failed.
func (s *Set) readError(p *part, err error) error {
	switch {
	case err == nil:
		return nil
	case p.gone.Load():
		return ErrTrimmed
	case s.closed.Load():
		return ErrClosed
	}
	return err
}
