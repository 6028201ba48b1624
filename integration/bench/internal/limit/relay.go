package limit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

// RelayReady is what a relay in a process of its own says before its address.
const RelayReady = "relay: ready at "

// together is how many bodies a publisher that does not wait hands to the
// kernel at a time.
const together = 32

// RelayServer is what a server of messages can do at the least: a body that
// comes is put into the log, given to the consumer and answered with a few
// bytes. The first connection is that of the consumer, every other one that of a
// publisher.
type RelayServer struct {
	log     *Pipeline
	l       net.Listener
	running sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	closed bool
}

// ServeRelay serves those who connect to l, with the log in dir. It closes l.
func ServeRelay(l net.Listener, dir string) (*RelayServer, error) {
	s := &RelayServer{l: l}
	consumer := make(chan *bufio.Writer, 1)
	var out *bufio.Writer
	var err error
	s.log, err = newPipeline(dir, func(bodies [][]byte) {
		if out == nil {
			if out = <-consumer; out == nil {
				return // nobody came before the end
			}
		}
		for _, body := range bodies {
			_, _ = out.Write(body) // the writer keeps its error
		}
		_ = out.Flush() // the consumer misses what was not sent
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	s.running.Go(func() {
		defer close(consumer)
		for first := true; ; first = false {
			c, err := l.Accept()
			if err != nil || !s.add(c) {
				return
			}
			if first {
				consumer <- bufio.NewWriterSize(c, loopbackBuffer)
				continue
			}
			s.running.Go(func() { s.serve(c) })
		}
	})
	return s, nil
}

// add notes a connection, unless the end has come.
func (s *RelayServer) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close() // which nobody has used
		return false
	}
	s.conns = append(s.conns, c)
	return true
}

// serve stores and answers what comes on a connection.
func (s *RelayServer) serve(c net.Conn) {
	in, out := bufio.NewReaderSize(c, loopbackBuffer), bufio.NewWriterSize(c, loopbackBuffer)
	for {
		body := make([]byte, measure.BodySize)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		s.log.store(body)
		if _, err := out.Write(body[:answerSize]); err != nil {
			return
		}
		if in.Buffered() < measure.BodySize {
			if err := out.Flush(); err != nil {
				return
			}
		}
	}
}

// Close ends the connections and what serves them.
func (s *RelayServer) Close() error {
	s.mu.Lock()
	s.closed = true
	err := s.l.Close()
	for _, c := range s.conns {
		err = errors.Join(err, c.Close())
	}
	s.mu.Unlock()
	s.running.Wait()
	return errors.Join(err, s.log.Close())
}

// Relay is [Pipeline] over loopback: the clients of a [RelayServer], a connection
// for each publisher and one for the consumer.
type Relay struct {
	wait       bool
	body       []byte
	server     *RelayServer // nil if it is in another process
	conns      []net.Conn
	running    sync.WaitGroup
	publishers []*relayed
}

// relayed is the connection of one publisher.
type relayed struct {
	*bufio.Writer
	answers chan struct{} // closed at the end
	sent    int
}

// NewRelay is a [measure.Pipeline] in dir for so many publishers that reports to
// f, with its server in this process. With wait publishers wait for each answer.
func NewRelay(dir string, publishers int, f *measure.Flow, wait bool) (*Relay, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	s, err := ServeRelay(l, dir)
	if err != nil {
		return nil, err
	}
	r, err := DialRelay(l.Addr().String(), publishers, f, wait)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	r.server = s
	return r, nil
}

// DialRelay is the same with a [RelayServer] that is somewhere else, and new.
func DialRelay(addr string, publishers int, f *measure.Flow, wait bool) (*Relay, error) {
	r := &Relay{wait: wait, body: measure.Body()}
	c, err := r.dial(addr)
	if err != nil {
		return nil, err
	}
	r.running.Go(func() {
		in, body := bufio.NewReaderSize(c, loopbackBuffer), make([]byte, measure.BodySize)
		for handled := 0; ; {
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			f.Handled(body)
			if handled++; in.Buffered() < measure.BodySize {
				f.Settled(handled)
				handled = 0
			}
		}
	})
	for range publishers {
		if err := r.connect(addr); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

func (r *Relay) dial(addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect over loopback: %w", err)
	}
	r.conns = append(r.conns, c)
	return c, nil
}

// connect makes the connection of one publisher.
func (r *Relay) connect(addr string) error {
	c, err := r.dial(addr)
	if err != nil {
		return err
	}
	p := &relayed{Writer: bufio.NewWriterSize(c, loopbackBuffer), answers: make(chan struct{}, 1)}
	r.publishers = append(r.publishers, p)
	r.running.Go(func() {
		defer close(p.answers)
		in := bufio.NewReaderSize(c, loopbackBuffer)
		for {
			if _, err := in.Discard(answerSize); err != nil {
				return
			}
			if r.wait {
				p.answers <- struct{}{}
			}
		}
	})
	return nil
}

// Publish sends one body, and with wait waits for the answer.
func (r *Relay) Publish(worker int, stamp int64) error {
	p := r.publishers[worker]
	body := slices.Clone(r.body)
	measure.PutStamp(body, stamp)
	if _, err := p.Write(body); err != nil {
		return err
	}
	if p.sent++; !r.wait && p.sent%together != 0 {
		return nil
	}
	if err := p.Flush(); err != nil || !r.wait {
		return err
	}
	if _, ok := <-p.answers; !ok {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Close ends the connections, and the server if it is in this process.
func (r *Relay) Close() error {
	var err error
	for _, c := range r.conns {
		err = errors.Join(err, c.Close())
	}
	r.running.Wait()
	if r.server != nil {
		err = errors.Join(err, r.server.Close())
	}
	return err
}
