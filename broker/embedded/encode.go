package embedded

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded/internal/record"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// firstStored is, on copies for retry and among dead letters, when the message
// was stored first, in milliseconds.
const firstStored = "__FIRST_STORED"

// storeHost names this broker in records and offset ids. It has no address, so
// it names the loopback.
func storeHost() netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0) }

// reserved reports whether the broker keeps fields of a message in a property
// of that name; users cannot have it, and deliveries do not show it.
func reserved(name string) bool {
	switch name {
	case message.Keys, message.Tags, message.UniqKey, message.ShardingKey, message.Wait,
		message.Delay, message.TimerDeliverMs, message.TimerDelayMs, message.TimerDelaySec,
		message.RealTopic, message.RealQueueID, message.RetryTopic, message.OriginMessageID,
		message.ReconsumeTime, message.MaxReconsumeTimes, message.TranMsg, message.ProducerGroup,
		message.TransactionID, firstStored:
		return true
	}
	return false
}

// outgoing is a message on its way into the log.
type outgoing struct {
	stored message.Stored
	id     string
	keys   []string
	tag    int32
	// due is when it becomes visible, in milliseconds; 0 for now.
	due int64
}

// checkMessage refuses what cannot be stored.
func (e *engine) checkMessage(m *driver.Message) error {
	if err := m.Check(); err != nil {
		return err
	}
	for name := range m.Properties {
		if reserved(name) {
			return fmt.Errorf("property %q is the broker's own; use the field of the message, or another name", name)
		}
	}
	if m.ID != "" {
		if err := driver.ValidProperty(message.UniqKey, m.ID); err != nil {
			return fmt.Errorf("message id: %w", err)
		}
	}
	if n := len(m.Body); n > e.cfg.MaxBody {
		return fmt.Errorf("body has %d bytes, at most %d are allowed", n, e.cfg.MaxBody)
	}
	return nil
}

// newOutgoing converts m, which checkMessage accepted; id is its unique id.
func newOutgoing(m *driver.Message, id string, now time.Time) outgoing {
	born := m.BornAt
	if born.IsZero() {
		born = now
	}
	o := outgoing{id: id, keys: slices.Clone(m.Keys)}
	b := make([]byte, 0, 64+len(id))
	b = message.AppendProperty(b, message.Keys, message.JoinKeys(m.Keys))
	b = message.AppendProperty(b, message.Tags, m.Tag)
	b = message.AppendProperty(b, message.UniqKey, id)
	b = message.AppendProperty(b, message.ShardingKey, m.OrderingKey)
	if ms := ceilMs(m.DeliverAt); !m.DeliverAt.IsZero() && ms > now.UnixMilli() {
		o.due = ms
		b = message.AppendProperty(b, message.TimerDeliverMs, strconv.FormatInt(ms, 10))
	}
	b = message.AppendProperties(b, m.Properties)
	if m.Tag != "" {
		o.tag = message.TagCode(m.Tag)
	}
	o.stored = message.Stored{
		Topic: m.Topic, BornTimestamp: born.UnixMilli(), BornHost: storeHost(), StoreHost: storeHost(),
		Body: m.Body, Properties: string(b),
	}
	return o
}

// ceilMs rounds up, so that nothing comes before its time.
func ceilMs(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		ms++
	}
	return ms
}

// payload encodes o as the payload of a frame, with its due time in front if
// it has one.
func (o *outgoing) payload() ([]byte, error) {
	var b []byte
	if o.due > 0 {
		b = record.AppendDue(make([]byte, 0, record.DueSize()+o.stored.Size()), o.due)
	} else {
		b = make([]byte, 0, o.stored.Size())
	}
	return o.stored.AppendTo(b)
}

// kind is the kind of frame that holds o.
func (o *outgoing) kind() record.Kind {
	if o.due > 0 {
		return record.Delayed
	}
	return record.Message
}

// outgoingOf reads back what newOutgoing made, from a stored copy.
func outgoingOf(s message.Stored) outgoing {
	o := outgoing{stored: s}
	for name, value := range message.Properties(s.Properties) {
		switch name {
		case message.UniqKey:
			o.id = value
		case message.Keys:
			o.keys = message.SplitKeys(value)
		case message.Tags:
			o.tag = message.TagCode(value)
		}
	}
	return o
}

// newDelivery shows a stored copy to a user. The body is a part of the buffer
// that s was decoded from.
func newDelivery(s *message.Stored) *driver.Delivery {
	d := &driver.Delivery{
		Message: driver.Message{
			Topic: s.Topic, Body: s.Body, Queue: int(s.QueueID), BornAt: time.UnixMilli(s.BornTimestamp),
		},
		OffsetID: message.OffsetID(s.StoreHost, s.PhysicalOffset),
		Offset:   s.QueueOffset,
		Attempt:  int(s.ReconsumeTimes) + 1,
		StoredAt: time.UnixMilli(s.StoreTimestamp),
	}
	for name, value := range message.Properties(s.Properties) {
		switch name {
		case message.Keys:
			d.Keys = message.SplitKeys(value)
		case message.Tags:
			d.Tag = value
		case message.UniqKey:
			d.ID = value
		case message.ShardingKey:
			d.OrderingKey = value
		case message.RetryTopic:
			d.Topic = value
		case message.TimerDeliverMs:
			if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
				d.DeliverAt = time.UnixMilli(ms)
			}
		default:
			if reserved(name) {
				continue
			}
			if d.Properties == nil {
				d.Properties = make(map[string]string)
			}
			d.Properties[name] = value
		}
	}
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
	switch k {
	case record.Message, record.Fired, record.Committed, record.Half:
	case record.Delayed:
		if due, b, err = record.SplitDue(b); err != nil {
			return s, k, 0, err
		}
	default:
		return s, k, 0, errNotMessage
	}
	s, _, err = message.DecodeTrusted(b)
	return s, k, due, err
}
