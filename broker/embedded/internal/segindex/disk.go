package segindex

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// scratchBlocks is how many blocks are read at once.
const scratchBlocks = 16

// scratch is where blocks are read to.
type scratch struct {
	b [scratchBlocks * blockSize]byte
}

// disk is a complete index file. It does not change.
type disk struct {
	file vfs.File
	name string
	seed uint32
	header
	dir, ents, kys, last int64 // blocks at which the sections begin, and the end
}

// openDisk opens the file of the segment at base and verifies its header.
func openDisk(fs vfs.FS, store uint64, base int64, s *scratch) (_ *disk, err error) {
	name := fileName(base)
	f, err := fs.OpenRead(name)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", name, err)
	}
	d := &disk{file: f, name: name, seed: blockSeed(store, base), header: header{base: base}}
	if err := d.readHeader(store, base, s.b[:blockSize]); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

func (d *disk) readHeader(store uint64, base int64, b []byte) error {
	if err := d.readAt(b, 0); err != nil {
		return err
	}
	h, err := decodeHeader(b)
	switch {
	case err != nil:
		return d.damaged(0, "%v", err)
	case h.store != store:
		return d.damaged(0, "it belongs to store %x, not to %x", h.store, store)
	case h.base != base:
		return d.damaged(0, "it belongs to the segment at %d", h.base)
	case h.end < base:
		return d.damaged(0, "it ends at %d", h.end)
	}
	d.header = h
	d.dir, d.ents, d.kys, d.last = h.blocks()
	size, err := d.file.Size()
	if err != nil {
		return fmt.Errorf("size of index %s: %w", d.name, err)
	}
	if size != d.last*blockSize {
		return d.damaged(0, "it has %d bytes in place of %d", size, d.last*blockSize)
	}
	return nil
}

func (d *disk) damaged(block int64, format string, args ...any) error {
	return &DamagedError{Name: d.name, Base: d.base, Offset: block * blockSize, Reason: fmt.Sprintf(format, args...)}
}

// readAt fills b from block on.
func (d *disk) readAt(b []byte, block int64) error {
	n, err := d.file.ReadAt(b, block*blockSize)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return d.damaged(block, "the file ends")
	}
	return fmt.Errorf("read index %s: %w", d.name, err)
}

// blocksAt reads and verifies n blocks from block on, as many as fit into s.
func (d *disk) blocksAt(block, n int64, s *scratch) ([]byte, error) {
	b := s.b[:min(n, scratchBlocks)*blockSize]
	if err := d.readAt(b, block); err != nil {
		return nil, err
	}
	for i := 0; i < len(b); i += blockSize {
		at := block + int64(i/blockSize)
		if !checksumMatches(b[i:i+blockSize], d.seed^uint32(at)) {
			return nil, d.damaged(at, "the checksum does not match")
		}
	}
	return b, nil
}

// rowsOf reads rows from number from on up to number to of the section that
// begins with block, and calls f for each as long as it answers no error.
func (d *disk) rowsOf(block int64, size, from, to uint32, s *scratch, f func(b []byte) error) error {
	perBlock := uint32(blockContent) / size
	for from < to {
		first, last := from/perBlock, (to-1)/perBlock
		b, err := d.blocksAt(block+int64(first), int64(last-first)+1, s)
		if err != nil {
			return err
		}
		for ; len(b) > 0 && from < to; b = b[blockSize:] {
			for i := from % perBlock; i < perBlock && from < to; i++ {
				if err := f(b[i*size:][:size]); err != nil {
					return err
				}
				from++
			}
		}
	}
	return nil
}

// dirRow reads the row of a queue.
func (d *disk) dirRow(id uint32, s *scratch) (dirRow, error) {
	if id >= d.rows {
		return dirRow{}, nil
	}
	b, err := d.blocksAt(d.dir+int64(id/rowsABlock), 1, s)
	if err != nil {
		return dirRow{}, err
	}
	r := getDirRow(b[id%rowsABlock*rowSize:])
	if end := uint64(r.start) + uint64(r.count); !r.sparse() && end > uint64(d.entries) || uint64(r.start) > uint64(d.entries) {
		return r, d.damaged(d.dir+int64(id/rowsABlock), "queue %d has entries that are not there", id)
	}
	return r, nil
}

// eachRow calls f for every row of the directory.
func (d *disk) eachRow(s *scratch, f func(id uint32, r dirRow)) error {
	var id uint32
	var least, most uint64 // where the entries of the queue may begin
	follows := func(start uint32) error {
		if uint64(start) < least || uint64(start) > most {
			return d.damaged(d.dir+int64(id/rowsABlock), "the entries before queue %d end elsewhere", id)
		}
		return nil
	}
	err := d.rowsOf(d.dir, rowSize, 0, d.rows, s, func(b []byte) error {
		r := getDirRow(b)
		if err := follows(r.start); err != nil {
			return err
		}
		most = uint64(r.start) + uint64(r.count)
		if least = most; r.sparse() {
			least = min(uint64(r.start)+1, most)
		}
		f(id, r)
		id++
		return nil
	})
	if err != nil {
		return err
	}
	return follows(d.entries)
}

// read unpacks entries of the queue with row r, from offset on, into buf.
func (d *disk) read(r dirRow, offset int64, buf []Entry, s *scratch) (n int, err error) {
	buf = buf[:min(int64(len(buf)), r.next()-offset)]
	if !r.sparse() {
		return d.readEntries(r.start+uint32(offset-r.first()), buf, s)
	}
	err = d.eachSparse(r, s, func(at, end int64, x row) bool {
		if end > offset {
			n += repeat(buf[n:], unpack(d.base, d.epochs, x), end-max(at, offset))
		}
		return n < len(buf)
	})
	return n, err
}

// readEntries unpacks rows from number from on into buf.
func (d *disk) readEntries(from uint32, buf []Entry, s *scratch) (n int, err error) {
	for n < len(buf) {
		at := from + uint32(n)
		first, last := at/rowsABlock, (from+uint32(len(buf))-1)/rowsABlock
		b, err := d.blocksAt(d.ents+int64(first), int64(last-first)+1, s)
		if err != nil {
			return n, err
		}
		for i := at % rowsABlock; len(b) > 0 && n < len(buf); n++ {
			buf[n] = unpack(d.base, d.epochs, getRow(b[i*entrySize:]))
			if i++; i == rowsABlock {
				i, b = 0, b[blockSize:]
			}
		}
	}
	return n, nil
}

// errEnough ends a walk.
var errEnough = errors.New("enough")

// eachSparse calls f for the rows of a queue some of which stand for more than
// one entry, at to end, until it answers false. That a part has such rows is
// rare, so that there is no way to find one quickly.
func (d *disk) eachSparse(r dirRow, s *scratch, f func(at, end int64, x row) bool) error {
	at := r.first()
	err := d.rowsOf(d.ents, entrySize, r.start, d.entries, s, func(b []byte) error {
		if at >= r.next() {
			return errEnough
		}
		x := getRow(b)
		end := at + 1 + x.more()
		if !f(at, end, x) {
			return errEnough
		}
		at = end
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if err == nil && at != r.next() {
		err = d.damaged(d.ents, "the entries end at offset %d, not at %d", at, r.next())
	}
	return err
}

// atTime is the offset of the first entry of a queue that was stored at or
// after ms.
func (d *disk) atTime(r dirRow, ms int64, s *scratch) (offset int64, ok bool, err error) {
	if r.sparse() {
		err = d.eachSparse(r, s, func(at, _ int64, x row) bool {
			ok = unpack(d.base, d.epochs, x).StoredMs >= ms
			offset = at
			return !ok
		})
		return offset, ok, err
	}
	var one [1]Entry
	i := sort.Search(int(r.count), func(i int) bool {
		if err == nil {
			_, err = d.readEntries(r.start+uint32(i), one[:], s)
		}
		return err != nil || one[0].StoredMs >= ms
	})
	return r.first() + int64(i), i < int(r.count), err
}

// keyBlock is a block of keys.
type keyBlock struct {
	number int64
	n      int
	b      []byte
}

func (k *keyBlock) hash(i int) uint64 { return binary.BigEndian.Uint64(k.b[i*keySize:]) }
func (k *keyBlock) rel(i int) uint32  { return binary.BigEndian.Uint32(k.b[i*keySize+8:]) }

// keyBlock reads block i of the keys.
func (d *disk) keyBlock(i int64, s *scratch) (keyBlock, error) {
	b, err := d.blocksAt(d.kys+i, 1, s)
	return keyBlock{i, min(keysABlock, int(int64(d.keys)-i*keysABlock)), b}, err
}

// find calls f for the positions under hash, newest first, until it answers
// false.
func (d *disk) find(hash uint64, s *scratch, f func(rel uint32) bool) (goOn bool, err error) {
	k, end, err := d.lastUpTo(hash, s)
	for err == nil {
		for i := end - 1; i >= 0; i-- {
			if k.hash(i) != hash {
				return true, nil
			}
			if !f(k.rel(i)) {
				return false, nil
			}
		}
		if k.number <= 0 {
			return true, nil
		}
		if k, err = d.keyBlock(k.number-1, s); err == nil {
			end = k.n
		}
	}
	return true, err
}

// lastUpTo finds the first key whose hash is larger, and answers a block and a
// number in it, perhaps the end of the block, such that the key before is the
// last whose hash is not.
func (d *disk) lastUpTo(hash uint64, s *scratch) (k keyBlock, end int, err error) {
	lo, hi := int64(0), d.last-d.kys // the answer is in [lo, hi), or at the end of lo-1
	loHash, hiHash := uint64(0), ^uint64(0)
	for try := 0; lo < hi; try++ {
		mid := int64(uint64(lo+hi) / 2)
		if hiHash > loHash && try%4 < 3 { // hashes spread evenly; if not, halving ends it
			part := float64(hash-loHash) / float64(hiHash-loHash)
			mid = lo + min(max(int64(part*float64(hi-lo)), 0), hi-lo-1)
		}
		if k, err = d.keyBlock(mid, s); err != nil {
			return k, 0, err
		}
		switch {
		case k.hash(0) > hash:
			hi, hiHash = mid, k.hash(0)
		case k.hash(k.n-1) <= hash:
			lo, loHash = mid+1, k.hash(k.n-1)
		default:
			block := k
			return k, sort.Search(k.n, func(i int) bool { return block.hash(i) > hash }), nil
		}
	}
	if lo == 0 {
		return keyBlock{}, 0, nil
	}
	if k.number != lo-1 || k.b == nil {
		k, err = d.keyBlock(lo-1, s)
	}
	return k, k.n, err
}
