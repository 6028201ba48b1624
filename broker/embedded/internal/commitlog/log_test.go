package commitlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// record is a frame as a test sees it.
type record struct {
	pos     int64
	kind    commitlog.Kind
	payload string
}

// open opens the log on fsys and answers what it replays.
func open(fsys vfs.FS, segment int64) (*commitlog.Log, []record, commitlog.Recovery, error) {
	var got []record
	l, rec, err := commitlog.Open(commitlog.Options{FS: fsys, SegmentBytes: segment, MaxFrame: 1 << 20, Logger: slog.New(slog.DiscardHandler)},
		func(f commitlog.Frame) error {
			got = append(got, record{f.Pos, f.Kind, string(f.Payload)})
			return nil
		})
	return l, got, rec, err
}

func mustOpen(t testing.TB, fsys vfs.FS, segment int64) (*commitlog.Log, []record, commitlog.Recovery) {
	t.Helper()
	l, got, rec, err := open(fsys, segment)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, got, rec
}

// value is a payload that tells its number and checks itself.
func value(i, n int) string {
	return fmt.Sprintf("%06d:%s", i, bytes.Repeat([]byte{byte('a' + i%26)}, n))
}

func appendAll(t testing.TB, l *commitlog.Log, from, to, n int) []record {
	t.Helper()
	var out []record
	for i := from; i < to; i++ {
		out = append(out, mustAppend(t, l, commitlog.Kind(i%7), value(i, n)))
	}
	return out
}

func mustAppend(t testing.TB, l *commitlog.Log, k commitlog.Kind, p string) record {
	t.Helper()
	want := l.Reserve(len(p))
	pos, _, err := l.Append(k, []byte(p[:len(p)/3]), nil, []byte(p[len(p)/3:]))
	if err != nil || pos != want || l.NextPos() != pos+commitlog.FrameSize(len(p)) {
		t.Fatalf("append: position %d, reserved %d, next %d, error %v", pos, want, l.NextPos(), err)
	}
	return record{pos, k, p}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, what string, got, want []record) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %d records %.300v, want %d %.300v", what, len(got), got, len(want), want)
	}
}

func TestOpen_RoundTripOverSegments(t *testing.T) {
	t.Parallel()
	for _, segment := range []int64{512, 600, 4096, 1 << 20} {
		t.Run(fmt.Sprint(segment), func(t *testing.T) {
			t.Parallel()
			m := vfs.NewMem()
			l, got, rec := mustOpen(t, m, segment)
			if len(got) != 0 || !rec.Created || rec.Epoch != 1 || rec.End != 0 {
				t.Fatalf("new store: %+v, %v", rec, got)
			}
			var want []record
			for i := range 10 {
				want = append(want, appendAll(t, l, 10*i, 10*i+10, 13*i)...)
				check(t, l.Flush())
			}
			want = append(want, mustAppend(t, l, 255, string(make([]byte, 5000))), mustAppend(t, l, 0, ""))
			check(t, l.Close())
			l2, got, rec := mustOpen(t, m, segment)
			same(t, "replay", got, want)
			if !rec.Clean || rec.TruncatedBytes != 0 || rec.RewrittenBytes != 0 || rec.Frames != len(want) || rec.Epoch != 1 || rec.StoreID != l2.StoreID() {
				t.Fatalf("recovery after a clean close: %+v", rec)
			}
			var buf []byte
			for _, w := range want {
				k, p, err := l2.Read(w.pos, buf)
				if err != nil || k != w.kind || string(p) != w.payload {
					t.Fatalf("read %d: %v, %q, %v", w.pos, k, p, err)
				}
				if k, p, err = l2.ReadSized(w.pos, len(w.payload), p); err != nil || k != w.kind || string(p) != w.payload {
					t.Fatalf("read %d with its size: %v, %q, %v", w.pos, k, p, err)
				}
				buf = p
			}
		})
	}
}

// Positions are offsets of the log, not of its files.
func TestAppend_PositionsDoNotDependOnTheSegmentSize(t *testing.T) {
	t.Parallel()
	var first []record
	for _, segment := range []int64{512, 1000, 1 << 20} {
		l, _, _ := mustOpen(t, vfs.NewMem(), segment)
		got := appendAll(t, l, 0, 100, 40)
		if first == nil {
			first = got
		}
		same(t, "positions", got, first)
	}
}

func TestAppend_RefusesTooLarge(t *testing.T) {
	t.Parallel()
	l, _, _ := mustOpen(t, vfs.NewMem(), 512)
	_, _, err := l.Append(0, make([]byte, 1<<20+1))
	if !errors.Is(err, commitlog.ErrTooLarge) || l.NextPos() != 0 || l.Buffered() != 0 {
		t.Fatalf("got %v, next %d", err, l.NextPos())
	}
}

func TestAllocatesNothing(t *testing.T) {
	dir, _ := realDir(t)
	for name, opts := range map[string]commitlog.Options{
		"mem":     {FS: vfs.NewMem(), SegmentBytes: 1 << 20},
		"mapped":  {FS: dir, SegmentBytes: 1 << 20, Mapped: true},
		"written": {FS: dir, SegmentBytes: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			l, _, _, err := openWith(opts)
			check(t, err)
			head, payload := make([]byte, 20), make([]byte, 480)
			buf := make([]byte, 0, 4096)
			round := func() {
				pos, _, err := l.Append(1, head, payload)
				check(t, err)
				check(t, l.Flush())
				if _, buf, err = l.ReadSized(pos, 500, buf); err != nil {
					t.Fatal(err)
				}
				if _, buf, err = l.Read(pos, buf); err != nil {
					t.Fatal(err)
				}
				raw, err := l.ReadRaw(pos, int(commitlog.FrameSize(500)), buf)
				check(t, err)
				_, _, err = l.ParseFrame(pos, raw)
				check(t, err)
			}
			round()
			most := 0.0
			if name == "mem" {
				most = 1 // the pages of the file
			}
			if n := testing.AllocsPerRun(100, round); n > most && !raceEnabled {
				t.Errorf("%v allocations per append, flush and reads", n)
			}
			check(t, l.Close())
		})
	}
}

func TestRead_RefusesWhatIsNotAFrame(t *testing.T) {
	t.Parallel()
	l, _, _ := mustOpen(t, vfs.NewMem(), 600)
	recs := appendAll(t, l, 0, 20, 20)
	if _, _, err := l.Read(0, nil); !errors.Is(err, commitlog.ErrRange) {
		t.Fatalf("before the flush: %v", err)
	}
	check(t, l.Flush())
	for _, pos := range []int64{-1, l.Flushed(), l.Flushed() - 10, 1 << 60, math.MaxInt64, math.MaxInt64 - 1, math.MinInt64} {
		if _, _, err := l.Read(pos, nil); !errors.Is(err, commitlog.ErrRange) {
			t.Fatalf("position %d: %v", pos, err)
		}
	}
	if _, _, err := l.Read(recs[3].pos+1, nil); !errors.Is(err, commitlog.ErrCorrupt) {
		t.Fatalf("in the middle of a frame: %v", err)
	}
	check(t, l.Close())
	if _, _, err := l.Read(0, nil); !errors.Is(err, commitlog.ErrClosed) {
		t.Fatalf("after close: %v", err)
	}
	if _, _, err := l.Append(0); !errors.Is(err, commitlog.ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
	check(t, l.Close())
}

func TestRead_BesideTheWriter(t *testing.T) {
	t.Parallel()
	l, _, _ := mustOpen(t, vfs.NewMem(), 4096)
	const total = 3000
	var wg sync.WaitGroup
	for r := range 3 {
		wg.Go(func() {
			pos, buf := int64(0), []byte(nil)
			for i := 0; i < total; {
				if pos >= l.Flushed() {
					continue
				}
				k, p, err := l.Read(pos, buf)
				if err != nil || k != commitlog.Kind(i%7) || string(p) != value(i, 30) {
					t.Errorf("reader %d, frame %d at %d: %v %q %v", r, i, pos, k, p, err)
					return
				}
				pos += commitlog.FrameSize(len(p))
				buf = p
				i++
				_, _, _ = l.Segments(), l.Synced(), l.Now()
			}
		})
	}
	for i := 0; i < total; i += 10 {
		appendAll(t, l, i, i+10, 30)
		check(t, l.Flush())
		if i%100 == 0 {
			check(t, l.Sync())
		}
	}
	wg.Wait()
}

func TestTrimBefore(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l, _, _ := mustOpen(t, m, 600)
	recs := appendAll(t, l, 0, 60, 20)
	check(t, l.Flush())
	segs := l.Segments()
	cut := segs[3].Base
	check(t, l.TrimBefore(cut-1))
	if l.Start() != segs[2].Base {
		t.Fatalf("start %d, want %d: a segment goes only as a whole", l.Start(), segs[2].Base)
	}
	check(t, l.TrimBefore(cut))
	check(t, l.TrimBefore(cut))
	if _, _, err := l.Read(0, nil); !errors.Is(err, commitlog.ErrRange) {
		t.Fatalf("read a trimmed frame: %v", err)
	}
	recs = slices.DeleteFunc(recs, func(r record) bool { return r.pos < cut })
	crashed := m.CrashClone(vfs.CrashOptions{})
	_, got, rec := mustOpen(t, crashed, 600)
	if rec.Start != cut {
		t.Fatalf("start after a crash is %d, want %d", rec.Start, cut)
	}
	// What was flushed and not synced is lost; it is a suffix.
	same(t, "after a crash", got, recs[:len(got)])

	check(t, l.TrimBefore(1<<60)) // the last one stays
	if n := len(l.Segments()); n != 1 {
		t.Fatalf("%d segments left", n)
	}
	appendAll(t, l, 60, 61, 20)
	check(t, l.Close())
	_, got, _ = mustOpen(t, m, 600)
	if got[len(got)-1].payload != value(60, 20) {
		t.Fatalf("append after trim: %v", got)
	}
}

func TestRead_BesideTrim(t *testing.T) {
	t.Parallel()
	l, _, _ := mustOpen(t, vfs.NewMem(), 600)
	recs := appendAll(t, l, 0, 300, 20)
	check(t, l.Flush())
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			for _, r := range recs {
				if _, p, err := l.Read(r.pos, nil); err != nil && !errors.Is(err, commitlog.ErrRange) || err == nil && string(p) != r.payload {
					t.Errorf("read %d: %q, %v", r.pos, p, err)
					return
				}
			}
		}
	})
	for _, r := range recs {
		check(t, l.TrimBefore(r.pos))
	}
	stop.Store(true)
	wg.Wait()
}

func TestReplay_ErrorEndsOpen(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	l, _, _ := mustOpen(t, m, 600)
	appendAll(t, l, 0, 5, 20)
	check(t, l.Close())
	boom := errors.New("boom")
	_, _, err := commitlog.Open(commitlog.Options{FS: m}, func(commitlog.Frame) error { return boom })
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	_, got, _ := mustOpen(t, m, 600) // the lock was given back
	if len(got) != 5 {
		t.Fatal(got)
	}
}

// Broker time goes on, never back, whatever the wall clock does between opens.
func TestNow_NeverGoesBack(t *testing.T) {
	t.Parallel()
	m := vfs.NewMem()
	var before time.Time
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour) // "today"
		l, _, _ := mustOpen(t, m, 600)
		start := l.Now()
		time.Sleep(time.Minute)
		if d := l.Now().Sub(start); d != time.Minute {
			t.Fatalf("a minute took %v", d)
		}
		l.RaiseTime(l.Now().Add(time.Hour))
		l.RaiseTime(start) // never back
		before = l.Now()
		check(t, l.Close())
	})
	synctest.Test(t, func(t *testing.T) { // a day and an hour earlier by the wall clock
		l, _, _ := mustOpen(t, m, 600)
		if l.Now().Before(before) {
			t.Fatalf("time went from %v back to %v", before, l.Now())
		}
		first := l.Now()
		time.Sleep(time.Second)
		if d := l.Now().Sub(first); d != time.Second {
			t.Fatalf("a second took %v", d)
		}
	})
}

func TestOptions_ReportsAllProblems(t *testing.T) {
	t.Parallel()
	_, _, err := commitlog.Open(commitlog.Options{SegmentBytes: 1, MaxFrame: -1}, nil)
	for _, part := range []string{"FS", "SegmentBytes", "MaxFrame"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(part)) {
			t.Fatalf("%v does not name %s", err, part)
		}
	}
}

func BenchmarkAppendFlush(b *testing.B) {
	l, _, _ := mustOpen(b, vfs.NewMem(), 64<<20)
	payload := make([]byte, 300)
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for i := 0; b.Loop(); i++ {
		binary.BigEndian.PutUint64(payload, uint64(i))
		if _, _, err := l.Append(1, payload); err != nil {
			b.Fatal(err)
		}
		if i%32 == 31 {
			if err := l.Flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// What Append costs in each way of writing; written includes its Flush.
func BenchmarkAppend(b *testing.B) {
	for _, mapped := range []bool{true, false} {
		for _, size := range []int{100, 1024} {
			b.Run(fmt.Sprintf("mapped=%v/%d", mapped, size), func(b *testing.B) {
				dir, _ := realDir(b)
				l, _, _, err := openWith(commitlog.Options{FS: dir, Mapped: mapped})
				check(b, err)
				head, payload := make([]byte, 20), make([]byte, size-20)
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					binary.BigEndian.PutUint64(payload, uint64(i))
					if _, _, err := l.Append(1, head, payload); err != nil {
						b.Fatal(err)
					}
					if i%32 == 31 {
						if err := l.Flush(); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.StopTimer()
				check(b, l.Close())
			})
		}
	}
}
