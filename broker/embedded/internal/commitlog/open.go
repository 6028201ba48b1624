package commitlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Options of a log. FS is required.
type Options struct {
	// FS is the directory of the store. The log uses its root for itself; it
	// leaves alone what it does not know. It does not close the FS.
	FS vfs.FS
	// SegmentBytes is the size of a segment; a larger frame gets a segment of
	// its own. It may change from one Open to the next. Defaults to 64 MiB.
	SegmentBytes int64
	// MaxFrame is the largest payload in bytes that Append takes. Frames of
	// an earlier, larger limit stay readable. Defaults to 8 MiB.
	MaxFrame int
	// Mapped writes through memory: what Append took is in the kernel when it
	// returns, without a system call, and is synced behind the writer's back,
	// a segment at a time. It is for callers that do not wait for Sync. Where
	// the FS cannot map files, the log is written as without it.
	Mapped bool
	// OnCorruption says what becomes of damage that Open finds. Defaults to
	// Refuse.
	OnCorruption Policy
	// From is asked once the manifest is read, and answers where replay is to
	// begin: a position that the caller took at the beginning of a frame, or at
	// the end of the log, and that was durable. An answer that is not from
	// Start to Synced means Start, as does nil, and as it does if a file in front
	// of it is missing or short. Nothing before it is read.
	From func(Known) int64
	// Logger receives what recovery decides. Defaults to none.
	Logger *slog.Logger
}

// Known is what Open knows of a store before it reads frames.
type Known struct {
	StoreID uint64
	// Start is the position of the first frame that is kept; everything
	// before Synced was durable when the manifest was written.
	Start, Synced int64
	// Clean: the log was closed in order.
	Clean bool
	// Bases are the positions at which segments begin, in order.
	Bases []int64
	// Holes are those that were quarantined before.
	Holes []Hole
}

const (
	defaultSegmentBytes = 64 << 20
	defaultMaxFrame     = 8 << 20
	// minSegmentBytes keeps a segment at least a disk sector.
	minSegmentBytes = 512
	// frameLimit bounds MaxFrame, far below what the length field can hold.
	frameLimit = 1 << 30
)

func (o Options) withDefaults() (Options, error) {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	if o.MaxFrame == 0 {
		o.MaxFrame = defaultMaxFrame
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if o.FS == nil {
		errs = append(errs, errors.New("FS is not set"))
	}
	if o.SegmentBytes < minSegmentBytes {
		errs = append(errs, fmt.Errorf("SegmentBytes is %d, at least %d", o.SegmentBytes, minSegmentBytes))
	}
	if o.MaxFrame < 1 || o.MaxFrame > frameLimit {
		errs = append(errs, fmt.Errorf("MaxFrame is %d, between 1 and %d", o.MaxFrame, frameLimit))
	}
	return o, errors.Join(errs...)
}

// Open locks the store, or makes one in an empty directory, recovers it as the
// package comment says, and calls replay, which may be nil, for every frame in
// order. The payload is valid only during the call, and the log is not served
// yet: what replay has seen counts only if Open succeeds. An error of replay
// ends Open.
//
// Errors match [vfs.ErrLocked] if somebody else has the store open,
// [ErrNotAStore], [ErrNoManifest], [ErrCorrupt], [ErrVersion], [ErrFull],
// [vfs.ErrReadOnly], or are those of the file system.
func Open(opts Options, replay func(Frame) error) (_ *Log, _ Recovery, err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("open log: %w", err)
	}
	// Before the lock, which makes a file: a directory that is not ours must
	// stay as it is.
	found, err := list(opts.FS)
	if err == nil {
		err = found.check()
	}
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("open log: %w", err)
	}
	lock, err := opts.FS.Lock(lockName)
	if err != nil {
		return nil, Recovery{}, fmt.Errorf("open log: %w", err)
	}
	l, rec, err := openLocked(opts, lock, replay)
	if err != nil {
		if vfs.IsNoSpace(err) {
			err = fmt.Errorf("%w: %w", ErrFull, err)
		}
		return nil, rec, fmt.Errorf("open log: %w", errors.Join(err, lock.Close()))
	}
	return l, rec, nil
}

func openLocked(opts Options, lock io.Closer, replay func(Frame) error) (_ *Log, rec Recovery, err error) {
	// Again: another process may have made the store, or closed it, since.
	found, err := list(opts.FS)
	if err == nil {
		err = found.check()
	}
	if err != nil {
		return nil, rec, err
	}
	man, fallback := newManifest(time.Now()), ""
	if len(found.manifests) > 0 {
		if man, _, fallback, err = loadManifest(opts.FS, found); err != nil {
			return nil, rec, err
		}
	}
	if fallback != "" {
		opts.Logger.Error("the newest manifest cannot be read, using the one before", slog.String("reason", fallback),
			slog.Uint64("generation", man.generation))
	}
	for _, name := range found.temporary {
		if err := opts.FS.Remove(name); err != nil {
			return nil, rec, fmt.Errorf("remove what a crash left: %w", err)
		}
	}
	man.maxFrame = max(man.maxFrame, int64(opts.MaxFrame))
	r := recovery{fs: opts.FS, logger: opts.Logger, policy: opts.OnCorruption, man: man, maxFrame: man.maxFrame, replay: replay}
	r.report.Created = len(found.manifests) == 0
	r.report.Clean = man.clean && fallback == ""
	r.report.ManifestFallback = fallback != ""
	r.man.clean = r.report.Clean
	r.report.StoreID = man.store
	err = r.openSegments(found.segments, fallback != "", opts.FS.OpenReadWrite)
	if err == nil {
		err = r.walk(r.from(opts.From))
	}
	if err == nil {
		err = r.settle()
	}
	var l *Log
	if err == nil {
		l, err = r.log(opts, lock)
	}
	if err != nil {
		return nil, r.report, errors.Join(err, r.close())
	}
	return l, r.report, nil
}

// from is where the walk begins.
func (r *recovery) from(ask func(Known) int64) int64 {
	if ask == nil {
		return r.man.start
	}
	k := Known{StoreID: r.man.store, Start: r.man.start, Synced: r.man.synced, Clean: r.man.clean, Holes: r.man.holes}
	for _, s := range r.segs {
		k.Bases = append(k.Bases, s.base)
	}
	pos := ask(k)
	// A file that is missing or short in front of it is damage that a walk must see.
	if pos < r.man.start || pos > r.man.synced || !r.present(pos) {
		return r.man.start
	}
	return pos
}

// log makes a writable log of what recovery left, and a manifest that says so
// before the first frame can be appended.
func (r *recovery) log(opts Options, lock io.Closer) (*Log, error) {
	man := r.man
	man.clean = false
	man.epoch = max(man.epoch, r.epoch)
	if r.report.TruncatedBytes > 0 {
		man.epoch++
	}
	man.synced = r.report.End
	man.holes = r.holes
	clock := newClock(man.highWater)
	man.highWater = clock.now().UnixNano()
	if err := writeManifest(opts.FS, &man); err != nil {
		return nil, err
	}
	r.report.Epoch, r.report.Holes = man.epoch, r.holes
	l := &Log{opts: opts, lock: lock, store: man.store, epoch: man.epoch, man: man, clock: clock, next: r.report.End}
	l.start.Store(man.start)
	l.flushed.Store(r.report.End)
	l.synced.Store(r.report.End)
	l.segs.Store(&r.segs)
	l.holes.Store(&r.holes)
	if n := len(r.segs); n > 0 {
		// A tail that was cut off took its reservation along. Space that
		// cannot be reserved is missed, and reported, when it is used.
		l.base = r.segs[n-1].base
		if err := r.segs[n-1].file.Allocate(opts.SegmentBytes); err != nil && !vfs.IsNoSpace(err) {
			return nil, err
		}
	}
	if opts.Mapped {
		if err := l.startMapped(); err != nil {
			return nil, err
		}
	}
	return l, nil
}
