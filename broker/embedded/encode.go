package embedded

import (
	"bytes"
	"errors"
	"net/netip"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/envelope"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// storeHost names this broker in records and offset ids. It has no address, so
// it names the loopback.
func storeHost() netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0) }

// outgoing is where frames of messages are encoded: bytes and hashes that
// belong together, so that a call needs few pieces of memory.
type outgoing struct {
	b      []byte
	hashes []uint64
}

// reset makes o ready for another call.
func (o *outgoing) reset() { o.b, o.hashes = o.b[:0], o.hashes[:0] }

// encode makes f the frame of m, which was checked; id is its unique
// id, extra are properties of the broker in their encoded form. The body is not
// copied.
func (o *outgoing) encode(f *frame, m *driver.Message, id, extra []byte, now time.Time) error {
	born := m.BornAt
	if born.IsZero() {
		born = now
	}
	s := message.Stored{
		Topic: m.Topic, BornTimestamp: born.UnixMilli(), BornHost: storeHost(), StoreHost: storeHost(), Body: m.Body,
	}
	mf := &f.fact.msg
	if !m.DeliverAt.IsZero() {
		if ms := envelope.Millis(m.DeliverAt); ms > now.UnixMilli() {
			mf.due = ms
		}
	}
	mf.topic = m.Topic
	if m.Tag != "" {
		mf.tag = message.TagCode(m.Tag)
	}
	from := len(o.hashes)
	o.hashes = append(o.hashes, keyHash(byID, m.Topic, id))
	for _, k := range m.Keys {
		o.hashes = append(o.hashes, keyHash(byKey, m.Topic, k))
	}
	mf.hashes = o.hashes[from:len(o.hashes):len(o.hashes)]
	return o.around(f, &s, func(b []byte) []byte {
		b = appendKeys(b, m.Keys)
		b = message.AppendProperty(b, message.Tags, m.Tag)
		b = append(b, message.UniqKey+"\x01"...)
		b = append(append(b, id...), '\x02')
		b = message.AppendProperty(b, message.ShardingKey, m.OrderingKey)
		if mf.due > 0 {
			b = append(b, message.TimerDeliverMs+"\x01"...)
			b = append(strconv.AppendInt(b, mf.due, 10), '\x02')
		}
		return append(message.AppendProperties(b, m.Properties), extra...)
	})
}

// around encodes s as the payload of f, with the due time in front if the
// message has one; the properties are what properties appends.
func (o *outgoing) around(f *frame, s *message.Stored, properties func(b []byte) []byte) error {
	start := len(o.b)
	if f.fact.kind = record.Message; f.fact.msg.due > 0 {
		f.fact.kind = record.Delayed
		o.b = record.AppendDue(o.b, f.fact.msg.due)
	}
	b, head, err := s.AppendAround(o.b, properties)
	if err != nil {
		return err
	}
	o.b = b
	f.head, f.body, f.tail = b[start:head:head], s.Body, b[head:len(b):len(b)]
	return nil
}

// appendKeys appends the property of business keys.
func appendKeys(b []byte, keys []string) []byte {
	if len(keys) == 0 {
		return b
	}
	b = append(b, message.Keys+"\x01"...)
	for i, k := range keys {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, k...)
	}
	return append(b, '\x02')
}

// copyFact fills in what the state needs to know of a copy that goes to topic;
// properties are those of the original.
func (o *outgoing) copyFact(f *frame, topic string, properties []byte) {
	f.fact.msg.topic = topic
	f.fact.msg.note(&o.hashes, properties)
}

// note reads what the state needs from the properties of a message; the hashes
// of its keys are appended to hashes.
func (m *messageFact) note(hashes *[]uint64, properties []byte) {
	from := len(*hashes)
	for name, value := range message.PropertiesOf(properties) {
		switch string(name) {
		case message.UniqKey:
			*hashes = append(*hashes, keyHash(byID, m.topic, value))
		case message.Keys:
			for k := range bytes.FieldsSeq(value) {
				*hashes = append(*hashes, keyHash(byKey, m.topic, k))
			}
		case message.Tags:
			m.tag = message.TagCode(string(value))
		}
	}
	m.hashes = (*hashes)[from:len(*hashes):len(*hashes)]
}

// newDelivery shows a stored copy to a user. The body is a part of the buffer
// that s was decoded from.
func newDelivery(s *message.Stored) *driver.Delivery {
	d := &driver.Delivery{}
	envelope.Open(d, s, s.Body, message.OffsetID(s.StoreHost, s.PhysicalOffset))
	return d
}

var errNotMessage = errors.New("there is no message at the position")

// sizeUnknown is for positions of which only the position is known.
const sizeUnknown = 1024

// read reads the message whose frame lies at pos, with a payload of about size
// bytes; the due time of a delayed one is answered beside it. Callers check the
// kind.
func (e *engine) read(pos int64, size int) (s message.Stored, k record.Kind, due int64, err error) {
	kind, b, err := e.log.ReadSized(pos, size, nil)
	if err != nil {
		return s, 0, 0, err
	}
	k = record.Kind(kind)
	if due, b, err = storedPart(k, b); err != nil {
		return s, k, due, err
	}
	s, _, err = message.DecodeTrusted(b)
	return s, k, due, err
}

// storedPart answers the stored message in the payload of a frame of kind k,
// and its due time if it is a delayed one.
func storedPart(k record.Kind, b []byte) (due int64, stored []byte, err error) {
	switch k {
	case record.Message, record.Fired, record.Committed, record.Half:
		return 0, b, nil
	case record.Delayed:
		return record.SplitDue(b)
	default:
		return 0, nil, errNotMessage
	}
}
