package segindex

import (
	"encoding/binary"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// FuzzLoad takes anything for an index file. Nothing may panic or take long,
// whether the checksums match or not. Run it with -fuzzminimizetime 10x: a file
// has thousands of bytes, and making it smaller takes all the time otherwise.
func FuzzLoad(f *testing.F) {
	good := goodFile(f)
	f.Add(good, int64(500), true)
	f.Add(good, int64(1000), false)
	f.Add(good[:blockSize], int64(1000), true)
	f.Add([]byte{}, int64(1), false)
	f.Fuzz(func(t *testing.T, b []byte, upTo int64, repair bool) {
		if repair {
			for i := 0; i+blockSize <= len(b); i += blockSize {
				seed := uint32(0)
				if i > 0 {
					seed = blockSeed(1, 0) ^ uint32(i/blockSize)
				}
				putChecksum(b[i:i+blockSize], seed)
			}
		}
		for _, bases := range [][]int64{{0}, {0, upTo}} {
			fs := vfs.NewMem()
			file, err := fs.Create(fileName(0))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt(b, 0); err != nil {
				t.Fatal(err)
			}
			file.Close()
			use(fs, bases, upTo)
		}
	})
}

// use does all there is to do with a set; the errors are not of interest.
func use(fs vfs.FS, bases []int64, upTo int64) {
	s := New(fs, 1)
	defer s.Close()
	if s.Load(bases, upTo) != nil {
		return
	}
	buf := make([]Entry, 700)
	for id := range uint32(5) {
		q := s.Queue(id)
		for offset, tries := q.Min(), 0; tries < 5; tries++ {
			n, err := q.Read(offset, buf)
			if err != nil || n == 0 {
				break
			}
			offset += int64(n)
		}
		q.AtTime(1000)
	}
	for _, hash := range []uint64{0, 5, 1 << 63, ^uint64(0)} {
		s.Lookup(hash, func(int64) bool { return true })
	}
	s.Add(s.Queue(0), s.Queue(0).Max(), Entry{Pos: max(upTo, 0), Size: 1})
	s.Begin(upTo + 10)
	s.WriteNext()
	s.TrimBefore(upTo)
	s.WriteActive(upTo + 20)
}

func goodFile(f *testing.F) []byte {
	fs := vfs.NewMem()
	s := New(fs, 1)
	s.Begin(0)
	s.Queue(1).SetStart(77)
	for i := range int64(300) {
		q := s.Queue(uint32(i % 3))
		s.Add(q, q.Max()+i/100*i%7, Entry{Pos: i, StoredMs: i, Size: 1})
		s.AddKey(uint64(i)<<55, i)
	}
	s.Begin(1000)
	if err := s.WriteNext(); err != nil {
		f.Fatal(err)
	}
	file, err := fs.OpenRead(fileName(0))
	if err != nil {
		f.Fatal(err)
	}
	_, _, _, end := (*s.parts.Load())[0].disk.Load().blocks()
	b := make([]byte, end*blockSize)
	if _, err := file.ReadAt(b, 0); err != nil || binary.BigEndian.Uint32(b) != magic {
		f.Fatal(err)
	}
	return b
}
