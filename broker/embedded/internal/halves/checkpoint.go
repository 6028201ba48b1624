package halves

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"unique"
)

// version is the first byte of an encoded table.
const version = 1

// least that an encoded undecided half message, and a decided one, take.
const (
	leastOpen    = 6
	leastDecided = len(key{}) + 1
)

// ErrMalformed: the bytes are no encoded table.
var ErrMalformed = errors.New("malformed table of half messages")

// AppendTo appends the encoded table to b. Equal tables have equal bytes: a
// version byte; the names of the groups, ascending; what is not decided, by
// position; the decisions that are remembered, the oldest first. Numbers are
// varints, strings have their length in front.
//
//	undecided: position less the one before it, index of the group, id,
//	           time of storing, size, 0 or 1 for parked, then time and checks
//	decided:   16 bytes of key, position << 1 | 1 for a commit
func (t *Table) AppendTo(b []byte) []byte {
	b = append(b, version)
	index := map[string]int{}
	for _, o := range t.open {
		index[o.group.Value()] = 0
	}
	b = binary.AppendUvarint(b, uint64(len(index)))
	for i, name := range slices.Sorted(maps.Keys(index)) {
		index[name] = i
		b = appendString(b, name)
	}
	b = binary.AppendUvarint(b, uint64(len(t.open)))
	last := int64(0)
	for _, pos := range slices.Sorted(maps.Keys(t.open)) {
		o := t.open[pos]
		b = binary.AppendUvarint(b, uint64(pos-last))
		last = pos
		b = binary.AppendUvarint(b, uint64(index[o.group.Value()]))
		b = appendString(b, o.tx)
		b = binary.AppendVarint(b, o.storedMs)
		b = binary.AppendUvarint(b, uint64(o.size))
		if o.parked == nil {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		b = binary.AppendVarint(b, o.parked.ms)
		b = binary.AppendVarint(b, int64(o.parked.checks))
	}
	b = binary.AppendUvarint(b, uint64(len(t.decided)))
	for i := range t.decided {
		d := t.decided[(t.oldest+i)%len(t.decided)]
		b = append(b, d.key[:]...)
		how := uint64(0)
		if d.mark.state() == Committed {
			how = 1
		}
		b = binary.AppendUvarint(b, uint64(d.mark.pos())<<1|how)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Decode is the inverse of [Table.AppendTo]. If the table remembered more than
// keep decisions, the oldest ones are forgotten. Errors match [ErrMalformed].
func Decode(b []byte, keep int) (*Table, error) {
	r := reader{b: b}
	if r.byte() != version {
		return nil, fmt.Errorf("decode half messages: unknown version: %w", ErrMalformed)
	}
	t := New(keep)
	r.undecided(t)
	for range r.count(leastDecided) {
		k := key(r.bytes(len(key{})))
		v := r.uint(1<<63 - 1)
		if _, twice := t.marks[k]; r.bad || twice {
			r.bad = true
			break
		}
		m := markOf(int64(v>>1), rolledBack)
		if v&1 == 1 {
			m = markOf(int64(v>>1), committed)
		}
		t.remember(decision{k, m})
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("decode half messages, %d bytes before the end: %w", len(r.b), ErrMalformed)
	}
	return t, nil
}

// undecided reads the groups and what is not decided.
func (r *reader) undecided(t *Table) {
	var groups []unique.Handle[string]
	for range r.count(1) {
		groups = append(groups, unique.Make(r.string()))
	}
	pos := int64(0)
	for i := range r.count(leastOpen) {
		step := r.uint(uint64(maxPos - pos))
		pos += int64(step)
		g := r.uint(math.MaxInt32)
		o := &open{tx: r.string(), storedMs: r.int(), size: int32(r.uint(math.MaxInt32))}
		switch r.byte() {
		case 0:
		case 1:
			o.parked = &parking{ms: r.int(), checks: int(r.int())}
		default:
			r.bad = true
		}
		if r.bad || g >= uint64(len(groups)) || i > 0 && step == 0 {
			r.bad = true
			return
		}
		o.group = groups[g]
		if !t.add(keyOf(ID{o.group.Value(), o.tx}), pos, o) {
			r.bad = true
			return
		}
	}
}

// maxPos is the highest position that a mark has room for.
const maxPos = 1<<(63-markBits) - 1

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
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads the number of items that follow, each of which takes at least
// size bytes.
func (r *reader) count(size int) int { return int(r.uint(uint64(len(r.b) / size))) }

// bytes answers n bytes, also if they are not there.
func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte { return r.bytes(1)[0] }

func (r *reader) string() string {
	n := r.count(1)
	if r.bad {
		return ""
	}
	return string(r.bytes(n))
}
