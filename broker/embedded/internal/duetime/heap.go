package duetime

const (
	// arity is the number of children of a node. Four items fill a cache line,
	// so a step down the heap costs one.
	arity = 4
	// chunkItems is the number of items that are allocated at a time: the heap
	// is never copied to grow, and never more than a chunk too big.
	chunkItems = 1024
	// firstSlot is where the root lies, so that the children of a node begin at
	// a multiple of arity.
	firstSlot = arity - 1
)

// packed is an item in 16 bytes, ordered as a number of 128 bits: 44 bits of
// due time, 52 bits of position above the queue's base, 32 bits of topic.
type packed struct{ hi, lo uint64 }

const (
	dueBits = 44
	posBits = 52
	posHigh = posBits - 32 // bits of the position in hi
)

func pack(due, rel int64, topic uint32) packed {
	return packed{uint64(due)<<posHigh | uint64(rel)>>32, uint64(rel)<<32 | uint64(topic)}
}

func (p packed) due() int64    { return int64(p.hi >> posHigh) }
func (p packed) rel() int64    { return int64(p.hi&(1<<posHigh-1)<<32 | p.lo>>32) }
func (p packed) queue() uint32 { return uint32(p.lo) }

func (p packed) before(o packed) bool { return p.hi < o.hi || p.hi == o.hi && p.lo < o.lo }

// heap is a 4-ary heap in chunks.
type heap struct {
	chunks []*[chunkItems]packed
	n      int
}

func (h *heap) at(i int) *packed {
	slot := uint(i) + firstSlot
	return &h.chunks[slot/chunkItems][slot%chunkItems]
}

// add puts p behind the last item, in no order.
func (h *heap) add(p packed) {
	if h.n+firstSlot >= len(h.chunks)*chunkItems {
		h.chunks = append(h.chunks, new([chunkItems]packed))
	}
	h.n++
	*h.at(h.n - 1) = p
}

func (h *heap) push(p packed) {
	h.add(p)
	h.up(h.n-1, p)
}

// up puts p in the free place i or above.
func (h *heap) up(i int, p packed) {
	for i > 0 {
		parent := (i - 1) / arity
		above := h.at(parent)
		if !p.before(*above) {
			break
		}
		*h.at(i) = *above
		i = parent
	}
	*h.at(i) = p
}

// pop takes the first item out; there is one.
func (h *heap) pop() packed {
	first, last := *h.at(0), *h.at(h.n - 1)
	if h.n--; h.n > 0 {
		h.down(0, last)
	}
	h.release()
	return first
}

// down puts p in the free place i or below. The place goes to the bottom
// first: that is where p, which comes from there, mostly belongs.
func (h *heap) down(i int, p packed) {
	top := i
	for {
		child := i*arity + 1
		if child >= h.n {
			break
		}
		slot := uint(child) + firstSlot
		group := h.chunks[slot/chunkItems][slot%chunkItems:][:min(arity, h.n-child)]
		least, at := group[0], 0
		for k, c := range group[1:] {
			if c.before(least) {
				least, at = c, k+1
			}
		}
		*h.at(i) = least
		i = child + at
	}
	for i > top {
		parent := (i - 1) / arity
		above := h.at(parent)
		if parent < top || !p.before(*above) {
			break
		}
		*h.at(i) = *above
		i = parent
	}
	*h.at(i) = p
}

// order makes a heap of items in any order.
func (h *heap) order() {
	for i := (h.n - 2) / arity; i >= 0 && h.n > 1; i-- {
		h.down(i, *h.at(i))
	}
}

// filter keeps the items that keep holds for; it reports whether any went.
func (h *heap) filter(keep func(packed) bool) bool {
	kept := 0
	for i := range h.n {
		if p := *h.at(i); keep(p) {
			*h.at(kept) = p
			kept++
		}
	}
	if kept == h.n {
		return false
	}
	h.n = kept
	h.order()
	h.release()
	return true
}

// release gives back chunks, but for one to spare.
func (h *heap) release() {
	used := (h.n + firstSlot + chunkItems - 1) / chunkItems
	for len(h.chunks) > used+1 {
		h.chunks[len(h.chunks)-1] = nil
		h.chunks = h.chunks[:len(h.chunks)-1]
	}
	if cap(h.chunks) > 64 && len(h.chunks) < cap(h.chunks)/4 {
		h.chunks = append(make([]*[chunkItems]packed, 0, 2*len(h.chunks)), h.chunks...)
	}
}

func (h *heap) clone() heap {
	c := heap{n: h.n, chunks: make([]*[chunkItems]packed, len(h.chunks))}
	for i, chunk := range h.chunks {
		c.chunks[i] = new(*chunk)
	}
	return c
}
