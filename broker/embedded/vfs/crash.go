package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashOptions says how much of what was not durable survives a power cut. The
// zero value is the worst case that order of calls allows: nothing does.
type CrashOptions struct {
	// Keep is the chance, 0 to 1, that one sector of 512 bytes, the size of
	// one file, or one change of a directory survives though it was not
	// synced; each is decided by itself, so later ones may survive earlier
	// ones. With 1 everything survives but what a failed Sync has lost.
	Keep float64
	// Stale is the chance that a lost sector reads as something else than it
	// held at the last Sync: as it was before its latest write, if it was
	// written several times since; or, in a part by which the file grew, unless
	// that part was allocated and synced, as old bytes of some other place.
	Stale float64
	// Rand decides. Defaults to a source with a constant seed.
	Rand *rand.Rand
}

// CrashClone returns what a machine would find after a power cut at this
// instant. m itself goes on as if nothing had happened. The clone holds no
// locks, and everything in it is durable.
//
// Of what a sector held between the last Sync and its latest write, only the
// state before the latest write is modelled, and only for the few sectors of a
// file that were written again last. Tests that want all states in between
// clone after each operation.
func (m *Mem) CrashClone(opts CrashOptions) *Mem {
	m.instant.Lock()
	defer m.instant.Unlock()
	m.names.Lock()
	defer m.names.Unlock()
	if opts.Rand == nil {
		opts.Rand = rand.New(rand.NewPCG(1, 1))
	}
	c := crash{opts: opts, done: map[*memNode]*memNode{}}
	return &Mem{root: c.node(m.root), locks: map[string]bool{}}
}

type crash struct {
	opts CrashOptions
	done map[*memNode]*memNode
}

func (c *crash) keeps() bool { return c.opts.Keep > 0 && c.opts.Rand.Float64() < c.opts.Keep }

func (c *crash) node(n *memNode) *memNode {
	if r := c.done[n]; r != nil {
		return r
	}
	r := &memNode{}
	c.done[n] = r
	if n.data != nil {
		r.data = c.data(n.data)
		return r
	}
	entries := maps.Clone(n.durable)
	for _, change := range n.pending {
		if c.keeps() {
			change.apply(entries)
		}
	}
	r.entries = map[string]*memNode{}
	for _, name := range sortedKeys(entries) {
		r.entries[name] = c.node(entries[name])
	}
	r.durable = maps.Clone(r.entries)
	return r
}

func (c *crash) data(d *memData) *memData {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r := &memData{size: d.durableSize, chunks: make([]*memChunk, len(d.chunks))}
	if d.size != d.durableSize && c.keeps() {
		r.size = d.size
	}
	r.durableSize = r.size
	for i, chunk := range d.chunks {
		if chunk == nil || int64(i)*chunkSize >= r.size {
			continue
		}
		after := &memChunk{data: chunk.data}
		for s := range chunkSectors {
			c.sector(d, chunk, after, i, s)
		}
		if end := r.size - int64(i)*chunkSize; end < chunkSize {
			clear(after.data[end:])
		}
		r.chunks[i] = after
	}
	return r
}

// sector decides what becomes of one sector.
func (c *crash) sector(d *memData, chunk, after *memChunk, i, s int) {
	bit := uint16(1) << s
	if (chunk.dirty|chunk.lost)&bit == 0 || chunk.dirty&bit != 0 && c.keeps() {
		return
	}
	to := after.data[s*sectorSize : (s+1)*sectorSize]
	if clear(to); chunk.old != nil {
		copy(to, chunk.old[s*sectorSize:])
	}
	at := int64(i)*chunkSize + int64(s)*sectorSize
	if b := d.before(i, s); b != nil && c.opts.Stale > 0 && c.opts.Rand.Float64() < c.opts.Stale {
		copy(to, b.data[:])
		return
	}
	if at < d.durableSize || c.opts.Stale == 0 || c.opts.Rand.Float64() >= c.opts.Stale {
		return
	}
	if from := d.chunks[c.opts.Rand.IntN(len(d.chunks))]; from != nil {
		copy(to, from.data[c.opts.Rand.IntN(chunkSectors)*sectorSize:])
	}
}

// sortedKeys keeps clones of one seed equal.
func sortedKeys(m map[string]*memNode) []string { return slices.Sorted(maps.Keys(m)) }
