package offline

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/broker/embedded/internal/duetime"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// snapshotVersion is the first byte of what STATE- and BASE- files hold.
const snapshotVersion = 1

var errSnapshot = errors.New("the state in it is malformed")

// snapshot is the state of a store as of a position, as far as it can be
// compared with the frames before it. The layout is that of package embedded.
type snapshot struct {
	pos    int64
	nextID uint32 // of the next new queue
	topics []record.Topic
}

func decodeSnapshot(pos int64, b []byte) (*snapshot, error) {
	if len(b) == 0 || b[0] != snapshotVersion {
		return nil, fmt.Errorf("%w: it does not begin as version %d", errSnapshot, snapshotVersion)
	}
	d := reader{b: b[1:]}
	s := &snapshot{pos: pos, nextID: uint32(d.int())}
	d.int() // the latest store time
	d.int() // the segment that was written to, plus 1
	for range d.count() {
		t, err := record.DecodeTopic(d.blob())
		if err != nil || len(t.IDs) != t.Queues || len(t.Next) != t.Queues || t.Queues == 0 {
			return nil, errors.Join(fmt.Errorf("%w: topic %q", errSnapshot, t.Name), err)
		}
		s.topics = append(s.topics, t)
	}
	for range d.count() {
		if _, err := record.DecodePositions(d.blob()); err != nil {
			return nil, errors.Join(errSnapshot, err)
		}
	}
	for range d.count() {
		d.int() // base of a full segment
		d.int() // its latest store time
	}
	if _, err := duetime.Decode(d.blob()); err != nil {
		return nil, errors.Join(errSnapshot, err)
	}
	if _, err := halves.Decode(d.blob(), 0); err != nil {
		return nil, errors.Join(errSnapshot, err)
	}
	if d.bad || len(d.b) > 0 {
		return nil, errSnapshot
	}
	return s, nil
}

// reader remembers that it ran out of bytes; then it answers zeros, so that
// loops end.
type reader struct {
	b   []byte
	bad bool
}

func (d *reader) int() int64 {
	n, size := binary.Uvarint(d.b)
	if d.bad || size <= 0 || int64(n) < 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[size:]
	return int64(n)
}

// count reads the number of items that follow, each of which takes a byte at
// least, so that no number is believed that the bytes cannot hold.
func (d *reader) count() int64 {
	n := d.int()
	if n > int64(len(d.b)) {
		d.bad = true
		return 0
	}
	return n
}

func (d *reader) blob() []byte {
	n := d.int()
	if n > int64(len(d.b)) {
		d.bad = true
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}
