package commitlog_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// R08: any single bit, anywhere, in any file of a cleanly closed store. What is
// delivered is right; damage to frames is refused; nothing durable is cut.
func TestOpen_BitFlips(t *testing.T) {
	t.Parallel()
	base := vfs.NewMem()
	l, _, _ := mustOpen(t, base, 700)
	recs := appendAll(t, l, 0, 30, 50)
	check(t, l.Close())
	segs := l.Segments()
	names, err := base.List(".")
	check(t, err)
	rng := rand.New(rand.NewPCG(8, 8))
	flips := 0
	for _, name := range names {
		size, err := base.Size(name)
		check(t, err)
		used := int64(0)
		for _, s := range segs {
			if s.Name == name {
				used = s.End - s.Base
			}
		}
		for off := rng.Int64N(3); off < size; off += 1 + rng.Int64N(5) {
			flips++
			m := base.CrashClone(vfs.CrashOptions{})
			patch(t, m, name, func(f vfs.File, _ int64) {
				b := make([]byte, 1)
				_, _ = f.ReadAt(b, off)
				b[0] ^= 1 << rng.IntN(8)
				_, err := f.WriteAt(b, off)
				check(t, err)
			})
			l, got, rec, err := open(m, 700)
			switch {
			case off < used && !errors.Is(err, commitlog.ErrCorrupt):
				t.Fatalf("%s at %d: %v", name, off, err)
			case off >= used && err != nil:
				t.Fatalf("%s at %d, no frame: %v", name, off, err)
			case err == nil:
				same(t, name, got, recs)
				if rec.TruncatedBytes > 0 && used == 0 {
					t.Fatalf("%s at %d: %+v", name, off, rec)
				}
				check(t, l.Close())
			}
		}
	}
	if flips < 500 {
		t.Fatalf("only %d flips", flips)
	}
}

// A frame that rots while the log is open is refused, and only that one.
func TestRead_ReportsRot(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l, _, _ := mustOpen(t, m, 64<<10)
	recs := appendAll(t, l, 0, 3, 40)
	check(t, l.Flush())
	for off := recs[1].pos; off < recs[2].pos; off++ {
		var old [1]byte
		patch(t, m, firstSegment, func(f vfs.File, _ int64) {
			_, _ = f.ReadAt(old[:], off)
			_, _ = f.WriteAt([]byte{old[0] ^ 0x10}, off)
		})
		if _, p, err := l.Read(recs[1].pos, nil); !errors.Is(err, commitlog.ErrCorrupt) {
			t.Fatalf("byte %d: %q, %v", off-recs[1].pos, p, err)
		}
		for _, r := range []record{recs[0], recs[2]} {
			if _, p, err := l.Read(r.pos, nil); err != nil || string(p) != r.payload {
				t.Fatalf("a neighbour: %q, %v", p, err)
			}
		}
		patch(t, m, firstSegment, func(f vfs.File, _ int64) { _, _ = f.WriteAt(old[:], off) })
	}
	if l.Failed() != nil {
		t.Fatal(l.Failed())
	}
}

// A whole, valid frame in the wrong place is not the frame of that place.
func TestRead_MisplacedFrame(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l, _, _ := mustOpen(t, m, 64<<10)
	recs := appendAll(t, l, 0, 3, 40)
	check(t, l.Flush())
	patch(t, m, firstSegment, func(f vfs.File, _ int64) {
		b := make([]byte, recs[1].pos)
		_, _ = f.ReadAt(b, recs[1].pos)
		_, _ = f.WriteAt(b, recs[2].pos)
	})
	if _, p, err := l.Read(recs[2].pos, nil); !errors.Is(err, commitlog.ErrCorrupt) {
		t.Fatalf("%q, %v", p, err)
	}
}
