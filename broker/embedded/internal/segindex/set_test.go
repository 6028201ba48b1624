package segindex_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

func TestQueue_times(t *testing.T) {
	t.Parallel()
	const day = 24 * 3_600_000
	fs := vfs.NewMem()
	s := segindex.New(fs, store)
	s.Begin(0)
	q := s.Queue(0)
	var want []int64
	add := func(ms int64) {
		s.Add(q, q.Max(), segindex.Entry{Pos: q.Max() * 100, StoredMs: ms, Size: 1})
		want = append(want, ms)
	}
	for ms := int64(1_700_000_000_000); len(want) < 250; ms += 30 * day {
		add(ms)     // a segment of twenty years
		add(ms - 5) // the clock goes back a little
	}
	add(0) // and to 1970
	check := func() {
		t.Helper()
		got, err := readAll(q, 100)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d entries, %v", len(got), err)
		}
		for i, e := range got {
			if e.StoredMs != want[i] {
				t.Fatalf("entry %d was stored at %d, want %d", i, e.StoredMs, want[i])
			}
		}
	}
	check()
	s.Begin(1 << 20)
	if err := s.WriteNext(); err != nil {
		t.Fatal(err)
	}
	check()
	s.Close()

	// A clock out of its mind fills the header; times are wrong then, and the
	// rest is not.
	s = segindex.New(vfs.NewMem(), store)
	s.Begin(0)
	q = s.Queue(0)
	for i := range int64(2000) {
		s.Add(q, i, segindex.Entry{Pos: i, StoredMs: i % 2 * 1000 * day, Size: 7})
	}
	s.Begin(1 << 20)
	if err := s.WriteNext(); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(q, 100); err != nil || len(got) != 2000 || got[1999].Pos != 1999 {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func TestSet_misuse(t *testing.T) {
	t.Parallel()
	entry := func(pos int64) segindex.Entry { return segindex.Entry{Pos: pos, StoredMs: 5, Size: 1} }
	for name, f := range map[string]func(s *segindex.Set, q *segindex.Queue){
		"before the segment": func(s *segindex.Set, q *segindex.Queue) { s.Add(q, 1, entry(99)) },
		"far behind":         func(s *segindex.Set, q *segindex.Queue) { s.Add(q, 1, entry(100+math.MaxUint32+1)) },
		"key far behind":     func(s *segindex.Set, q *segindex.Queue) { s.AddKey(1, 100+math.MaxUint32+1) },
		"offset twice":       func(s *segindex.Set, q *segindex.Queue) { s.Add(q, 0, entry(300)) },
		"negative size":      func(s *segindex.Set, q *segindex.Queue) { s.Add(q, 1, segindex.Entry{Pos: 300, Size: -1}) },
		"offset far ahead":   func(s *segindex.Set, q *segindex.Queue) { s.Add(q, 1+math.MaxUint32, entry(300)) },
		"too many lost": func(s *segindex.Set, q *segindex.Queue) {
			s.Add(q, 3_000_000_000, entry(300))
			s.Add(q, 6_000_000_000, entry(400))
		},
		"dropped queue": func(s *segindex.Set, q *segindex.Queue) {
			other := s.Queue(1)
			s.Drop(1)
			s.Add(other, 0, entry(300))
		},
		"number used twice": func(s *segindex.Set, q *segindex.Queue) {
			s.Drop(0)
			s.Add(s.Queue(0), 0, entry(300))
		},
	} {
		fs := vfs.NewMem()
		s := segindex.New(fs, store)
		s.Begin(100)
		q := s.Queue(0)
		s.Add(q, 0, entry(200))
		f(s, q)
		s.Begin(1 << 40)
		for range 2 {
			if err := s.WriteNext(); !errors.Is(err, segindex.ErrMisuse) || s.Unwritten() != 1 {
				t.Errorf("%s: %v", name, err)
			}
		}
		if names, _ := fs.List("."); len(names) > 0 {
			t.Errorf("%s: there is %q", name, names)
		}
	}
}

func TestSet_withoutBegin(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := segindex.New(fs, store)
	s.AddKey(1, 700)
	s.Begin(1000)
	if err := s.WriteNext(); err != nil {
		t.Fatal(err)
	}
	if err := segindex.New(fs, store).Load([]int64{0, 1000}, 1000); !vfs.IsNotExist(err) {
		t.Errorf("loaded: %v", err)
	}
	s = segindex.New(fs, store)
	if err := s.Load([]int64{700, 1000}, 1000); err != nil {
		t.Fatal(err)
	}
	s.Add(s.Queue(0), 0, segindex.Entry{Pos: 900, Size: 1}) // that segment is full
	s.Begin(2000)
	if err := s.WriteNext(); !errors.Is(err, segindex.ErrMisuse) {
		t.Errorf("written: %v", err)
	}
}

func TestSet_ended(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s, m := fill(fs, 3, 100)
	for s.Unwritten() > 1 {
		if err := s.WriteNext(); err != nil {
			t.Fatal(err)
		}
	}
	q := s.Queue(0)
	buf := make([]segindex.Entry, 8)
	if n, err := q.Read(q.Max(), buf); n != 0 || err != nil {
		t.Errorf("at the end: %d %v", n, err)
	}
	if n, err := q.Read(0, nil); n != 0 || err != nil {
		t.Errorf("into nothing: %d %v", n, err)
	}
	if err := s.Lookup(0, func(int64) bool { return false }); err != nil {
		t.Errorf("the newest only: %v", err)
	}

	dropped := s.Queue(1)
	s.Drop(1)
	s.Drop(1)
	s.Drop(77)
	if _, err := dropped.Read(0, buf); !errors.Is(err, segindex.ErrTrimmed) {
		t.Errorf("a dropped queue: %v", err)
	}
	dropped.SetStart(1000)
	if dropped.Min() != dropped.Max() || dropped.Max() != 150 {
		t.Errorf("a dropped queue begins at %d and ends at %d", dropped.Min(), dropped.Max())
	}

	if err := s.Load(nil, 0); !errors.Is(err, segindex.ErrMisuse) {
		t.Errorf("load into a set in use: %v", err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	_, read := q.Read(0, buf)
	_, at := q.AtTime(0)
	for name, err := range map[string]error{
		"read": read, "at time": at, "write": s.WriteNext(), "write active": s.WriteActive(m.next), "trim": s.TrimBefore(m.next),
		"lookup": s.Lookup(0, func(int64) bool { return true }),
	} {
		if !errors.Is(err, segindex.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrimBefore_errors(t *testing.T) {
	t.Parallel()
	fault := errors.New("injected")
	var kind vfs.OpKind
	mem := vfs.NewMem()
	fs := vfs.Inject(mem, func(op vfs.Op) error {
		if op.Kind == kind {
			return fault
		}
		return nil
	})
	s, m := fill(fs, 3, 100)
	defer s.Close()
	for s.Unwritten() > 0 {
		if err := s.WriteNext(); err != nil {
			t.Fatal(err)
		}
	}
	all := fold(m.events, 0, math.MaxInt64)
	kind = vfs.OpRead
	if err := s.TrimBefore(m.bases[1]); !errors.Is(err, fault) {
		t.Errorf("without reading: %v", err)
	}
	kind = 0
	all.check(t, s, 0, 64)
	kind = vfs.OpRemove
	if err := s.TrimBefore(m.bases[1]); !errors.Is(err, fault) {
		t.Errorf("without removing: %v", err)
	}
	kind = 0
	fold(m.events, m.bases[1], math.MaxInt64).check(t, s, m.bases[1], 64)
	if names, _ := mem.List("."); len(names) != 2 {
		t.Errorf("there are %q", names)
	}
	if err := s.TrimBefore(0); err != nil {
		t.Error(err)
	}
	if names, _ := mem.List("."); len(names) != 1 {
		t.Errorf("there are %q", names)
	}
}

// A damaged range of the log may have held a great many messages.
func TestQueue_lost(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := segindex.New(fs, store)
	s.Begin(0)
	q := s.Queue(0)
	const many = 3_000_000_000
	entries := map[int64]segindex.Entry{}
	for i, offset := range []int64{0, 1, many, many + 1, many + 500_000_000} {
		e := segindex.Entry{Pos: int64(i) * 100, StoredMs: int64(i) * 1000, Tag: 3, Size: 5}
		s.Add(q, offset, e)
		entries[offset] = e
	}
	last := q.Max() - 1
	check := func() {
		t.Helper()
		buf := make([]segindex.Entry, 1000)
		for _, from := range []int64{0, 1, 2, 1_000_000, many - 3, many - 1, many, many + 1, many + 2, last - 1, last} {
			n, err := q.Read(from, buf)
			if want := min(1000, last+1-from); int64(n) != want || err != nil {
				t.Fatalf("from %d: %d entries, want %d, %v", from, n, want, err)
			}
			for i, e := range buf[:n] {
				want, ok := entries[from+int64(i)]
				switch {
				case !ok && from+int64(i) < many:
					want = segindex.Entry{Pos: 200, StoredMs: 2000}
				case !ok:
					want = segindex.Entry{Pos: 400, StoredMs: 4000}
				}
				if e != want {
					t.Fatalf("entry %d is %+v, want %+v", from+int64(i), e, want)
				}
			}
		}
		for ms, want := range map[int64]int64{-1: 0, 0: 0, 1: 1, 1001: 2, 2000: 2, 2001: many + 1, 3001: many + 2, 4001: last + 1} {
			if got, err := q.AtTime(ms); got != want || err != nil {
				t.Errorf("at %d: %d %v, want %d", ms, got, err, want)
			}
		}
	}
	check()
	s.Begin(1000)
	if err := s.WriteNext(); err != nil {
		t.Fatal(err)
	}
	check()
	s.Close()
	for _, bases := range [][]int64{{0, 1000}, {0}} { // in a file, and read into memory
		s = segindex.New(fs, store)
		if err := s.Load(bases, 1000); err != nil {
			t.Fatal(err)
		}
		q = s.Queue(0)
		check()
		s.Close()
	}
}

// Of the concurrency test.
const (
	queues  = 4
	perPart = 600
)

// entryOf is what the concurrency test stores, so that readers know it.
func entryOf(q uint32, offset, pos int64) segindex.Entry {
	return segindex.Entry{Pos: pos, StoredMs: 1_000_000 + offset, Tag: int32(q), Size: int32(1 + offset%1000)}
}

func TestSet_concurrency(t *testing.T) {
	t.Parallel()
	const parts = 100
	s := segindex.New(vfs.NewMem(), store)
	s.Begin(0)
	var qs []*segindex.Queue
	for id := range uint32(queues) {
		qs = append(qs, s.Queue(id))
	}
	var done atomic.Bool
	var last atomic.Int64 // base of the newest part
	var readers, owners sync.WaitGroup
	for i := range 3 {
		readers.Go(func() { readAlong(t, s, qs, rand.New(rand.NewPCG(uint64(i), 1)), &done) })
	}
	owners.Go(func() {
		pos := int64(0)
		for i := range int64(parts * perPart) {
			q := qs[i%queues]
			s.Add(q, i/queues, entryOf(q.ID(), i/queues, pos))
			s.AddKey(uint64(i%64)<<58, pos)
			if pos += 8; i%perPart == perPart-1 {
				for s.Unwritten() > 1 {
					runtime.Gosched() // all of them are to be at work
				}
				s.Begin(pos)
				last.Store(pos)
				s.Queue(uint32(queues + i/perPart))
			}
		}
		done.Store(true)
	})
	owners.Go(func() {
		for !done.Load() || s.Unwritten() > 0 {
			if err := s.WriteNext(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	owners.Go(func() {
		for end := false; !end; {
			end = done.Load()
			if err := s.TrimBefore(last.Load() - 3*8*perPart); err != nil {
				t.Error(err)
				return
			}
		}
	})
	owners.Wait()
	if err := s.Close(); err != nil { // the readers are at it still
		t.Error(err)
	}
	readers.Wait()
	for _, q := range qs {
		if q.Max() != parts*perPart/queues || q.Min() == 0 {
			t.Errorf("queue %d: %d to %d", q.ID(), q.Min(), q.Max())
		}
	}
}

// readAlong reads at random until the set is closed.
func readAlong(t *testing.T, s *segindex.Set, qs []*segindex.Queue, r *rand.Rand, done *atomic.Bool) {
	buf := make([]segindex.Entry, 300)
	for {
		q := qs[r.IntN(len(qs))]
		from := q.Min()
		if kept := q.Max() - from; r.IntN(4) == 0 {
			from += r.Int64N(kept + 1)
		} else { // where entries come in, and where memory ends
			from += max(kept-1-int64(r.IntN(3)*perPart/queues), 0)
		}
		n, err := q.Read(from, buf[:1+r.IntN(len(buf))])
		switch {
		case errors.Is(err, segindex.ErrClosed) && done.Load():
			return
		case errors.Is(err, segindex.ErrTrimmed) && from < q.Min():
			continue
		case err != nil:
			t.Error(err)
			return
		}
		for i, e := range buf[:n] {
			if e != entryOf(q.ID(), from+int64(i), e.Pos) {
				t.Errorf("queue %d at %d: %+v", q.ID(), from+int64(i), e)
				return
			}
		}
		if at, err := q.AtTime(1_000_000 + from); err == nil && at != max(from, at) {
			t.Errorf("queue %d at the time of %d: %d", q.ID(), from, at)
		} else if err != nil && !errors.Is(err, segindex.ErrClosed) {
			t.Error(err)
		}
		found, err := lookup(s, uint64(r.IntN(64))<<58)
		if !slices.IsSortedFunc(found, func(a, b int64) int { return int(b - a) }) || err != nil && !errors.Is(err, segindex.ErrClosed) {
			t.Errorf("lookup: %v %v", found, err)
		}
	}
}
