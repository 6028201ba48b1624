package segindex

import "encoding/binary"

// KeyHash is the hash under which a key is looked up. The kind keeps keys of
// different nature apart, and id those of different topics or queues. It is
// written to disk, so it never changes: MurmurHash64A of the bytes of key, its
// seed being kind*2^32 + id, times 0x9E3779B97F4A7C15.
func KeyHash(kind byte, id uint32, key string) uint64 {
	const (
		m      = 0xc6a4a7935bd1e995
		r      = 47
		spread = 0x9E3779B97F4A7C15 // seeds that follow each other are far apart
	)
	seed := (uint64(kind)<<32 | uint64(id)) * spread
	h := seed ^ uint64(len(key))*m
	for ; len(key) >= 8; key = key[8:] {
		k := word(key) * m
		k = (k ^ k>>r) * m
		h = (h ^ k) * m
	}
	if len(key) > 0 {
		var rest [8]byte
		copy(rest[:], key)
		h = (h ^ binary.LittleEndian.Uint64(rest[:])) * m
	}
	h = (h ^ h>>r) * m
	return h ^ h>>r
}

// word reads 8 bytes, little endian; the compiler makes it one load.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
