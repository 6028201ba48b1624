package commitlog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

var errPowerOff = errors.New("power off")

// world is a store that lives through crashes, failed syncs and full disks,
// and what it has promised so far.
type world struct {
	t       testing.TB
	rng     *rand.Rand
	m       *vfs.Mem
	segment int64
	n       int // values made so far; each is unique

	hist    []record // what may be in the log, in order
	durable int64    // what must be
	start   int64    // where it may begin at the latest

	sync   func() error // of a SyncTo, not called yet
	syncTo int64

	left            int // changes until the power goes
	pFull, pBadSync float64
}

// fault decides about one operation.
func (w *world) fault(op vfs.Op) error {
	if !op.Kind.Changes() {
		if w.left < 0 {
			return errPowerOff
		}
		return nil
	}
	if w.left--; w.left < 0 {
		return errPowerOff
	}
	switch op.Kind {
	case vfs.OpCreate, vfs.OpAllocate:
		if w.rng.Float64() < w.pFull {
			return syscall.ENOSPC
		}
	case vfs.OpWrite:
		if w.rng.Float64() < w.pFull {
			return &vfs.ShortWrite{N: w.rng.IntN(int(op.Len) + 1), Err: vfs.ErrNoSpace}
		}
	case vfs.OpSync, vfs.OpSyncDir:
		if w.rng.Float64() < w.pBadSync {
			return []error{syscall.EIO, syscall.ENOSPC}[w.rng.IntN(2)]
		}
	}
	return nil
}

// verify compares what an Open replayed with what was promised, and takes it
// as the new promise: an Open that succeeded has made it durable.
func (w *world) verify(got []record, rec commitlog.Recovery) {
	w.t.Helper()
	if rec.Start > w.start {
		w.t.Fatalf("the log begins at %d, but nothing was trimmed behind %d", rec.Start, w.start)
	}
	w.hist = slices.DeleteFunc(w.hist, func(r record) bool { return r.pos < rec.Start })
	// What lies before the place where replay began is not judged.
	skipped := slices.DeleteFunc(slices.Clone(w.hist), func(r record) bool { return r.pos >= rec.Replayed })
	got = append(skipped, got...)
	if len(got) > len(w.hist) {
		w.t.Fatalf("%d records of %d came back: %v", len(got), len(w.hist), got[len(w.hist):])
	}
	for i, g := range got {
		if g != w.hist[i] {
			w.t.Fatalf("record %d is %.80v, want %.80v", i, g, w.hist[i])
		}
	}
	if rec.End < w.durable {
		w.t.Fatalf("%d to %d were durable and are lost", rec.End, w.durable)
	}
	w.hist, w.durable, w.start = got, rec.End, rec.Start
}

// from begins replay somewhere in what is durable, or at the start.
func (w *world) from(k commitlog.Known) int64 {
	if len(w.hist) == 0 || w.rng.IntN(2) == 0 {
		return k.Start
	}
	if r := w.hist[w.rng.IntN(len(w.hist))]; r.pos <= k.Synced {
		return r.pos
	}
	return k.Synced
}

// life opens the store, works with it, and ends it somehow.
func (w *world) life() {
	w.left = 1 << 30
	if w.rng.IntN(4) > 0 {
		w.left = w.rng.IntN(80)
	}
	w.pFull, w.pBadSync = 0, 0
	switch w.rng.IntN(4) {
	case 0:
		w.pFull = 0.05
	case 1:
		w.pBadSync = 0.03
	}
	w.sync = nil
	opts := commitlog.Options{FS: vfs.Inject(w.m, w.fault), SegmentBytes: w.segment, From: w.from}
	if w.rng.IntN(2) == 0 {
		opts.OnCorruption = commitlog.Quarantine // nothing rots, so it makes no difference
	}
	l, got, rec, err := openWith(opts)
	if err == nil {
		w.verify(got, rec)
		if len(rec.Holes) != 0 {
			w.t.Fatalf("nothing rotted: %+v", rec.Holes)
		}
		w.work(l)
		err = l.Close()
		if err == nil {
			w.durable = max(w.durable, l.Synced())
		}
	}
	if errors.Is(err, commitlog.ErrCorrupt) || errors.Is(err, commitlog.ErrNotAStore) {
		w.t.Fatalf("nothing rotted: %v", err)
	}
	if w.left < 0 || w.rng.IntN(3) == 0 {
		opts := vfs.CrashOptions{Rand: w.rng}
		switch w.rng.IntN(4) {
		case 0: // nothing survives
		case 1:
			opts.Keep = 1
		default:
			opts.Keep, opts.Stale = w.rng.Float64(), w.rng.Float64()
		}
		w.m = w.m.CrashClone(opts)
	}
}

func (w *world) work(l *commitlog.Log) {
	for range w.rng.IntN(40) {
		var err error
		switch w.rng.IntN(14) {
		case 12:
			if err = l.Flush(); err == nil {
				w.syncTo, w.sync = l.SyncTo()
			}
			w.forget(l, err)
		case 13:
			if w.sync == nil {
				continue
			}
			// Much may have happened since SyncTo, even a sync that failed.
			if err = w.sync(); err == nil && l.Synced() < w.syncTo {
				w.t.Fatalf("synced %d of %d", l.Synced(), w.syncTo)
			}
			w.sync = nil
		case 0, 1, 2, 3, 4:
			for range 1 + w.rng.IntN(5) {
				p := value(w.n, w.rng.IntN(120)*w.rng.IntN(8))
				var pos int64
				if pos, _, err = l.Append(commitlog.Kind(w.n), []byte(p)); err == nil {
					w.hist = append(w.hist, record{pos, commitlog.Kind(w.n), p})
					w.n++
				}
			}
		case 5, 6, 7:
			err = l.Flush()
			w.forget(l, err)
		case 8, 9:
			if err = l.Sync(); err == nil && l.Synced() != l.Flushed() {
				w.t.Fatalf("synced %d of %d", l.Synced(), l.Flushed())
			}
		case 10:
			err = l.Checkpoint()
		default:
			cut := w.start + w.rng.Int64N(l.Flushed()-w.start+1)
			w.start = max(w.start, cut)
			err = l.TrimBefore(cut)
			if err == nil {
				w.start = l.Start()
			}
		}
		w.durable = max(w.durable, l.Synced())
		w.read(l)
		if err != nil && !errors.Is(err, commitlog.ErrFull) && !errors.Is(err, commitlog.ErrFailed) && !errors.Is(err, errPowerOff) {
			w.t.Fatalf("an error without a type: %v", err)
		}
		if errors.Is(err, commitlog.ErrFailed) {
			w.stuck(l)
			return
		}
	}
}

// forget takes back what a Flush on a full disk has refused.
func (w *world) forget(l *commitlog.Log, err error) {
	if !errors.Is(err, commitlog.ErrFull) {
		return
	}
	w.hist = slices.DeleteFunc(w.hist, func(r record) bool { return r.pos >= l.NextPos() })
	if l.NextPos() != l.Flushed() {
		w.t.Fatalf("after %v next is %d, flushed %d", err, l.NextPos(), l.Flushed())
	}
}

// stuck checks that a failure is final.
func (w *world) stuck(l *commitlog.Log) {
	synced := l.Synced()
	_, _, err := l.Append(0)
	if err := errors.Join(l.Flush(), l.Sync()); err == nil || !errors.Is(err, commitlog.ErrFailed) || l.Synced() != synced {
		w.t.Fatalf("the failure was not final: %v", err)
	}
	if !errors.Is(err, commitlog.ErrFailed) {
		w.t.Fatalf("append after the failure: %v", err)
	}
}

// read takes one random record that should be readable.
func (w *world) read(l *commitlog.Log) {
	if len(w.hist) == 0 || w.left < 0 {
		return
	}
	end := l.Flushed()
	if l.Failed() != nil {
		end = l.Synced()
	}
	r := w.hist[w.rng.IntN(len(w.hist))]
	_, p, err := l.Read(r.pos, nil)
	switch inside := r.pos >= l.Start() && r.pos < end; {
	case inside && (err != nil || string(p) != r.payload):
		w.t.Fatalf("read %d of %d: %q, %v", r.pos, end, p, err)
	case !inside && !errors.Is(err, commitlog.ErrRange):
		w.t.Fatalf("read %d outside %d to %d: %v", r.pos, l.Start(), end, err)
	}
}

func crashSchedule(t testing.TB, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Logf("SEED=%d", seed)
		}
	}()
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &world{t: t, rng: rng, m: vfs.NewMem(), segment: []int64{512, 700, 2048, 65536}[rng.IntN(4)]}
	for range 2 + rng.IntN(6) {
		w.life()
	}
	// A last open without faults, then a power cut that spares nothing.
	for range 2 {
		l, got, rec, err := open(w.m, w.segment)
		if err != nil {
			t.Fatalf("the last open: %v", err)
		}
		w.verify(got, rec)
		if l.Synced() != rec.End {
			t.Fatalf("synced %d of %d after open", l.Synced(), rec.End)
		}
		w.m = w.m.CrashClone(vfs.CrashOptions{})
	}
}

// TestCrashSchedules runs random work over power cuts at random operations,
// failed syncs and full disks. SEED=n runs one schedule, SCHEDULES=n so many.
func TestCrashSchedules(t *testing.T) {
	t.Parallel()
	if s := os.Getenv("SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		check(t, err)
		crashSchedule(t, seed)
		return
	}
	n := 4000
	if testing.Short() || raceEnabled {
		n = 300
	}
	if s := os.Getenv("SCHEDULES"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		check(t, err)
	}
	for seed := range n {
		crashSchedule(t, uint64(seed))
	}
}

// Every small workload, cut at every change, in every way, and cut again at
// several changes of the recovery. TORTURE=1 makes the workloads longer.
func TestCrashAtEveryChange(t *testing.T) {
	t.Parallel()
	steps := map[string]func(l *commitlog.Log) error{
		"append": func(l *commitlog.Log) error {
			_, _, err := l.Append(1, []byte(value(int(l.NextPos()), 200)))
			return err
		},
		"sync":       func(l *commitlog.Log) error { return errors.Join(l.Flush(), l.Sync()) },
		"checkpoint": (*commitlog.Log).Checkpoint,
		"trim":       func(l *commitlog.Log) error { return l.TrimBefore(l.Flushed()) },
	}
	names := []string{"append", "sync", "checkpoint", "trim"}
	last := names[:1]
	if os.Getenv("TORTURE") != "" {
		last = names
	}
	first := names
	if raceEnabled {
		first = names[3:]
	}
	for _, a := range first {
		for _, b := range names {
			for _, c := range last {
				workload := []string{"append", "sync", a, b, c, "append", "sync"}
				for at := 0; cutAt(t, workload, steps, at); at++ {
				}
			}
		}
	}
}

// cutAt reports whether the workload is long enough to be cut at change at.
func cutAt(t *testing.T, workload []string, steps map[string]func(l *commitlog.Log) error, at int) bool {
	for mode, opts := range []vfs.CrashOptions{{}, {Keep: 1}, {Keep: 0.5}, {Keep: 0.5, Stale: 1}, {Keep: 0.1}} {
		opts.Rand = rand.New(rand.NewPCG(uint64(at), uint64(mode)))
		m := vfs.NewMem()
		w := &world{t: t, rng: opts.Rand, m: m, segment: 600, left: at}
		l, _, _, err := open(vfs.Inject(m, w.fault), w.segment)
		for i := 0; err == nil && i < len(workload); i++ {
			before := l.NextPos()
			if workload[i] == "trim" {
				w.start = l.Flushed()
			}
			if err = steps[workload[i]](l); workload[i] == "append" && err == nil {
				w.hist = append(w.hist, record{before, 1, value(int(before), 200)})
			}
			w.durable = max(w.durable, l.Synced())
		}
		if err == nil {
			return false
		}
		crashed := m.CrashClone(opts)
		again := true
		for second := 0; again; second += 1 + opts.Rand.IntN(3) {
			m := crashed.CrashClone(vfs.CrashOptions{})
			w2 := &world{t: t, rng: opts.Rand, m: m, hist: slices.Clone(w.hist), durable: w.durable, start: w.start, left: second}
			l, got, rec, err := open(vfs.Inject(m, w2.fault), 600)
			if err == nil {
				w2.verify(got, rec)
				again = l.Close() != nil // long enough when not even Close was cut
			}
			_, got, rec, err = open(m.CrashClone(opts), 600)
			if err != nil {
				t.Fatalf("%v cut at %d, mode %d, again at %d: %v", workload, at, mode, second, err)
			}
			w2.verify(got, rec)
		}
	}
	return true
}

// R06: an error at the n-th call, once and for good, until the run is clean.
func TestErrorAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, sticky := range []bool{false, true} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EINTR, &vfs.ShortWrite{N: 3, Err: syscall.ENOSPC}} {
			t.Run(fmt.Sprintf("%v sticky %v", cause, sticky), func(t *testing.T) {
				t.Parallel()
				n := 1
				for errorAtCall(t, n, cause, sticky) {
					n++
				}
				if n < 40 {
					t.Fatalf("only %d calls were seen", n)
				}
			})
		}
	}
}

func errorAtCall(t *testing.T, n int, cause error, sticky bool) (hit bool) {
	m := vfs.NewMem()
	fsys := vfs.Inject(m, func(op vfs.Op) error {
		if op.N == n || sticky && op.N > n {
			hit = true
			return cause
		}
		return nil
	})
	w := &world{t: t, m: m, segment: 600}
	for range 2 { // the second open recovers
		l, got, rec, err := open(fsys, w.segment)
		if err != nil {
			continue
		}
		w.verify(got, rec)
		for range 3 {
			for range 3 {
				p := value(w.n, 100)
				if pos, _, err := l.Append(9, []byte(p)); err == nil {
					w.hist = append(w.hist, record{pos, 9, p})
					w.n++
				}
			}
			err := l.Flush()
			if errors.Is(err, commitlog.ErrFull) {
				w.hist = slices.DeleteFunc(w.hist, func(r record) bool { return r.pos >= l.NextPos() })
			}
			if err := errors.Join(err, l.Sync(), l.Checkpoint()); err != nil && !errors.Is(err, commitlog.ErrFull) && !errors.Is(err, commitlog.ErrFailed) {
				t.Fatalf("call %d: an error without a type: %v", n, err)
			}
			w.durable = max(w.durable, l.Synced())
		}
		w.start = max(w.start, l.Synced()/2)
		_ = l.TrimBefore(l.Synced() / 2)
		if err := l.Close(); err == nil {
			w.durable = max(w.durable, l.Synced())
		}
	}
	for _, crash := range []bool{false, true} {
		if crash {
			w.m = w.m.CrashClone(vfs.CrashOptions{})
		}
		l, got, rec, err := open(w.m, w.segment)
		if err != nil {
			t.Fatalf("call %d: open after the fault: %v", n, err)
		}
		w.verify(got, rec)
		check(t, l.Close())
	}
	return hit
}
