package commitlog

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Visitor is told what Inspect finds, while it reads. Both functions may be
// nil, and an error of Frame ends Inspect.
type Visitor struct {
	// Frame is called for every valid frame, in order.
	Frame func(Frame) error
	// Damage is called for every damaged place: first those of manifests, then
	// those of segments, in order among the frames. A place that cannot be read
	// is told twice, as that and as the frames that are lost by it.
	Damage func(Damage)
}

// Damage is a place in a file of a store that is not as it was written.
type Damage struct {
	File string
	// Offset is where it begins in the file and Length how long it is in the
	// log, which may be more than the rest of the file; both in bytes.
	Offset, Length int64
	// Pos and End are the positions in the log that are lost by it; -1 if it
	// is not in a segment or only cannot be read.
	Pos, End int64
	Reason   string
	// Quarantined: the store knows of it and has gone on without.
	Quarantined bool
}

// String names file, place and reason.
func (d Damage) String() string {
	s := fmt.Sprintf("%s: offset %d, %d bytes: %s", d.File, d.Offset, d.Length, d.Reason)
	if d.Quarantined {
		s += " (quarantined)"
	}
	return s
}

// Report is what Inspect found in all.
type Report struct {
	StoreID uint64
	// Manifest is the file that was used; empty if none could be read: then
	// StoreID and Start are those of the first segment.
	Manifest   string
	Generation uint64
	Epoch      uint32
	Created    time.Time
	// Clean: the log was closed in order the last time.
	Clean bool
	// Start and Synced are what the manifest says; End is behind the last frame.
	Start, Synced, End int64
	Segments           []SegmentInfo
	Frames             int
	// FrameBytes is the size of all frames, PayloadBytes of what is in them.
	FrameBytes, PayloadBytes int64
	// TornBytes is the length of a torn tail, which is no damage: the next
	// Open cuts it off. A tail that was durable and is not there is damage.
	TornBytes int64
	// Damage is everything that Visitor.Damage was told.
	Damage []Damage
}

// Inspect reads a whole store and reports every damage. It never writes and
// takes no lock, so it can read a copy on a read-only disk. What a store that is
// open writes at the same time is no damage, but it may see a torn tail, or a
// segment vanish.
//
// The error is one of the file system or of Visitor.Frame, [ErrNotAStore] or
// [ErrVersion]; damage is none.
func Inspect(fsys vfs.FS, visit Visitor) (Report, error) {
	in := inspection{fs: fsys, visit: visit}
	if err := in.run(); err != nil {
		return in.report, fmt.Errorf("inspect store: %w", err)
	}
	return in.report, nil
}

type inspection struct {
	fs     vfs.FS
	visit  Visitor
	report Report
	known  []Hole // quarantined ones that are not told yet
}

func (in *inspection) damage(d Damage) {
	in.report.Damage = append(in.report.Damage, d)
	if in.visit.Damage != nil {
		in.visit.Damage(d)
	}
}

func (in *inspection) run() (err error) {
	found, man, fallback, err := in.begin()
	if err != nil {
		return err
	}
	r := recovery{
		fs: in.fs, logger: slog.New(slog.DiscardHandler), policy: Quarantine, man: man,
		maxFrame: cmp.Or(man.maxFrame, frameLimit), replay: in.frame, damaged: in.hole, bad: in.unreadable,
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := r.openSegments(found.segments, fallback, in.fs.OpenRead); err != nil {
		return err
	}
	if in.report.Manifest == "" {
		if err := in.guess(&r); err != nil {
			return err
		}
	}
	in.known = r.man.holes
	if err := in.walk(&r); err != nil {
		return err
	}
	in.report.StoreID, in.report.Start, in.report.End = r.man.store, r.man.start, r.report.End
	in.report.TornBytes = r.report.TruncatedBytes
	for i, s := range r.segs {
		info := SegmentInfo{Name: s.name, Base: s.base, End: max(s.base, r.report.End)}
		if i+1 < len(r.segs) {
			info.End = min(info.End, r.segs[i+1].base)
		}
		in.report.Segments = append(in.report.Segments, info)
	}
	return nil
}

// walk is that of a recovery, told in full.
func (in *inspection) walk(r *recovery) error {
	err := r.walk(r.man.start)
	if e, ok := errors.AsType[*CorruptError](err); ok {
		// Segments of another store: nothing in them can be judged.
		in.damage(Damage{File: e.Segment, Offset: e.Offset, Length: e.Length, Pos: r.man.start, End: r.man.start + e.Length, Reason: e.Reason})
		err = nil
	}
	in.quarantined(r.report.End)
	return err
}

// begin answers the files of the store and the manifest that Open would use, and
// reports all manifests that cannot be read. In a store in use they are replaced
// and removed meanwhile; then it looks again.
func (in *inspection) begin() (found listing, man manifest, fallback bool, err error) {
	for try := 0; ; try++ {
		before, _ := readCurrent(in.fs)
		if found, err = list(in.fs); err != nil {
			return found, man, false, err
		}
		if len(found.manifests) == 0 && len(found.segments) == 0 {
			if err = found.check(); err == nil {
				err = fmt.Errorf("%w: it is empty", ErrNotAStore)
			}
			return found, man, false, err
		}
		var wrong []Damage
		in.report.Manifest = ""
		if man, fallback, wrong, err = in.manifest(found); err != nil {
			return found, man, false, err
		}
		if after, _ := readCurrent(in.fs); (len(wrong) > 0 || in.report.Manifest == "") && after != before && try < maxLooks {
			continue
		}
		for _, d := range wrong {
			in.damage(d)
		}
		if in.report.Manifest == "" {
			return found, man, fallback, nil
		}
		// Listed again, as the manifest says what must be there. It is another
		// one if segments were removed.
		if found, err = list(in.fs); err != nil {
			return found, man, false, err
		}
		if !in.moved(found, man.start) || try == maxLooks {
			return found, man, fallback, nil
		}
	}
}

// moved reports whether the log begins elsewhere now than at start. What is wrong
// with manifests is reported already.
func (in *inspection) moved(found listing, start int64) bool {
	man, _, why, err := loadManifest(in.fs, found)
	return err == nil && why == "" && man.start != start
}

// maxLooks is how often a store in use may be met just when it removes files.
const maxLooks = 10

// manifest answers the manifest that Open would use, and all that cannot be read.
func (in *inspection) manifest(found listing) (man manifest, fallback bool, wrong []Damage, err error) {
	if found.current {
		switch g, err := readCurrent(in.fs); {
		case err != nil:
			wrong = append(wrong, Damage{File: currentName, Pos: -1, End: -1, Reason: err.Error()})
		case !slices.Contains(found.manifests, g):
			wrong = append(wrong, Damage{File: manifestName(g), Pos: -1, End: -1, Reason: "it is missing, although " + currentName + " names it"})
		}
	}
	for _, g := range slices.Backward(found.manifests) {
		b, err := readSmall(in.fs, manifestName(g))
		var m manifest
		if err == nil {
			m, err = decodeManifest(b)
		}
		if err == nil && m.generation != g {
			err = fmt.Errorf("it holds generation %d", m.generation)
		}
		if err != nil && !errors.Is(err, ErrVersion) {
			wrong = append(wrong, Damage{File: manifestName(g), Length: int64(len(b)), Pos: -1, End: -1, Reason: err.Error()})
		}
	}
	if len(found.manifests) == 0 {
		wrong = append(wrong, Damage{File: manifestPrefix + "*", Pos: -1, End: -1, Reason: "there is no manifest"})
		return manifest{}, false, wrong, nil
	}
	man, name, why, err := loadManifest(in.fs, found)
	if errors.Is(err, ErrCorrupt) {
		return manifest{}, false, wrong, nil // all of them are wrong
	}
	if err != nil {
		return man, false, wrong, err
	}
	in.report.Manifest = name
	in.report.Generation, _ = parseManifestName(name)
	in.report.Epoch, in.report.Created = man.epoch, time.Unix(0, man.created)
	in.report.Clean, in.report.Synced = man.clean && why == "", man.synced
	return man, why != "", wrong, nil
}

// guess takes from the first segment that has a frame what no manifest says.
func (in *inspection) guess(r *recovery) error {
	if len(r.segs) == 0 {
		return nil
	}
	r.man.start = r.segs[0].base
	r.man.synced = r.man.start
	for i, s := range r.segs {
		h, _, reason, err := r.frame(r.window(s, r.extents[i]), s.base, 0)
		if err != nil {
			return err
		}
		if reason == "" {
			r.man.store = h.store
			return nil
		}
	}
	return nil
}

func (in *inspection) frame(f Frame) error {
	in.quarantined(f.Pos)
	in.report.Frames++
	in.report.FrameBytes += FrameSize(len(f.Payload))
	in.report.PayloadBytes += int64(len(f.Payload))
	if in.visit.Frame != nil {
		return in.visit.Frame(f)
	}
	return nil
}

// quarantined reports the known holes before pos.
func (in *inspection) quarantined(pos int64) {
	for len(in.known) > 0 && in.known[0].Pos < pos {
		h := in.known[0]
		in.known = in.known[1:]
		d := damageOf(h)
		d.Quarantined = true
		in.damage(d)
	}
}

func (in *inspection) hole(h Hole) {
	in.quarantined(h.Pos)
	in.damage(damageOf(h))
}

func damageOf(h Hole) Damage {
	return Damage{File: h.Segment, Offset: h.Offset, Length: h.End - h.Pos, Pos: h.Pos, End: h.End, Reason: h.Reason}
}

// unreadable reports each piece of s that cannot be read once.
func (in *inspection) unreadable(s *segment) func(off, length int64, err error) {
	return func(off, length int64, err error) {
		for _, d := range in.report.Damage {
			if d.File == s.name && d.Pos < 0 && d.Offset < off+length && off < d.Offset+d.Length {
				return
			}
		}
		in.damage(Damage{File: s.name, Offset: off, Length: length, Pos: -1, End: -1, Reason: "it cannot be read: " + err.Error()})
	}
}
