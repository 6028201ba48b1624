package sdk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemq/sluice/broker/driver"
)

// SendStatus tells how safe a message is that was accepted.
type SendStatus = driver.SendStatus

// The states of a sent message; their meaning is documented in package driver.
const (
	NotStored          = driver.NotStored
	Stored             = driver.Stored
	StoredUnflushed    = driver.StoredUnflushed
	StoredUnreplicated = driver.StoredUnreplicated
	StoredNoReplica    = driver.StoredNoReplica
	Unconfirmed        = driver.Unconfirmed
)

// SendResult answers one message.
type SendResult struct {
	// ID is the unique id of the message, also when it was not stored.
	ID string
	// OffsetID names the stored copy.
	OffsetID string
	// Topic, Lane and Queue say where it was stored.
	Topic, Lane string
	Queue       int
	// Offset is the queue offset; -1 while a delayed message is not due.
	Offset int64
	// Recall is the broker's handle of a delayed message, for
	// [Producer.Recall]; empty where it gives none.
	Recall string
	// Status tells how safe it is.
	Status SendStatus
	// MaybeDone: some other try may have stored the message too.
	MaybeDone bool
	// Attempts is the number of tries.
	Attempts int
	// Err is why the message was not stored, else nil.
	Err error
}

// Producer sends messages. It is safe for concurrent use and belongs to its
// [Client], which closes it.
//
// A send repeats itself while that can help, within sluice.send.timeout. The
// unique id of a message is assigned before the first try, so that consumers
// recognise a duplicate. By default a send is also repeated when the broker may
// have stored the message already: at least once.
type Producer struct {
	client *Client
	chain  ProduceFunc
	async  *async
}

func newProducer(c *Client) (*Producer, error) {
	p := &Producer{client: c}
	var err error
	if p.chain, err = produceChain(c.interceptors, p.transmit); err != nil {
		return nil, err
	}
	p.async = newAsync(c, p.chain)
	return p, nil
}

// Send sends one payload to a topic and returns when the broker has answered.
func (p *Producer) Send(ctx context.Context, topic string, payload any, opts ...MessageOption) (SendResult, error) {
	return p.SendMessage(ctx, NewMessage(topic, payload, opts...))
}

// SendMessage is [Producer.Send] for a message made before. The error is an
// [*Error]; the result holds the unique id in any case.
func (p *Producer) SendMessage(ctx context.Context, m Outgoing) (SendResult, error) {
	return p.one(ctx, m.clone())
}

// SendOneWay hands a message to the broker without waiting for an answer; it is
// neither repeated nor confirmed. A broker that cannot do this refuses with
// [Unsupported].
func (p *Producer) SendOneWay(ctx context.Context, m Outgoing) error {
	c := m.clone()
	c.noAck = true
	_, err := p.one(ctx, c)
	return err
}

func (p *Producer) one(ctx context.Context, m *Outgoing) (SendResult, error) {
	if err := p.open([]*Outgoing{m}); err != nil {
		return SendResult{ID: m.ID, Topic: m.Topic}, err
	}
	results, err := p.through(ctx, []*Outgoing{m})
	return results[0], err
}

// SendBatch sends messages in slice order, as one request where the broker can.
// It answers one result for each message, in the same order; a message that is
// refused does not keep the others from being sent. The error joins the errors
// of the results.
func (p *Producer) SendBatch(ctx context.Context, ms []Outgoing) ([]SendResult, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	list := make([]*Outgoing, 0, len(ms))
	for i := range ms {
		list = append(list, ms[i].clone())
	}
	if err := p.open(list); err != nil {
		return failed(list, err)
	}
	return p.through(ctx, list)
}

// open refuses what comes after Close.
func (p *Producer) open(ms []*Outgoing) error {
	if p.async.isClosed() {
		return &Error{Code: Closed, Op: sendOp(ms), Err: errClientClosed}
	}
	return nil
}

// through assigns the unique ids and runs the interceptors.
func (p *Producer) through(ctx context.Context, ms []*Outgoing) ([]SendResult, error) {
	for _, m := range ms {
		if m.ID == "" {
			m.ID = NewID()
		}
	}
	return callChain(ctx, p.chain, ms)
}

// callChain keeps the promise of one result per message although interceptors
// are foreign code.
func callChain(ctx context.Context, chain ProduceFunc, ms []*Outgoing) ([]SendResult, error) {
	results, err := chain(ctx, ms)
	switch {
	case len(results) == len(ms):
		return results, err
	case err == nil:
		err = errorf(Internal, sendOp(ms), "an interceptor answered %d results for %d messages", len(results), len(ms))
	}
	return failed(ms, err)
}

// failed gives every message the same error.
func failed(ms []*Outgoing, err error) ([]SendResult, error) {
	results := make([]SendResult, len(ms))
	for i, m := range ms {
		results[i] = SendResult{ID: m.ID, Topic: m.Topic, Offset: -1, Err: err}
	}
	return results, err
}

// transmit is the innermost [ProduceFunc].
func (p *Producer) transmit(ctx context.Context, ms []*Outgoing) ([]SendResult, error) {
	op := sendOp(ms)
	timeout := p.client.settings.SendTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, noSuccessError(timeout))
	defer cancel()
	conn, err := p.client.Conn(ctx)
	if err != nil {
		return failed(ms, asError(op, err))
	}
	caps := conn.Capabilities()
	if caps.MaxBatch > 0 && len(ms) > caps.MaxBatch {
		return failed(ms, errorf(InvalidArgument, op, "%d messages in one batch; the broker takes at most %d", len(ms), caps.MaxBatch))
	}
	t := transmission{client: p.client, conn: conn, ms: ms, results: make([]SendResult, len(ms)), noAck: ms[0].noAck}
	for i, m := range ms {
		t.results[i] = SendResult{ID: m.ID, Topic: m.Topic, Offset: -1}
		wire, err := p.client.encode(m, caps)
		if err != nil {
			t.results[i].Err = err
			continue
		}
		t.wires = append(t.wires, wire)
		t.pending = append(t.pending, i)
	}
	return t.run(ctx, op)
}

// transmission is one call of transmit: the messages still to be stored and the
// answers so far.
type transmission struct {
	client  *Client
	conn    driver.Conn
	ms      []*Outgoing
	results []SendResult
	wires   []*driver.Message // of pending, in the same order
	pending []int
	noAck   bool
}

func (t *transmission) run(ctx context.Context, op string) ([]SendResult, error) {
	if len(t.pending) > 0 {
		policy := t.client.policy()
		policy.timeout = 0 // ctx carries the deadline, which includes connecting
		if t.noAck {
			policy.attempts = 1
		}
		if err := policy.run(ctx, op, t.try); err != nil {
			t.giveUp(err)
		}
	}
	if len(t.ms) == 1 {
		return t.results, t.results[0].Err
	}
	errs := make([]error, 0, len(t.ms))
	for _, r := range t.results {
		errs = append(errs, r.Err)
	}
	return t.results, errors.Join(errs...)
}

// try sends what is pending. Its error stands for the messages that are worth
// another try; the others have their answer.
func (t *transmission) try(ctx context.Context) error {
	answers := t.conn.Send(ctx, driver.SendRequest{Messages: t.wires, NoAck: t.noAck})
	if len(answers) != len(t.pending) {
		return driver.Errorf(Internal, "", "the driver answered %d results for %d messages", len(answers), len(t.pending))
	}
	var again *Error
	var wires []*driver.Message
	var pending []int
	for k, a := range answers {
		i := t.pending[k]
		r := &t.results[i]
		r.Attempts++
		if a.Err == nil {
			*r = SendResult{
				ID: r.ID, OffsetID: a.OffsetID, Topic: r.Topic, Lane: a.Lane, Queue: a.Queue,
				Offset: a.Offset, Recall: a.Recall, Status: a.Status, MaybeDone: r.MaybeDone || a.MaybeDone, Attempts: r.Attempts,
			}
			continue
		}
		e := asError(sendOp(t.ms[i:i+1]), a.Err)
		final := !e.Retryable || e.MaybeDone && t.client.settings.SendFailMaybeDone
		r.MaybeDone = r.MaybeDone || e.MaybeDone
		e.MaybeDone, e.Attempts = r.MaybeDone, r.Attempts
		r.Err = e
		if final {
			continue
		}
		wires, pending = append(wires, t.wires[k]), append(pending, i)
		if again == nil || e.RetryAfter > again.RetryAfter {
			again = &Error{Code: e.Code, Retryable: true, RetryAfter: e.RetryAfter, Err: a.Err}
		}
	}
	t.wires, t.pending = wires, pending
	if again == nil {
		return nil
	}
	return again
}

// giveUp gives those still pending their last error, or the end of the context
// where that is why no further try was made.
func (t *transmission) giveUp(err *Error) {
	for _, i := range t.pending {
		r := &t.results[i]
		last, tried := r.Err.(*Error) //nolint:errorlint // set by try, never wrapped
		if !tried || err.Code == Canceled || err.Code == Internal {
			e := *err
			e.Op, e.MaybeDone, e.Attempts = sendOp(t.ms[i:i+1]), r.MaybeDone, r.Attempts
			r.Err = &e
			continue
		}
		last.Attempts = r.Attempts
	}
}

// sendOp names what is being sent.
func sendOp(ms []*Outgoing) string {
	topics := topicsOf(ms)
	op := "send to " + strings.Join(topics, ", ")
	switch {
	case len(topics) > 3:
		op = fmt.Sprintf("send to %d topics", len(topics))
	case len(ms) == 1 && ms[0].Queue != nil:
		op += fmt.Sprintf(" queue %d", *ms[0].Queue)
	}
	if len(ms) > 1 {
		op += fmt.Sprintf(" (%d messages)", len(ms))
	}
	return op
}

// topicsOf lists the topics of a batch, each once.
func topicsOf(ms []*Outgoing) []string {
	topics := make([]string, 0, 1)
	for _, m := range ms {
		if !slices.Contains(topics, m.Topic) {
			topics = append(topics, m.Topic)
		}
	}
	return topics
}

// SendAsync takes a message, encodes it at once, and sends it later. It returns
// nil if it has taken the message; done, which may be nil, is then called exactly
// once with the result. An error means that the message was not taken, and done
// is not called.
//
// Messages with the same topic and ordering key (or queue) are sent in the order
// in which SendAsync took them, one request at a time. ctx bounds the wait for
// room in the buffer; it does not end the sending, which sluice.send.timeout
// bounds. When the buffer of sluice.async.buffer messages is full,
// sluice.async.full decides: block waits for room, fail returns
// [ResourceExhausted], drop takes the message and gives done that error before
// SendAsync returns.
//
// done runs on the goroutine that sends the messages after this one, so it must
// not wait for them; a panic in it is logged.
func (p *Producer) SendAsync(ctx context.Context, m Outgoing, done func(SendResult, error)) error {
	c := m.clone()
	if c.ID == "" {
		c.ID = NewID()
	}
	c.trace = originOf(ctx)
	wire, err := p.client.wire(c, time.Now())
	if err == nil {
		err = wire.Check()
	}
	if err != nil {
		return &Error{Code: InvalidArgument, Op: sendOp([]*Outgoing{c}), Err: err}
	}
	// The body is the payload from here on: the caller may reuse his.
	c.Payload, c.ContentType = slices.Clone(wire.Body), wire.Properties[HeaderContentType]
	if c.Delay > 0 {
		// The delay counts from now, not from when its turn comes.
		c.DeliverAt, c.Delay = wire.DeliverAt, 0
	}
	return p.async.add(ctx, &asyncItem{m: c, done: done})
}

// Flush waits until every message that SendAsync took before the call has its
// result, or until ctx ends.
func (p *Producer) Flush(ctx context.Context) error { return p.async.flush(ctx) }

func (p *Producer) close(ctx context.Context) error { return p.async.close(ctx) }
