package segindex

import (
	"encoding/binary"
	"fmt"

	"github.com/sluicemq/sluice/broker/embedded/vfs"
)

// BlockSize is how much of an index file has a checksum of its own, in bytes.
const BlockSize = blockSize

// Verify reads the whole index file name of a store and answers the position
// at which what it says ends. It calls entry for every message that is not
// lost, by queue and then by offset; an error of entry ends it. It writes
// nothing and needs no [Set], so that it can read the files of a store that
// somebody else has open.
//
// Errors: [*DamagedError], what entry answers, and what the file system says;
// [vfs.IsNotExist] tells that the file is missing.
func Verify(fs vfs.FS, name string, store uint64, entry func(queue uint32, offset int64, e Entry) error) (end int64, err error) {
	base, temporary, ok := parseName(name)
	if !ok || temporary {
		return 0, fmt.Errorf("verify %s: it has not the name of an index: %w", name, ErrMisuse)
	}
	s := new(scratch)
	d, err := openDisk(fs, store, base, s)
	if err != nil {
		return 0, err
	}
	v := verifier{disk: d, s: s, entry: entry}
	err = v.directory()
	if err == nil {
		err = v.entries()
	}
	if err == nil {
		err = v.keys()
	}
	if cerr := d.file.Close(); err == nil {
		err = cerr
	}
	return d.end, err
}

// verifier reads one file from its begin to its end.
type verifier struct {
	*disk
	s     *scratch
	entry func(queue uint32, offset int64, e Entry) error
	dir   []dirRow
}

func (v *verifier) directory() error {
	var begun uint32
	err := v.eachRow(v.s, func(_ uint32, r dirRow) {
		v.dir = append(v.dir, r)
		if r.begun() {
			begun++
		}
	})
	if err == nil && begun != v.begun {
		err = v.damaged(0, "%d queues begin in it, the directory has %d", v.begun, begun)
	}
	return err
}

// entries checks that the rows of each queue are as many as the directory says,
// and that their positions ascend within the segment.
func (v *verifier) entries() error {
	id, left, offset := -1, int64(0), int64(0)
	var before *row // of the same queue
	number := uint32(0)
	wrong := func(format string, args ...any) error {
		return v.damaged(v.ents+int64(number/rowsABlock), "queue %d: %s", id, fmt.Sprintf(format, args...))
	}
	err := v.rowsOf(v.ents, entrySize, 0, v.disk.entries, v.s, func(b []byte) error {
		for left == 0 && id+1 < len(v.dir) {
			id++
			left, offset, before = int64(v.dir[id].count), v.dir[id].first(), nil
		}
		r := getRow(b)
		e := unpack(v.base, v.epochs, r)
		if left -= 1 + r.more(); left < 0 {
			return wrong("there are more entries than the directory has")
		}
		if e.Pos >= v.end || before != nil && !r.follows(*before) {
			return wrong("offset %d is at %d, which is out of order, or behind the end", offset, e.Pos)
		}
		if e.StoredMs > v.maxMs {
			return wrong("offset %d was stored at %d, after the latest time %d", offset, e.StoredMs, v.maxMs)
		}
		at := offset
		offset, before = offset+1+r.more(), &r
		number++
		if r.size == 0 || v.entry == nil {
			return nil
		}
		return v.entry(uint32(id), at, e)
	})
	if err == nil && left > 0 {
		err = wrong("%d entries are missing", left)
	}
	return err
}

// follows tells whether r may stand behind x: lost messages are filed at the
// position of the frame that tells of them, which may hold the next message.
func (r row) follows(x row) bool { return r.rel > x.rel || r.rel == x.rel && x.size == 0 }

// keys checks that they are sorted and lie within the segment.
func (v *verifier) keys() error {
	var last key
	n := uint32(0)
	return v.rowsOf(v.kys, keySize, 0, v.disk.keys, v.s, func(b []byte) error {
		k := key{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])}
		block := v.kys + int64(n/keysABlock)
		if n++; n > 1 && compareKeys(last, k) > 0 || v.base+int64(k.rel) >= v.end {
			return v.damaged(block, "key %d is out of order, or behind the end", n-1)
		}
		last = k
		return nil
	})
}
