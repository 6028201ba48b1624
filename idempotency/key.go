package idempotency

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Key names one piece of work for one group: the SHA-256, in lower-case
// hexadecimal, of the four parts it is made of. Its length is constant, it
// holds no part in clear, and it is safe in any store.
type Key string

// NewKey digests the parts of a key. Each part goes in with its length before
// it, so that no choice of separators makes two different tuples equal. topic
// is the topic that the message was first sent to, never a retry topic, so that
// every attempt has the same key.
func NewKey(namespace, group, topic, business string) Key {
	h := sha256.New()
	var length [8]byte
	for _, part := range [...]string{namespace, group, topic, business} {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return Key(hex.EncodeToString(h.Sum(nil)))
}
