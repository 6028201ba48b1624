package vfs

import (
	"io"
	"sync"
)

const (
	// sectorSize is what a disk writes as a whole or not at all.
	sectorSize = 512
	// chunkSectors keeps small files small and large ones in few pieces; the
	// flags of a chunk have one bit for each.
	chunkSectors = 16
	chunkSize    = sectorSize * chunkSectors
)

// memData is the content of a file: what a reader sees, and what the medium
// holds where the two may differ.
type memData struct {
	mu          sync.RWMutex
	size        int64
	durableSize int64
	chunks      []*memChunk // nil is a hole: zeros, also on the medium
	dirty       []int       // indexes of chunks with a dirty sector
	spare       *[chunkSize]byte
	// between remembers, for the sectors that were written last, what was in
	// them before: a disk may have that though it has nothing newer. oldest is
	// the one that is forgotten next.
	between []betweenSector
	oldest  int
}

// betweenSector is what a dirty sector held between the last sync and its
// latest write.
type betweenSector struct {
	chunk, sector int
	data          [sectorSize]byte
}

// maxBetween bounds what a file that is never synced costs.
const maxBetween = 4

type memChunk struct {
	data [chunkSize]byte
	// old holds, for dirty and lost sectors, what the medium has; nil is zeros.
	old *[chunkSize]byte
	// hole: the medium has nothing here yet, so nothing need be saved.
	hole bool
	// dirty sectors are written by the next sync. lost ones were to be written
	// by a sync that failed: the medium keeps the old content until they are
	// written again.
	dirty, lost uint16
}

func (d *memData) read(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n := 0
	for n < len(p) && off < d.size {
		i, at := int(off/chunkSize), int(off%chunkSize)
		part := p[n:min(len(p), n+chunkSize-at)]
		part = part[:min(int64(len(part)), d.size-off)]
		if i < len(d.chunks) && d.chunks[i] != nil {
			copy(part, d.chunks[i].data[at:])
		} else {
			clear(part)
		}
		n += len(part)
		off += int64(len(part))
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (d *memData) write(p []byte, off int64) {
	if len(p) == 0 {
		return // as pwrite: the size stays
	}
	d.size = max(d.size, off+int64(len(p)))
	for len(p) > 0 {
		i, at := int(off/chunkSize), int(off%chunkSize)
		n := min(len(p), chunkSize-at)
		for len(d.chunks) <= i {
			d.chunks = append(d.chunks, nil)
		}
		if d.chunks[i] == nil {
			d.chunks[i] = &memChunk{hole: true}
		}
		copy(d.touch(i, at, n)[at:], p[:n])
		p = p[n:]
		off += int64(n)
	}
}

// touch makes the sectors of a range dirty, which saves what the medium has,
// and answers the data of the chunk.
func (d *memData) touch(i, at, n int) *[chunkSize]byte {
	c := d.chunks[i]
	if c.dirty == 0 {
		d.dirty = append(d.dirty, i)
	}
	if c.old == nil && !c.hole {
		if c.lost == 0 {
			c.old, d.spare = d.spare, nil
		}
		if c.old == nil {
			c.old = new([chunkSize]byte)
		}
	}
	for s := at / sectorSize; s <= (at+n-1)/sectorSize; s++ {
		bit := uint16(1) << s
		if c.old != nil && (c.dirty|c.lost)&bit == 0 {
			copy(c.old[s*sectorSize:(s+1)*sectorSize], c.data[s*sectorSize:])
		}
		if c.dirty&bit != 0 {
			d.remember(i, s)
		}
		c.dirty |= bit
		c.lost &^= bit
	}
	return &c.data
}

// remember keeps what a dirty sector holds before it is written again.
func (d *memData) remember(i, s int) {
	b := d.before(i, s)
	if b == nil {
		if len(d.between) < maxBetween {
			d.between = append(d.between, betweenSector{})
			d.oldest = len(d.between) - 1
		}
		b = &d.between[d.oldest]
		b.chunk, b.sector = i, s
		d.oldest = (d.oldest + 1) % maxBetween
	}
	copy(b.data[:], d.chunks[i].data[s*sectorSize:])
}

// before answers what is remembered of a sector, nil if nothing is.
func (d *memData) before(i, s int) *betweenSector {
	for j := range d.between {
		if b := &d.between[j]; b.chunk == i && b.sector == s {
			return b
		}
	}
	return nil
}

// forget drops what is remembered: the disk has, or has lost, what came later.
func (d *memData) forget() { d.between, d.oldest = d.between[:0], 0 }

// truncate zeroes what it cuts off, because a later extension must not bring
// it back.
func (d *memData) truncate(size int64) {
	for i := int(size / chunkSize); i < len(d.chunks); i++ {
		if d.chunks[i] == nil {
			continue
		}
		at := int(max(0, size-int64(i)*chunkSize))
		clear(d.touch(i, at, chunkSize-at)[at:])
	}
	d.size = size
}

func (d *memData) sync() {
	for _, i := range d.dirty {
		c := d.chunks[i]
		c.dirty, c.hole = 0, false
		if c.lost != 0 {
			continue
		}
		if c.old != nil {
			c.old, d.spare = nil, c.old
		}
		if int64(i)*chunkSize >= d.size {
			d.chunks[i] = nil
		}
	}
	d.dirty = d.dirty[:0]
	d.forget()
	d.durableSize = d.size
}

// lose is a sync that failed: its sectors count as clean from now on, though
// the medium does not have them.
func (d *memData) lose() {
	for _, i := range d.dirty {
		c := d.chunks[i]
		c.lost |= c.dirty
		c.dirty = 0
	}
	d.dirty = d.dirty[:0]
	d.forget()
}
