package commitlog

import "encoding/binary"

// GoldenFrame is a frame with every field set.
func GoldenFrame() []byte {
	b := make([]byte, FrameSize(5))
	putFrame(b, header{kind: 5, epoch: 7, store: 0x0102030405060708, pos: 0x1234, synced: 0x1000, length: 5}, [][]byte{[]byte("hel"), []byte("lo")})
	return b
}

var goldenManifest = manifest{
	clean: true, epoch: 7, store: 0x0102030405060708, generation: 9, start: 0x100, synced: 0x1234,
	highWater: 1700000000000000000, created: 1700000000000000001, maxFrame: 8 << 20,
	holes: []Hole{newHole(0x300, 0x400, 0x200, "rotten"), newHole(0x1000, 0x1100, 0x1000, "")},
}

// GoldenManifest is a manifest with every field set.
func GoldenManifest() []byte { return goldenManifest.encode() }

// GoldenCurrent is a CURRENT file.
func GoldenCurrent() string { return string(encodeCurrent(9)) }

// DecodeManifest decodes a manifest and encodes it again.
func DecodeManifest(b []byte) ([]byte, error) {
	m, err := decodeManifest(b)
	return m.encode(), err
}

// NewerManifest is a manifest of a version to come.
func NewerManifest() []byte {
	b := goldenManifest.encode()
	binary.BigEndian.PutUint16(b[4:], manifestVersion+1)
	binary.BigEndian.PutUint32(b[len(b)-crcLen:], castagnoli(b[:len(b)-crcLen]))
	return b
}
