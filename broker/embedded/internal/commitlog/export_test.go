package commitlog

import "encoding/binary"

// GoldenFrame is a frame with every field set.
func GoldenFrame() []byte {
	return appendFrame(nil, header{kind: 5, epoch: 7, store: 0x0102030405060708, pos: 0x1234, synced: 0x1000}, []byte("hello"))
}

var goldenManifest = manifest{
	clean: true, epoch: 7, store: 0x0102030405060708, generation: 9, start: 0x100, synced: 0x1234,
	highWater: 1700000000000000000, created: 1700000000000000001, maxFrame: 8 << 20,
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
	binary.BigEndian.PutUint32(b[manifestLen-crcLen:], castagnoli(b[:manifestLen-crcLen]))
	return b
}
