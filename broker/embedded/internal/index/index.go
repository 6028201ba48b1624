// Package index finds messages by key: it maps the hash of a key to positions
// in the log. Hashes collide, so whoever looks up compares the text.
package index

import (
	"hash/maphash"
	"math"
	"slices"
)

// Index maps keys to positions. The owner guards it: Add excludes Lookup.
type Index struct {
	seed  maphash.Seed
	heads map[uint64]uint32 // entry + 1 of the newest position
	items []item
}

type item struct {
	pos  int64
	prev uint32 // entry + 1 of the next older position with the same hash
}

// New makes an empty index.
func New() *Index {
	return &Index{seed: maphash.MakeSeed(), heads: map[uint64]uint32{}}
}

// Add notes that the message at pos of topic has key. The kind keeps names of
// different nature apart. Positions are added in ascending order.
func (x *Index) Add(kind byte, topic, key string, pos int64) {
	if len(x.items) == math.MaxUint32 {
		return // 64 GiB of entries: a store that large is not queried by key
	}
	h := x.hash(kind, topic, key)
	x.items = append(x.items, item{pos: pos, prev: x.heads[h]})
	x.heads[h] = uint32(len(x.items))
}

// Lookup answers the positions that may match, ascending.
func (x *Index) Lookup(kind byte, topic, key string) []int64 {
	var out []int64
	for at := x.heads[x.hash(kind, topic, key)]; at != 0; at = x.items[at-1].prev {
		out = append(out, x.items[at-1].pos)
	}
	slices.Reverse(out)
	return out
}

func (x *Index) hash(kind byte, topic, key string) uint64 {
	var h maphash.Hash
	h.SetSeed(x.seed)
	_ = h.WriteByte(kind)
	_, _ = h.WriteString(topic)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(key)
	return h.Sum64()
}
