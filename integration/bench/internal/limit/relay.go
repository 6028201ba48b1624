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

// together is how many bodies a publisher that does not wait hands to the
// kernel at a time.
const together = 32

// Relay is [Pipeline] over loopback: a connection a publisher, on which every
// body is answered with a few bytes once it is in the log, and one connection to
// the consumer. All ends are in this process.
type Relay struct {
	wait       bool
	body       []byte
	log        *Pipeline
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
// f. With wait publishers wait for each answer.
func NewRelay(dir string, publishers int, f *measure.Flow, wait bool) (*Relay, error) {
	r := &Relay{wait: wait, body: measure.Body()}
	near, far, err := r.pipe()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	out := bufio.NewWriterSize(near, loopbackBuffer)
	r.log, err = newPipeline(dir, func(bodies [][]byte) {
		for _, body := range bodies {
			_, _ = out.Write(body) // the writer keeps its error
		}
		_ = out.Flush() // the consumer misses what was not sent
	})
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.running.Go(func() {
		in, body := bufio.NewReaderSize(far, loopbackBuffer), make([]byte, measure.BodySize)
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
		if err := r.connect(); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

// pipe is a connection and both its ends.
func (r *Relay) pipe() (near, far net.Conn, err error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("listen on loopback: %w", err)
	}
	defer func() { _ = l.Close() }()
	if near, err = new(net.Dialer).DialContext(context.Background(), "tcp", l.Addr().String()); err != nil {
		return nil, nil, fmt.Errorf("connect over loopback: %w", err)
	}
	r.conns = append(r.conns, near)
	if far, err = l.Accept(); err != nil {
		return nil, nil, fmt.Errorf("connect over loopback: %w", err)
	}
	r.conns = append(r.conns, far)
	return near, far, nil
}

// connect makes the connection of one publisher.
func (r *Relay) connect() error {
	near, far, err := r.pipe()
	if err != nil {
		return err
	}
	p := &relayed{Writer: bufio.NewWriterSize(near, loopbackBuffer), answers: make(chan struct{}, 1)}
	r.publishers = append(r.publishers, p)
	r.running.Go(func() { r.serve(far) })
	r.running.Go(func() {
		defer close(p.answers)
		in := bufio.NewReaderSize(near, loopbackBuffer)
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

// serve stores and answers what comes on a connection.
func (r *Relay) serve(c net.Conn) {
	in, out := bufio.NewReaderSize(c, loopbackBuffer), bufio.NewWriterSize(c, loopbackBuffer)
	for {
		body := make([]byte, measure.BodySize)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		r.log.store(body)
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

// Close ends the connections and what serves them.
func (r *Relay) Close() error {
	var err error
	for _, c := range r.conns {
		err = errors.Join(err, c.Close())
	}
	r.running.Wait()
	if r.log != nil {
		err = errors.Join(err, r.log.Close())
	}
	return err
}
