package commitlog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

func quarantine(fsys vfs.FS, segment int64) commitlog.Options {
	return commitlog.Options{FS: fsys, SegmentBytes: segment, OnCorruption: commitlog.Quarantine}
}

// damaged makes a store of 40 frames of equal size, cleanly closed, and answers
// its records and segments.
func damaged(t testing.TB, segment int64) (*vfs.Mem, []record, []commitlog.SegmentInfo) {
	t.Helper()
	m := vfs.NewMem()
	l, _, _ := mustOpen(t, m, segment)
	recs := appendAll(t, l, 0, 40, 40)
	check(t, l.Close())
	return m, recs, l.Segments()
}

// flip changes a bit at a position of the log.
func flip(t testing.TB, m *vfs.Mem, segs []commitlog.SegmentInfo, pos int64) {
	t.Helper()
	for _, s := range segs {
		if s.Base <= pos && pos < s.End {
			patch(t, m, s.Name, func(f vfs.File, _ int64) {
				b := make([]byte, 1)
				_, err := f.ReadAt(b, pos-s.Base)
				check(t, err)
				_, err = f.WriteAt([]byte{b[0] ^ 4}, pos-s.Base)
				check(t, err)
			})
		}
	}
}

// Damage costs the frames that it hits and no other, once and for all; its
// positions are never used again.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	const segment = 1000
	size := commitlog.FrameSize(len(value(0, 40)))
	for name, c := range map[string]struct {
		hurt  func(t testing.TB, m *vfs.Mem, recs []record, segs []commitlog.SegmentInfo)
		lost  []int // frames
		holes int
	}{
		"one frame": {func(t testing.TB, m *vfs.Mem, recs []record, segs []commitlog.SegmentInfo) {
			flip(t, m, segs, recs[5].pos+50)
		}, []int{5}, 1},
		"the first frame": {func(t testing.TB, m *vfs.Mem, _ []record, segs []commitlog.SegmentInfo) {
			flip(t, m, segs, 0)
		}, []int{0}, 1},
		"two places": {func(t testing.TB, m *vfs.Mem, recs []record, segs []commitlog.SegmentInfo) {
			flip(t, m, segs, recs[5].pos+50)
			flip(t, m, segs, recs[30].pos+1)
		}, []int{5, 30}, 2},
		"neighbours": {func(t testing.TB, m *vfs.Mem, recs []record, segs []commitlog.SegmentInfo) {
			flip(t, m, segs, recs[5].pos+50)
			flip(t, m, segs, recs[6].pos+50)
		}, []int{5, 6}, 1},
		"the end of a segment": {func(t testing.TB, m *vfs.Mem, _ []record, segs []commitlog.SegmentInfo) {
			flip(t, m, segs, segs[0].End-1)
		}, []int{10}, 1},
		"over two segments": {func(t testing.TB, m *vfs.Mem, _ []record, segs []commitlog.SegmentInfo) {
			flip(t, m, segs, segs[0].End-1)
			flip(t, m, segs, segs[1].Base)
		}, []int{10, 11}, 1},
		"the last frame": {func(t testing.TB, m *vfs.Mem, recs []record, segs []commitlog.SegmentInfo) {
			flip(t, m, segs, recs[39].pos+60)
		}, []int{39}, 1},
		"a segment is missing": {func(t testing.TB, m *vfs.Mem, _ []record, segs []commitlog.SegmentInfo) {
			check(t, m.Remove(segs[2].Name))
		}, frames(22, 33), 1},
		"the first segment is missing": {func(t testing.TB, m *vfs.Mem, _ []record, segs []commitlog.SegmentInfo) {
			check(t, m.Remove(segs[0].Name))
		}, frames(0, 11), 1},
		"the last segment is missing": {func(t testing.TB, m *vfs.Mem, _ []record, segs []commitlog.SegmentInfo) {
			check(t, m.Remove(segs[len(segs)-1].Name))
		}, frames(33, 40), 1},
		"a segment is short": {func(t testing.TB, m *vfs.Mem, _ []record, segs []commitlog.SegmentInfo) {
			patch(t, m, segs[1].Name, func(f vfs.File, _ int64) { check(t, f.Truncate(2*size+7)) })
		}, frames(13, 22), 1},
		"everything": {func(t testing.TB, m *vfs.Mem, _ []record, segs []commitlog.SegmentInfo) {
			for _, s := range segs {
				check(t, m.Remove(s.Name))
			}
		}, frames(0, 40), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, recs, segs := damaged(t, segment)
			c.hurt(t, m, recs, segs)
			before := snapshot(t, m)
			if _, _, _, err := open(m, segment); !errors.Is(err, commitlog.ErrCorrupt) {
				t.Fatalf("refuse: %v", err)
			}
			if after := snapshot(t, m); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Fatal("the refusal changed the store")
			}
			report, err := commitlog.Inspect(m, commitlog.Visitor{})
			check(t, err)
			if len(report.Damage) != c.holes || report.Frames != 40-len(c.lost) || report.TornBytes != 0 {
				t.Fatalf("inspect: %+v", report)
			}
			if after := snapshot(t, m); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Fatal("inspect changed the store")
			}

			left := slices.Clone(recs)
			for _, i := range slices.Backward(c.lost) {
				left = slices.Delete(left, i, i+1)
			}
			end := recs[39].pos + size
			var holes []commitlog.Hole
			for round := range 3 {
				opts := quarantine(m, segment)
				if round > 0 {
					opts.OnCorruption = commitlog.Refuse // a known hole is no news
				}
				l, got, rec := mustOpenWith(t, opts)
				same(t, fmt.Sprint("round ", round), got, left)
				if round == 0 {
					holes = rec.Holes
					if rec.End < end || len(rec.New) != c.holes || !slices.Equal(rec.New, rec.Holes) {
						t.Fatalf("%+v", rec)
					}
					for i, d := range report.Damage {
						if h := holes[i]; d.File != h.Segment || d.Offset != h.Offset || d.Pos != h.Pos || d.End != h.End {
							t.Fatalf("inspect said %+v, open %+v", d, h)
						}
					}
				} else if !slices.Equal(rec.Holes, holes) || len(rec.New) != 0 {
					t.Fatalf("round %d: %+v, want %+v", round, rec, holes)
				}
				for _, i := range c.lost {
					if _, _, err := l.Read(recs[i].pos, nil); !errors.Is(err, commitlog.ErrCorrupt) {
						t.Fatalf("read of lost frame %d: %v", i, err)
					}
				}
				for _, r := range left {
					if _, p, err := l.Read(r.pos, nil); err != nil || string(p) != r.payload {
						t.Fatalf("read %d: %v", r.pos, err)
					}
				}
				more := appendAll(t, l, 100*round, 100*round+3, 40)
				if more[0].pos < end {
					t.Fatalf("position %d was used before", more[0].pos)
				}
				left = append(left, more...)
				check(t, l.Flush())
				var scanned []record
				check(t, l.Scan(0, func(f commitlog.Frame) error {
					scanned = append(scanned, record{f.Pos, f.Kind, string(f.Payload)})
					return nil
				}))
				same(t, "scan", scanned, left)
				check(t, l.Close())
			}
			report, err = commitlog.Inspect(m, commitlog.Visitor{})
			check(t, err)
			if len(report.Damage) != len(holes) || !report.Damage[0].Quarantined {
				t.Fatalf("inspect of known holes: %+v", report.Damage)
			}
		})
	}
}

func frames(from, to int) []int {
	var is []int
	for i := from; i < to; i++ {
		is = append(is, i)
	}
	return is
}

// Holes go with the segments that a trim removes.
func TestQuarantine_TrimDropsHoles(t *testing.T) {
	t.Parallel()
	m, recs, segs := damaged(t, 1000)
	flip(t, m, segs, recs[5].pos)
	flip(t, m, segs, recs[20].pos)
	l, _, rec := mustOpenWith(t, quarantine(m, 1000))
	if len(rec.Holes) != 2 {
		t.Fatalf("%+v", rec)
	}
	check(t, l.TrimBefore(segs[1].Base))
	if h := l.Holes(); len(h) != 1 || h[0].Pos != recs[20].pos {
		t.Fatalf("%+v", h)
	}
	check(t, l.Close())
	_, got, rec := mustOpen(t, m, 1000)
	if len(rec.Holes) != 1 {
		t.Fatalf("%+v", rec)
	}
	same(t, "after the trim", got, slices.Concat(recs[11:20], recs[21:]))
}

// Random damage to random stores: what comes back was written, damage is told,
// and what one open has accepted the next one finds.
func TestQuarantine_RandomDamage(t *testing.T) {
	t.Parallel()
	n := 400
	if raceEnabled || testing.Short() {
		n = 40
	}
	for seed := range uint64(n) {
		rng := rand.New(rand.NewPCG(seed, 11))
		m, recs, segs := damaged(t, []int64{512, 1000, 5000}[rng.IntN(3)])
		for range 1 + rng.IntN(4) {
			s := segs[rng.IntN(len(segs))]
			if _, err := m.Size(s.Name); err != nil {
				continue
			}
			switch rng.IntN(5) {
			case 0:
				check(t, m.Remove(s.Name))
			case 1:
				patch(t, m, s.Name, func(f vfs.File, size int64) { check(t, f.Truncate(rng.Int64N(size+1))) })
			default:
				patch(t, m, s.Name, func(f vfs.File, size int64) {
					junk := make([]byte, 1+rng.IntN(600))
					for i := range junk {
						junk[i] = byte(rng.IntN(256))
					}
					_, err := f.WriteAt(junk, rng.Int64N(max(1, size)))
					check(t, err)
				})
			}
		}
		var end int64
		for round := range 3 {
			l, got, rec, err := openWith(quarantine(m, 1000))
			if err != nil {
				t.Fatalf("seed %d, round %d: %v", seed, round, err)
			}
			known := map[record]bool{}
			for _, r := range recs {
				known[r] = true
			}
			for _, r := range got {
				if !known[r] {
					t.Fatalf("seed %d, round %d: nobody wrote %.80v", seed, round, r)
				}
			}
			lost := int64(0)
			for _, h := range rec.Holes {
				lost += h.End - h.Pos
			}
			kept := int64(0)
			for _, r := range got {
				kept += commitlog.FrameSize(len(r.payload))
			}
			if kept+lost != rec.End-rec.Start || rec.End < end || round > 0 && len(rec.New) > 0 {
				t.Fatalf("seed %d, round %d: %d kept, %d lost: %+v", seed, round, kept, lost, rec)
			}
			recs = append(got, appendAll(t, l, 100+round, 101+round, 40)...)
			check(t, l.Close())
			end = l.NextPos()
		}
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	m, recs, segs := damaged(t, 1000)
	at := func(pos int64) ([]record, commitlog.Recovery, commitlog.Known, error) {
		var known commitlog.Known
		l, got, rec, err := openWith(commitlog.Options{FS: m, SegmentBytes: 1000, From: func(k commitlog.Known) int64 {
			known = k
			return pos
		}})
		if err == nil {
			check(t, l.Close())
		}
		return got, rec, known, err
	}
	end := recs[39].pos + commitlog.FrameSize(len(recs[39].payload))
	for i := range 41 {
		pos := end
		if i < 40 {
			pos = recs[i].pos
		}
		got, rec, known, err := at(pos)
		check(t, err)
		same(t, fmt.Sprint("from frame ", i), got, recs[i:])
		if rec.Replayed != pos || rec.Start != 0 || rec.End != end || rec.Frames != 40-i {
			t.Fatalf("from %d: %+v", pos, rec)
		}
		if known.Start != 0 || known.Synced != end || !known.Clean || len(known.Bases) != len(segs) || known.Bases[1] != segs[1].Base || known.StoreID != rec.StoreID {
			t.Fatalf("%+v", known)
		}
	}
	for _, pos := range []int64{-1, end + 1, 1 << 60} {
		got, rec, _, err := at(pos)
		check(t, err)
		if same(t, "from nowhere", got, recs); rec.Replayed != 0 {
			t.Fatalf("%+v", rec)
		}
	}
	// What lies before is not read, what lies behind is.
	flip(t, m, segs, recs[5].pos)
	got, _, _, err := at(recs[6].pos)
	check(t, err)
	same(t, "behind the damage", got, recs[6:])
	if _, _, _, err := at(recs[4].pos); !errors.Is(err, commitlog.ErrCorrupt) {
		t.Fatalf("before the damage: %v", err)
	}
}

// A file that is missing or short in front of the place where the caller begins
// is damage, whichever it is; that of a known hole is not.
func TestFrom_MissingOrShortSegments(t *testing.T) {
	t.Parallel()
	_, recs, segs := damaged(t, 1000)
	end := recs[39].pos + commitlog.FrameSize(len(recs[39].payload))
	for i, seg := range segs {
		for _, size := range []int64{-1, 0, 100, seg.End - seg.Base - 1} {
			m, _, _ := damaged(t, 1000)
			name := seg.Name
			if size < 0 {
				check(t, m.Remove(name))
			} else {
				patch(t, m, name, func(f vfs.File, _ int64) { check(t, f.Truncate(size)) })
			}
			opts := commitlog.Options{FS: m, SegmentBytes: 1000, From: func(commitlog.Known) int64 { return end }}
			_, _, _, err := openWith(opts)
			damage, ok := errors.AsType[*commitlog.CorruptError](err)
			if !ok || damage.Segment != name && damage.Segment != segs[max(i-1, 0)].Name {
				t.Fatalf("segment %d of size %d: %v", i, size, err)
			}
			if size < 0 && i+1 < len(segs) && (damage.Segment != name || damage.Reason != "the segment is missing") {
				t.Errorf("missing segment %d: %v", i, err)
			}
			opts.OnCorruption = commitlog.Quarantine
			l, got, rec, err := openWith(opts)
			check(t, err)
			check(t, l.Close())
			if len(rec.New) != 1 || rec.Replayed != 0 || len(got) >= len(recs) {
				t.Fatalf("segment %d of size %d: %d frames, %+v", i, size, len(got), rec)
			}
			opts.OnCorruption = commitlog.Refuse
			l, got, rec, err = openWith(opts)
			check(t, err)
			check(t, l.Close())
			if rec.Replayed != end || len(got) > 0 {
				t.Fatalf("segment %d of size %d, again: %d frames, %+v", i, size, len(got), rec)
			}
		}
	}
	m, _, _ := damaged(t, 1000)
	for _, seg := range segs {
		check(t, m.Remove(seg.Name))
	}
	_, _, _, err := openWith(commitlog.Options{FS: m, SegmentBytes: 1000, From: func(commitlog.Known) int64 { return end }})
	if damage, ok := errors.AsType[*commitlog.CorruptError](err); !ok || damage.Segment != segs[0].Name || damage.Length != end {
		t.Errorf("all are missing: %v", err)
	}
}

func TestInspect_Manifests(t *testing.T) {
	t.Parallel()
	for _, victims := range []int{1, 2, 3} {
		m, recs, _ := damaged(t, 1000)
		names, err := m.List(".")
		check(t, err)
		var manifests []string
		for _, n := range names {
			if strings.HasPrefix(n, "MANIFEST-") || n == "CURRENT" {
				manifests = append(manifests, n)
			}
		}
		slices.Sort(manifests) // CURRENT, the older and the newer one
		slices.Reverse(manifests)
		for _, n := range manifests[:victims] {
			patch(t, m, n, func(f vfs.File, _ int64) { _, _ = f.WriteAt([]byte{0xEE}, 5) })
		}
		var got []record
		report, err := commitlog.Inspect(m, commitlog.Visitor{Frame: func(f commitlog.Frame) error {
			got = append(got, record{f.Pos, f.Kind, string(f.Payload)})
			return nil
		}})
		check(t, err)
		same(t, fmt.Sprint(victims, " victims"), got, recs)
		if len(report.Damage) != victims || (report.Manifest == "") != (victims >= 2) || report.End != recs[39].pos+commitlog.FrameSize(len(recs[39].payload)) {
			t.Fatalf("%d victims: %+v", victims, report)
		}
	}
}

// A manifest that is gone is damage, but not one that a store in use has replaced
// meanwhile.
func TestInspect_MissingManifest(t *testing.T) {
	t.Parallel()
	m, _, _ := damaged(t, 1000)
	current := func() string {
		report, err := commitlog.Inspect(m, commitlog.Visitor{})
		check(t, err)
		return report.Manifest
	}
	name := current()
	check(t, m.Remove(name))
	report, err := commitlog.Inspect(m, commitlog.Visitor{})
	check(t, err)
	if len(report.Damage) != 1 || report.Damage[0].File != name || !strings.Contains(report.Damage[0].Reason, "missing") {
		t.Errorf("%+v", report.Damage)
	}
}

// While a store is inspected it may be written, synced and given new manifests
// and files; whatever of that is seen is no damage.
func TestInspect_StoreInUse(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		m := vfs.NewMem()
		l, _, _ := mustOpen(t, m, 4000)
		n := rnd.IntN(60)
		appendAll(t, l, 0, n, 40)
		check(t, l.Flush())
		fsys := vfs.Inject(m, func(vfs.Op) error {
			switch k := rnd.IntN(20); {
			case k == 0:
				check(t, l.Sync())
				check(t, l.Checkpoint())
				return nil
			case k > 8:
				return nil
			}
			for range rnd.IntN(3) { // the second one proves that the first is durable
				appendAll(t, l, n, n+1, 40)
				n++
				check(t, l.Flush())
				check(t, l.Sync())
			}
			return nil
		})
		report, err := commitlog.Inspect(fsys, commitlog.Visitor{})
		check(t, err)
		if len(report.Damage) > 0 {
			t.Fatalf("seed %d: %v", seed, report.Damage)
		}
		check(t, l.Close())
	}
}

func TestInspect_TornTailIsNoDamage(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l, _, _ := mustOpen(t, m, 64<<10)
	recs := appendAll(t, l, 0, 5, 40)
	check(t, l.Flush())
	m = m.CrashClone(vfs.CrashOptions{Keep: 1})
	patch(t, m, firstSegment, func(f vfs.File, _ int64) { _, _ = f.WriteAt([]byte{1}, recs[4].pos+50) })
	report, err := commitlog.Inspect(m, commitlog.Visitor{})
	check(t, err)
	if len(report.Damage) != 0 || report.TornBytes == 0 || report.Frames != 4 || report.End != recs[4].pos || report.Clean {
		t.Fatalf("%+v", report)
	}
	if _, err := commitlog.Inspect(vfs.NewMem(), commitlog.Visitor{}); !errors.Is(err, commitlog.ErrNotAStore) {
		t.Fatalf("an empty directory: %v", err)
	}
}

// A place that the disk cannot read is damage for a tool, not an error.
func TestInspect_UnreadablePlace(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l, _, _ := mustOpen(t, m, 64<<10)
	recs := appendAll(t, l, 0, 40, 400)
	check(t, l.Close())
	boom := errors.New("medium error")
	fsys := vfs.Inject(m, func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && op.Name == firstSegment && op.Offset <= 4100 && 4100 < op.Offset+op.Len {
			return boom
		}
		return nil
	})
	report, err := commitlog.Inspect(fsys, commitlog.Visitor{})
	check(t, err)
	if len(report.Damage) != 2 || report.Frames >= len(recs) || report.Frames == 0 || !strings.Contains(report.Damage[0].Reason, "medium error") {
		t.Fatalf("%+v", report)
	}
}

func TestInspect_ReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	dir, path := realDir(t)
	l, _, _ := mustOpenWith(t, commitlog.Options{FS: dir, SegmentBytes: 8 << 10, Mapped: true})
	appendAll(t, l, 0, 30, 900)
	check(t, l.Close())
	ro, err := vfs.Dir(path, vfs.ReadOnly)
	check(t, err)
	defer func() { check(t, ro.Close()) }()
	report, err := commitlog.Inspect(ro, commitlog.Visitor{})
	check(t, err)
	if report.Frames != 30 || len(report.Damage) != 0 || !report.Clean || report.TornBytes != 0 || len(report.Segments) < 3 {
		t.Fatalf("%+v", report)
	}
	if _, _, _, err := openWith(commitlog.Options{FS: ro}); !errors.Is(err, vfs.ErrReadOnly) {
		t.Fatal(err)
	}
}
