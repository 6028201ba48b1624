// Package duetime orders messages by the time they become due. What waits
// takes 16 bytes of memory a message.
package duetime

import (
	"maps"
	"math"
)

// MaxDueMs is the latest due time that a queue tells from later ones, in the
// year 2527. The due times that [time.Time.UnixNano] can express end in 2262.
const MaxDueMs = 1<<dueBits - 1

// deadSlack is how many messages, beyond an eighth of the queue, may be done
// with and still take space in it.
const deadSlack = 256

// bigTaken is the number of messages taken at once whose bookkeeping is not
// kept for the next ones.
const bigTaken = 4096

// Item is one message that waits.
type Item struct {
	// DueMs is when it becomes due, in milliseconds of the broker's time. A
	// queue brings it into the range from 0 to [MaxDueMs].
	DueMs int64
	// Pos is the position of its frame, 0 or more.
	Pos int64
	// Queue is the number of the queue it goes to.
	Queue uint32
}

// Queue holds what waits, by due time and then by position. Messages leave in
// two steps: [Queue.Take] hands out what is due, and it counts as waiting until
// [Queue.Done] or [Queue.Back].
//
// A position is added once, and the positions in a queue lie less than 4 PiB
// apart, which is more than a log takes on a disk. The owner guards the queue;
// methods that change nothing (Head, Len, Taken, Each, MinPos, Clone, AppendTo)
// may run at the same time.
type Queue struct {
	heap  heap // its first item is never dead
	base  int64
	low   int64              // the lowest position that was ever in
	taken map[int64]Item     // by position
	dead  map[int64]struct{} // done with, yet possibly in heap
}

// New makes an empty queue.
func New() *Queue { return &Queue{low: math.MaxInt64} }

// Add puts a message in. It reports whether it is the next one to become due
// among those that are not taken.
func (q *Queue) Add(it Item) (first bool) {
	q.low = min(q.low, it.Pos)
	q.fit(it.Pos)
	p := q.pack(it)
	q.heap.push(p)
	return *q.heap.at(0) == p
}

// Take appends to buf the messages that are due at now, at most limit, in the
// order of their due times; equal ones in the order of their positions.
func (q *Queue) Take(now int64, limit int, buf []Item) []Item {
	if len(q.dead) > 0 {
		q.bury()
	}
	if q.taken == nil {
		q.taken = map[int64]Item{}
	}
	for ; limit > 0 && q.heap.n > 0; limit-- {
		if q.heap.at(0).due() > now {
			break
		}
		it := q.unpack(q.heap.pop())
		q.taken[it.Pos] = it
		buf = append(buf, it)
	}
	return buf
}

// Back puts taken messages back. It passes over those that are not taken any
// more: done with meanwhile, or their topic dropped.
func (q *Queue) Back(items []Item) {
	for _, it := range items {
		if was, ok := q.taken[it.Pos]; ok {
			q.untake(it.Pos)
			q.Add(was)
		}
	}
}

// Done takes out the message at pos, if it is in. For one that is not taken
// this is meant for a replay, where nearly all are the next to become due: the
// others are marked only, and their space is used until they are next, or until
// they are too many, or until the next Take.
func (q *Queue) Done(pos int64) {
	if _, ok := q.taken[pos]; ok {
		q.untake(pos)
		return
	}
	if pos < q.low || q.heap.n == 0 {
		return
	}
	if q.pos(*q.heap.at(0)) == pos {
		q.heap.pop()
		q.clean()
		return
	}
	if q.dead == nil {
		q.dead = map[int64]struct{}{}
	}
	q.dead[pos] = struct{}{}
	if len(q.dead) > q.heap.n/8+deadSlack {
		q.bury()
	}
}

// Taken reports whether the message at pos is taken, and neither done with nor
// back, nor its topic dropped.
func (q *Queue) Taken(pos int64) bool {
	_, ok := q.taken[pos]
	return ok
}

// Drop takes out everything for a queue that gone reports true for. It looks at
// every message.
func (q *Queue) Drop(gone func(queue uint32) bool) {
	for pos, it := range q.taken {
		if gone(it.Queue) {
			q.untake(pos)
		}
	}
	q.heap.filter(func(p packed) bool { return !gone(p.queue()) && !q.isDead(p) })
	q.dead = nil
}

// Head is the message that becomes due next, of those that are not taken.
func (q *Queue) Head() (Item, bool) {
	if q.heap.n == 0 {
		return Item{}, false
	}
	return q.unpack(*q.heap.at(0)), true
}

// Len is the number of messages that wait, with those that are taken. Between
// a replay and the first Take it has to count.
func (q *Queue) Len() int {
	if len(q.dead) == 0 {
		return q.heap.n + len(q.taken)
	}
	n := 0
	q.Each(func(Item) { n++ })
	return n
}

// Each calls f for every message that waits, with those that are taken, in no
// order.
func (q *Queue) Each(f func(Item)) {
	for i := range q.heap.n {
		if p := *q.heap.at(i); !q.isDead(p) {
			f(q.unpack(p))
		}
	}
	for _, it := range q.taken {
		f(it)
	}
}

// MinPos is the lowest position of a message that waits, with those that are
// taken. It looks at every message.
func (q *Queue) MinPos() (pos int64, ok bool) {
	pos = math.MaxInt64
	q.Each(func(it Item) { pos, ok = min(pos, it.Pos), true })
	if !ok {
		return 0, false
	}
	return pos, true
}

// Clone makes a copy, so that a checkpoint can be encoded without holding up
// the owner.
func (q *Queue) Clone() *Queue {
	return &Queue{heap: q.heap.clone(), base: q.base, low: q.low, taken: maps.Clone(q.taken), dead: maps.Clone(q.dead)}
}

func (q *Queue) pack(it Item) packed {
	return pack(min(max(it.DueMs, 0), MaxDueMs), it.Pos-q.base, it.Queue)
}

func (q *Queue) pos(p packed) int64 { return q.base + p.rel() }

func (q *Queue) unpack(p packed) Item { return Item{DueMs: p.due(), Pos: q.pos(p), Queue: p.queue()} }

func (q *Queue) isDead(p packed) bool {
	if len(q.dead) == 0 {
		return false
	}
	_, ok := q.dead[q.pos(p)]
	return ok
}

func (q *Queue) untake(pos int64) {
	big := len(q.taken) > bigTaken
	delete(q.taken, pos)
	if big && len(q.taken) == bigTaken {
		// A map keeps its size, so the rest moves to a small one.
		few := make(map[int64]Item, bigTaken)
		maps.Copy(few, q.taken)
		q.taken = few
	}
}

// clean drops dead messages from the front.
func (q *Queue) clean() {
	for len(q.dead) > 0 && q.heap.n > 0 {
		pos := q.pos(*q.heap.at(0))
		if _, ok := q.dead[pos]; !ok {
			return
		}
		delete(q.dead, pos)
		q.heap.pop()
	}
}

// bury drops all dead messages, and the marks of those that were never in.
func (q *Queue) bury() {
	q.heap.filter(func(p packed) bool { return !q.isDead(p) })
	q.dead = nil
}

// fit moves the base, if need be, so that pos can be packed. The order of the
// packed items stays.
func (q *Queue) fit(pos int64) {
	if pos >= q.base && pos-q.base < 1<<posBits {
		return
	}
	base := pos
	for i := range q.heap.n {
		base = min(base, q.pos(*q.heap.at(i)))
	}
	for taken := range q.taken {
		base = min(base, taken)
	}
	for i := range q.heap.n {
		p := q.heap.at(i)
		*p = pack(p.due(), q.pos(*p)-base, p.queue())
	}
	q.base = base
}
