package duetime_test

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/internal/duetime"
)

// model is a queue as a sorted list.
type model struct {
	now, pos int64
	waiting  []duetime.Item
	taken    []duetime.Item
}

func byDue(a, b duetime.Item) int {
	return cmp.Or(cmp.Compare(a.DueMs, b.DueMs), cmp.Compare(a.Pos, b.Pos))
}

func byPos(a, b duetime.Item) int { return cmp.Compare(a.Pos, b.Pos) }

func (m *model) all() []duetime.Item {
	return slices.SortedFunc(slices.Values(slices.Concat(m.waiting, m.taken)), byPos)
}

func (m *model) drop(f func(duetime.Item) bool) {
	m.waiting, m.taken = slices.DeleteFunc(m.waiting, f), slices.DeleteFunc(m.taken, f)
}

func (m *model) wait(it duetime.Item) {
	m.waiting = append(m.waiting, it)
	slices.SortFunc(m.waiting, byDue)
}

func TestQueue_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q, m := duetime.New(), &model{pos: rapid.SampledFrom([]int64{0, 1 << 40, 1<<52 - 10}).Draw(t, "from")}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "n") {
					it := duetime.Item{
						DueMs: max(0, m.now+rapid.Int64Range(-5, 50).Draw(t, "in")), Pos: m.pos,
						Queue: rapid.Uint32Range(math.MaxUint32-2, math.MaxUint32).Draw(t, "topic"),
					}
					m.pos += rapid.Int64Range(1, 5).Draw(t, "size") // a position is given once
					first := q.Add(it)
					if m.wait(it); first != (m.waiting[0] == it) {
						t.Fatalf("Add of %+v says first is %v; all: %+v", it, first, m.waiting)
					}
				}
			},
			"pass": func(t *rapid.T) { m.now += rapid.Int64Range(1, 20).Draw(t, "ms") },
			"take": func(t *rapid.T) {
				limit, n := rapid.IntRange(0, 40).Draw(t, "limit"), 0
				for n < min(limit, len(m.waiting)) && m.waiting[n].DueMs <= m.now {
					n++
				}
				want := append([]duetime.Item{{Pos: -1}}, m.waiting[:n]...)
				if got := q.Take(m.now, limit, []duetime.Item{{Pos: -1}}); !slices.Equal(got, want) {
					t.Fatalf("due at %d: got %+v, want %+v", m.now, got, want)
				}
				m.taken, m.waiting = append(m.taken, want[1:]...), slices.Clone(m.waiting[n:])
			},
			"back": func(t *rapid.T) {
				var some []duetime.Item
				if len(m.taken) > 0 {
					some = m.taken[rapid.IntRange(0, len(m.taken)-1).Draw(t, "from"):]
				}
				q.Back(append([]duetime.Item{{Pos: m.pos}}, some...)) // one that is not taken
				for _, it := range slices.Clone(some) {
					m.drop(func(o duetime.Item) bool { return o == it })
					m.wait(it)
				}
			},
			"done": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					// Any position, also one that never was: a replay may begin
					// behind it.
					pos := rapid.Int64Range(max(0, m.pos-200), m.pos).Draw(t, "pos")
					if all := m.all(); len(all) > 0 && rapid.Bool().Draw(t, "known") {
						pos = all[rapid.IntRange(0, len(all)-1).Draw(t, "which")].Pos
					}
					if pos == m.pos {
						continue
					}
					q.Done(pos)
					m.drop(func(it duetime.Item) bool { return it.Pos == pos })
				}
			},
			"drop": func(*rapid.T) {
				q.Drop(func(n uint32) bool { return n == math.MaxUint32 })
				m.drop(func(it duetime.Item) bool { return it.Queue == math.MaxUint32 })
			},
			"restart": func(t *rapid.T) {
				b := q.AppendTo(nil)
				var err error
				if q, err = duetime.Decode(b); err != nil {
					t.Fatalf("decode: %v", err)
				}
				m.waiting = slices.SortedFunc(slices.Values(m.all()), byDue)
				m.taken = nil
				if again := q.AppendTo(nil); !bytes.Equal(again, b) {
					t.Fatalf("%x came back as %x", b, again)
				}
			},
			"clone": func(*rapid.T) {
				c := q.Clone()
				q.Take(math.MaxInt64, math.MaxInt, nil)
				q.Drop(func(n uint32) bool { return n == math.MaxUint32-1 })
				q.Add(duetime.Item{Pos: m.pos})
				q = c
			},
			"": func(t *rapid.T) { check(t, q, m) },
		})
	})
}

func check(t *rapid.T, q *duetime.Queue, m *model) {
	head, ok := q.Head()
	if ok != (len(m.waiting) > 0) || ok && head != m.waiting[0] {
		t.Fatalf("head is %+v, %v; want the first of %+v", head, ok, m.waiting)
	}
	all := m.all()
	var got []duetime.Item
	q.Each(func(it duetime.Item) { got = append(got, it) })
	if slices.SortFunc(got, byPos); q.Len() != len(all) || !slices.Equal(got, all) {
		t.Fatalf("%d wait: %+v; want %d: %+v", q.Len(), got, len(all), all)
	}
	pos, ok := q.MinPos()
	if ok != (len(all) > 0) || ok && pos != all[0].Pos {
		t.Fatalf("lowest position is %d, %v; want that of %+v", pos, ok, all)
	}
	for _, it := range all {
		if got := q.Taken(it.Pos); got != slices.Contains(m.taken, it) {
			t.Fatalf("Taken of %+v is %v", it, got)
		}
	}
}

// Due times that cannot be told apart are clamped, and none is lost.
func TestQueue_ClampsDueTimes(t *testing.T) {
	t.Parallel()
	q := duetime.New()
	year2262 := time.Date(2262, 4, 11, 0, 0, 0, 0, time.UTC).UnixMilli()
	for i, c := range []struct{ due, want int64 }{
		{math.MinInt64, 0},
		{-1, 0},
		{0, 0},
		{1, 1},
		{year2262, year2262},
		{duetime.MaxDueMs, duetime.MaxDueMs},
		{math.MaxInt64, duetime.MaxDueMs},
	} {
		q.Add(duetime.Item{DueMs: c.due, Pos: int64(i)})
		var got int64
		q.Each(func(it duetime.Item) {
			if it.Pos == int64(i) {
				got = it.DueMs
			}
		})
		if got != c.want {
			t.Errorf("due at %d: got %d, want %d", c.due, got, c.want)
		}
	}
	if got := q.Take(year2262, 100, nil); len(got) != 5 {
		t.Errorf("due in 2262: %+v, want the first five", got)
	}
	if got := q.Take(math.MaxInt64, 100, nil); len(got) != 2 || got[0].Pos != 5 || got[1].Pos != 6 {
		t.Errorf("due ever: %+v", got)
	}
}

// A log goes on for ever: its positions outgrow what an item has room for.
func TestQueue_PositionsOutgrowThePacking(t *testing.T) {
	t.Parallel()
	q := duetime.New()
	var want []duetime.Item
	const step = 1 << 50
	for i := range int64(1 << 12) {
		it := duetime.Item{DueMs: 7, Pos: i*step + i, Queue: uint32(i)}
		q.Add(it)
		if want = append(want, it); len(want) < 3 {
			continue
		}
		got := q.Take(7, 1, nil)
		if len(got) != 1 || got[0] != want[0] {
			t.Fatalf("got %+v, want %+v", got, want[0])
		}
		if i%2 == 0 {
			q.Back(got)
		}
		again, err := duetime.Decode(q.AppendTo(nil))
		if err != nil || again.Len() != 3 {
			t.Fatalf("decoded at %d: %v", it.Pos, err)
		}
		q.Done(got[0].Pos)
		want = want[1:]
	}
}

// What is done with does not stay in memory, in whatever order it was done.
func TestQueue_DoneInAnyOrder(t *testing.T) {
	t.Parallel()
	const n = 50_000
	q := duetime.New()
	for i := range int64(n) {
		q.Add(duetime.Item{DueMs: i, Pos: i})
	}
	r := rand.New(rand.NewPCG(1, 2))
	order := r.Perm(n)
	for i, pos := range order {
		q.Done(int64(pos))
		q.Done(int64(pos))
		if i%5000 == 0 && q.Len() != n-i-1 {
			t.Fatalf("%d wait after %d are done", q.Len(), i+1)
		}
	}
	if _, ok := q.Head(); ok || q.Len() != 0 {
		t.Errorf("%d wait after all are done", q.Len())
	}
}

func TestDecode_Malformed(t *testing.T) {
	t.Parallel()
	q := duetime.New()
	q.Add(duetime.Item{DueMs: 1 << 41, Pos: 1 << 40, Queue: 3})
	q.Add(duetime.Item{DueMs: 1 << 42, Pos: 1 << 41, Queue: 300})
	b := q.AppendTo(nil)
	for cut := range b {
		if _, err := duetime.Decode(b[:cut]); !errors.Is(err, duetime.ErrMalformed) {
			t.Errorf("cut to %d of %d bytes: got %v, want ErrMalformed", cut, len(b), err)
		}
	}
	for what, b := range map[string][]byte{
		"a byte behind":      append(slices.Clone(b), 0),
		"another version":    append([]byte{2}, b[1:]...),
		"a position twice":   {1, 2, 5, 0, 0, 0, 2, 0},
		"a negative time":    {1, 1, 5, 1, 0},
		"more than it holds": {1, 200, 1, 0, 0},
		"too far apart":      {1, 2, 5, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 8, 0, 0},
	} {
		if _, err := duetime.Decode(b); !errors.Is(err, duetime.ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", what, err)
		}
	}
	if q, err := duetime.Decode(duetime.New().AppendTo(nil)); err != nil || q.Len() != 0 {
		t.Errorf("nothing waits: %v", err)
	}
}

// The bytes on disk must not change by accident.
func TestAppendTo_Golden(t *testing.T) {
	t.Parallel()
	q := duetime.New()
	q.Add(duetime.Item{DueMs: 5, Pos: 300, Queue: 2})
	q.Add(duetime.Item{DueMs: 9, Pos: 100, Queue: 1})
	q.Take(5, 1, nil)
	want := []byte{'x', 1, 2, 100, 18, 1, 0xc8, 1, 7, 2}
	if got := q.AppendTo([]byte("x")); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	q := duetime.New()
	f.Add(q.AppendTo(nil))
	for i := range int64(20) {
		q.Add(duetime.Item{DueMs: i * 7919 % 31, Pos: i * i << 30, Queue: uint32(i)})
	}
	f.Add(q.AppendTo(nil))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := duetime.Decode(b)
		if err != nil {
			return
		}
		first := q.AppendTo(nil)
		again, err := duetime.Decode(first)
		if err != nil || !bytes.Equal(again.AppendTo(nil), first) {
			t.Fatalf("%x came back as %x, %v", b, first, err)
		}
		n := q.Len()
		items := q.Take(math.MaxInt64, math.MaxInt, nil)
		if len(items) != n || !slices.IsSortedFunc(items, byDue) {
			t.Errorf("took %d of %d: %+v", len(items), n, items)
		}
	})
}

func filled(n int) *duetime.Queue {
	q, r := duetime.New(), rand.New(rand.NewPCG(1, 2))
	for i := range n {
		q.Add(duetime.Item{DueMs: 1_764_000_000_000 + r.Int64N(3_600_000), Pos: int64(i) * 1100, Queue: uint32(i % 10)})
	}
	return q
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkQueue_Memory reports what a waiting message takes of the heap, with
// a million of them.
func BenchmarkQueue_Memory(b *testing.B) {
	const n = 1 << 20
	for b.Loop() {
		before := liveHeap()
		q := filled(n)
		b.ReportMetric(float64(liveHeap()-before)/n, "B/item")
		encoded := q.AppendTo(nil)
		b.ReportMetric(float64(len(encoded))/n, "encoded-B/item")
		runtime.KeepAlive(q)
	}
}

func BenchmarkQueue_Add(b *testing.B) {
	for name, due := range map[string]func(i, r int64) int64{
		"random":    func(_, r int64) int64 { return r },
		"ascending": func(i, _ int64) int64 { return i },
	} {
		b.Run(name, func(b *testing.B) {
			q, r, i := duetime.New(), rand.New(rand.NewPCG(1, 2)), int64(0)
			for b.Loop() {
				if i++; i%(1<<20) == 0 {
					q = duetime.New()
				}
				q.Add(duetime.Item{DueMs: due(i, r.Int64N(1<<40)), Pos: i})
			}
		})
	}
}

// BenchmarkQueue_Take takes the first of a million, a batch at a time, and is
// done with them.
func BenchmarkQueue_Take(b *testing.B) {
	const n = 1 << 20
	full := filled(n)
	q, buf, left := full.Clone(), make([]duetime.Item, 0, 256), 0
	for b.Loop() {
		if left == 0 {
			if buf = q.Take(math.MaxInt64, 256, buf[:0]); len(buf) == 0 {
				b.StopTimer()
				q = full.Clone()
				b.StartTimer()
				buf = q.Take(math.MaxInt64, 256, buf)
			}
			for _, it := range buf {
				q.Done(it.Pos)
			}
			left = len(buf)
		}
		left--
	}
}

// BenchmarkQueue_Replay is what a replay does for a message that was delayed
// and fired: an Add, and a Done while ten thousand wait.
func BenchmarkQueue_Replay(b *testing.B) {
	for name, jitter := range map[string]int64{"in order": 1, "out of order": 5000} {
		b.Run(name, func(b *testing.B) {
			q, r := duetime.New(), rand.New(rand.NewPCG(1, 2))
			pos := int64(0)
			for b.Loop() {
				q.Add(duetime.Item{DueMs: pos + r.Int64N(jitter), Pos: pos})
				q.Done(pos - 10_000)
				pos++
			}
			b.ReportMetric(float64(q.Len()), "waiting")
		})
	}
}

func BenchmarkQueue_Checkpoint(b *testing.B) {
	q := filled(1 << 20)
	b.Run("Clone", func(b *testing.B) {
		for b.Loop() {
			q.Clone()
		}
	})
	var buf []byte
	b.Run("AppendTo", func(b *testing.B) {
		for b.Loop() {
			buf = q.AppendTo(buf[:0])
		}
	})
	b.Run("Decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := duetime.Decode(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
