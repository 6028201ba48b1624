package segindex_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const store = 0xABCDEF0123456789

// event is a frame of the log that the index follows from.
type event struct {
	kind   string // queue, drop, start, begin, add, key
	pos    int64
	queue  uint32
	offset int64 // of add; next of start
	entry  segindex.Entry
	hash   uint64
}

// apply does to the set what the engine does when it reads the frame.
func (e event) apply(s *segindex.Set) {
	switch e.kind {
	case "queue":
		s.Queue(e.queue)
	case "drop":
		s.Drop(e.queue)
	case "start":
		s.Queue(e.queue).SetStart(e.offset)
	case "begin":
		s.Begin(e.pos)
	case "add":
		s.Add(s.Queue(e.queue), e.offset, e.entry)
	case "key":
		s.AddKey(e.hash, e.pos)
	}
}

// naiveQueue is a queue as a slice.
type naiveQueue struct {
	start   int64
	entries []segindex.Entry
}

func (q *naiveQueue) next() int64 { return q.start + int64(len(q.entries)) }

// min is the first offset at or behind position trimmed.
func (q *naiveQueue) min(trimmed int64) int64 {
	i := slices.IndexFunc(q.entries, func(e segindex.Entry) bool { return e.Pos >= trimmed })
	if i < 0 {
		return q.next()
	}
	return q.start + int64(i)
}

// naive is the model: what the events before a position amount to.
type naive struct {
	queues map[uint32]*naiveQueue
	keys   map[uint64][]int64
}

func fold(events []event, from, upTo int64) naive {
	n := naive{map[uint32]*naiveQueue{}, map[uint64][]int64{}}
	for _, e := range events {
		if e.pos >= upTo {
			break
		}
		q := n.queues[e.queue]
		switch e.kind {
		case "queue":
			n.queues[e.queue] = &naiveQueue{}
		case "drop":
			delete(n.queues, e.queue)
		case "start":
			q.start, q.entries = e.offset, nil
		case "add":
			for q.next() < e.offset {
				q.entries = append(q.entries, segindex.Entry{Pos: e.pos, StoredMs: e.entry.StoredMs})
			}
			q.entries = append(q.entries, e.entry)
		case "key":
			if e.pos >= from {
				n.keys[e.hash] = append(n.keys[e.hash], e.pos)
			}
		}
	}
	return n
}

func (n naive) ids() []uint32 {
	var ids []uint32
	for id := range n.queues {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// failer is what a test and a rapid test have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// check compares everything that can be asked.
func (n naive) check(t failer, s *segindex.Set, trimmed int64, bufSize int) {
	t.Helper()
	for _, id := range n.ids() {
		want := n.queues[id]
		q := s.Queue(id)
		if q.Max() != want.next() || q.Min() != want.min(trimmed) {
			t.Fatalf("queue %d holds %d to %d, want %d to %d", id, q.Min(), q.Max(), want.min(trimmed), want.next())
		}
		if _, err := q.Read(q.Min()-1, make([]segindex.Entry, 1)); !errors.Is(err, segindex.ErrTrimmed) {
			t.Fatalf("queue %d before Min: %v", id, err)
		}
		got, err := readAll(q, bufSize)
		if err != nil {
			t.Fatalf("queue %d: %v", id, err)
		}
		kept := want.entries[want.min(trimmed)-want.start:]
		if !slices.Equal(got, kept) {
			t.Fatalf("queue %d from %d:\n got %v\nwant %v", id, q.Min(), got, kept)
		}
		checkTimes(t, q, kept)
	}
	for hash, want := range n.keys {
		got, err := lookup(s, hash)
		slices.Reverse(got)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("key %x: got %v %v, want %v", hash, got, err, want)
		}
	}
	if got, err := lookup(s, 12345); len(got) > 0 || err != nil {
		t.Fatalf("a key that is not there: %v %v", got, err)
	}
}

func checkTimes(t failer, q *segindex.Queue, kept []segindex.Entry) {
	t.Helper()
	ask := []int64{math.MinInt64, math.MaxInt64}
	for i := 0; i < len(kept); i += 1 + len(kept)/5 {
		ask = append(ask, kept[i].StoredMs-1, kept[i].StoredMs, kept[i].StoredMs+1)
	}
	for _, ms := range ask {
		i, _ := slices.BinarySearchFunc(kept, ms, func(e segindex.Entry, ms int64) int { return cmp.Compare(e.StoredMs, ms) })
		if got, err := q.AtTime(ms); got != q.Min()+int64(i) || err != nil {
			t.Fatalf("queue %d at %d: %d %v, want %d", q.ID(), ms, got, err, q.Min()+int64(i))
		}
	}
}

func readAll(q *segindex.Queue, bufSize int) ([]segindex.Entry, error) {
	var all []segindex.Entry
	buf := make([]segindex.Entry, bufSize)
	for offset := q.Min(); ; {
		n, err := q.Read(offset, buf)
		if n == 0 || err != nil {
			return all, err
		}
		all = append(all, buf[:n]...)
		offset += int64(n)
	}
}

func lookup(s *segindex.Set, hash uint64) ([]int64, error) {
	var all []int64
	err := s.Lookup(hash, func(pos int64) bool {
		all = append(all, pos)
		return true
	})
	return all, err
}

// machine drives a set and remembers the log.
type machine struct {
	fs      *vfs.Mem
	set     *segindex.Set
	events  []event
	next    int64 // position
	ms      int64
	ids     uint32
	bases   []int64
	trimmed int64
	written map[int64]int64  // base of a file: its end
	sealed  []int64          // bases of parts without file
	bytes   map[int64][]byte // complete files by base
	vague   map[int64]bool   // bases of parts that may differ when they are made again
}

func newMachine() *machine {
	m := &machine{fs: vfs.NewMem(), ms: 1_700_000_000_000, written: map[int64]int64{}, bytes: map[int64][]byte{}, vague: map[int64]bool{}}
	m.set = segindex.New(m.fs, store)
	m.do(event{kind: "begin"})
	m.bases = []int64{0}
	return m
}

// do appends a frame to the log and applies it.
func (m *machine) do(e event) {
	e.pos = m.next
	e.entry.Pos = m.next
	m.events = append(m.events, e)
	e.apply(m.set)
	m.next += 10
}

func (m *machine) model() naive { return fold(m.events, m.trimmed, math.MaxInt64) }

func (m *machine) active() int64 { return m.bases[len(m.bases)-1] }

func (m *machine) add(t *rapid.T) {
	ids := m.model().ids()
	if len(ids) == 0 {
		m.do(event{kind: "queue", queue: m.ids})
		m.ids++
		return
	}
	n := rapid.SampledFrom([]int{1, 1, 1, 3, 300, 1100}).Draw(t, "n")
	gap := rapid.SampledFrom([]int64{0, 0, 0, 0, 1, 5, 3000}).Draw(t, "gap")
	lost := rapid.IntRange(-5, n-1).Draw(t, "lost")
	step := rapid.SampledFrom([]int64{0, 1, 1000, 60 * 24 * 3_600_000}).Draw(t, "step")
	id := rapid.SampledFrom(ids).Draw(t, "queue")
	for i := range n {
		q := m.set.Queue(id)
		if i == 0 {
			m.ms += step
		}
		e := segindex.Entry{StoredMs: m.ms, Tag: int32(-i), Size: int32(1 + i)}
		if i == lost {
			e.Tag, e.Size = 0, 0
		}
		m.do(event{kind: "add", queue: id, offset: q.Max() + gap, entry: e})
		hash := uint64(m.next%7) * 0x2492492492492492
		m.do(event{kind: "key", hash: hash})
		m.ms += int64(i % 2)
		gap = 0
	}
}

func (m *machine) begin(*rapid.T) {
	base := m.next
	m.sealed = append(m.sealed, m.active())
	m.bases = append(m.bases, base)
	m.do(event{kind: "begin"})
}

func (m *machine) writeNext(t *rapid.T) {
	if m.set.Unwritten() != len(m.sealed) {
		t.Fatalf("%d unwritten, want %d", m.set.Unwritten(), len(m.sealed))
	}
	if err := m.set.WriteNext(); err != nil {
		t.Fatalf("write: %v", err)
	}
	if len(m.sealed) == 0 {
		return
	}
	base := m.sealed[0]
	m.sealed = m.sealed[1:]
	i := slices.Index(m.bases, base)
	m.written[base] = m.bases[i+1]
	got := content(t, m.fs, base)
	if old := m.bytes[base]; old != nil && !m.vague[base] && !bytes.Equal(old, got) {
		t.Fatalf("the part at %d, made again, is not as before", base)
	}
	m.bytes[base] = got
}

func content(t failer, fs vfs.FS, base int64) []byte {
	t.Helper()
	f, err := fs.OpenRead(fmt.Sprintf("%020d.idx", base))
	if err != nil {
		t.Fatalf("%v", err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatalf("%v", err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%v", err)
	}
	return b
}

func (m *machine) trim(t *rapid.T) {
	base := rapid.SampledFrom(m.bases).Draw(t, "base")
	if err := m.set.TrimBefore(base); err != nil {
		t.Fatalf("trim: %v", err)
	}
	m.trimmed = base
	for len(m.bases) > 0 && m.bases[0] < base {
		delete(m.written, m.bases[0])
		if len(m.sealed) > 0 && m.sealed[0] == m.bases[0] {
			m.sealed = m.sealed[1:]
		}
		m.bases = m.bases[1:]
	}
}

func (m *machine) drop(t *rapid.T) {
	if ids := m.model().ids(); len(ids) > 0 {
		m.do(event{kind: "drop", queue: rapid.SampledFrom(ids).Draw(t, "queue")})
	}
}

func (m *machine) newQueue(t *rapid.T) {
	m.ids += rapid.SampledFrom([]uint32{0, 0, 0, 1, 300}).Draw(t, "skip") // numbers of queues that are gone
	m.do(event{kind: "queue", queue: m.ids})
	m.ids++
}

func (m *machine) start(t *rapid.T) {
	ids := m.model().ids()
	if len(ids) == 0 {
		return
	}
	q := m.set.Queue(rapid.SampledFrom(ids).Draw(t, "queue"))
	next := q.Max() + rapid.Int64Range(0, 500).Draw(t, "ahead")
	if q.Min() == q.Max() && next > q.Max() {
		m.do(event{kind: "start", queue: q.ID(), offset: next})
		return
	}
	before := q.Max()
	if q.Min() < q.Max() {
		q.SetStart(next)
	}
	q.SetStart(before)
	if q.Max() != before {
		t.Fatalf("a queue with entries begins elsewhere")
	}
}

// reopen loads what lies before a position. Then the rest of the log is
// applied again, or it is lost.
func (m *machine) reopen(t *rapid.T) {
	upTo := m.next
	switch rapid.SampledFrom([]string{"clean", "base", "middle"}).Draw(t, "upTo") {
	case "clean":
		if err := m.set.WriteActive(upTo); err != nil {
			t.Fatalf("write all: %v", err)
		}
		for i, base := range m.bases[1:] {
			m.written[m.bases[i]] = base
		}
		m.written[m.active()] = upTo
	case "base":
		upTo = rapid.SampledFrom(m.bases).Draw(t, "base")
	case "middle":
		upTo = rapid.Int64Range(m.trimmed, m.next).Draw(t, "pos")
	}
	if err := m.set.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	want := true
	for i, base := range m.bases {
		if end, ok := m.written[base]; base < upTo {
			last := i == len(m.bases)-1 || m.bases[i+1] > upTo
			want = want && ok && (end >= upTo || !last && end == m.bases[i+1])
		}
	}
	m.set = segindex.New(m.fs, store)
	err := m.set.Load(m.bases, upTo)
	if (err == nil) != want {
		t.Fatalf("load %v up to %d with files %v: %v", m.bases, upTo, m.written, err)
	}
	if err != nil {
		upTo = m.trimmed
		if err := m.set.Load(nil, 0); err != nil {
			t.Fatalf("load nothing: %v", err)
		}
	}
	m.loaded(t, upTo, want)
	if want {
		m.forgetStarts(upTo)
	}
	if rapid.Bool().Draw(t, "lose") {
		m.lose(upTo)
	}
	m.replay(upTo)
}

// loaded compares the files with the model and tells the set what the
// checkpoint of the engine says.
func (m *machine) loaded(t *rapid.T, upTo int64, ok bool) {
	for base, end := range m.written {
		i := slices.Index(m.bases, base)
		full := i+1 < len(m.bases) && m.bases[i+1] <= upTo && end == m.bases[i+1]
		if !ok || !full && end != upTo {
			delete(m.written, base)
		}
	}
	names, err := m.fs.List(".")
	if err != nil || len(names) != len(m.written) {
		t.Fatalf("after load there are %q, want %v (%v)", names, m.written, err)
	}
	m.sealed = nil
	if m.trimmed > 0 && (!ok || len(m.bases) < 2 || m.bases[1] > upTo) {
		clear(m.bytes) // nothing is left that knows of queues dropped long ago
	}
	n := fold(m.events, m.trimmed, upTo)
	for id := range m.ids {
		if q := n.queues[id]; q != nil {
			m.set.Queue(id).SetStart(q.next())
		} else {
			m.set.Drop(id)
		}
	}
	n.check(t, m.set, m.trimmed, 100)
}

// forgetStarts notes that of a queue that was told to begin and then dropped in
// the segment that holds upTo the set no longer knows where it was to begin.
// Nobody can ask for that; but when the whole log is read again it is known.
func (m *machine) forgetStarts(upTo int64) {
	base := int64(0)
	for _, b := range m.bases {
		if b < upTo {
			base = b
		}
	}
	started := map[uint32]bool{}
	for _, e := range m.events {
		switch {
		case e.pos < base || e.pos >= upTo:
		case e.kind == "start":
			started[e.queue] = true
		case e.kind == "drop" && started[e.queue]:
			m.vague[base] = true
		}
	}
}

// lose cuts the log.
func (m *machine) lose(upTo int64) {
	i, _ := slices.BinarySearchFunc(m.events, upTo, func(e event, pos int64) int { return cmp.Compare(e.pos, pos) })
	m.events = m.events[:i]
	for len(m.bases) > 1 && m.bases[len(m.bases)-1] > upTo {
		m.bases = m.bases[:len(m.bases)-1]
	}
	if m.active() == upTo { // of the segment nothing but its begin is left
		m.events = append(m.events, event{kind: "begin", pos: upTo})
	}
	for base := range m.bytes {
		if base >= m.active() {
			delete(m.bytes, base)
		}
	}
	m.next = upTo + 1
}

func (m *machine) replay(upTo int64) {
	for i, base := range m.bases {
		if base <= upTo && (i == len(m.bases)-1 || m.bases[i+1] > upTo) {
			m.set.Begin(base) // as the engine does for the segment that it goes on with
		}
	}
	for _, e := range m.events {
		if e.pos < upTo {
			continue
		}
		if e.kind == "begin" {
			if i := slices.Index(m.bases, e.pos); i > 0 && e.pos > upTo {
				m.sealed = append(m.sealed, m.bases[i-1])
			}
		}
		e.apply(m.set)
	}
}

func TestSet_model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine()
		t.Repeat(map[string]func(*rapid.T){
			"add":      m.add,
			"add more": m.add,
			"queue":    m.newQueue,
			"begin":    m.begin,
			"write":    m.writeNext,
			"trim":     m.trim,
			"drop":     m.drop,
			"start":    m.start,
			"reopen":   m.reopen,
			"": func(t *rapid.T) {
				m.model().check(t, m.set, m.trimmed, rapid.SampledFrom([]int{1, 7, 256, 5000}).Draw(t, "buf"))
			},
		})
		if err := m.set.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	})
}
