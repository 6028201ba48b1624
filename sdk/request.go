package sdk

import (
	"context"
	"errors"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// Request sends one payload to a topic and waits for the reply of whoever
// consumes it, whose payload is decoded into T; a []byte takes it as it is. ctx
// says how long, else sluice.send.timeout does. It is sent once: an [*Error] with
// MaybeDone says that somebody may act on it all the same. A request cannot be
// delayed, and interceptors do not see it. A broker without requests refuses it
// with [Unsupported].
func Request[T any](ctx context.Context, p *Producer, topic string, payload any, opts ...MessageOption) (*Message[T], error) {
	out := NewMessage(topic, payload, opts...)
	d, err := p.request(ctx, out.clone())
	if err != nil {
		return nil, err
	}
	m := &Message[T]{Delivery: d}
	if err := p.client.codecs.Decode(d.Body, d.ContentType, &m.Payload); err != nil {
		return nil, &Error{Code: InvalidArgument, Op: "decode the reply from " + topic, MaybeDone: true, Err: err}
	}
	return m, nil
}

func (p *Producer) request(ctx context.Context, m *Outgoing) (d *Delivery, err error) {
	op := "send a request to " + m.Topic
	if err := p.open([]*Outgoing{m}); err != nil {
		return nil, asError(op, err)
	}
	if _, bounded := ctx.Deadline(); !bounded {
		limited, cancel := context.WithTimeoutCause(ctx, p.client.settings.SendTimeout, errNoReply)
		defer cancel()
		ctx = limited
	}
	if m.ID == "" {
		m.ID = NewID()
	}
	ctx, end := p.client.tracing.StartSend(ctx, m)
	defer func() { end(SendResult{ID: m.ID, Topic: m.Topic}, err) }()
	requests, caps, err := p.requests(ctx, op)
	if err != nil {
		return nil, err
	}
	wire, err := p.client.encode(m, caps)
	if err != nil {
		return nil, asError(op, err)
	}
	r, err := requests.Request(ctx, wire)
	if err != nil {
		return nil, asError(op, err)
	}
	return NewDelivery(&driver.Delivery{Message: *r, Attempt: 1}, "", "", ""), nil
}

// errNoReply is why a request without a deadline of its own has ended.
var errNoReply = errors.New("no reply within sluice.send.timeout")

// Reply answers a request from within its handler; a payload is encoded as that
// of a message is, and options that say where or when it goes are refused. It
// settles nothing: the result of the handler does. [NotFound] means that who has
// asked is gone, InvalidArgument that the delivery is no request.
func (p *Producer) Reply(ctx context.Context, request *Delivery, payload any, opts ...MessageOption) error {
	op := "reply to a request of " + request.Topic
	out := NewMessage("", payload, opts...)
	m := out.clone()
	if err := p.open([]*Outgoing{m}); err != nil {
		return asError(op, err)
	}
	requests, _, err := p.requests(ctx, op)
	if err != nil {
		return err
	}
	p.client.tracing.carry(ctx, m)
	wire, err := p.client.wire(m, time.Now())
	if err != nil {
		return &Error{Code: InvalidArgument, Op: op, Err: err}
	}
	if err := requests.Reply(ctx, request.origin, wire); err != nil {
		return asError(op, err)
	}
	return nil
}

// requests answers what the broker has for requests.
func (p *Producer) requests(ctx context.Context, op string) (driver.Requester, driver.Capabilities, error) {
	conn, err := p.client.Conn(ctx)
	if err != nil {
		return nil, driver.Capabilities{}, asError(op, err)
	}
	caps := conn.Capabilities()
	r := conn.Extensions().Requests
	if r == nil {
		return nil, caps, errorf(Unsupported, op, "broker %q has no requests in this process; those of RocketMQ and of sluice serve have", caps.System)
	}
	return r, caps, nil
}
