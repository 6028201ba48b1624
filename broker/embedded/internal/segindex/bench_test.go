package segindex_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/segindex"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

const benchPart = 64 << 10 // messages in a part: a segment of 64 MiB with messages of 1 KiB

func BenchmarkAdd(b *testing.B) {
	for _, queues := range []int{1, 16, 10_000} {
		b.Run(fmt.Sprintf("queues=%d", queues), func(b *testing.B) {
			s := segindex.New(vfs.NewMem(), store)
			s.Begin(0)
			var qs []*segindex.Queue
			for id := range queues {
				qs = append(qs, s.Queue(uint32(id)))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				q := qs[i%queues]
				s.Add(q, q.Max(), segindex.Entry{Pos: int64(i) << 10, StoredMs: int64(i >> 10), Size: 1000})
				if i++; i%benchPart == 0 { // what is beyond the active part is not measured
					base := int64(i) << 10
					s.Begin(base)
					s.TrimBefore(base)
				}
			}
		})
	}
}

func BenchmarkAddKey(b *testing.B) {
	s := segindex.New(vfs.NewMem(), store)
	s.Begin(0)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.AddKey(uint64(i)*0x9E3779B97F4A7C15, int64(i)<<10)
		if i++; i%benchPart == 0 {
			base := int64(i) << 10
			s.Begin(base)
			s.TrimBefore(base)
		}
	}
}

// benchSet is a set of full parts in a real directory, 16 queues and a key a
// message.
func benchSet(b *testing.B, parts int) (*segindex.Set, vfs.FS, []int64) {
	fs, err := vfs.Dir(b.TempDir(), vfs.MustExist)
	if err != nil {
		b.Fatal(err)
	}
	s := segindex.New(fs, store)
	var bases []int64
	i := 0
	for range parts {
		bases = append(bases, int64(i)<<10)
		s.Begin(int64(i) << 10)
		for range benchPart {
			q := s.Queue(uint32(i % 16))
			s.Add(q, q.Max(), segindex.Entry{Pos: int64(i) << 10, StoredMs: int64(i >> 10), Size: 1000})
			s.AddKey(uint64(i)*0x9E3779B97F4A7C15, int64(i)<<10)
			i++
		}
		for s.Unwritten() > 0 {
			if err := s.WriteNext(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Cleanup(func() { s.Close(); fs.Close() })
	return s, fs, bases
}

func BenchmarkRead32(b *testing.B) {
	s, _, _ := benchSet(b, 5)
	q := s.Queue(3)
	inFiles := int64(4 * benchPart / 16)
	for _, c := range []struct {
		name     string
		from, to int64
		random   bool
	}{
		{"memory", inFiles, q.Max(), false},
		{"file", 0, inFiles, false},
		{"file-random", 0, inFiles, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]segindex.Entry, 32)
			b.ReportAllocs()
			offset := c.from
			for b.Loop() {
				if n, err := q.Read(offset, buf); n != 32 || err != nil {
					b.Fatal(n, err)
				}
				if offset += 32; c.random {
					offset = rand.Int64N(c.to - 32)
				}
				if offset+32 > c.to {
					offset = c.from
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	s, _, _ := benchSet(b, 5)
	for _, c := range []struct {
		name     string
		from, to int
	}{
		{"active", 4 * benchPart, 5 * benchPart},
		{"oldest-of-5", 0, benchPart},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				found := false
				i := uint64(c.from + rand.IntN(c.to-c.from))
				err := s.Lookup(i*0x9E3779B97F4A7C15, func(int64) bool {
					found = true
					return false
				})
				if err != nil || !found {
					b.Fatal(found, err)
				}
			}
		})
	}
}

func BenchmarkWriteNext(b *testing.B) {
	fs, err := vfs.Dir(b.TempDir(), vfs.MustExist)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		s := segindex.New(fs, store)
		s.Begin(0)
		for i := range benchPart {
			q := s.Queue(uint32(i % 16))
			s.Add(q, q.Max(), segindex.Entry{Pos: int64(i) << 10, Size: 1000})
			s.AddKey(uint64(i)*0x9E3779B97F4A7C15, int64(i)<<10)
		}
		s.Begin(1 << 30)
		b.StartTimer()
		if err := s.WriteNext(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}

// BenchmarkLoad opens the index of 160 segments, 10 GiB of log, with 1,000
// queues in each.
func BenchmarkLoad(b *testing.B) {
	fs, err := vfs.Dir(b.TempDir(), vfs.MustExist)
	if err != nil {
		b.Fatal(err)
	}
	s := segindex.New(fs, store)
	var bases []int64
	for i := range int64(160) {
		bases = append(bases, i<<26)
		s.Begin(i << 26)
		for id := range uint32(1000) {
			q := s.Queue(id)
			s.Add(q, q.Max(), segindex.Entry{Pos: i << 26, Size: 1})
		}
		for s.Unwritten() > 0 {
			if err := s.WriteNext(); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.WriteActive(160 << 26); err != nil {
		b.Fatal(err)
	}
	s.Close()
	for _, c := range []struct {
		name string
		upTo int64
	}{{"closed", 160 << 26}, {"crashed", 159 << 26}} { // in this order: the second removes the last file
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s := segindex.New(fs, store)
				if err := s.Load(bases, c.upTo); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				s.Close()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkQueues reports how much memory an idle queue takes: 40,000 of them
// that have been in use, with their entries in a file.
func BenchmarkQueues(b *testing.B) {
	const queues = 40_000
	for b.Loop() {
		fs := vfs.NewMem()
		s := segindex.New(fs, store)
		before := heap()
		s.Begin(0)
		for i := range uint32(3 * queues) {
			q := s.Queue(i % queues)
			s.Add(q, q.Max(), segindex.Entry{Pos: int64(i), Size: 1})
		}
		active := heap()
		s.Begin(1 << 20)
		if err := s.WriteNext(); err != nil {
			b.Fatal(err)
		}
		file, _ := fs.Size(fmt.Sprintf("%020d.idx", 0))
		idle := heap() - file // the file is in memory too
		b.ReportMetric(float64(active-before)/queues, "B/queue-active")
		b.ReportMetric(float64(idle-before)/queues, "B/queue")
		runtime.KeepAlive(s)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
