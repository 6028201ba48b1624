package segindex

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// writeBlocks is how many blocks are written at once.
const writeBlocks = 64

// Unwritten is how many sealed parts wait in memory for [Set.WriteNext].
func (s *Set) Unwritten() int {
	n := 0
	parts := *s.parts.Load()
	s.list.Lock()
	defer s.list.Unlock()
	for i := len(parts) - 1; i >= 0 && parts[i].disk.Load() == nil; i-- {
		if parts[i].sealed {
			n++
		}
	}
	return n
}

// WriteNext writes the oldest sealed part to its file, durable, and frees its
// memory; without one it does nothing. After an error the part is in memory as
// before, and the same call may succeed later, unless the error matches
// [ErrMisuse]. A file of that name is replaced.
func (s *Set) WriteNext() error {
	s.files.Lock()
	defer s.files.Unlock()
	_, err := s.writeNext()
	return err
}

// WriteActive writes all parts including the active one, so that [Set.Load]
// finds everything before end, which is where the log ends. It is for a clean
// close: the writer has stopped. The set can be read and written as before;
// what is added later is not in the file.
func (s *Set) WriteActive(end int64) error {
	s.files.Lock()
	defer s.files.Unlock()
	for {
		if wrote, err := s.writeNext(); err != nil {
			return err
		} else if !wrote {
			break
		}
	}
	p := s.active
	if p == nil || end <= p.base {
		return nil
	}
	d, err := s.writePart(p, end, s.words, s.begun)
	if err != nil {
		return err
	}
	return d.file.Close()
}

// writeNext reports whether there was a part to write; files is held.
func (s *Set) writeNext() (bool, error) {
	if s.closed.Load() {
		return false, ErrClosed
	}
	p := s.oldestSealed()
	if p == nil {
		return false, nil
	}
	d, err := s.writePart(p, p.end, p.rows, p.begun)
	if err != nil {
		return false, err
	}
	p.disk.Store(d) // before release: there is no moment without it
	p.release()
	return true, nil
}

// oldestSealed is the next part to be written, nil if there is none.
func (s *Set) oldestSealed() *part {
	s.list.Lock()
	defer s.list.Unlock()
	for _, p := range *s.parts.Load() {
		if p.sealed && p.disk.Load() == nil {
			return p
		}
	}
	return nil
}

// writePart makes the file of a part durable and opens it.
func (s *Set) writePart(p *part, end int64, words []uint64, begun []uint32) (*disk, error) {
	keys, _ := p.snapshot()
	p.mu.Lock()
	err := p.err
	p.mu.Unlock()
	name := fileName(p.base)
	if err == nil {
		err = s.writeFile(name, image{part: p, end: end, words: words, begun: len(begun), keys: keys.sorted(), store: s.store})
	}
	if err != nil {
		return nil, fmt.Errorf("write index %s: %w", name, err)
	}
	sc := s.scratch()
	defer s.pool.Put(sc)
	return openDisk(s.fs, s.store, p.base, sc)
}

// writeFile makes name hold the image, durable, or leaves what it held.
func (s *Set) writeFile(name string, m image) (err error) {
	tmp := name + tmpSuffix
	if err := s.fs.Remove(tmp); err != nil && !vfs.IsNotExist(err) {
		return err
	}
	f, err := s.fs.Create(tmp)
	if err != nil {
		return err
	}
	err = m.writeTo(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.fs.Rename(tmp, name)
	}
	if err != nil {
		// Without space, what was written must not take some. A leftover is
		// removed by the next attempt or the next Load.
		if gone := s.fs.Remove(tmp); gone != nil && !vfs.IsNotExist(gone) {
			err = errors.Join(err, gone)
		}
		return err
	}
	return s.fs.SyncDir(".")
}

// image is what a file is to hold.
type image struct {
	part  *part
	store uint64
	end   int64
	words []uint64
	begun int
	keys  []key
}

func (m image) writeTo(f vfs.File) error {
	p := m.part
	runs := slices.Clone(p.runs)
	slices.SortFunc(runs, func(a, b *run) int { return cmp.Compare(a.queue.id, b.queue.id) })
	h := header{
		store: m.store, base: p.base, end: m.end, rows: uint32(len(m.words)), keys: uint32(len(m.keys)),
		begun: uint32(m.begun), maxMs: p.maxMs, epochs: p.epochs(),
	}
	entries := 0
	for _, r := range runs {
		entries += r.len()
	}
	if uint64(entries) > math.MaxUint32 || uint64(len(m.keys)) > math.MaxUint32 {
		return fmt.Errorf("%d entries and %d keys: %w", entries, len(m.keys), ErrMisuse)
	}
	h.entries = uint32(entries)
	w := &blockWriter{file: f, seed: blockSeed(m.store, p.base), b: make([]byte, writeBlocks*blockSize)}
	copy(w.b, h.encode())
	w.block = 1
	if err := m.directory(w, runs); err != nil {
		return err
	}
	for _, r := range runs {
		for i := range r.len() {
			r.at(i).put(w.next(entrySize))
		}
	}
	w.endSection()
	for _, k := range m.keys {
		k.put(w.next(keySize))
	}
	w.endSection()
	return w.flush()
}

// directory writes the rows of all queues; runs are sorted by queue.
func (m image) directory(w *blockWriter, runs []*run) error {
	var at dirRow
	for id, word := range m.words {
		at.word, at.count = word, 0
		n := 0
		if len(runs) > 0 && runs[0].queue.id == uint32(id) {
			r := runs[0]
			runs = runs[1:]
			if r.span() > math.MaxUint32 {
				return fmt.Errorf("queue %d has %d entries in one segment: %w", id, r.span(), ErrMisuse)
			}
			n = r.len()
			at.count = uint32(r.span())
			at.word -= uint64(at.count) // the flags are above
			if len(r.skips) > 0 {
				at.word |= flagSparse
			}
		}
		at.put(w.next(rowSize))
		at.start += uint32(n)
	}
	w.endSection()
	if len(runs) > 0 {
		return fmt.Errorf("number %d was given to two queues: %w", runs[0].queue.id, ErrMisuse)
	}
	return nil
}

// blockWriter cuts rows into blocks. After an error it does nothing.
type blockWriter struct {
	file  vfs.File
	seed  uint32
	b     []byte
	block int // number in b of the block that is being filled
	fill  int // bytes of it that are filled
	off   int64
	err   error
}

// next answers where the next row of n bytes goes.
func (w *blockWriter) next(n int) []byte {
	if w.fill+n > blockContent {
		w.endSection()
	}
	if w.block*blockSize == len(w.b) {
		w.err = w.flush()
	}
	at := w.block*blockSize + w.fill
	w.fill += n
	return w.b[at : at+n]
}

// endSection ends the block that is being filled.
func (w *blockWriter) endSection() {
	if w.fill == 0 {
		return
	}
	b := w.b[w.block*blockSize:][:blockSize]
	clear(b[w.fill:])
	number := uint32(w.off/blockSize) + uint32(w.block)
	putChecksum(b, w.seed^number)
	w.block++
	w.fill = 0
}

func (w *blockWriter) flush() error {
	if w.err == nil {
		_, w.err = w.file.WriteAt(w.b[:w.block*blockSize], w.off)
	}
	w.off += int64(w.block * blockSize)
	w.block = 0
	return w.err
}
