package sluice

import (
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
)

// gathered is how many messages a publisher sends in one call at the most.
const gathered = 64

// publisher sends without making its caller wait: messages gather while the call
// before them is under way, as they do in SendAsync of the framework.
type publisher struct {
	conn  driver.Conn
	ended chan struct{}

	mu      sync.Mutex
	arrived sync.Cond
	waiting []*driver.Message
	closed  bool
	err     error
}

func newPublisher(conn driver.Conn) *publisher {
	p := &publisher{conn: conn, ended: make(chan struct{})}
	p.arrived.L = &p.mu
	go p.run()
	return p
}

// take has a message sent; it answers the error of an earlier one.
func (p *publisher) take(m *driver.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, m)
	p.arrived.Signal()
	return p.err
}

func (p *publisher) run() {
	defer close(p.ended)
	for {
		p.mu.Lock()
		for len(p.waiting) == 0 && !p.closed {
			p.arrived.Wait()
		}
		n := min(len(p.waiting), gathered)
		batch := p.waiting[:n:n]
		p.waiting = p.waiting[n:]
		p.mu.Unlock()
		if n == 0 {
			return
		}
		if err := send(p.conn, batch); err != nil {
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
		}
	}
}

// close sends what is waiting and ends the goroutine.
func (p *publisher) close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.arrived.Signal()
	<-p.ended
	return p.err
}
