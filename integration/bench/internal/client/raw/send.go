package raw

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// group is the name of all groups here.
const group = "raw"

// Depth is how many requests of a [Window] are in flight on each connection.
const Depth = 64

// newSend is a request that stores one message without properties, in the
// short form that clients use.
func newSend(topic string, queue int) (request, error) {
	const most = 16 // attempts, as clients say
	var fields remoting.Fields
	remoting.SendMessage{
		ProducerGroup: group, Topic: topic, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: Queues,
		QueueID: int32(queue), BornTimestamp: time.Now().UnixMilli(), MaxReconsumeTimes: most,
	}.AppendTo(remoting.ReqSendMessageV2, &fields)
	return newRequest(remoting.ReqSendMessageV2, fields, measure.Body())
}

// First sends one message on a connection of its own and waits for its answer.
func First(broker, topic string) error {
	r, err := newSend(topic, 0)
	if err != nil {
		return err
	}
	c, err := dial(broker)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = c.call(r)
	return err
}

// Wait sends one message and waits for its answer, a connection a worker.
type Wait struct {
	conns    []*conn
	requests []request
	numbers  []int
}

// NewWait is a [measure.Publisher]; worker n stores in queue n modulo [Queues].
func NewWait(broker, topic string, workers int) (*Wait, error) {
	p := &Wait{numbers: make([]int, workers)}
	for w := range workers {
		c, err := greet(broker, topic)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.conns = append(p.conns, c)
		r, err := newSend(topic, w%Queues)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.requests = append(p.requests, r)
	}
	return p, nil
}

// Publish stores one message.
func (p *Wait) Publish(worker int) (int, error) {
	c, r := p.conns[worker], p.requests[worker]
	p.numbers[worker]++
	setNumber(r.frame, r.number, firstNumber+p.numbers[worker])
	if _, err := c.Write(r.frame); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	a, err := c.next()
	if err == nil && a.code != remoting.ResSuccess {
		err = a.refused()
	}
	return 1, err
}

// Close ends the connections.
func (p *Wait) Close() error { return closeAll(p.conns) }

func closeAll(conns []*conn) (err error) {
	for _, c := range conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

// Window keeps [Depth] requests in flight on each of its connections, one a
// worker.
type Window struct {
	conns []*conn
	lanes []lane
}

// lane is one connection's requests.
type lane struct {
	block  []byte // Depth frames, one after the other
	size   int    // of a frame
	number int    // where a frame has its number
	last   int    // number given
	open   int    // requests in flight
}

// NewWindow is a [measure.Publisher]; worker n stores in queue n modulo [Queues].
func NewWindow(broker, topic string, workers int) (*Window, error) {
	p := &Window{}
	for w := range workers {
		c, err := greet(broker, topic)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.conns = append(p.conns, c)
		r, err := newSend(topic, w%Queues)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		l := lane{size: len(r.frame), number: r.number, last: firstNumber}
		for range Depth {
			l.block = append(l.block, r.frame...)
		}
		p.lanes = append(p.lanes, l)
	}
	return p, nil
}

// Publish fills the window of the worker with one write, and takes the answers
// that are there, at least one.
func (p *Window) Publish(worker int) (int, error) {
	if err := p.fill(worker, Depth); err != nil {
		return 0, err
	}
	return p.take(worker)
}

// fill sends requests until so many are in flight.
func (p *Window) fill(worker, depth int) error {
	l := &p.lanes[worker]
	more := l.block[:max(depth-l.open, 0)*l.size]
	for at := 0; at < len(more); at += l.size {
		l.last++
		setNumber(more[at:], l.number, l.last)
	}
	l.open = max(l.open, depth)
	if _, err := p.conns[worker].Write(more); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// take reads the answers that are there, at least one.
func (p *Window) take(worker int) (int, error) {
	c, n := p.conns[worker], 0
	for more := true; more; more = c.frames.Ready() {
		a, err := c.next()
		if err != nil {
			return n, err
		}
		if a.code != remoting.ResSuccess {
			return n, a.refused()
		}
		n++
		p.lanes[worker].open--
	}
	return n, nil
}

// Close waits for the answers that are due, and ends the connections.
func (p *Window) Close() error {
	var err error
	for w, c := range p.conns {
		err = errors.Join(err, c.SetDeadline(time.Now().Add(patience)))
		for w < len(p.lanes) && p.lanes[w].open > 0 && err == nil {
			_, err = p.take(w)
		}
	}
	return errors.Join(err, closeAll(p.conns))
}

// Fill stores so many messages in a topic, spread over its queues.
func Fill(broker, topic string, messages int) error {
	p, err := NewWindow(broker, topic, Queues)
	if err != nil {
		return err
	}
	left := make([]int, Queues)
	for q := range left {
		left[q] = messages / Queues
		if q < messages%Queues {
			left[q]++
		}
	}
	_, err = measure.Share(Queues, Queues, func(_, q int) error {
		for left[q] > 0 {
			if err := p.fill(q, min(Depth, left[q])); err != nil {
				return err
			}
			n, err := p.take(q)
			if left[q] -= n; err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, p.Close())
}
