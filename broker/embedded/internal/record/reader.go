package record

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Reader takes apart what begins with a version byte and goes on in unsigned
// varints, and in texts and blobs with their length in front. It remembers that
// it ran out of bytes; afterwards it answers zeros, so that loops end, and
// [Reader.End] says so.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader reads b behind its first byte, which must be version.
func NewReader(b []byte, version byte) *Reader {
	if len(b) == 0 || b[0] != version {
		return &Reader{bad: true}
	}
	return &Reader{b: b[1:]}
}

// Int reads a number, which is not negative.
func (d *Reader) Int() int64 {
	n, size := binary.Uvarint(d.b)
	if d.bad || size <= 0 || n > math.MaxInt64 {
		d.bad = true
		return 0
	}
	d.b = d.b[size:]
	return int64(n)
}

// Count reads the number of items that follow, each of which takes a byte at
// least, so that no number is believed that the bytes cannot hold.
func (d *Reader) Count() int {
	n := d.Int()
	if n > int64(len(d.b)) {
		d.bad = true
		return 0
	}
	return int(n)
}

// Blob reads bytes; they are a part of what is read.
func (d *Reader) Blob() []byte {
	n := d.Count()
	if d.bad {
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *Reader) text() string { return string(d.Blob()) }

// End is nil if everything was read, and nothing is left; else it matches
// [ErrMalformed] and names what was to be read.
func (d *Reader) End(what string) error {
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%s: %w", what, ErrMalformed)
	}
	return nil
}
