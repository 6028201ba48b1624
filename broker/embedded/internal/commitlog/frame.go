package commitlog

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	frameMagic = 0x534C4631
	headerLen  = 38
	crcLen     = 4
)

// Overhead is what a frame adds to its payload, in bytes.
const Overhead = headerLen + crcLen

// Kind is what a frame holds. It is opaque to the log.
type Kind uint8

// Frame is a frame as replay and tools see it.
type Frame struct {
	// Pos is the position of the frame, and Base where its segment begins.
	Pos, Base int64
	Kind      Kind
	// Payload is valid only during the call that hands it out.
	Payload []byte
}

// FrameSize is the size of a frame with a payload of n bytes: the frame after
// it begins that much later.
func FrameSize(n int) int64 { return int64(n) + Overhead }

// header is a frame without payload and checksum.
type header struct {
	kind   Kind
	epoch  uint32
	store  uint64
	pos    int64
	synced int64
	length int
}

// frameSize is the size of the whole frame.
func (h header) frameSize() int64 { return FrameSize(h.length) }

// castagnoli is made once; MakeTable answers the shared table of the
// polynomial that processors compute.
func castagnoli(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

// putFrame fills b with the frame of h, whose payload is the concatenation of
// parts. The length of b is h.frameSize().
func putFrame(b []byte, h header, parts [][]byte) {
	be := binary.BigEndian
	be.PutUint32(b, frameMagic)
	b[4], b[5] = byte(h.kind), headerLen
	be.PutUint32(b[6:], h.epoch)
	be.PutUint64(b[10:], h.store)
	be.PutUint64(b[18:], uint64(h.pos))
	be.PutUint64(b[26:], uint64(h.synced))
	be.PutUint32(b[34:], uint32(h.length))
	at := headerLen
	for _, p := range parts {
		at += copy(b[at:], p)
	}
	be.PutUint32(b[at:], castagnoli(b[:at]))
}

// parseHeader reads the header at the beginning of b, which has at least
// headerLen bytes. It answers a reason if there is none, or if its frame is
// longer than limit or claims more durable bytes than lie before it.
func parseHeader(b []byte, limit int64) (h header, reason string) {
	be := binary.BigEndian
	if be.Uint32(b) != frameMagic || b[5] != headerLen {
		return h, "no frame begins here"
	}
	length := be.Uint32(b[34:])
	h = header{
		kind:   Kind(b[4]),
		epoch:  be.Uint32(b[6:]),
		store:  be.Uint64(b[10:]),
		pos:    int64(be.Uint64(b[18:])),
		synced: int64(be.Uint64(b[26:])),
		length: int(length),
	}
	switch {
	case int64(length)+Overhead > limit:
		return h, "the frame is longer than what is there"
	case h.synced < 0 || h.synced > h.pos:
		return h, "the frame claims that later bytes were durable"
	}
	return h, ""
}

// checkFrame verifies the checksum of a whole frame and answers its payload.
func checkFrame(frame []byte) (payload []byte, ok bool) {
	n := len(frame) - crcLen
	return frame[headerLen:n:n], castagnoli(frame[:n]) == binary.BigEndian.Uint32(frame[n:])
}
