package duetime

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// version is the first byte of an encoded queue.
const version = 1

// leastBytes is the least that an encoded message takes.
const leastBytes = 3

// ErrMalformed: the bytes are no encoded queue.
var ErrMalformed = errors.New("malformed queue of delayed messages")

// AppendTo appends the encoded queue to b: a version byte, the number of
// messages that wait, with those that are taken, and for each, in the order of
// their positions, the distance to the position before it, to the due time
// before it, and its queue. Queues that hold the same messages have the same
// bytes, 6 to 8 for a message as a rule.
func (q *Queue) AppendTo(b []byte) []byte {
	all := make([]packed, 0, q.heap.n+len(q.taken))
	for i := range q.heap.n {
		if p := *q.heap.at(i); !q.isDead(p) {
			all = append(all, p)
		}
	}
	for _, it := range q.taken {
		all = append(all, q.pack(it))
	}
	slices.SortFunc(all, func(a, b packed) int { return cmp.Compare(a.rel(), b.rel()) })
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(len(all)))
	pos, due := int64(0), int64(0)
	for _, p := range all {
		b = binary.AppendUvarint(b, uint64(q.pos(p)-pos))
		b = binary.AppendVarint(b, p.due()-due)
		b = binary.AppendUvarint(b, uint64(p.queue()))
		pos, due = q.pos(p), p.due()
	}
	return b
}

// Decode is the inverse of [Queue.AppendTo]; nothing is taken in its queue.
// Its errors match [ErrMalformed].
func Decode(b []byte) (*Queue, error) {
	q := New()
	if len(b) == 0 || b[0] != version {
		return nil, fmt.Errorf("decode delayed messages: unknown version: %w", ErrMalformed)
	}
	r := reader{b: b[1:]}
	n := r.uint(uint64(len(b)) / leastBytes)
	pos, due := int64(0), int64(0)
	for i := range n {
		step := r.uint(uint64(math.MaxInt64 - pos))
		if i == 0 {
			q.base = int64(step)
			q.low = q.base
		} else if step == 0 {
			r.bad = true
		}
		pos, due = pos+int64(step), due+r.int()
		topic := r.uint(math.MaxUint32)
		if r.bad || due < 0 || due > MaxDueMs || pos-q.base >= 1<<posBits {
			return nil, fmt.Errorf("decode delayed message %d of %d: %w", i+1, n, ErrMalformed)
		}
		q.heap.add(pack(due, pos-q.base, uint32(topic)))
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("decode %d delayed messages, %d bytes behind them: %w", n, len(r.b), ErrMalformed)
	}
	q.heap.order()
	return q, nil
}

// reader remembers that it met something wrong; afterwards it answers zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uint(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > most {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if r.bad || n <= 0 || v < -MaxDueMs || v > MaxDueMs {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}
