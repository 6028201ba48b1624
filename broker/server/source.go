package server

import (
	"net"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/remoting"
)

// source is what a connection's frames are read from. It notes what the
// deadlines need to know.
type source struct {
	from   net.Conn
	head   []byte // read before, to tell TLS from plain
	frames *remoting.Reader
	clock  *clock

	// last is when something came.
	last atomic.Int64
	// frame is when the wait for the rest of a frame began; zero while no
	// frame has begun, or none is being waited for.
	frame atomic.Int64
}

// Read is called for more of the stream only when no whole frame is there.
func (s *source) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if s.frames.Buffered() > 0 && s.frame.Load() == 0 {
		s.frame.Store(s.clock.now())
	}
	n, err := s.from.Read(p)
	s.last.Store(s.clock.now())
	return n, err
}

// complete notes that a whole frame is there.
func (s *source) complete() {
	if s.frame.Load() != 0 {
		s.frame.Store(0)
	}
}
