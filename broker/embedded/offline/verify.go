package offline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluicemq/sluice/broker/embedded/internal/checkpoint"
	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// Verify reads a whole store and reports what is damaged: whether manifests,
// frames, index files and checkpoints are as they were written, whether the
// content of each frame can be read, and whether they agree: offsets of a queue
// follow each other, who refers to a frame refers to one that is there, index
// and checkpoints say what the log says.
//
// Damage is no error. Errors are [ErrNotAStore], [ErrVersion], that of ctx, and
// what the file system says about what must be readable to go on; the report
// then holds what was found so far.
func Verify(ctx context.Context, fs vfs.FS) (Report, error) {
	for try := 0; ; try++ {
		v := &verification{fs: fs}
		if err := v.run(ctx); !errors.Is(err, errMoved) || try == maxTries {
			return v.report, err
		}
	}
}

// maxTries is how often a store that is open may lose its oldest segments just
// when its verification begins.
const maxTries = 10

var errMoved = errors.New("the log begins elsewhere now: the store is in use, try again")

// verification is one walk over the frames of a store.
type verification struct {
	fs     vfs.FS
	files  files
	id     identity
	report Report

	fold        *fold
	checkpoints checkpoints
	indexes     indexes
	counts      [256]KindCount

	begun   bool           // the first frame was met
	segment *segment       // of the last frame, nil before the first
	holes   []hole         // those that do not end before it
	judged  map[int64]bool // segments
}

func (v *verification) run(ctx context.Context) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if v.files, err = list(v.fs); err != nil {
		return err
	}
	if v.id, err = identify(v.fs, v.files); err != nil {
		return err
	}
	if err := v.begin(); err != nil {
		return err
	}
	found, err := commitlog.Inspect(v.fs, commitlog.Visitor{
		Frame: func(f commitlog.Frame) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := v.moved(f.Pos); err != nil {
				return err
			}
			v.frame(f)
			return nil
		},
		Damage: v.damaged,
	})
	v.summarize(found)
	if err != nil {
		return err
	}
	return v.finish(ctx)
}

// begin makes v ready for the first frame.
func (v *verification) begin() error {
	id := v.id
	v.report.FormatVersion = id.version
	v.checkpoints = checkpoints{fs: v.fs, store: id.store, report: &v.report}
	v.indexes = indexes{fs: v.fs, store: id.store, report: &v.report}
	v.fold, v.judged = newFold(id.start), map[int64]bool{}
	if !id.known {
		v.fold.lost()
		return nil
	}
	if err := v.checkpoints.read(v.files, id.start); err != nil {
		return err
	}
	switch base := v.checkpoints.base; {
	case id.start == 0:
	case base != nil:
		v.fold.begin(base)
	default:
		v.fold.lost()
		name := checkpoint.Base.Name(id.start)
		if _, err := v.fs.Size(name); vfs.IsNotExist(err) {
			v.damage(Damage{File: name, Reason: "it is missing: what was said before the log begins is lost, such as topics and positions"})
		}
	}
	return nil
}

// moved tells whether the log has lost its beginning since it was looked at,
// when the first frame is met, at pos.
func (v *verification) moved(pos int64) error {
	first := !v.begun
	v.begun = true
	if !first || pos == v.id.start {
		return nil
	}
	now, err := identify(v.fs, v.files)
	if err == nil && now.start != v.id.start {
		err = errMoved
	}
	return err
}

// damaged is told what the log finds.
func (v *verification) damaged(d commitlog.Damage) {
	mine := Damage{File: d.File, Offset: d.Offset, Length: d.Length, Reason: d.Reason}
	if d.Quarantined {
		v.report.Quarantined = append(v.report.Quarantined, mine)
	} else {
		v.damage(mine)
	}
	if d.Pos < 0 {
		return
	}
	h := hole{d.Pos, d.End}
	v.checkpoints.before(h.pos, v.fold)
	v.checkpoints.skip(h)
	v.fold.lost()
	v.holes = append(v.holes, h)
}

func (v *verification) damage(d Damage) { v.report.Damage = append(v.report.Damage, d) }

func (v *verification) frame(f commitlog.Frame) {
	if v.segment == nil || v.segment.base != f.Base {
		v.roll(f.Base)
	}
	v.checkpoints.before(f.Pos, v.fold)
	fr := newFrame(f)
	v.count(&fr, len(f.Payload))
	if fr.Reason != "" {
		v.contradiction(&fr, "what the frame holds cannot be read: "+fr.Reason)
		v.fold.lost() // it may have been anything
		v.segment.partial = true
		return
	}
	if fr.Kind == KindTopicDeleted {
		if t := v.fold.topics[fr.Topic.Name]; t != nil {
			v.segment.drop(t.ids)
		} else {
			v.segment.partial = true
		}
	}
	queue, known, reason := v.fold.apply(&fr)
	if reason != "" {
		v.contradiction(&fr, reason)
	}
	switch {
	case !fr.Kind.visible():
	case known:
		v.segment.add(queue, &fr)
	default:
		v.segment.partial = true
	}
}

func (v *verification) contradiction(fr *Frame, reason string) {
	v.damage(Damage{File: fr.File, Offset: fr.Offset, Length: fr.Length, Reason: reason})
}

func (v *verification) count(fr *Frame, payload int) {
	c := &v.counts[fr.Kind]
	c.Kind = fr.Kind
	c.Frames++
	c.Bytes += fr.Length
	v.report.Frames++
	v.report.FrameBytes += fr.Length
	v.report.PayloadBytes += int64(payload)
	if fr.Message != nil && fr.Kind.visible() {
		v.report.Messages++
		v.report.BodyBytes += int64(len(fr.Message.Body))
	}
}

// roll judges the index of the segment that ends, and begins the next one.
func (v *verification) roll(base int64) {
	if v.segment != nil {
		v.judge(v.segment, v.next(v.segment.base, base), false)
	}
	v.segment = newSegment(base)
}

// next is where the segment at base ends; end is known to lie behind it.
func (v *verification) next(base, end int64) int64 {
	for _, b := range v.files.segments {
		if b > base {
			return min(b, end)
		}
	}
	return end
}

func (v *verification) judge(s *segment, end int64, last bool) {
	v.judged[s.base] = true
	if v.id.known {
		v.indexes.check(s, end, last, v.holes)
	}
	kept := v.holes[:0]
	for _, h := range v.holes {
		if h.end > end {
			kept = append(kept, h)
		}
	}
	v.holes = kept
}

// summarize takes over what the log says of itself.
func (v *verification) summarize(found commitlog.Report) {
	r := &v.report
	r.StoreID, r.Manifest, r.Clean = found.StoreID, found.Manifest, found.Clean
	if found.Manifest != "" {
		r.Created = found.Created
	}
	r.Start, r.Synced, r.End, r.Segments, r.TornBytes = found.Start, found.Synced, found.End, len(found.Segments), found.TornBytes
	for _, c := range v.counts {
		if c.Frames > 0 {
			r.Kinds = append(r.Kinds, c)
		}
	}
	r.Delayed, r.Undecided = len(v.fold.delayed), len(v.fold.undecided)
}

// finish judges what no frame came after.
func (v *verification) finish(ctx context.Context) error {
	end := v.report.End
	if v.segment != nil {
		last := !slices.ContainsFunc(v.files.segments, func(base int64) bool { return base > v.segment.base })
		v.judge(v.segment, v.next(v.segment.base, end), last)
	}
	for i, base := range v.files.segments {
		name := segmentName(base)
		switch {
		case i+1 < len(v.files.segments) && v.files.segments[i+1] <= v.report.Start:
			v.note(name, "lies before the log begins: the next start removes it")
		case base > end:
			v.note(name, "lies behind the end of the log at %d: the next start removes it", end)
		}
	}
	if v.id.known {
		if err := v.rest(ctx); err != nil {
			return err
		}
		v.checkpoints.before(end, v.fold)
		v.checkpoints.finish(v.files, end)
	}
	v.others()
	return nil
}

// rest judges the index files of segments without frames, and of none.
func (v *verification) rest(ctx context.Context) error {
	for _, base := range v.files.indexes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !v.judged[base] {
			v.indexes.alone(base, base >= v.report.Start && slices.Contains(v.files.segments, base))
		}
	}
	v.indexes.finish()
	return nil
}

// others notes the files that are not part of the store.
func (v *verification) others() {
	if !v.files.current && v.report.Manifest != "" {
		v.note(currentName, "is missing: the newest manifest is used")
	}
	for _, name := range v.files.temporary {
		v.note(name, "is not finished, or made ahead: the next start or checkpoint removes it")
	}
	for _, name := range v.files.foreign {
		v.note(name, "is not a file of a store")
	}
}

func (v *verification) note(name, format string, args ...any) {
	v.report.Notes = append(v.report.Notes, Note{name, fmt.Sprintf(format, args...)})
}
