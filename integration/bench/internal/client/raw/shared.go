package raw

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/sluicemq/sluice/broker/remoting"
)

// Connections is how many connections the workers of a [Shared] have together.
const Connections = 8

// Shared sends one message and waits for its answer, as [Wait] does, but the
// workers share [Connections] connections, as the callers of a client library do.
type Shared struct {
	links   []*link
	callers []sharer
	ended   sync.WaitGroup
}

// sharer is one worker of a Shared.
type sharer struct {
	link     *link
	last     int // number given
	request  request
	answered chan error // room for one
}

// link is a connection that several workers share.
type link struct {
	*conn
	waiting []chan error // by the number of the request, modulo the workers

	mu    sync.Mutex
	out   []byte // frames nobody has begun to write
	spare []byte
	busy  bool // somebody writes
	err   error
}

// NewShared is a [measure.Publisher]; worker n stores in queue n modulo [Queues].
func NewShared(broker, topic string, workers int) (*Shared, error) {
	p := &Shared{}
	for range min(Connections, workers) {
		c, err := greet(broker, topic)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.links = append(p.links, &link{conn: c, waiting: make([]chan error, workers)})
	}
	for w := range workers {
		r, err := newSend(topic, w%Queues)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		l := p.links[w%len(p.links)]
		s := sharer{link: l, last: firstNumber + w, request: r, answered: make(chan error, 1)}
		l.waiting[w] = s.answered
		p.callers = append(p.callers, s)
	}
	for _, l := range p.links {
		p.ended.Go(l.read)
	}
	return p, nil
}

// read hands out answers until the connection ends.
func (l *link) read() {
	for {
		a, err := l.next()
		if err != nil {
			l.fail(err)
			return
		}
		worker, err := l.asked(a)
		if err != nil {
			l.fail(err)
			return
		}
		if a.code != remoting.ResSuccess {
			err = a.refused()
		}
		worker <- err
	}
}

// asked is who waits for an answer.
func (l *link) asked(a answer) (chan error, error) {
	n, err := a.opaque()
	if n -= firstNumber; err == nil && (n < 0 || l.waiting[n%len(l.waiting)] == nil) {
		err = fmt.Errorf("an answer to a request that was not sent: %.300s", a.header)
	}
	if err != nil {
		return nil, err
	}
	return l.waiting[n%len(l.waiting)], nil
}

// fail ends every call, and all that follow.
func (l *link) fail(err error) {
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	for _, w := range l.waiting {
		select {
		case w <- err:
		default:
		}
	}
}

// send writes a frame, with those of the callers that run beside this one: the
// first of them lets the others come before it writes.
func (l *link) send(frame []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = append(l.out, frame...)
	if l.busy || l.err != nil {
		return l.err
	}
	l.busy = true
	l.mu.Unlock()
	runtime.Gosched()
	l.mu.Lock()
	for len(l.out) > 0 && l.err == nil {
		batch := l.out
		l.out = l.spare[:0]
		l.mu.Unlock()
		_, err := l.Write(batch)
		l.mu.Lock()
		l.spare = batch
		if err != nil {
			l.err = err
		}
	}
	l.busy = false
	return l.err
}

// Publish stores one message.
func (p *Shared) Publish(worker int) (int, error) {
	s := &p.callers[worker]
	s.last += len(p.callers)
	setNumber(s.request.frame, s.request.number, s.last)
	if err := s.link.send(s.request.frame); err != nil {
		return 0, err
	}
	return 1, <-s.answered
}

// Close ends the connections.
func (p *Shared) Close() error {
	var err error
	for _, l := range p.links {
		err = errors.Join(err, l.Close())
	}
	p.ended.Wait()
	return err
}
