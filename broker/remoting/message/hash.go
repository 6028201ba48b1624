package message

import "unicode/utf16"

// TagCode is the hash by which brokers filter tags: Java's String.hashCode over
// the UTF-16 units of the tag. No tag has code 0. Bytes that are not UTF-8
// count as U+FFFD each, as Java reads them.
func TagCode(tag string) int32 { return javaHash(0, tag) }

// HashKey is the hash of one business key in the index of a topic: Java's hash
// of topic#key without its sign, never negative.
func HashKey(topic, key string) int32 {
	h := javaHash(javaHash(javaHash(0, topic), "#"), key)
	if h < 0 {
		h = -h
	}
	return max(h, 0) // the smallest int32 has no positive counterpart
}

// javaHash continues the hash h by s; it wraps around like Java's int.
func javaHash(h int32, s string) int32 {
	for _, r := range s {
		if r1, r2 := utf16.EncodeRune(r); r1 != 0xFFFD {
			h = 31*(31*h+r1) + r2
			continue
		}
		h = 31*h + r
	}
	return h
}
