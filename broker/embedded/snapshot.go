package embedded

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/sluicemq/sluice/broker/embedded/internal/duetime"
	"github.com/sluicemq/sluice/broker/embedded/internal/halves"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
)

// Versions of a snapshot: the second one has settings at its end. A state
// without settings is written in the first one.
const (
	snapshotVersion  = 1
	snapshotSettings = 2
)

var errSnapshot = errors.New("the state in it is malformed")

// snapshot is the state as of a position, taken quickly and encoded later: a
// million delayed messages take milliseconds to copy and a tenth of a second to
// encode.
type snapshot struct {
	pos    int64
	small  []byte // everything before the delayed messages
	delays *duetime.Queue
	halves []byte
	more   []byte // settings, nil for none
}

// snapshot takes the state as of pos, which is what is applied.
func (s *state) snapshot(pos int64) *snapshot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &snapshot{pos: pos, small: s.appendSmall(nil), delays: s.delays.Clone(), halves: s.halves.AppendTo(nil), more: s.appendSettings(nil)}
}

// encode answers the bytes of the snapshot; [state.decode] is its inverse.
// Equal states give equal bytes.
func (s *snapshot) encode() []byte {
	b := appendBlob(s.small, s.delays.AppendTo(nil))
	return append(appendBlob(b, s.halves), s.more...)
}

// appendSmall encodes everything but the index and what encode adds; mu is held.
// The layout, numbers as unsigned varints, lists and texts with their length
// in front:
//
//	version, next queue number, last store time, segment base + 1
//	topics by name: the record of the topic, with numbers and next offsets
//	positions by group, topic, client: the record of the positions
//	full segments: base, time of the last message
//	delayed messages, half messages: see packages duetime and halves
//	settings by scope and name, in version 2 only: the record of the settings
func (s *state) appendSmall(b []byte) []byte {
	version := byte(snapshotVersion)
	if len(s.settings) > 0 {
		version = snapshotSettings
	}
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(s.nextID))
	b = binary.AppendUvarint(b, uint64(s.lastMs))
	b = binary.AppendUvarint(b, uint64(s.base+1))
	b = binary.AppendUvarint(b, uint64(len(s.topics)))
	for _, name := range slices.Sorted(maps.Keys(s.topics)) {
		r := s.topics[name].record()
		b = appendBlob(b, r.Append(nil))
	}
	b = binary.AppendUvarint(b, uint64(len(s.positions)))
	for _, k := range slices.SortedFunc(maps.Keys(s.positions), progressKey.compare) {
		g := s.positions[k].record(k)
		b = appendBlob(b, g.Append(nil))
	}
	b = binary.AppendUvarint(b, uint64(len(s.ends)))
	for _, e := range s.ends {
		b = binary.AppendUvarint(b, uint64(e.base))
		b = binary.AppendUvarint(b, uint64(e.lastMs))
	}
	return b
}

// record is the topic with the numbers of its queues and where they go on.
func (t *topic) record() record.Topic {
	r := record.Topic{Name: t.name, Queues: len(t.queues), Origins: t.origins}
	for _, q := range t.queues {
		r.IDs = append(r.IDs, q.id)
		r.Next = append(r.Next, q.next)
	}
	return r
}

// record is the progress that k names, its lanes in order.
func (p *progress) record(k progressKey) record.GroupPositions {
	g := record.GroupPositions{Group: k.group, Topic: k.topic, Client: k.client}
	for _, n := range slices.Sorted(maps.Keys(p.lanes)) {
		g.Lanes = append(g.Lanes, p.lanes[n])
	}
	return g
}

// appendSettings encodes the settings; mu is held.
func (s *state) appendSettings(b []byte) []byte {
	if len(s.settings) == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(s.settings)))
	for _, k := range slices.SortedFunc(maps.Keys(s.settings), settingKey.compare) {
		r := record.Setting{Scope: k.scope, Name: k.name, Value: s.settings[k]}
		b = appendBlob(b, r.Append(nil))
	}
	return b
}

func (k settingKey) compare(o settingKey) int {
	return cmp.Or(cmp.Compare(k.scope, o.scope), cmp.Compare(k.name, o.name))
}

func (k progressKey) compare(o progressKey) int {
	return slices.Compare([]string{k.group, k.topic, k.client}, []string{o.group, o.topic, o.client})
}

func appendBlob(b, blob []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(blob))), blob...)
}

// load makes s the state as of pos: the index of the segments that begin at
// bases, and what [snapshot.encode] has encoded.
func (s *state) load(bases []int64, pos int64, b []byte) error {
	if err := s.set.Load(bases, pos); err != nil {
		return err
	}
	if err := s.decode(b); err != nil {
		return err
	}
	if s.base >= 0 {
		s.set.Begin(s.base) // the segment may begin with frames that are not indexed
	}
	known := map[uint32]bool{}
	for _, t := range s.topics {
		for _, q := range t.queues {
			known[q.id] = true
		}
	}
	for id := range s.nextID { // the index cannot tell which were dropped last
		if !known[id] {
			s.set.Drop(id)
		}
	}
	return nil
}

// decode is the inverse of [snapshot.encode], into an empty state.
func (s *state) decode(b []byte) (err error) {
	if len(b) == 0 || b[0] != snapshotVersion && b[0] != snapshotSettings {
		return errSnapshot
	}
	d := record.NewReader(b, b[0])
	s.nextID, s.lastMs, s.base = uint32(d.Int()), d.Int(), d.Int()-1
	for range d.Count() {
		t, err := record.DecodeTopic(d.Blob())
		if err != nil || len(t.IDs) != t.Queues || len(t.Next) != t.Queues || t.Queues == 0 {
			return errors.Join(errSnapshot, err)
		}
		made := s.grownTopic(nil, t)
		for i, q := range made.queues {
			if q.next != t.Next[i] {
				return errSnapshot // the index goes with another state
			}
		}
		s.topics[t.Name] = made
	}
	for range d.Count() {
		g, err := record.DecodePositions(d.Blob())
		if err != nil {
			return errors.Join(errSnapshot, err)
		}
		s.progressed(g)
	}
	for range d.Count() {
		s.ends = append(s.ends, segmentEnd{d.Int(), d.Int()})
	}
	if s.delays, err = duetime.Decode(d.Blob()); err != nil {
		return errors.Join(errSnapshot, err)
	}
	if s.halves, err = halves.Decode(d.Blob(), keepDecided); err != nil {
		return errors.Join(errSnapshot, err)
	}
	if b[0] == snapshotSettings {
		for range d.Count() {
			r, err := record.DecodeSetting(d.Blob())
			if err != nil {
				return errors.Join(errSnapshot, err)
			}
			r.Value = bytes.Clone(r.Value)
			s.remember(r)
		}
	}
	if d.End("state") != nil {
		return errSnapshot
	}
	return nil
}
