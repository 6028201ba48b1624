package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/sluicemq/sluice/broker/remoting"
)

// conn is one connection: a reading goroutine, which runs the handlers and
// writes their answers, and a writing one for everything else.
type conn struct {
	srv    *Server
	raw    net.Conn // the socket
	nc     net.Conn // the socket, or TLS over it
	remote string   // address for logs and registries
	addr   netip.Addr
	born   netip.AddrPort // what messages from here name as their origin
	opened int64          // by the server's clock

	frames *remoting.Reader
	src    *source
	out    *outbox
	req    remoting.Command // of the reading goroutine
	resp   remoting.Command

	greeted  atomic.Bool // a whole frame came
	proven   atomic.Bool // an acceptable request came
	evicted  bool        // it had to make room; under the mu of the server
	member   atomic.Bool // the registry knows it
	draining atomic.Bool // no further requests are read
	// unregistered: the registry takes no more of it. It is the registry's.
	unregistered bool
	enrolled     int      // groups it is in; the registry's, too
	who          *account // of the request that is being served; of the reading goroutine
	later        atomic.Int64
	durables     durables
	scratch      []byte // properties of the message at hand; of the reading goroutine
	extra        []byte // what is added to them; the same
	held         atomic.Int64

	callsMu sync.Mutex
	calls   map[int32]chan *remoting.Command // requests to the client, by opaque
	opaque  int32

	endOnce sync.Once
	done    chan struct{} // closed when the connection ends
	why     error         // read after done
}

func newConn(s *Server, raw net.Conn) *conn {
	c := &conn{
		srv: s, raw: raw, nc: raw, opened: s.clock.now(),
		calls: map[int32]chan *remoting.Command{}, done: make(chan struct{}), durables: durables{more: make(chan struct{}, 1)},
	}
	c.remote = raw.RemoteAddr().String()
	if ap, err := netip.ParseAddrPort(c.remote); err == nil {
		c.addr = ap.Addr().Unmap()
		c.born = netip.AddrPortFrom(c.addr, ap.Port())
	}
	c.src = &source{from: raw, clock: s.clock, places: &s.arrivals, done: c.done, closing: s.closing}
	c.src.last.Store(c.opened)
	c.frames = remoting.NewReader(c.src, s.frameLimits())
	c.src.frames = c.frames
	c.out = newOutbox(s.cfg.Limits.Outbox, &s.unsent, s.clock)
	return c
}

// run serves the connection until it ends.
func (c *conn) run() {
	err := c.secure()
	if err == nil {
		c.srv.wg.Go(c.write)
		err = c.read()
	}
	if c.draining.Load() {
		c.drain()
		err = errShutdown
		_ = c.nc.Close() // with TLS it says goodbye, now that everything was sent
	}
	c.end(err)
	c.src.leave()
	c.srv.drop(c)
}

// secure finds out whether the peer speaks TLS, and shakes hands.
func (c *conn) secure() error {
	cfg := c.srv.tls
	if cfg != nil {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c.raw, first); err != nil {
			return err
		}
		const handshake = 0x16 // a frame begins with 0 or 1, since it is at most 16 MiB long
		switch {
		case first[0] == handshake:
			over := tls.Server(&peeked{Conn: c.raw, head: first}, cfg)
			if err := over.HandshakeContext(c.srv.root); err != nil {
				return fmt.Errorf("shake hands by TLS: %w", err)
			}
			c.nc = over
			c.src.from = over
		case c.srv.cfg.TLSMode == TLSRequired:
			return errPlain
		default:
			c.src.head = first
		}
	}
	c.out.to = c.nc
	if _, ok := c.nc.(*net.TCPConn); !ok {
		c.out.copies = true
	}
	return nil
}

// peeked is a connection whose first bytes were read already.
type peeked struct {
	net.Conn
	head []byte
}

// Read answers the first bytes first.
func (p *peeked) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// read serves requests until the stream or the protocol ends.
func (c *conn) read() error {
	limits := c.srv.frameLimits()
	for {
		ready := c.frames.Ready()
		if !ready {
			c.srv.held.first()
		}
		if !ready || c.out.waiting() > piece {
			if err := c.flush(); err != nil {
				return err
			}
		}
		if err := c.wait(); err != nil {
			return err
		}
		if c.draining.Load() {
			return errShutdown
		}
		if err := c.cause(); err != nil { // what it has sent before needs no answer
			return err
		}
		frame, err := c.frames.Next()
		if err != nil {
			return err
		}
		c.src.complete()
		if err := remoting.Decode(frame, &c.req, limits); err != nil {
			return err
		}
		if !c.greeted.Load() {
			c.greeted.Store(true)
		}
		if c.req.IsResponse() {
			c.answered(&c.req)
			continue
		}
		c.srv.serve(c, &c.req, &c.resp)
	}
}

// flush sends what is there from the reading goroutine. More than a piece, which
// may not fit into the buffers of the socket, is left to the writing one, so
// that requests are read on meanwhile.
func (c *conn) flush() error {
	if c.out.waiting() > piece {
		c.out.wake()
		return nil
	}
	return c.out.flush(1)
}

// wait keeps the next request unread while the peer takes too little of what
// is sent to it, or too many of its requests are unanswered. While all peers
// together take too little, a write's worth is much.
func (c *conn) wait() error {
	return c.until(func() bool {
		waiting := c.out.waiting()
		return waiting < c.out.budget && c.later.Load() < int64(c.srv.cfg.Limits.InFlight) && (waiting <= piece || !c.srv.unsent.exceeded())
	})
}

// drain waits until every accepted request is answered and every answer sent,
// or the connection ends.
func (c *conn) drain() {
	if c.out.to != nil {
		_ = c.until(func() bool { return c.later.Load()+c.held.Load() <= 0 && c.out.waiting() == 0 })
	}
}

// until waits for a condition that answers and writes can make true.
func (c *conn) until(good func() bool) error {
	if good() {
		return nil
	}
	if err := c.flush(); err != nil {
		return err
	}
	c.out.starved.Store(true)
	defer c.out.starved.Store(false)
	for !good() {
		select {
		case <-c.out.room:
		case <-c.done:
			return c.why
		}
	}
	return nil
}

// write sends what others than the reading goroutine have to say.
func (c *conn) write() {
	for {
		select {
		case <-c.out.wakeup:
			if err := c.out.flush(-1); err != nil {
				c.end(err)
				return
			}
		case <-c.done:
			return
		}
	}
}

// end closes the connection, once; the first cause counts.
func (c *conn) end(cause error) {
	c.endOnce.Do(func() {
		c.why = cause
		close(c.done)
		c.out.close(cause)
		_ = c.raw.Close()
	})
}

// cause is why the connection ended, nil while it has not.
func (c *conn) cause() error {
	select {
	case <-c.done:
		return c.why
	default:
		return nil
	}
}

// stopReading lets the connection end when everything is answered.
func (c *conn) stopReading(now func() error) {
	c.draining.Store(true)
	if now() != nil {
		c.end(errShutdown)
	}
}

// crowd says for what others wait: to send large requests, and to be answered.
type crowd struct{ in, out bool }

// late is why the connection has to end now, nil if it has not. Who keeps others
// waiting is late sooner.
func (c *conn) late(now int64, l *Limits, others crowd) error {
	heard := c.src.last.Load()
	frame, since := c.src.frame.Load(), c.out.since.Load()
	switch {
	case !c.greeted.Load() && now-c.opened > int64(l.FirstFrame):
		return errFirstFrame
	case frame != 0 && now-frame > int64(l.RestOfFrame):
		return errRestOfFrame
	case others.in && frame != 0 && now-frame > int64(crowdedRest) && c.src.place.Load() > 0:
		return errCrowded
	case others.out && since != 0 && now-since > int64(crowdedWrite) && c.out.waiting() > piece:
		return errHoards
	case since != 0 && now-since > int64(l.Stalled):
		return errStalled
	case now-max(heard, c.out.last.Load()) > int64(l.Idle):
		return errIdle
	}
	return nil
}

// cutOff reports whether a connection that has ended was ended for what its peer
// did not send or take in time, or for the place of others. Who has not begun a
// request or is silent between them is none of it: both happen to healthy clients.
func (c *conn) cutOff() bool {
	switch {
	case errors.Is(c.why, errFirstFrame):
		return c.src.frame.Load() != 0
	case errors.Is(c.why, errRestOfFrame), errors.Is(c.why, errCrowded), errors.Is(c.why, errHoards),
		errors.Is(c.why, errStalled), errors.Is(c.why, errOverflow), errors.Is(c.why, errEvicted):
		return true
	}
	return false
}

// hold moves a request that its handler has kept from those in flight to the
// held ones. false: there are as many as are allowed, and nothing has changed.
func (c *conn) hold() bool {
	if c.held.Add(1) > int64(c.srv.cfg.Limits.HeldPulls) {
		c.held.Add(-1)
		return false
	}
	c.later.Add(-1)
	c.out.relieve()
	return true
}

// unhold takes hold back, before the request is answered.
func (c *conn) unhold() {
	c.later.Add(1)
	c.held.Add(-1)
}

// respond answers a request whose handler returned errLater, from any
// goroutine, exactly once, and has it written. A Body of 4 KiB and more must
// not change any more.
func (c *conn) respond(resp *remoting.Command) {
	if c.enqueue(resp) {
		c.out.wake()
	}
}

// enqueue is respond for who answers many requests at once and wakes the
// writing goroutine of each connection by c.out.wake when it is done. It
// answers whether that is needed.
func (c *conn) enqueue(resp *remoting.Command) bool {
	idle := c.answer(resp)
	c.later.Add(-1)
	c.out.relieve()
	return idle
}

// answer queues a response. One to a request that wants none is dropped.
func (c *conn) answer(resp *remoting.Command) (idle bool) {
	if resp.Flag&remoting.FlagOneWay != 0 {
		return false
	}
	idle, err := c.out.put(resp)
	switch {
	case err == nil:
	case errors.Is(err, errOverflow):
		c.end(err)
	case c.cause() != nil:
	default: // it cannot be encoded
		c.srv.log.Error("an answer cannot be encoded", slog.Int("code", resp.Code), slog.String("address", c.remote), slog.Any("error", err))
		failed := remoting.Command{
			Code: remoting.ResSystemError, Remark: err.Error(), Opaque: resp.Opaque, Flag: resp.Flag,
			Language: resp.Language, Version: resp.Version,
		}
		idle, _ = c.out.put(&failed)
	}
	return idle
}

// prepare makes resp a success for req. It keeps the mark of a request that
// wants no answer, so that answer can drop it.
func prepare(resp, req *remoting.Command) {
	resp.Reset()
	resp.Code = remoting.ResSuccess
	resp.Language, resp.Version = remoting.LanguageGo, remoting.Version
	resp.Opaque = req.Opaque
	resp.Flag = remoting.FlagResponse | req.Flag&remoting.FlagOneWay
}

// serve answers one request.
func (s *Server) serve(c *conn, req, resp *remoting.Command) {
	prepare(resp, req)
	h := s.table.find(req.Code)
	if h == nil {
		c.finish(resp, refuse(remoting.ResUnsupported, " request type %d not supported", req.Code))
		return
	}
	if err := s.allow(c, h, req); err != nil {
		settle(resp, err)
		s.audit(c, h, req, resp, false, c.who == nil)
		c.finish(resp, nil)
		return
	}
	if h.apart {
		s.apart(h, c, clone(req), clone(resp))
		return
	}
	err := s.handle(h, c, req, resp)
	if h.right.admin { // its answer comes now
		settle(resp, err)
		s.audit(c, h, req, resp, true, false)
		err = nil
	}
	c.finish(resp, err)
}

// finish sends what a handler has made, from the reading goroutine.
func (c *conn) finish(resp *remoting.Command, err error) {
	switch {
	case errors.Is(err, errLater):
		c.later.Add(1)
		return
	case errors.Is(err, errSilent):
		return
	}
	settle(resp, err)
	c.answer(resp)
	resp.Body = nil // a connection that says nothing more must not keep it
}

// settle puts a handler's error into its answer.
func settle(resp *remoting.Command, err error) {
	if err == nil {
		return
	}
	resp.Fields, resp.Body = resp.Fields[:0], nil
	if r, ok := errors.AsType[*refusal](err); ok {
		resp.Code, resp.Remark, resp.Fields = r.code, r.remark, append(resp.Fields, r.fields...)
		return
	}
	resp.Code, resp.Remark = remoting.ResSystemError, err.Error()
}

// apart runs a handler in a goroutine of its own.
func (s *Server) apart(h *handler, c *conn, req, resp *remoting.Command) {
	places := s.aparts
	if h.relays {
		places = s.relays
	}
	select {
	case places <- struct{}{}:
	default:
		settle(resp, refuse(remoting.ResSystemBusy, "[OVERLOAD] %d such requests are being served, as many as may be (%s)", cap(places), s.cfg.setting("Limits.Apart")))
		s.audit(c, h, req, resp, true, false)
		c.finish(resp, nil)
		return
	}
	c.later.Add(1)
	s.wg.Go(func() {
		defer func() { <-places }()
		switch err := s.handle(h, c, req, resp); {
		case errors.Is(err, errLater):
		case errors.Is(err, errSilent):
			c.later.Add(-1)
			c.out.relieve()
		default:
			settle(resp, err)
			s.audit(c, h, req, resp, true, false)
			c.respond(resp)
		}
	})
}

// handle runs a handler; a panic becomes an error.
func (s *Server) handle(h *handler, c *conn, req, resp *remoting.Command) (err error) {
	defer s.guard(req.Code, c, &err)
	return h.serve(s, c, req, resp)
}

// guard, deferred, makes a panic of who serves a request an error.
func (s *Server) guard(code int, c *conn, err *error) {
	if p := recover(); p != nil {
		s.counters.panics.Add(1)
		s.log.Error("a handler panicked", slog.Int("code", code), slog.String("address", c.remote),
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		*err = fmt.Errorf("serve request type %d: internal failure, see the log of the server", code)
	}
}
