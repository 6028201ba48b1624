package server

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

const (
	// large is how much of a request is read before the rest needs a place; that
	// much fits into the buffer that every connection may have.
	large = 32 << 10
	// crowdedRest is how long the rest of a large request may take while others
	// wait for its place.
	crowdedRest = 5 * time.Second
)

// source is what a connection's frames are read from. It notes what the
// deadlines need to know.
type source struct {
	from   net.Conn
	head   []byte // read before, to tell TLS from plain
	frames *remoting.Reader
	clock  *clock
	// places is where large requests get their place, unless the connection or
	// the server ends first.
	places        *quota
	done, closing <-chan struct{}

	// last is when something came.
	last atomic.Int64
	// frame is when the wait for the rest of a frame began; zero while no
	// frame has begun, or none is being waited for.
	frame atomic.Int64
	// place is the size of the place that the frame has; zero if it needs none.
	place atomic.Int64
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
	if s.place.Load() == 0 && s.frames.Buffered() >= large && !s.enter() {
		return 0, errShutdown
	}
	n, err := s.from.Read(p)
	s.last.Store(s.clock.now())
	return n, err
}

// complete notes that a whole frame is there.
func (s *source) complete() {
	if s.frame.Load() != 0 {
		s.frame.Store(0)
		s.leave()
	}
}

// enter waits for a place for the frame. That is not the peer's time.
func (s *source) enter() bool {
	size := int64(s.frames.Size())
	if !s.places.enter(size, s.done, s.closing) {
		return false
	}
	s.place.Store(size)
	s.frame.Store(s.clock.now())
	return true
}

// leave gives the place of the frame back, if it has one.
func (s *source) leave() {
	if size := s.place.Swap(0); size > 0 {
		s.places.add(-size)
	}
}
