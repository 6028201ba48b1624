package offline

import (
	"errors"
	"fmt"

	"github.com/sluicemq/sluice/broker/embedded/internal/duetime"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// Versions are the first byte of what STATE- and BASE- files hold; the second
// one has settings at its end.
const (
	snapshotVersion  = 1
	snapshotSettings = 2
)

var errSnapshot = errors.New("the state in it is malformed")

// snapshot is the state of a store as of a position, as far as it can be
// compared with the frames before it. The layout is that of package embedded.
type snapshot struct {
	pos    int64
	nextID uint32 // of the next new queue
	topics []record.Topic
}

func decodeSnapshot(pos int64, b []byte) (*snapshot, error) {
	if len(b) == 0 || b[0] != snapshotVersion && b[0] != snapshotSettings {
		return nil, fmt.Errorf("%w: it does not begin as version %d or %d", errSnapshot, snapshotVersion, snapshotSettings)
	}
	d := record.NewReader(b, b[0])
	s := &snapshot{pos: pos, nextID: uint32(d.Int())}
	d.Int() // the latest store time
	d.Int() // the segment that was written to, plus 1
	for range d.Count() {
		t, err := record.DecodeTopic(d.Blob())
		if err != nil || len(t.IDs) != t.Queues || len(t.Next) != t.Queues || t.Queues == 0 {
			return nil, errors.Join(fmt.Errorf("%w: topic %q", errSnapshot, t.Name), err)
		}
		s.topics = append(s.topics, t)
	}
	for range d.Count() {
		if _, err := record.DecodePositions(d.Blob()); err != nil {
			return nil, errors.Join(errSnapshot, err)
		}
	}
	for range d.Count() {
		d.Int() // base of a full segment
		d.Int() // its latest store time
	}
	if _, err := duetime.Decode(d.Blob()); err != nil {
		return nil, errors.Join(errSnapshot, err)
	}
	if _, err := halves.Decode(d.Blob(), 0); err != nil {
		return nil, errors.Join(errSnapshot, err)
	}
	if b[0] == snapshotSettings {
		for range d.Count() {
			if _, err := record.DecodeSetting(d.Blob()); err != nil {
				return nil, errors.Join(errSnapshot, err)
			}
		}
	}
	if d.End("state") != nil {
		return nil, errSnapshot
	}
	return s, nil
}
