package limit

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/sluicemq/sluice/integration/bench/internal/measure"
)

const (
	// answerSize is the least that an answer has to say.
	answerSize = 16
	// loopbackBuffer is the memory of each end of a connection.
	loopbackBuffer = 64 << 10
)

// Loopback is a request and its answer over TCP: a goroutine a connection reads
// a body behind its length, and answers with a few bytes. Nothing is stored.
// Both ends are in this process.
type Loopback struct {
	listener net.Listener
	serving  sync.WaitGroup
	callers  []caller
}

// caller is one worker's connection.
type caller struct {
	net.Conn
	request []byte
	answer  [answerSize]byte
}

// NewLoopback is a [measure.Publisher] with a connection a worker.
func NewLoopback(workers int) (*Loopback, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	b := &Loopback{listener: l}
	b.serving.Go(b.accept)
	request := binary.BigEndian.AppendUint32(nil, measure.BodySize)
	request = append(request, measure.Body()...)
	for range workers {
		c, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.Addr().String())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connect over loopback: %w", err), b.Close())
		}
		b.callers = append(b.callers, caller{Conn: c, request: request})
	}
	return b, nil
}

func (b *Loopback) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.serving.Go(func() {
			defer func() { _ = c.Close() }()
			_ = answer(c) // the connection ends with its caller
		})
	}
}

// answer answers every request of a connection.
func answer(c net.Conn) error {
	r, w := bufio.NewReaderSize(c, loopbackBuffer), bufio.NewWriterSize(c, loopbackBuffer)
	body := make([]byte, measure.BodySize)
	var length [4]byte
	for {
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return err
		}
		if n := binary.BigEndian.Uint32(length[:]); n != measure.BodySize {
			return fmt.Errorf("a request has %d bytes", n)
		}
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		if _, err := w.Write(body[:answerSize]); err != nil {
			return err
		}
		if r.Buffered() < len(length) {
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
}

// Publish sends one body and waits for the answer.
func (b *Loopback) Publish(worker int) (int, error) {
	c := &b.callers[worker]
	if _, err := c.Write(c.request); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(c, c.answer[:])
	return 1, err
}

// Close ends the connections and what answers them.
func (b *Loopback) Close() error {
	err := b.listener.Close()
	for _, c := range b.callers {
		err = errors.Join(err, c.Close())
	}
	b.serving.Wait()
	return err
}
