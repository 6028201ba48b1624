package segindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
)

// The numbers of the format; doc.go explains them.
const (
	magic   = 0x534C4958
	version = 1

	blockSize    = 4096
	blockContent = blockSize - 4

	rowSize      = 16
	entrySize    = 16
	keySize      = 12
	rowsABlock   = blockContent / rowSize
	keysABlock   = blockContent / keySize
	epochsOffset = 60
	epochSize    = 12
	maxEpochs    = 300

	flagBegun  = 1 << 63
	flagAbsent = 1 << 62
	flagSparse = 1 << 61
	maskOffset = flagSparse - 1

	suffix    = ".idx"
	tmpSuffix = ".tmp"
	digits    = 20
)

// row is one entry as it is packed in memory and in files, or some lost ones
// that follow each other: of those there may be a great many.
type row struct {
	rel  uint32 // position minus base of the part
	size uint32
	tag  int32  // if size is 0: the number of further lost entries, unsigned
	ms   uint32 // since the epoch of rel
}

// more is how many further entries the row stands for.
func (r row) more() int64 {
	if r.size == 0 {
		return int64(uint32(r.tag))
	}
	return 0
}

// epoch is what the times of entries count from, beginning with the entry at
// rel. There is more than one if a segment takes weeks or a clock jumps.
type epoch struct {
	rel uint32
	ms  int64
}

// epochSlack is how far the first time of an epoch lies behind its begin, so
// that clocks may also go back a little.
const epochSlack = math.MaxUint32 / 2

// epochAt answers the epoch of rel; there is one.
func epochAt(epochs []epoch, rel uint32) epoch {
	i := len(epochs) - 1
	for i > 0 && epochs[i].rel > rel {
		i--
	}
	return epochs[i]
}

// dirRow is a row of a directory.
type dirRow struct {
	word         uint64 // offset and flags
	start, count uint32 // number of the first row, number of entries
}

func (r dirRow) first() int64          { return int64(r.word & maskOffset) }
func (r dirRow) next() int64           { return r.first() + int64(r.count) }
func (r dirRow) begun() bool           { return r.word&flagBegun != 0 }
func (r dirRow) absent() bool          { return r.word&flagAbsent != 0 }
func (r dirRow) sparse() bool          { return r.word&flagSparse != 0 }
func (r dirRow) holds(offs int64) bool { return offs >= r.first() && offs < r.next() }

func (r dirRow) put(b []byte) {
	be := binary.BigEndian
	be.PutUint64(b, r.word)
	be.PutUint32(b[8:], r.start)
	be.PutUint32(b[12:], r.count)
}

func getDirRow(b []byte) dirRow {
	be := binary.BigEndian
	return dirRow{be.Uint64(b), be.Uint32(b[8:]), be.Uint32(b[12:])}
}

func (r row) put(b []byte) {
	be := binary.BigEndian
	be.PutUint32(b, r.rel)
	be.PutUint32(b[4:], r.size)
	be.PutUint32(b[8:], uint32(r.tag))
	be.PutUint32(b[12:], r.ms)
}

func getRow(b []byte) row {
	be := binary.BigEndian
	return row{be.Uint32(b), be.Uint32(b[4:]), int32(be.Uint32(b[8:])), be.Uint32(b[12:])}
}

// header is block 0 of a file.
type header struct {
	store               uint64
	base, end           int64
	rows, entries, keys uint32
	begun               uint32
	maxMs               int64
	epochs              []epoch
}

// blocks are the numbers of the blocks at which the sections begin and the
// last one ends.
func (h *header) blocks() (dir, entries, keys, end int64) {
	dir = 1
	entries = dir + blocksFor(h.rows, rowsABlock)
	keys = entries + blocksFor(h.entries, rowsABlock)
	return dir, entries, keys, keys + blocksFor(h.keys, keysABlock)
}

func blocksFor(n uint32, perBlock int64) int64 { return (int64(n) + perBlock - 1) / perBlock }

func (h *header) encode() []byte {
	be := binary.BigEndian
	b := make([]byte, 0, blockSize)
	b = be.AppendUint32(b, magic)
	b = be.AppendUint16(b, version)
	b = be.AppendUint16(b, 0)
	b = be.AppendUint64(b, h.store)
	b = be.AppendUint64(b, uint64(h.base))
	b = be.AppendUint64(b, uint64(h.end))
	for _, v := range []uint32{h.rows, h.entries, h.keys, h.begun} {
		b = be.AppendUint32(b, v)
	}
	b = be.AppendUint64(b, uint64(h.maxMs))
	b = be.AppendUint32(b, uint32(len(h.epochs)))
	for _, e := range h.epochs {
		b = be.AppendUint32(b, e.rel)
		b = be.AppendUint64(b, uint64(e.ms))
	}
	b = b[:blockSize]
	putChecksum(b, 0)
	return b
}

func decodeHeader(b []byte) (h header, err error) {
	be := binary.BigEndian
	if be.Uint32(b) != magic {
		return h, errors.New("it does not begin as an index")
	}
	if !checksumMatches(b, 0) {
		return h, errors.New("the checksum of the header does not match")
	}
	if v := be.Uint16(b[4:]); v != version || be.Uint16(b[6:]) != 0 {
		return h, fmt.Errorf("its version is %d, this program reads %d", v, version)
	}
	h = header{
		store: be.Uint64(b[8:]), base: int64(be.Uint64(b[16:])), end: int64(be.Uint64(b[24:])),
		rows: be.Uint32(b[32:]), entries: be.Uint32(b[36:]), keys: be.Uint32(b[40:]), begun: be.Uint32(b[44:]),
		maxMs: int64(be.Uint64(b[48:])),
	}
	n := be.Uint32(b[56:])
	if n > maxEpochs || n == 0 && h.entries > 0 {
		return h, fmt.Errorf("%d epochs for %d entries", n, h.entries)
	}
	for b := b[epochsOffset:][:n*epochSize]; len(b) > 0; b = b[epochSize:] {
		h.epochs = append(h.epochs, epoch{be.Uint32(b), int64(be.Uint64(b[4:]))})
	}
	return h, nil
}

// checksumTable answers a table that the standard library makes once.
func checksumTable() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// blockSeed is what the checksum of block 0 of the sections would begin with.
func blockSeed(store uint64, base int64) uint32 {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], store)
	binary.BigEndian.PutUint64(b[8:], uint64(base))
	return crc32.Checksum(b[:], checksumTable())
}

func checksum(block []byte, seed uint32) uint32 {
	return crc32.Update(seed, checksumTable(), block[:blockContent])
}

func putChecksum(block []byte, seed uint32) {
	binary.BigEndian.PutUint32(block[blockContent:], checksum(block, seed))
}

func checksumMatches(block []byte, seed uint32) bool {
	return binary.BigEndian.Uint32(block[blockContent:]) == checksum(block, seed)
}

func fileName(base int64) string { return fmt.Sprintf("%0*d%s", digits, base, suffix) }

// parseName tells whether name is one that this package gives to files.
func parseName(name string) (base int64, temporary, ok bool) {
	name, temporary = strings.CutSuffix(name, tmpSuffix)
	s, ok := strings.CutSuffix(name, suffix)
	if !ok || len(s) != digits || strings.Trim(s, "0123456789") != "" {
		return 0, false, false
	}
	base, err := strconv.ParseInt(s, 10, 64)
	return base, temporary, err == nil
}
