package raw

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// Depth is how many requests of a [Window] are in flight on each connection.
const Depth = 64

// newSend is a request that stores one message without properties, in the
// short form that clients use.
func newSend(topic string, queue int) request {
	return newRequest(codeSend, []field{
		{"a", "raw"},
		{"b", topic},
		{"c", "TBW102"}, // what a topic is made after
		{"d", strconv.Itoa(Queues)},
		{"e", strconv.Itoa(queue)},
		{"f", "0"}, // flags of the system
		{"g", strconv.FormatInt(time.Now().UnixMilli(), 10)},
		{"h", "0"}, // flags of the message
		{"i", ""},  // properties
		{"j", "0"}, // times it was consumed
		{"k", "false"},
		{"l", "16"}, // most times
		{"m", "false"},
	}, measure.Body())
}

// First sends one message on a connection of its own and waits for its answer.
func First(broker, topic string) error {
	_, err := once(broker, newSend(topic, 0))
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
		p.requests = append(p.requests, newSend(topic, w%Queues))
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
	if err == nil && a.code != codeSuccess {
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
		r := newSend(topic, w%Queues)
		l := lane{size: len(r.frame), number: r.number, last: firstNumber}
		for range Depth {
			l.block = append(l.block, r.frame...)
		}
		p.conns, p.lanes = append(p.conns, c), append(p.lanes, l)
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
	for more := true; more; _, more = c.whole() {
		a, err := c.next()
		if err != nil {
			return n, err
		}
		if a.code != codeSuccess {
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
		for p.lanes[w].open > 0 && err == nil {
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
