package segindex

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// chunkKeys is how many keys lie together in memory: 6 KiB.
const chunkKeys = 512

// keys are the keys of a part in memory, by position. A copy is a snapshot
// that can be read without a lock while the original grows.
type keys struct {
	chunks []*keyChunk
	n      int
}

// keyChunk keeps its columns apart: a struct of both would take a third more.
type keyChunk struct {
	hash [chunkKeys]uint64
	rel  [chunkKeys]uint32
}

func (k *keys) add(hash uint64, rel uint32) {
	i := k.n % chunkKeys
	if i == 0 {
		k.chunks = append(k.chunks, new(keyChunk))
	}
	c := k.chunks[len(k.chunks)-1]
	c.hash[i], c.rel[i] = hash, rel
	k.n++
}

// find calls f for the newest first, until it answers false.
func (k *keys) find(hash uint64, f func(rel uint32) bool) bool {
	last := k.n
	for ci := len(k.chunks) - 1; ci >= 0; ci-- {
		c := k.chunks[ci]
		for i := last - ci*chunkKeys - 1; i >= 0; i-- {
			if c.hash[i] == hash && !f(c.rel[i]) {
				return false
			}
		}
		last = ci * chunkKeys
	}
	return true
}

// key is one key of a file.
type key struct {
	hash uint64
	rel  uint32
}

func compareKeys(a, b key) int {
	if c := cmp.Compare(a.hash, b.hash); c != 0 {
		return c
	}
	return cmp.Compare(a.rel, b.rel)
}

// smallBucket is how many keys are sorted best by comparing them.
const smallBucket = 4

// sorted answers the keys as files hold them. Hashes are spread evenly, so
// nearly all of the work is to put each into its bucket.
func (k *keys) sorted() []key {
	width := min(bits.Len(uint(k.n/smallBucket)), 20)
	shift := 64 - width // a shift by 64 gives 0
	ends := make([]uint32, 1<<width)
	k.each(func(x key) { ends[x.hash>>shift]++ })
	var sum uint32
	for i, n := range ends {
		ends[i] = sum // where the bucket begins; the end once it is filled
		sum += n
	}
	out := make([]key, k.n)
	k.each(func(x key) {
		at := &ends[x.hash>>shift]
		out[*at] = x
		*at++
	})
	var begin uint32
	for _, end := range ends {
		if end-begin > 1 {
			slices.SortFunc(out[begin:end], compareKeys)
		}
		begin = end
	}
	return out
}

// each calls f in the order of adding.
func (k *keys) each(f func(key)) {
	for i := range k.n {
		c := k.chunks[i/chunkKeys]
		f(key{c.hash[i%chunkKeys], c.rel[i%chunkKeys]})
	}
}

func (k key) put(b []byte) {
	binary.BigEndian.PutUint64(b, k.hash)
	binary.BigEndian.PutUint32(b[8:], k.rel)
}
