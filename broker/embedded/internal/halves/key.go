package halves

import (
	"crypto/sha256"
	"encoding/binary"
)

// key stands for an [ID]: the first 128 bits of a SHA-256 sum, so that nobody
// can make two ids that are taken for one another. It is part of the format on
// disk.
type key [16]byte

// keyOf hashes an id. The length of the group keeps group and id apart.
func keyOf(id ID) key {
	var buf [256]byte
	b := binary.AppendUvarint(buf[:0], uint64(len(id.Group)))
	b = append(b, id.Group...)
	b = append(b, id.Tx...)
	sum := sha256.Sum256(b)
	return key(sum[:len(key{})])
}
