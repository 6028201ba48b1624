package sdk

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Encode makes what a driver carries from a message: it assigns the unique id,
// encodes the payload, and refuses what no broker or not this one could carry.
// It is for those who hand messages to a driver themselves, such as senders of
// half messages; m gets the id.
func (c *Client) Encode(ctx context.Context, m *Outgoing) (*driver.Message, error) {
	conn, err := c.Conn(ctx)
	if err != nil {
		return nil, asError(sendOp([]*Outgoing{m}), err)
	}
	if m.ID == "" {
		m.ID = NewID()
	}
	return c.encode(m, conn.Capabilities())
}

func (c *Client) encode(m *Outgoing, caps driver.Capabilities) (*driver.Message, error) {
	op := sendOp([]*Outgoing{m})
	wire, err := c.wire(m, time.Now())
	if err == nil {
		err = wire.Check()
	}
	if err != nil {
		return nil, &Error{Code: InvalidArgument, Op: op, Err: err}
	}
	if caps.MaxBody > 0 && len(wire.Body) > caps.MaxBody {
		return nil, errorf(InvalidArgument, op, "the body has %d bytes; the broker takes at most %d", len(wire.Body), caps.MaxBody)
	}
	if gap := c.gap(m, wire, caps); gap != nil {
		gap.Op = op
		return nil, gap
	}
	return wire, nil
}

// wire does what needs no knowledge of the broker.
func (c *Client) wire(m *Outgoing, now time.Time) (*driver.Message, error) {
	contentType := m.ContentType
	if contentType == "" {
		contentType = m.Headers[HeaderContentType]
	}
	body, contentType, err := c.codecs.Encode(m.Payload, contentType)
	if err != nil {
		return nil, err
	}
	w := &driver.Message{
		ID: m.ID, Topic: m.Topic, Tag: m.Tag, Keys: slices.Clone(m.Keys),
		Properties: map[string]string{}, Body: body, OrderingKey: m.OrderingKey,
		DeliverAt: m.DeliverAt, BornAt: now,
	}
	maps.Copy(w.Properties, m.Headers)
	w.Properties[HeaderContentType] = contentType
	if m.Queue != nil {
		w.Queue, w.QueueSet = *m.Queue, true
	}
	switch {
	case m.Delay < 0:
		return nil, fmt.Errorf("the delay %v is negative; it takes a time from now on", m.Delay)
	case m.Delay > 0 && !m.DeliverAt.IsZero():
		return nil, fmt.Errorf("both a delay (%v) and a delivery time are set; one is allowed", m.Delay)
	case m.Delay > 0:
		w.DeliverAt = now.Add(m.Delay)
	}
	return w, nil
}

// gap refuses what this broker cannot do, or rounds a delay up to a level where
// the settings say so.
func (c *Client) gap(m *Outgoing, w *driver.Message, caps driver.Capabilities) *Error {
	refuse := func(format string, args ...any) *Error { return errorf(Unsupported, "", format, args...) }
	if w.QueueSet && !caps.Queues {
		return refuse("queue %d is asked for, but broker %q has no numbered queues; use an ordering key", w.Queue, caps.System)
	}
	if m.noAck && !caps.OneWay {
		return refuse("one-way sending is asked for, but broker %q always answers; use Send or SendAsync", caps.System)
	}
	delay := w.DeliverAt.Sub(w.BornAt)
	if w.DeliverAt.IsZero() || delay <= 0 {
		w.DeliverAt = time.Time{}
		return nil
	}
	switch caps.Delay {
	case driver.AnyTime:
		return nil
	case driver.Levels:
		i := slices.IndexFunc(caps.DelayLevels, func(l time.Duration) bool { return l >= delay })
		switch {
		case i >= 0 && caps.DelayLevels[i] == delay:
			return nil
		case i >= 0 && c.settings.EmulateDelay:
			w.DeliverAt = w.BornAt.Add(caps.DelayLevels[i])
			c.rounded.Do(func() {
				c.logger.Warn("a delay is rounded up to a level of the broker, as sluice.delay asks; this is logged once",
					slog.String("topic", m.Topic), slog.Duration("delay", delay), slog.Duration("level", caps.DelayLevels[i]))
			})
			return nil
		}
		return refuse("a delay of %v is asked for, but broker %q delays only by %s; choose one of them, or set sluice.delay to emulate to round up",
			delay.Round(time.Millisecond), caps.System, levels(caps.DelayLevels))
	default:
		return refuse("a delay of %v is asked for, but broker %q cannot delay", delay.Round(time.Millisecond), caps.System)
	}
}

func levels(ds []time.Duration) string {
	words := make([]string, 0, len(ds))
	for _, d := range ds {
		words = append(words, d.String())
	}
	return strings.Join(words, ", ")
}

// NewID returns a unique message id: 32 upper case hexadecimal digits, of which
// the first 12 are the time in milliseconds and the rest is random.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[6:]) // never fails
	var t [8]byte
	binary.BigEndian.PutUint64(t[:], uint64(time.Now().UnixMilli()))
	copy(b[:6], t[2:])
	return strings.ToUpper(hex.EncodeToString(b[:]))
}
