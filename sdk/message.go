package sdk

import (
	"maps"
	"slices"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// HeaderContentType is the header that carries the content type of the body.
const HeaderContentType = "content-type"

// Delivery is one message on its way to a handler, before its body is decoded.
// A handler may keep it; it must not change its maps and slices.
type Delivery struct {
	// Topic is the topic the message was first sent to, also on a redelivery.
	Topic string
	// Tag is the filter label, or empty.
	Tag string
	// Keys are the business keys of the message.
	Keys []string
	// ID is the unique id, stable over send retries and redeliveries.
	ID string
	// OffsetID names the stored copy; a redelivery may be another copy.
	OffsetID string
	// Headers are the properties that the sender set.
	Headers map[string]string
	// Body is the encoded payload.
	Body []byte
	// ContentType is the header [HeaderContentType], or empty.
	ContentType string
	// OrderingKey is the key by which the sender asked for order, or empty.
	OrderingKey string
	// Attempt is 1 on the first delivery.
	Attempt int
	// Group, Listener and Lane say who received it, and by which way.
	Group, Listener, Lane string
	// Offset is the queue offset on the lane.
	Offset int64
	// BornAt is when the message was made, StoredAt when the broker stored it.
	BornAt, StoredAt time.Time

	origin *driver.Delivery // for a reply
}

// NewDelivery makes the delivery that handlers see from one of a driver. Maps
// and slices are shared with d.
func NewDelivery(d *driver.Delivery, group, listener, lane string) *Delivery {
	return &Delivery{
		Topic: d.Topic, Tag: d.Tag, Keys: d.Keys, ID: d.ID, OffsetID: d.OffsetID,
		Headers: d.Properties, Body: d.Body, ContentType: d.Properties[HeaderContentType],
		OrderingKey: d.OrderingKey, Attempt: d.Attempt,
		Group: group, Listener: listener, Lane: lane, Offset: d.Offset,
		BornAt: d.BornAt, StoredAt: d.StoredAt, origin: d,
	}
}

// Key returns the first business key, or "".
func (d *Delivery) Key() string {
	if len(d.Keys) == 0 {
		return ""
	}
	return d.Keys[0]
}

// Header returns a header, or "".
func (d *Delivery) Header(name string) string { return d.Headers[name] }

// Message is a delivery with its decoded payload.
type Message[T any] struct {
	*Delivery

	Payload T
}

// Outgoing is a message to be sent. Make it with [NewMessage] or as a literal;
// only Topic is required. What no broker could carry is refused when it is sent.
type Outgoing struct {
	// ID is the unique id. Defaults to a new one, assigned once, before the
	// first try.
	ID string
	// Topic takes 1 to 127 of the characters a-z A-Z 0-9 _ - % and |.
	Topic string
	// Tag is the filter label, without "||" and spaces.
	Tag string
	// Keys are business keys by which the message can be found, without spaces.
	Keys []string
	// Headers travel with the message; names and values are not empty.
	Headers map[string]string
	// Payload is encoded by the codec of ContentType. A []byte is taken as
	// the encoded body whatever the content type.
	Payload any
	// ContentType chooses the codec. Defaults to the header of that name, else
	// to application/octet-stream for []byte and application/json for the rest.
	ContentType string
	// OrderingKey: same key, same lane, same order.
	OrderingKey string
	// Delay postpones the delivery; it excludes DeliverAt.
	Delay time.Duration
	// DeliverAt is when the message becomes visible. A time in the past is now.
	DeliverAt time.Time
	// Queue selects a queue of the topic and overrides OrderingKey.
	Queue *int

	// trace holds where an asynchronous message came from, because it is sent
	// by another goroutine than that of its caller.
	trace traceOrigin
	noAck bool
}

// MessageOption sets one field of an [Outgoing].
type MessageOption func(*Outgoing)

// NewMessage makes a message for topic.
func NewMessage(topic string, payload any, opts ...MessageOption) Outgoing {
	m := Outgoing{Topic: topic, Payload: payload}
	for _, o := range opts {
		o(&m)
	}
	return m
}

// clone copies what sending changes, so that the caller's message stays as it is.
func (m *Outgoing) clone() *Outgoing {
	c := *m
	c.Headers = make(map[string]string, len(m.Headers)+4)
	maps.Copy(c.Headers, m.Headers)
	c.Keys = slices.Clone(m.Keys)
	if m.Queue != nil {
		n := *m.Queue
		c.Queue = &n
	}
	return &c
}

// Tag sets the filter label.
func Tag(tag string) MessageOption { return func(m *Outgoing) { m.Tag = tag } }

// Key adds business keys.
func Key(keys ...string) MessageOption {
	return func(m *Outgoing) { m.Keys = append(m.Keys, keys...) }
}

// Header sets one header.
func Header(name, value string) MessageOption {
	return func(m *Outgoing) {
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[name] = value
	}
}

// Delay postpones the delivery by d.
func Delay(d time.Duration) MessageOption { return func(m *Outgoing) { m.Delay = d } }

// DeliverAt postpones the delivery until t.
func DeliverAt(t time.Time) MessageOption { return func(m *Outgoing) { m.DeliverAt = t } }

// OrderingKey asks for order among the messages with the same key.
func OrderingKey(key string) MessageOption { return func(m *Outgoing) { m.OrderingKey = key } }

// Queue selects a queue of the topic.
func Queue(n int) MessageOption { return func(m *Outgoing) { m.Queue = &n } }

// ContentType chooses the codec.
func ContentType(name string) MessageOption { return func(m *Outgoing) { m.ContentType = name } }

// ID sets the unique id, for a message whose id must be known before it is sent.
func ID(id string) MessageOption { return func(m *Outgoing) { m.ID = id } }
