package rocketmq

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

// links are the connections of one client, one for each address, which
// everything that the client does shares. A connection is made when it is
// needed and made again when it was lost.
type links struct {
	dial func(ctx context.Context, addr string) (*rpc.Conn, error)
	// lost is called, from a goroutine of links, when a connection ended by which
	// something had come, and that was not closed here.
	lost func(addr string)
	// root ends with the client; attempts to connect end with it.
	root context.Context //nolint:containedctx // the life of the client, see newLinks
	// quiet is how long a connection says nothing, at least, before it is taken
	// for dead.
	quiet time.Duration
	away  *absences

	mu    sync.Mutex
	links map[string]*link // nil once closed
	wg    sync.WaitGroup
}

// link is the connection to one address, or the attempt to make it.
type link struct {
	ready   chan struct{} // closed once the rest is set
	conn    *rpc.Conn
	err     error
	silence silence
	// version is the release of the server, as its last answer says; 0 before.
	version atomic.Int64
	// introduced: the server knows by this connection who waits for replies.
	introduced atomic.Bool
}

// silence is how a connection is found to be half open. It tells nothing then,
// and the system would take a quarter of an hour.
type silence struct {
	mu       sync.Mutex
	requests int       // in a row that got no answer
	since    time.Time // when the first of them went out
	received int64     // frames that had come by then
}

// mostSilent is how many requests in a row get no answer before a connection is
// taken for dead.
const mostSilent = 3

// missed notes that a request got no answer which went out at that time, when so
// many frames had come, and none came since. How it ended is no matter: who waits
// has often less time than the server. It reports whether the connection is to be
// taken for dead.
func (l *link) missed(at time.Time, received int64, quiet time.Duration) bool {
	s := &l.silence
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests == 0 || s.received != received {
		s.requests, s.since, s.received = 0, at, received
	}
	if at.Before(s.since) {
		s.since = at
	}
	s.requests++
	return s.requests >= mostSilent && time.Since(s.since) >= quiet
}

// spoke reports whether something has come since the last request that was
// missed.
func (l *link) spoke() bool {
	s := &l.silence
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.conn.Received() != s.received
}

// connected reports whether the attempt to connect is over.
func (l *link) connected() bool {
	select {
	case <-l.ready:
		return true
	default:
		return false
	}
}

// newLinks answers links that live until close; root ends attempts to connect.
func newLinks(
	root context.Context, dial func(ctx context.Context, addr string) (*rpc.Conn, error), lost func(addr string), quiet time.Duration, log *slog.Logger,
) *links {
	return &links{dial: dial, lost: lost, root: root, quiet: quiet, away: newAbsences(log), links: map[string]*link{}}
}

// get answers the connection to addr. An attempt to connect is shared by all
// who wait for it and goes on when ctx ends, within the time that dial has.
func (s *links) get(ctx context.Context, addr string) (*link, error) {
	s.mu.Lock()
	if s.links == nil {
		s.mu.Unlock()
		return nil, errClosed
	}
	l := s.links[addr]
	if l == nil {
		l = &link{ready: make(chan struct{})}
		s.links[addr] = l
		s.wg.Go(func() { s.run(addr, l) }) //nolint:contextcheck // the attempt is everybody's
	}
	s.mu.Unlock()
	select {
	case <-l.ready:
		return l, l.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// run makes one connection and waits for its end.
func (s *links) run(addr string, l *link) {
	began := time.Now()
	conn, err := s.dial(s.root, addr)
	s.mu.Lock()
	if s.links == nil || err != nil && s.root.Err() != nil {
		err = errClosed // that is why
	}
	if err != nil {
		delete(s.links, addr)
		l.err = err
	} else {
		l.conn = conn
	}
	close(l.ready) // with mu, or close would take it for one that is not there yet
	s.mu.Unlock()
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		if !errors.Is(err, errClosed) {
			s.away.missed(addr, began, err)
		}
		return
	}
	<-l.conn.Done()
	s.mu.Lock()
	// Nobody was registered by a connection that said nothing.
	known := s.links != nil && l.conn.Received() > 0
	cut := s.links[addr] == l // not dropped here
	if cut {
		delete(s.links, addr)
	}
	s.mu.Unlock()
	if cut {
		s.silent(addr, l, time.Now(), l.conn.Err())
	}
	if known {
		s.lost(addr)
	}
	_ = l.conn.Close() // waits for what is being answered
}

// silent notes that a server said nothing since then by a connection.
func (s *links) silent(addr string, l *link, since time.Time, err error) {
	if l.spoke() {
		s.away.answered(addr) // and is silent again
	}
	s.away.missed(addr, since, err)
}

// drop ends a connection that is of no use any more; run does the rest.
func (s *links) drop(addr string, l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links[addr] == l {
		delete(s.links, addr)
		s.wg.Go(func() { _ = l.conn.Close() }) // waits for its handler
	}
}

// close ends all connections and waits for the goroutines.
func (s *links) close() {
	s.mu.Lock()
	all := s.links
	s.links = nil
	s.mu.Unlock()
	for _, l := range all {
		select {
		case <-l.ready:
			if l.conn != nil {
				_ = l.conn.Close()
			}
		default: // run will see that links are closed
		}
	}
	s.wg.Wait()
}

// call asks addr and waits for the answer, whatever its code, no longer than
// limit, connecting included.
func (s *links) call(ctx context.Context, limit time.Duration, addr string, req *remoting.Command) (*remoting.Command, error) {
	l, left, err := s.within(ctx, limit, addr)
	if err != nil {
		return nil, &rpc.Error{Op: remoting.RequestName(req.Code), Addr: addr, Err: err}
	}
	at, received := time.Now(), l.conn.Received()
	a, err := l.conn.CallWithin(ctx, left, req)
	switch {
	case err == nil:
		l.version.Store(int64(a.Version))
		s.away.answered(addr)
	case waited(ctx, req.Code, err) && l.conn.Received() == received: // else it is slow, and there
		s.silent(addr, l, at, err)
		if l.missed(at, received, s.quiet) {
			s.drop(addr, l)
		}
	}
	return a, err
}

// waited reports whether a request that failed has waited for its answer as long
// as its caller could. A pull that is given up could have waited on.
func waited(ctx context.Context, code int, err error) bool {
	if errors.Is(err, rpc.ErrNoAnswer) {
		return true
	}
	e, ok := errors.AsType[*rpc.Error](err)
	return ok && e.MaybeDone && ctx.Err() != nil && code != remoting.ReqPullMessage
}

// within is get with a limit; it answers how much of that is left.
func (s *links) within(ctx context.Context, limit time.Duration, addr string) (*link, time.Duration, error) {
	s.mu.Lock()
	l := s.links[addr]
	s.mu.Unlock()
	if l != nil && l.connected() {
		return l, limit, l.err
	}
	began := time.Now()
	limited, cancel := context.WithTimeoutCause(ctx, limit, errAttempt)
	defer cancel()
	l, err := s.get(limited, addr)
	left := limit - time.Since(began)
	if err == nil && left <= 0 {
		err = errAttempt
	}
	return l, left, err
}

// open is the connection to addr, nil if there is none.
func (s *links) open(addr string) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.links[addr]; l != nil && l.connected() && l.err == nil {
		return l
	}
	return nil
}

// version is the release of a server; 0 while it has not answered anything.
func (s *links) version(addr string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.links[addr]; l != nil {
		return int(l.version.Load())
	}
	return 0
}

// oneWay sends what is not answered.
func (s *links) oneWay(ctx context.Context, addr string, req *remoting.Command) error {
	l, err := s.get(ctx, addr)
	if err != nil {
		return &rpc.Error{Op: remoting.RequestName(req.Code), Addr: addr, Err: err}
	}
	return l.conn.OneWay(ctx, req)
}
