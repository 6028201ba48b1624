package segindex_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// fill makes a log of parts with some queues and applies it to a new set.
func fill(fs vfs.FS, parts, messages int) (*segindex.Set, *machine) {
	m := &machine{ms: 1_700_000_000_000, set: segindex.New(fs, store)}
	for i := range parts {
		m.bases = append(m.bases, m.next)
		m.do(event{kind: "begin"})
		if i == 0 {
			for id := range uint32(3) {
				m.do(event{kind: "queue", queue: id})
			}
		}
		for k := range messages {
			q := m.set.Queue(uint32(k % 2))
			m.do(event{kind: "add", queue: q.ID(), offset: q.Max(), entry: segindex.Entry{StoredMs: m.ms, Tag: 7, Size: 100}})
			m.do(event{kind: "key", hash: uint64(k%50) * (math.MaxUint64 / 50)})
			m.ms++
		}
	}
	return m.set, m
}

// A crash at any operation of writing leaves the whole file or none.
func TestWriteNext_crash(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		mem := vfs.NewMem()
		seed := rapid.Uint64().Draw(rt, "seed")
		keep := rapid.SampledFrom([]float64{0, 0.5, 0.9, 1}).Draw(rt, "keep")
		var m *machine
		done := 0
		verify := func() {
			clone := mem.CrashClone(vfs.CrashOptions{Keep: keep, Stale: 0.5, Rand: rand.New(rand.NewPCG(seed, uint64(done)))})
			// With the files that are done, and with the one that is being written.
			for i, upTo := range m.bases[done:min(done+2, len(m.bases))] {
				s := segindex.New(clone, store)
				err := s.Load(m.bases, upTo)
				if err != nil && (i == 0 || !vfs.IsNotExist(err)) {
					rt.Fatalf("%d files, load up to %d: %v", done, upTo, err)
				}
				if err == nil {
					fold(m.events, 0, upTo).check(rt, s, 0, 64)
				}
				s.Close()
			}
		}
		fs := vfs.Inject(mem, func(op vfs.Op) error {
			if m != nil && op.Kind.Changes() {
				verify()
			}
			return nil
		})
		set, log := fill(fs, 3, 150)
		defer set.Close()
		for m = log; set.Unwritten() > 0; done++ {
			if err := set.WriteNext(); err != nil {
				rt.Fatalf("%v", err)
			}
		}
		verify()
	})
}

// An error at any operation of writing changes nothing, and the next try works.
func TestWriteNext_errors(t *testing.T) {
	t.Parallel()
	fault := errors.New("injected")
	for at := 1; ; at++ {
		mem := vfs.NewMem()
		armed, met := false, false
		n := 0
		fs := vfs.Inject(mem, func(vfs.Op) error {
			if armed {
				if n++; n == at {
					met = true
					return fault
				}
			}
			return nil
		})
		set, m := fill(fs, 2, 100)
		armed = true
		err := set.WriteNext()
		if err == nil && !met {
			if at < 8 {
				t.Fatalf("only %d operations", at)
			}
			return
		}
		if !errors.Is(err, fault) || set.Unwritten() != 1 {
			t.Errorf("operation %d: %v, %d unwritten", at, err, set.Unwritten())
		}
		fold(m.events, 0, math.MaxInt64).check(t, set, 0, 64)
		if err := set.WriteNext(); err != nil || set.Unwritten() != 0 {
			t.Errorf("operation %d, again: %v, %d unwritten", at, err, set.Unwritten())
		}
		fold(m.events, 0, math.MaxInt64).check(t, set, 0, 64)
		if names, err := mem.List("."); err != nil || len(names) != 1 {
			t.Errorf("operation %d: there are %q, %v", at, names, err)
		}
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Every bit of a file matters: with any of them flipped an error is met, and
// nothing that is read is wrong.
func TestLoad_everyBit(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	set, m := fill(mem, 2, 100)
	if err := set.WriteActive(m.next); err != nil {
		t.Fatal(err)
	}
	set.Close()
	want := fold(m.events, 0, math.MaxInt64)
	stride := 1
	if raceEnabled {
		stride = 101
	}
	for part, base := range m.bases {
		good := content(t, mem, base)
		fs := vfs.NewMem()
		for _, b := range m.bases {
			write(t, fs, b, content(t, mem, b))
		}
		f, err := fs.OpenReadWrite(fmt.Sprintf("%020d.idx", base))
		if err != nil {
			t.Fatal(err)
		}
		for bit := 0; bit < len(good)*8; bit += stride {
			f.WriteAt([]byte{good[bit/8] ^ 1<<(bit%8)}, int64(bit/8))
			s := segindex.New(fs, store)
			err := s.Load(m.bases, m.next)
			if err == nil {
				err = want.readDamaged(t, s)
			}
			if !errors.Is(err, segindex.ErrDamaged) {
				t.Fatalf("part %d, bit %d of byte %d: %v", part, bit%8, bit/8, err)
			}
			s.Close()
			f.WriteAt(good[bit/8:bit/8+1], int64(bit/8))
		}
		f.Close()
	}
}

// readDamaged reads everything; whatever is answered must be right. It answers
// the first error.
func (n naive) readDamaged(t *testing.T, s *segindex.Set) (failure error) {
	t.Helper()
	buf := make([]segindex.Entry, 64)
	for _, id := range n.ids() {
		q := s.Queue(id)
		want := n.queues[id]
		if q.Max() != want.next() {
			t.Fatalf("queue %d ends at %d", id, q.Max())
		}
		for o := q.Min(); o < q.Max(); {
			k, err := q.Read(o, buf)
			if !slices.Equal(buf[:k], want.entries[o:o+int64(k)]) {
				t.Fatalf("queue %d at %d: wrong entries", id, o)
			}
			if o += int64(k); err != nil {
				failure = err
				break
			}
		}
	}
	for hash, want := range n.keys {
		got, err := lookup(s, hash)
		if slices.Reverse(got); err != nil {
			failure = err
		}
		if len(got) > len(want) || !slices.Equal(got, want[len(want)-len(got):]) {
			t.Fatalf("key %x: got %v, want the end of %v", hash, got, want)
		}
	}
	return failure
}

func write(t testing.TB, fs vfs.FS, base int64, b []byte) {
	t.Helper()
	f, err := fs.Create(fmt.Sprintf("%020d.idx", base))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// A good block in a wrong place is as bad as a damaged one.
func TestLoad_wrongBlocks(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	set, m := fill(mem, 3, 1000)
	for set.Unwritten() > 0 {
		if err := set.WriteNext(); err != nil {
			t.Fatal(err)
		}
	}
	set.Close()
	bases, upTo := m.bases, m.bases[2]
	want := fold(m.events, 0, upTo)
	first, second := content(t, mem, bases[0]), content(t, mem, bases[1])
	const block = 4096
	swapped := slices.Concat(first[:2*block], first[3*block:4*block], first[2*block:3*block], first[4*block:])
	other := slices.Concat(first[:2*block], second[2*block:3*block], first[3*block:])
	for name, b := range map[string][]byte{
		"two blocks swapped":   swapped,
		"a block of another":   other,
		"another file":         second,
		"a block less":         first[:len(first)-block],
		"a block more":         append(slices.Clone(first), first[:block]...),
		"half a header":        first[:block/2],
		"nothing":              nil,
		"as it was made":       first,
		"header of the second": slices.Concat(second[:block], first[block:]),
	} {
		fs := vfs.NewMem()
		write(t, fs, bases[0], b)
		write(t, fs, bases[1], second)
		s := segindex.New(fs, store)
		err := s.Load(bases, upTo)
		if err == nil {
			err = want.readDamaged(t, s)
		}
		if good := name == "as it was made"; good != (err == nil) || !good && !errors.Is(err, segindex.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
	s := segindex.New(mem, store+1)
	if err := s.Load(bases, upTo); !errors.Is(err, segindex.ErrDamaged) {
		t.Errorf("of another store: %v", err)
	}
	if names, _ := mem.List("."); len(names) != 2 {
		t.Errorf("an error of Load left %q", names)
	}
	s = segindex.New(mem, store)
	if err := s.Load([]int64{bases[1], bases[0], bases[2]}, upTo); !errors.Is(err, segindex.ErrMisuse) {
		t.Errorf("bases out of order: %v", err)
	}
}

// What is on disk never changes.
func TestFormat_fixed(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s, m := fill(fs, 2, 1000)
	s.Queue(2).SetStart(1 << 40)
	s.Add(s.Queue(0), s.Queue(0).Max()+5000, segindex.Entry{Pos: m.next, StoredMs: m.ms, Tag: -7, Size: 9})
	s.Drop(1)
	if err := s.WriteActive(m.next + 10); err != nil {
		t.Fatal(err)
	}
	s.Close()
	want := []string{
		"43396ee680aa82b8bd09086db3f105b3c860cd1e91134b2a3708c9a681e47487",
		"243745fca74918b6b9681fc7f357e4a9f14548d76c697c0452f6343c20cd7b53",
	}
	for i, base := range m.bases {
		if got := fmt.Sprintf("%x", sha256.Sum256(content(t, fs, base))); got != want[i] {
			t.Errorf("part %d: %s", i, got)
		}
	}
}
