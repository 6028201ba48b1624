package embedded

import (
	"bytes"
	"fmt"

	"github.com/sluicemq/sluice/broker/embedded/internal/commitlog"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Kinds of keys in the index.
const (
	byID  = 'i'
	byKey = 'k'
)

// keyHash is what the index knows of a key: FNV-1a, 64 bits, over kind, topic,
// a zero and the key. It is part of the format of index files.
func keyHash[T string | []byte](kind byte, topic string, key T) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := (uint64(offset) ^ uint64(kind)) * prime
	for i := range len(topic) {
		h = (h ^ uint64(topic[i])) * prime
	}
	h *= prime // the zero
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * prime
	}
	return h
}

// fact is what a frame says.
type fact struct {
	kind record.Kind
	pos  int64
	base int64 // of its segment
	size int   // of the payload

	msg messageFact // of the kinds that hold a message
	ctl *control    // of the others
}

// messageFact is what the state needs to know of a message.
type messageFact struct {
	topic    string
	queue    int
	q        *topicQueue // nil in a replay: the state looks it up
	offset   int64
	storedMs int64
	tag      int32
	id       string
	hashes   []uint64 // of its id and keys
	due      int64    // Delayed
	ref      int64    // Fired, Committed: position of the frame it ends
	group    string   // Half
	queueID  uint32   // Fired: number of the queue that it was sent to
}

// control is what a frame without a message says; which field counts follows
// from the kind.
type control struct {
	topic     record.Topic // TopicCreated; only Name for TopicDeleted
	made      *topic       // TopicCreated: what it makes; nil in a replay
	half      int64        // RolledBack, Parked: position of the half
	park      record.Park
	positions record.GroupPositions
	setting   record.Setting // Settings; only Name for GroupDeleted
}

// decoder reads frames back. What a message says lies in memory of the decoder
// until the next call.
type decoder struct {
	fact   fact
	names  map[string]string // topics that were met, so that a name is made once
	hashes []uint64
}

func newDecoder() *decoder { return &decoder{names: map[string]string{}} }

// decode reads a frame back.
func (d *decoder) decode(fr commitlog.Frame) (*fact, error) {
	b := fr.Payload
	f := &d.fact
	*f = fact{kind: record.Kind(fr.Kind), pos: fr.Pos, base: fr.Base, size: len(b)}
	switch f.kind {
	case record.Message, record.Fired, record.Committed, record.Half, record.Delayed:
		due, b, err := storedPart(f.kind, b)
		if err != nil {
			return f, err
		}
		f.msg.due = due
		return f, d.message(b)
	default:
		return f, f.decodeControl(b)
	}
}

func (d *decoder) message(b []byte) error {
	v, _, err := message.DecodeView(b)
	if err != nil {
		return err
	}
	m := &d.fact.msg
	name, ok := d.names[string(v.TopicBytes)]
	if !ok {
		name = string(v.TopicBytes)
		d.names[name] = name
	}
	m.topic, m.queue, m.offset = name, int(v.QueueID), v.QueueOffset
	m.storedMs, m.ref = v.StoreTimestamp, v.PreparedTransactionOffset
	d.hashes = d.hashes[:0]
	m.note(&d.hashes, v.PropertyBytes)
	if d.fact.kind == record.Half {
		for name, value := range message.PropertiesOf(v.PropertyBytes) {
			switch string(name) {
			case message.UniqKey:
				m.id = string(value)
			case message.ProducerGroup:
				m.group = string(value)
			}
		}
	}
	return nil
}

func (f *fact) decodeControl(b []byte) (err error) {
	c := &control{}
	f.ctl = c
	switch f.kind {
	case record.RolledBack:
		var d record.Decided
		d, err = record.DecodeDecided(b)
		c.half = d.Half
	case record.Parked:
		c.park, err = record.DecodePark(b)
		c.half = c.park.Half
	case record.TopicCreated:
		c.topic, err = record.DecodeTopic(b)
	case record.TopicDeleted:
		c.topic.Name, err = record.DecodeName(b)
	case record.Positions:
		c.positions, err = record.DecodePositions(b)
	case record.Settings:
		c.setting, err = record.DecodeSetting(b)
		c.setting.Value = bytes.Clone(c.setting.Value)
	case record.GroupDeleted:
		c.setting.Name, err = record.DecodeName(b)
	default:
		err = fmt.Errorf("kind %d: %w", f.kind, record.ErrMalformed)
	}
	return err
}

// positionsFrame notes how far a group has come.
func positionsFrame(g record.GroupPositions) *frame {
	return &frame{fact: fact{kind: record.Positions, ctl: &control{positions: g}}, head: g.Append(nil)}
}

// settingFrame notes settings, or that there are none any more.
func settingFrame(r record.Setting) *frame {
	return &frame{fact: fact{kind: record.Settings, ctl: &control{setting: r}}, head: r.Append(nil)}
}
