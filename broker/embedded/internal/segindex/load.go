package segindex

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Load makes a new set hold everything that the log has before upTo, from the
// files of the segments that begin there; bases are where segments begin,
// ascending. If upTo lies inside of a segment, the part of that one is read
// into memory and becomes the active one, without what lies at or behind upTo.
// A queue that was dropped in that segment is there, as it is not known whether
// that was behind upTo; one that was told to begin in it and has no entries
// before upTo is as it was when the segment began. So the caller calls
// [Set.Queue] and [Queue.SetStart] for the queues that it knows at upTo, and
// [Set.Drop] for all other numbers.
//
// If a file is missing, ends too early, is damaged or of another store, that
// is an error and the set is as new; [ErrDamaged] and [vfs.IsNotExist] tell
// these from failures of the file system. Of full parts only what is needed
// here is verified; the rest is when it is read.
//
// On success all other index files are removed, durably: they say what came
// behind upTo, which perhaps never comes again. So Load(nil, 0) is how to begin
// when everything is to be read from the log.
func (s *Set) Load(bases []int64, upTo int64) error {
	s.files.Lock()
	defer s.files.Unlock()
	if len(*s.parts.Load()) > 0 || len(s.words) > 0 {
		return fmt.Errorf("load the index into a set that is in use: %w", ErrMisuse)
	}
	l := &loader{set: s, sc: s.scratch()}
	defer s.pool.Put(l.sc)
	err := l.load(bases, upTo)
	if err == nil {
		err = l.tidy(upTo)
	}
	if err != nil {
		return fmt.Errorf("load the index before %d: %w", upTo, errors.Join(err, l.close()))
	}
	l.publish()
	return nil
}

// loader collects what a set is to hold.
type loader struct {
	set *Set
	sc  *scratch

	full    []*part
	partial *disk // the file of the segment that holds upTo
	words   []uint64
	mins    []int64

	active *part
	runs   map[uint32]*run // those of active
}

func (l *loader) load(bases []int64, upTo int64) error {
	for i, base := range bases {
		if base < 0 || i > 0 && base <= bases[i-1] {
			return fmt.Errorf("segment %d begins at %d: %w", i, base, ErrMisuse)
		}
	}
	n, found := slices.BinarySearch(bases, upTo)
	for i, base := range bases[:n] {
		d, err := openDisk(l.set.fs, l.set.store, base, l.sc)
		if err != nil {
			return err
		}
		end := upTo
		if i+1 < n {
			end = bases[i+1]
		}
		if i+1 == n && !found {
			l.partial = d
		} else {
			p := newPart(base)
			p.disk.Store(d)
			p.end, p.sealed = d.end, true
			l.full = append(l.full, p)
		}
		if d.end < end || d.end > end && d != l.partial {
			return d.damaged(0, "it ends at %d, the segment at %d", d.end, end)
		}
	}
	if err := l.state(); err != nil || l.partial == nil {
		return err
	}
	return l.readActive(upTo)
}

// state reads from the full parts where queues begin and end.
func (l *loader) state() error {
	for i, p := range l.full {
		d := p.disk.Load()
		last := i == len(l.full)-1
		if i > 0 && !last && d.begun == 0 {
			continue // nothing new
		}
		err := d.eachRow(l.sc, func(id uint32, r dirRow) {
			for len(l.mins) <= int(id) {
				l.mins = append(l.mins, 0)
			}
			if i == 0 || r.begun() { // it was empty: nothing lies before
				l.mins[id] = r.first()
			}
			if last {
				l.words = append(l.words, uint64(r.next())|r.word&flagAbsent)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readActive reads the part that is to be written on.
func (l *loader) readActive(upTo int64) error {
	d := l.partial
	limit := upTo - d.base
	l.active, l.runs = newPart(d.base), map[uint32]*run{}
	var dir []dirRow
	if err := d.eachRow(l.sc, func(_ uint32, r dirRow) { dir = append(dir, r) }); err != nil {
		return err
	}
	if len(dir) < len(l.words) {
		return d.damaged(0, "it has %d queues, the segment before %d", len(dir), len(l.words))
	}
	if err := l.readRuns(dir, limit); err != nil {
		return err
	}
	for id, r := range dir {
		if err := l.join(uint32(id), r); err != nil {
			return err
		}
	}
	return l.readKeys(limit)
}

// readRuns reads the entries before limit.
func (l *loader) readRuns(dir []dirRow, limit int64) error {
	d, p := l.partial, l.active
	epochs := d.epochs
	for len(epochs) > 0 && int64(epochs[len(epochs)-1].rel) >= limit {
		epochs = epochs[:len(epochs)-1]
	}
	if len(epochs) > 0 {
		p.times.Store(&epochs)
	}
	id, left := -1, int64(0)
	return d.rowsOf(d.ents, entrySize, 0, d.entries, l.sc, func(b []byte) error {
		for left == 0 && id+1 < len(dir) {
			id++
			left = int64(dir[id].count)
		}
		e := getRow(b)
		if left -= 1 + e.more(); left < 0 {
			return d.damaged(d.ents, "there are more entries than the directory has, in queue %d", id)
		}
		if int64(e.rel) >= limit {
			return nil
		}
		if len(epochs) == 0 {
			return d.damaged(d.ents, "there is no time for the entry at %d", d.base+int64(e.rel))
		}
		r := l.runs[uint32(id)]
		if r == nil {
			r = &run{part: p, rows: rows{first: dir[id].first()}}
			l.runs[uint32(id)] = r
		}
		r.add(e)
		p.newest = max(p.newest, e.rel)
		p.maxMs = max(p.maxMs, unpack(p.base, epochs, e).StoredMs)
		return nil
	})
}

// join decides what becomes of queue id, which has row r in the active part.
func (l *loader) join(id uint32, r dirRow) error {
	if int(id) == len(l.words) {
		l.words = append(l.words, flagAbsent)
	}
	if int(id) == len(l.mins) {
		l.mins = append(l.mins, 0)
	}
	before := l.words[id]
	run := l.runs[id]
	if !r.begun() && len(l.full) > 0 && r.first() != int64(before&maskOffset) {
		return l.partial.damaged(l.partial.dir, "queue %d goes on at %d, the segment before ends at %d", id, r.first(), before&maskOffset)
	}
	switch {
	case run != nil:
		l.words[id] = uint64(run.end())
		if r.begun() {
			l.words[id] |= flagBegun
		}
	case !r.begun() && len(l.full) == 0 && r.first() > 0 && (r.count > 0 || !r.absent()):
		l.words[id] = uint64(r.first()) // it was there when the segment began
	}
	if run != nil && r.begun() || len(l.full) == 0 {
		l.mins[id] = min(r.first(), int64(l.words[id]&maskOffset))
	}
	return nil
}

// readKeys reads the keys before limit.
func (l *loader) readKeys(limit int64) error {
	d := l.partial
	var all []key
	err := d.rowsOf(d.kys, keySize, 0, d.keys, l.sc, func(b []byte) error {
		if k := (key{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}); int64(k.rel) < limit {
			all = append(all, k)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b key) int { return cmp.Compare(a.rel, b.rel) })
	for _, k := range all {
		l.active.keys.add(k.hash, k.rel)
	}
	return err
}

// tidy removes the files that do not belong to what was loaded.
func (l *loader) tidy(upTo int64) error {
	names, err := l.set.fs.List(".")
	if err != nil {
		return err
	}
	removed := false
	for _, name := range names {
		base, temporary, ok := parseName(name)
		if !ok || !temporary && l.keeps(base, upTo) {
			continue
		}
		if err := l.set.fs.Remove(name); err != nil {
			return err
		}
		removed = true
	}
	if removed {
		return l.set.fs.SyncDir(".")
	}
	return nil
}

func (l *loader) keeps(base, upTo int64) bool {
	if l.partial != nil && l.partial.base == base {
		return l.partial.end == upTo
	}
	_, ok := slices.BinarySearchFunc(l.full, base, func(p *part, b int64) int { return cmp.Compare(p.base, b) })
	return ok
}

func (l *loader) close() error {
	var errs []error
	if l.partial != nil {
		errs = append(errs, l.partial.file.Close())
	}
	for _, p := range l.full {
		errs = append(errs, p.disk.Load().file.Close())
	}
	return errors.Join(errs...)
}

// publish gives the set what was loaded.
func (l *loader) publish() {
	s := l.set
	parts := l.full
	queues := make([]Queue, len(l.words)) // one allocation for all
	s.words = l.words
	s.queues = make([]*Queue, len(l.words))
	for i, w := range l.words {
		if w&flagAbsent != 0 {
			continue
		}
		q := &queues[i]
		q.set, q.id = s, uint32(i)
		q.min.Store(l.mins[i])
		q.max.Store(int64(w & maskOffset))
		s.queues[i] = q
		if w&flagBegun != 0 {
			s.begun = append(s.begun, q.id)
		}
		if r := l.runs[q.id]; r != nil {
			r.queue, q.oldest, q.tail = q, r, r
			l.active.runs = append(l.active.runs, r)
		}
	}
	if l.active != nil {
		_ = l.partial.file.Close() // it was read; a failure says nothing about that
		s.active = l.active
		parts = append(parts, l.active)
	}
	s.parts.Store(&parts)
}
