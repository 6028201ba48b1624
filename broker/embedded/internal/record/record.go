package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Kind tells what a frame holds. Values are part of the format on disk.
type Kind uint8

const (
	// Message is visible at once.
	Message Kind = 1 + iota
	// Fired is a message whose delay is over; its prepared transaction offset
	// is the position of the Delayed frame it ends.
	Fired
	// Committed is a message whose transaction was committed; its prepared
	// transaction offset is the position of the Half frame it decides.
	Committed
	// Delayed waits for its due time.
	Delayed
	// Half waits for a decision.
	Half
	// RolledBack decides a half message.
	RolledBack
	// Parked says that a half message stayed undecided.
	Parked
	// TopicCreated makes a topic, or adds queues to it.
	TopicCreated
	// TopicDeleted removes a topic and the positions of its groups.
	TopicDeleted
	// Positions says how far a group has come on some lanes of a topic.
	Positions
	// Settings is what a server wants to remember of a topic or of a group.
	Settings
	// GroupDeleted removes the positions and the settings of a group.
	GroupDeleted
)

// RetryLane is the number of the retry lane in a [LanePosition].
const RetryLane = -1

// Version is the first byte of a control frame.
const Version = 1

// VersionQueues is the first byte of a TopicCreated frame that says more of the
// queues than how many there are.
const VersionQueues = 2

const dueSize = 8

// ErrMalformed: the bytes are no record of the kind.
var ErrMalformed = errors.New("malformed record")

// Topic is the content of a TopicCreated frame.
type Topic struct {
	Name   string
	Queues int
	// Origins, in a retry topic, are the topics whose redeliveries the queues
	// hold: Origins[i] belongs to queue i.
	Origins []string
	// IDs are the numbers by which the index knows the queues, one per queue.
	// Frames of version 1 have none.
	IDs []uint32
	// Next are the offsets at which the queues go on, one per queue; none if
	// they follow from the frames before, as in a new topic. Only with IDs.
	Next []int64
}

// Decided is the content of a RolledBack frame.
type Decided struct {
	// Half is the position of the half message.
	Half int64
}

// Park is the content of a Parked frame.
type Park struct {
	Half   int64
	At     int64 // milliseconds
	Checks int
}

// GroupPositions is the content of a Positions frame: absolute values, so that
// the last frame of a lane counts.
type GroupPositions struct {
	Group, Topic string
	// Client is set for broadcast groups, which have positions per client.
	Client string
	Lanes  []LanePosition
}

// LanePosition is how far a group has come on one lane.
type LanePosition struct {
	// Queue is [RetryLane] for the retry lane.
	Queue int
	// Next is the first offset that was never fetched.
	Next int64
	// Unsettled are the offsets below Next that were fetched and not settled,
	// ascending.
	Unsettled []int64
}

// Position is the lowest offset that is not settled.
func (p LanePosition) Position() int64 {
	if len(p.Unsettled) > 0 {
		return p.Unsettled[0]
	}
	return p.Next
}

// Scope says what a [Setting] is about.
type Scope uint8

const (
	// OfTopic is a topic, which takes the settings along when it is deleted.
	OfTopic Scope = 1 + iota
	// OfGroup is a consumer group.
	OfGroup
)

// Setting is the content of a Settings frame: the last one counts.
type Setting struct {
	Scope Scope
	Name  string
	// Value is the server's own; empty for no settings any more.
	Value []byte
}

// AppendDue begins the payload of a Delayed frame.
func AppendDue(b []byte, ms int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(ms)) }

// SplitDue takes the payload of a Delayed frame apart.
func SplitDue(b []byte) (ms int64, stored []byte, err error) {
	if len(b) < dueSize {
		return 0, nil, fmt.Errorf("delayed record of %d bytes: %w", len(b), ErrMalformed)
	}
	return int64(binary.BigEndian.Uint64(b)), b[dueSize:], nil
}

// DueSize is what AppendDue adds.
func DueSize() int { return dueSize }

// Append appends the encoded topic to b: in version 1 if it has neither IDs nor
// Next. Lengths that do not fit Queues make a frame that no one decodes.
func (t Topic) Append(b []byte) []byte {
	version := byte(Version)
	if len(t.IDs) > 0 || len(t.Next) > 0 {
		version = VersionQueues
	}
	b = append(b, version)
	b = appendString(b, t.Name)
	b = appendInt(b, int64(t.Queues))
	b = appendInt(b, int64(len(t.Origins)))
	for _, o := range t.Origins {
		b = appendString(b, o)
	}
	if version == Version {
		return b
	}
	b = appendInt(b, int64(len(t.IDs)))
	for _, id := range t.IDs {
		b = appendInt(b, int64(id))
	}
	b = appendInt(b, int64(len(t.Next)))
	for _, n := range t.Next {
		b = appendInt(b, n)
	}
	return b
}

// DecodeTopic is the inverse of [Topic.Append]; it reads both versions.
func DecodeTopic(b []byte) (t Topic, err error) {
	version := byte(Version)
	if len(b) > 0 && b[0] == VersionQueues {
		version = VersionQueues
	}
	d := NewReader(b, version)
	t.Name = d.text()
	t.Queues = int(d.Int())
	for range d.Count() {
		t.Origins = append(t.Origins, d.text())
	}
	if version == VersionQueues {
		d.queues(&t)
	}
	return t, d.End("topic")
}

// queues reads what version 2 says of each queue.
func (d *Reader) queues(t *Topic) {
	n := d.Count()
	d.bad = d.bad || n != t.Queues
	for range n {
		id := d.Int()
		if d.bad || id > math.MaxUint32 {
			d.bad = true
			return
		}
		t.IDs = append(t.IDs, uint32(id))
	}
	n = d.Count()
	d.bad = d.bad || n > 0 && n != t.Queues
	for range n {
		if d.bad {
			return
		}
		t.Next = append(t.Next, d.Int())
	}
}

// AppendName encodes a TopicDeleted or GroupDeleted frame.
func AppendName(b []byte, name string) []byte { return appendString(append(b, Version), name) }

// DecodeName is the inverse of [AppendName].
func DecodeName(b []byte) (string, error) {
	d := NewReader(b, Version)
	name := d.text()
	return name, d.End("name")
}

// Append appends the encoded settings to b.
func (s Setting) Append(b []byte) []byte {
	b = appendString(append(b, Version, byte(s.Scope)), s.Name)
	return append(appendInt(b, int64(len(s.Value))), s.Value...)
}

// DecodeSetting is the inverse of [Setting.Append]; the value is a part of b.
func DecodeSetting(b []byte) (s Setting, err error) {
	d := NewReader(b, Version)
	scope := d.Int()
	d.bad = d.bad || scope != int64(OfTopic) && scope != int64(OfGroup)
	s.Scope = Scope(scope)
	s.Name, s.Value = d.text(), d.Blob()
	return s, d.End("settings")
}

// Append appends the encoded decision to b.
func (r Decided) Append(b []byte) []byte { return appendInt(append(b, Version), r.Half) }

// DecodeDecided is the inverse of [Decided.Append].
func DecodeDecided(b []byte) (r Decided, err error) {
	d := NewReader(b, Version)
	r.Half = d.Int()
	return r, d.End("rollback")
}

// Append appends the encoded parking to b.
func (p Park) Append(b []byte) []byte {
	b = appendInt(append(b, Version), p.Half)
	return appendInt(appendInt(b, p.At), int64(p.Checks))
}

// DecodePark is the inverse of [Park.Append].
func DecodePark(b []byte) (p Park, err error) {
	d := NewReader(b, Version)
	p.Half, p.At, p.Checks = d.Int(), d.Int(), int(d.Int())
	return p, d.End("parked half message")
}

// Append appends the encoded positions to b.
func (g GroupPositions) Append(b []byte) []byte {
	b = appendString(append(b, Version), g.Group)
	b = appendString(b, g.Topic)
	b = appendString(b, g.Client)
	b = appendInt(b, int64(len(g.Lanes)))
	for _, l := range g.Lanes {
		b = appendInt(b, int64(l.Queue)+1)
		b = appendInt(b, l.Next)
		b = appendInt(b, int64(len(l.Unsettled)))
		last := int64(0)
		for _, o := range l.Unsettled {
			b = appendInt(b, o-last)
			last = o
		}
	}
	return b
}

// DecodePositions is the inverse of [GroupPositions.Append].
func DecodePositions(b []byte) (g GroupPositions, err error) {
	d := NewReader(b, Version)
	g.Group, g.Topic, g.Client = d.text(), d.text(), d.text()
	for range d.Count() {
		l := LanePosition{Queue: int(d.Int()) - 1, Next: d.Int()}
		last := int64(0)
		for i := range d.Count() {
			step := d.Int()
			if i > 0 && step == 0 || step > l.Next-last-1 {
				d.bad = true
				break
			}
			last += step
			l.Unsettled = append(l.Unsettled, last)
		}
		g.Lanes = append(g.Lanes, l)
	}
	return g, d.End("positions")
}

// appendInt appends a number that is not negative.
func appendInt(b []byte, n int64) []byte { return binary.AppendUvarint(b, uint64(max(n, 0))) }

func appendString(b []byte, s string) []byte { return append(appendInt(b, int64(len(s))), s...) }
