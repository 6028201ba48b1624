package halves_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
)

// model is a table without any economy.
type model struct {
	keep    int
	byID    map[halves.ID]*halves.Half
	decided []halves.ID
}

func (m *model) prepare(h halves.Half) {
	if m.byID[h.ID] == nil {
		h.State = halves.Open
		m.byID[h.ID] = &h
	}
}

func (m *model) at(pos int64) *halves.Half {
	for _, h := range m.byID {
		if h.Pos == pos && (h.State == halves.Open || h.State == halves.Parked) {
			return h
		}
	}
	return nil
}

func (m *model) decide(pos int64, s halves.State) {
	h := m.at(pos)
	if h == nil {
		return
	}
	*h = halves.Half{ID: h.ID, Pos: h.Pos, State: s}
	if m.decided = append(m.decided, h.ID); len(m.decided) > m.keep {
		delete(m.byID, m.decided[0])
		m.decided = m.decided[1:]
	}
}

func (m *model) undecided() []halves.Half {
	var all []halves.Half
	for _, h := range m.byID {
		if m.at(h.Pos) == h {
			all = append(all, *h)
		}
	}
	slices.SortFunc(all, byPos)
	return all
}

func byPos(a, b halves.Half) int { return cmp.Compare(a.Pos, b.Pos) }

func TestTable_Model(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{keep: rapid.IntRange(0, 5).Draw(t, "keep"), byID: map[halves.ID]*halves.Half{}}
		tab, pos := halves.New(m.keep), rapid.SampledFrom([]int64{0, 1 << 50}).Draw(t, "from")
		first := pos
		ids := []halves.ID{{"a", "b"}, {"ab", ""}, {"", "ab"}, {"g", "1"}, {"g", "2"}, {"h", "1"}, {"h", "2"}, {"h", strings.Repeat("x", 300)}}
		t.Repeat(map[string]func(*rapid.T){
			"prepare": func(t *rapid.T) {
				h := halves.Half{
					ID: rapid.SampledFrom(ids).Draw(t, "id"), Pos: pos,
					StoredMs: rapid.Int64Range(-5, 1<<41).Draw(t, "stored"), Size: rapid.IntRange(0, 8<<20).Draw(t, "size"),
				}
				pos += rapid.Int64Range(1, 4).Draw(t, "step")
				tab.Prepare(h)
				m.prepare(h)
			},
			"decide": func(t *rapid.T) {
				p := rapid.Int64Range(max(first, pos-12), pos).Draw(t, "pos")
				s := rapid.SampledFrom([]halves.State{halves.Committed, halves.RolledBack}).Draw(t, "how")
				tab.Decide(p, s)
				m.decide(p, s)
			},
			"park": func(t *rapid.T) {
				p, ms, checks := rapid.Int64Range(max(first, pos-12), pos).Draw(t, "pos"), rapid.Int64().Draw(t, "ms"), rapid.IntRange(0, 99).Draw(t, "checks")
				tab.Park(p, ms, checks)
				if h := m.at(p); h != nil && h.State == halves.Open {
					h.State, h.ParkedMs, h.Checks = halves.Parked, ms, checks
				}
			},
			"restart": func(t *rapid.T) {
				b := tab.AppendTo(nil)
				var err error
				if tab, err = halves.Decode(b, m.keep); err != nil {
					t.Fatalf("decode: %v", err)
				}
				if again := tab.AppendTo(nil); !bytes.Equal(again, b) {
					t.Fatalf("%x came back as %x", b, again)
				}
			},
			"": func(t *rapid.T) { check(t, tab, m, ids) },
		})
	})
}

func check(t *rapid.T, tab *halves.Table, m *model, ids []halves.ID) {
	for _, id := range ids {
		want := halves.Half{ID: id}
		if h := m.byID[id]; h != nil {
			want = *h
		}
		if got := tab.Get(id); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		at, ok := tab.At(want.Pos)
		if open := m.at(want.Pos); ok != (open != nil) || ok && at != *open {
			t.Fatalf("at %d: got %+v, %v; want %+v", want.Pos, at, ok, open)
		}
	}
	want := m.undecided()
	var got []halves.Half
	tab.Undecided(func(h halves.Half) { got = append(got, h) })
	slices.SortFunc(got, byPos)
	if !slices.Equal(got, want) || tab.Len() != len(want) {
		t.Fatalf("%d undecided: %+v, want %+v", tab.Len(), got, want)
	}
	pos, ok := tab.MinPos()
	if ok != (len(want) > 0) || ok && pos != want[0].Pos {
		t.Fatalf("lowest position is %d, %v; undecided are %+v", pos, ok, want)
	}
}

func example() *halves.Table {
	tab := halves.New(2)
	for i, id := range []halves.ID{{"g", "1"}, {"g", "2"}, {"f", "3"}, {"f", "4"}, {"g", "5"}} {
		tab.Prepare(halves.Half{ID: id, Pos: int64(100 * (i + 1)), StoredMs: 10, Size: 300})
	}
	tab.Park(300, 20, 15)
	tab.Decide(400, halves.Committed) // forgotten
	tab.Decide(200, halves.RolledBack)
	tab.Decide(100, halves.Committed)
	return tab
}

// The bytes on disk, and the hash of an id, must not change by accident.
func TestAppendTo_Golden(t *testing.T) {
	t.Parallel()
	want := "x\x01\x02\x01f\x01g" +
		"\x02" + "\xac\x02\x00\x013\x14\xac\x02\x01\x28\x1e" + "\xc8\x01\x01\x015\x14\xac\x02\x00" +
		"\x02" + "\x79\x17\xa1\x20\xbe\x0f\xd0\xb5\x78\xc4\x8a\x2f\xa8\x76\xf2\xcf" + "\x90\x03" +
		"\xbc\x9a\xd1\x71\x04\x28\xe5\x0f\x2d\x57\xc3\x57\x6d\x59\x2c\x61" + "\xc9\x01"
	if got := string(example().AppendTo([]byte("x"))); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	b := example().AppendTo(nil)
	for cut := range b {
		if _, err := halves.Decode(b[:cut], 2); !errors.Is(err, halves.ErrMalformed) {
			t.Errorf("cut to %d of %d bytes: got %v, want ErrMalformed", cut, len(b), err)
		}
	}
	for what, b := range map[string][]byte{
		"a byte behind":     append(slices.Clone(b), 0),
		"another version":   append([]byte{2}, b[1:]...),
		"an unknown group":  []byte("\x01\x01\x01g\x01\x05\x01\x011\x00\x00\x00\x00"),
		"a position twice":  []byte("\x01\x01\x01g\x02\x05\x00\x011\x00\x00\x00\x00\x00\x012\x00\x00\x00\x00"),
		"an id twice":       []byte("\x01\x01\x01g\x02\x05\x00\x011\x00\x00\x00\x05\x00\x011\x00\x00\x00\x00"),
		"a state of 2":      []byte("\x01\x01\x01g\x01\x05\x00\x011\x00\x00\x02\x00"),
		"a decision twice":  []byte("\x01\x00\x00\x02" + strings.Repeat("k", 16) + "\x02" + strings.Repeat("k", 16) + "\x04"),
		"a count too large": []byte("\x01\x00\xff\xff\xff\x7f\x00"),
	} {
		if _, err := halves.Decode(b, 2); !errors.Is(err, halves.ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", what, err)
		}
	}
	tab, err := halves.Decode(b, 1) // remembers less than the one before
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[halves.ID]halves.State{
		{"g", "1"}: halves.Committed, {"g", "2"}: halves.None, {"f", "3"}: halves.Parked, {"g", "5"}: halves.Open,
	} {
		if got := tab.Get(id).State; got != want {
			t.Errorf("%v is in state %d, want %d", id, got, want)
		}
	}
	tab, err = halves.Decode(b, 10) // remembers more, from now on
	if err != nil {
		t.Fatal(err)
	}
	tab.Decide(500, halves.Committed)
	if got := tab.Get(halves.ID{Group: "g", Tx: "2"}).State; got != halves.RolledBack {
		t.Errorf("the oldest decision is %d, want RolledBack", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(halves.New(5).AppendTo(nil), 5)
	f.Add(example().AppendTo(nil), 2)
	f.Add([]byte("\x01\x00\xff\xff\xff\x7f\x00"), 0)
	f.Fuzz(func(t *testing.T, b []byte, keep int) {
		keep = min(keep, 1<<10)
		tab, err := halves.Decode(b, keep)
		if err != nil {
			return
		}
		first := tab.AppendTo(nil)
		again, err := halves.Decode(first, keep)
		if err != nil || !bytes.Equal(again.AppendTo(nil), first) {
			t.Fatalf("%x came back as %x, %v", b, first, err)
		}
		all := map[int64]halves.Half{}
		tab.Undecided(func(h halves.Half) { all[h.Pos] = h })
		if len(all) != tab.Len() {
			t.Errorf("%d undecided, at %d positions", tab.Len(), len(all))
		}
		for _, pos := range slices.Sorted(maps.Keys(all)) {
			tab.Decide(pos, halves.Committed)
		}
		if tab.Len() != 0 {
			t.Errorf("%d left after all were decided", tab.Len())
		}
	})
}

func txID(i int) string { return fmt.Sprintf("7F000001%024X", i) }

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkTable_Memory reports what a half message takes of the heap. Their
// ids have 32 characters and are parts of longer strings, as in the broker.
func BenchmarkTable_Memory(b *testing.B) {
	for what, decide := range map[string]bool{"open": false, "decided": true} {
		for _, n := range []int{100_000, 1 << 17} {
			b.Run(fmt.Sprint(what, "/", n), func(b *testing.B) {
				for b.Loop() {
					before := liveHeap()
					tab := halves.New(n)
					for i := range n {
						properties := "UNIQ_KEY" + txID(i) + strings.Repeat("p", 200)
						tab.Prepare(halves.Half{ID: halves.ID{Group: "producers", Tx: properties[8:40]}, Pos: int64(i) * 1000, StoredMs: int64(i)})
						if decide {
							tab.Decide(int64(i)*1000, halves.Committed)
						}
					}
					b.ReportMetric(float64(liveHeap()-before)/float64(n), "B/half")
					b.ReportMetric(float64(len(tab.AppendTo(nil)))/float64(n), "encoded-B/half")
					runtime.KeepAlive(tab)
				}
			})
		}
	}
}

// BenchmarkTable_Cycle is a half message from Prepare to Decide, with the looks
// that the broker takes at it, while a thousand are open.
func BenchmarkTable_Cycle(b *testing.B) {
	tab, i := halves.New(1<<17), 0
	ids := make([]string, 1<<20)
	for i := range ids {
		ids[i] = txID(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		id := halves.ID{Group: "producers", Tx: ids[i%len(ids)]}
		if h := tab.Get(id); h.State == halves.None {
			tab.Prepare(halves.Half{ID: id, Pos: int64(i), Size: 500})
		}
		tab.Get(id)
		tab.Decide(int64(i-1000), halves.State(4-i%2))
		i++
	}
}

func BenchmarkTable_Checkpoint(b *testing.B) {
	tab, r := halves.New(1<<17), rand.New(rand.NewPCG(1, 2))
	for i := range 1 << 18 {
		tab.Prepare(halves.Half{ID: halves.ID{Group: "producers", Tx: txID(i)}, Pos: int64(i) * 1000, Size: 500})
		if r.IntN(3) > 0 {
			tab.Decide(int64(i)*1000, halves.Committed)
		}
	}
	var buf []byte
	b.Run("AppendTo", func(b *testing.B) {
		for b.Loop() {
			buf = tab.AppendTo(buf[:0])
		}
		b.ReportMetric(float64(tab.Len()), "open")
	})
	b.Run("Decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := halves.Decode(buf, 1<<17); err != nil {
				b.Fatal(err)
			}
		}
	})
}
