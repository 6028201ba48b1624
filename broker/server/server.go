package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// Server serves one broker by TCP. It is safe for concurrent use. Close it
// before the broker.
type Server struct {
	cfg       Config
	log       *slog.Logger
	broker    *embedded.Broker
	store     *embedded.Store // set by open, like topics and groups
	topics    *topics
	groups    *groupConfigs
	clients   *registry
	admission admission
	host      netip.AddrPort // what message ids name
	held      *held
	locks     *locks
	exprs     expressions
	ids       *message.UniqueIDs
	marks     []byte        // properties that every stored message gets
	turn      atomic.Uint32 // of queues, for sends that leave them open
	conflicts atomic.Int64  // decisions that contradicted an earlier one
	names     nameServer
	counts    *statistics
	resets    *resets
	changes   chan struct{} // held by the one change of a configuration that is under way
	acl       atomic.Pointer[ACL]
	listener  net.Listener
	reachable bool // by other machines; set before listener
	advertise string
	tls       *tls.Config
	clock     *clock
	table     *lookup
	aparts    chan struct{} // one for each handler that runs apart
	relays    chan struct{} // the same for those that wait for a client
	counters  counters

	noncesMu sync.Mutex
	nonces   map[string]*nonces // by access key

	root   context.Context //nolint:containedctx // a service's own root: handlers outlive the requests that started them
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // the first connection came: ticks are needed

	// tickers run once a tick while there are connections; leavers when a
	// connection has ended; closers when Close begins, to answer what is held.
	// They are set before the first connection.
	tickers []func()
	leavers []func(*conn)
	closers []func()

	mu       sync.Mutex
	conns    map[*conn]struct{}
	perAddr  map[netip.Addr]int
	arrivals quota   // bytes of large requests that are being read
	unsent   quota   // bytes in all outboxes
	unproven []*conn // the oldest first
	closing  chan struct{}
	closed   chan struct{}
	once     sync.Once
	evicted  int // of conns: had to make room, and have not ended yet; under mu

	seldom seldom // what the log has of peers
}

// Stats are counts since the start, and the connections of now.
type Stats struct {
	// Connections is how many there are now.
	Connections int
	// Accepted is how many there were in all.
	Accepted int64
	// Turned is how many were closed for a limit on their number.
	Turned int64
	// Expired is how many were closed for being late, idle or stalled.
	Expired int64
	// Malformed is how many were closed for bytes that are no request.
	Malformed int64
	// Panics is how many handlers panicked.
	Panics int64
	// Conflicts is how many decisions about half messages contradicted an
	// earlier one and were refused.
	Conflicts int64
}

type counters struct {
	accepted, turned, expired, malformed, panics atomic.Int64
}

// Open listens and serves b until Close. It opens the store of b if nobody has
// before. The error is an [*ExposedError] when the address asks for more
// safety than cfg has.
func Open(b *embedded.Broker, cfg Config) (*Server, error) {
	s, err := prepareServer(b, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// Try reports whether a server of cfg could start now: it checks cfg as [Open]
// does, takes the port and gives it back. It is for programs that want to know
// before they make a store for the server. The error is that of Open.
func Try(cfg Config) error {
	s, err := prepareServer(nil, cfg)
	if err != nil {
		return err
	}
	defer s.cancel()
	l, err := s.listen()
	if err != nil {
		return err
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("give back %s: %w", s.cfg.Listen, err)
	}
	return nil
}

// prepareServer makes a server of a configuration that is checked.
func prepareServer(b *embedded.Broker, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure server: %w", err)
	}
	return newServer(b, cfg), nil
}

// newServer makes a server that does not listen yet.
func newServer(b *embedded.Broker, cfg Config) *Server {
	s := &Server{
		cfg: cfg, log: cfg.Logger, broker: b, clock: newClock(), table: newLookup(handlers()),
		aparts: make(chan struct{}, cfg.Limits.Apart), relays: make(chan struct{}, cfg.Limits.Apart), wake: make(chan struct{}, 1),
		conns: map[*conn]struct{}{}, perAddr: map[netip.Addr]int{},
		nonces: map[string]*nonces{}, closing: make(chan struct{}), closed: make(chan struct{}),
	}
	s.arrivals.most, s.unsent.most = int64(cfg.Limits.Arriving), int64(cfg.Limits.Outboxes)
	s.clients = newRegistry(s.clock, cfg.Limits)
	s.clients.setting = cfg.setting
	s.held, s.locks, s.ids = newHeld(s), newLocks(s.clock), message.NewUniqueIDs()
	s.marks = message.AppendProperty(s.marks, message.MsgRegion, region)
	s.marks = message.AppendProperty(s.marks, message.TraceOn, "true")
	s.marks = message.AppendProperty(s.marks, message.Cluster, cfg.Cluster)
	s.marks = s.marks[:len(s.marks):len(s.marks)]
	s.counts, s.resets = newStatistics(s.clock.started, cfg.Limits.Topics+cfg.Limits.Groups), newResets(s.clock)
	s.changes = make(chan struct{}, 1)
	if cfg.ACL != nil {
		s.acl.Store(cfg.ACL)
	}
	s.root, s.cancel = context.WithCancel(context.Background()) //nolint:forbidigo // a root that owns a lifecycle
	if cfg.TLS != nil {
		s.tls = cfg.TLS.Clone()
		s.tls.MinVersion = max(s.tls.MinVersion, tls.VersionTLS12)
	}
	return s
}

// open opens the store, listens and starts to accept.
func (s *Server) open() error {
	store, err := s.broker.Store(s.root)
	if err != nil {
		return fmt.Errorf("open server: %w", err)
	}
	l, err := s.listen()
	if err != nil {
		return err
	}
	s.listener = l
	s.advertise = cmp.Or(s.cfg.Advertise, l.Addr().String())
	if err := s.wire(store); err != nil {
		_ = l.Close()
		return err
	}
	if t := s.cfg.TLS; t != nil && t.ClientAuth >= tls.RequireAnyClientCert && s.cfg.TLSMode == TLSPermissive {
		s.log.Warn("plain connections are served, too, and no certificate is asked of them", slog.String("closed_by", s.cfg.setting("Config.TLSMode: TLSRequired")))
	}
	s.wg.Go(s.accept)
	s.wg.Go(s.tick)
	s.wg.Go(s.held.run)
	return nil
}

// wire puts the parts together that need the store.
func (s *Server) wire(store *embedded.Store) error {
	host, err := net.ResolveTCPAddr("tcp", s.advertise) // message ids hold an address, not a name
	if err != nil {
		return fmt.Errorf("find the address of Config.Advertise %s: %w", s.advertise, err)
	}
	at := host.AddrPort()
	s.host = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if err := store.SetHost(s.host); err != nil {
		return fmt.Errorf("open server: %w", err)
	}
	s.store, s.topics, s.groups = store, newTopics(store, s.cfg), newGroupConfigs(store)
	// In-process members and clients divide the queues among them.
	s.clients.joined, s.clients.left = store.Join, store.Leave
	store.OnMembers(s.notifyGroup)
	s.clients.asked, s.resets.moved = s.checkWith, s.held.moved
	s.closers = append(s.closers, func() { store.OnMembers(nil) }, s.held.close)
	s.leavers = append(s.leavers, s.unregister)
	s.tickers = append(s.tickers, s.expire, s.held.expire, s.locks.expire, s.counts.tick, s.expireResets)
	return nil
}

// unregister takes a connection that has ended out of its groups.
func (s *Server) unregister(c *conn) {
	s.clients.bar(c)
	if !c.member.Load() {
		return
	}
	for _, group := range s.clients.gone(c) {
		s.notifyGroup(group)
	}
}

// expire takes out clients whose heartbeats have stopped. Unlike with RocketMQ
// the others hear of it at once.
func (s *Server) expire() {
	for _, group := range s.clients.expire(s.cfg.Limits.ClientExpiry) {
		s.notifyGroup(group)
	}
}

// listen takes the port, unless that would expose it.
func (s *Server) listen() (net.Listener, error) {
	if s.cfg.Listener != nil {
		l, err := s.cfg.Listener()
		if err != nil {
			return nil, fmt.Errorf("listen by Config.Listener: %w", err)
		}
		return l, nil
	}
	addr, err := net.ResolveTCPAddr("tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.cfg.Listen, err)
	}
	s.reachable = !addr.IP.IsLoopback()
	if err := s.exposed(s.cfg.ACL); err != nil {
		return nil, err
	}
	if (addr.IP == nil || addr.IP.IsUnspecified()) && s.cfg.Advertise == "" {
		return nil, fmt.Errorf("listen on %s: it takes Config.Advertise, a host:port that clients can dial", s.cfg.Listen)
	}
	// A peer whose machine is gone is found in a minute; the limits do the rest.
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	l, err := lc.Listen(s.root, "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.cfg.Listen, err)
	}
	return l, nil
}

// exposed refuses accounts with which machines that nobody knows could use the
// server. The error is an [*ExposedError].
func (s *Server) exposed(acl *ACL) error {
	if !s.reachable || s.cfg.InsecureListen {
		return nil
	}
	t := s.cfg.TLS
	e := ExposedError{
		Address: s.cfg.Listen, NoTLS: t == nil || s.cfg.TLSMode != TLSRequired, NoACL: acl == nil,
		TrustsAll: acl != nil && acl.TrustsAll() && (t == nil || t.ClientAuth != tls.RequireAndVerifyClientCert),
	}
	if e.NoTLS || e.NoACL || e.TrustsAll {
		return &e
	}
	return nil
}

// Addr is the address that is listened on; nil before the start of a server
// that an application makes.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Stats counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := len(s.conns)
	s.mu.Unlock()
	return Stats{
		Connections: n, Accepted: s.counters.accepted.Load(), Turned: s.counters.turned.Load(),
		Expired: s.counters.expired.Load(), Malformed: s.counters.malformed.Load(), Panics: s.counters.panics.Load(),
		Conflicts: s.conflicts.Load(),
	}
}

// frameLimits are those of the codec.
func (s *Server) frameLimits() remoting.Limits { return remoting.Limits{Frame: s.cfg.Limits.Frame} }

// accept takes connections until the listener is closed.
func (s *Server) accept() {
	const least, most = 5 * time.Millisecond, time.Second
	pause := least
	for {
		nc, err := s.listener.Accept()
		if err == nil {
			pause = least
			s.admit(nc)
			continue
		}
		if s.isClosing() || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return
		}
		// Such as too many open files: it passes when connections end.
		s.log.Warn("a connection could not be accepted", slog.Any("error", err))
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-s.closing:
			t.Stop()
			return
		}
		pause = min(2*pause, most)
	}
}

// admit serves a new connection if the limits allow it.
func (s *Server) admit(nc net.Conn) {
	s.counters.accepted.Add(1)
	s.mu.Lock()
	if len(s.conns) == 0 {
		s.clock.update() // nobody has ticked
	}
	c := newConn(s, nc)
	var refused error
	var victim *conn
	// Who was told to go does not count: else another one would have to, as long
	// as that one is not gone.
	live := len(s.conns) - s.evicted
	switch {
	case s.isClosing():
		refused = errShutdown
	case live >= s.cfg.Limits.Connections && len(s.unproven) == 0:
		refused = errTooMany
	case s.perAddr[c.addr] >= s.cfg.Limits.PerAddress:
		refused = errTooManyHere
	case len(s.unproven) >= s.cfg.Limits.Unproven || live >= s.cfg.Limits.Connections:
		victim = s.victim()
		s.forget(victim)
		victim.evicted = true
		s.evicted++
	}
	if refused == nil {
		s.conns[c] = struct{}{}
		s.perAddr[c.addr]++
		s.unproven = append(s.unproven, c)
		s.wg.Go(c.run)
	}
	s.mu.Unlock()
	if victim != nil {
		s.counters.turned.Add(1)
		victim.end(errEvicted)
	}
	if refused != nil {
		s.counters.turned.Add(1)
		if refused != errShutdown { //nolint:errorlint // it is this very one
			s.warn(refused.Error(), "a connection was refused", slog.String("address", c.remote), slog.Any("reason", s.crowded(refused)))
		}
		_ = nc.Close()
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// crowded says of a refusal for the number of connections how many there may be,
// and what sets it.
func (s *Server) crowded(refused error) error {
	most, field := s.cfg.Limits.Connections, "Limits.Connections"
	if errors.Is(refused, errTooManyHere) {
		most, field = s.cfg.Limits.PerAddress, "Limits.PerAddress"
	}
	return fmt.Errorf("%w: %d (%s)", refused, most, s.cfg.setting(field))
}

// victim is the unproven connection that makes room: the oldest one of the
// address that has most of them. It has had its time, of which a healthy client
// needs little. The caller holds mu, and there is one.
func (s *Server) victim() *conn {
	count := map[netip.Addr]int{}
	victim := s.unproven[0]
	for _, c := range s.unproven {
		if count[c.addr]++; count[c.addr] > count[victim.addr] {
			victim = c
		}
	}
	i := slices.IndexFunc(s.unproven, func(c *conn) bool { return c.addr == victim.addr })
	return s.unproven[i]
}

// prove notes that an acceptable request came.
func (s *Server) prove(c *conn) {
	if c.proven.Load() {
		return
	}
	c.proven.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(c)
}

// forget takes c off the unproven ones. The caller holds mu.
func (s *Server) forget(c *conn) {
	if i := slices.Index(s.unproven, c); i >= 0 {
		s.unproven = slices.Delete(s.unproven, i, i+1)
	}
}

// drop forgets a connection that has ended.
func (s *Server) drop(c *conn) {
	for _, leave := range s.leavers {
		leave(c)
	}
	s.mu.Lock()
	delete(s.conns, c)
	if c.evicted {
		s.evicted--
	}
	if s.perAddr[c.addr]--; s.perAddr[c.addr] <= 0 {
		delete(s.perAddr, c.addr)
	}
	s.forget(c)
	s.mu.Unlock()
	wrong := malformed(c.why)
	switch {
	case wrong || errors.Is(c.why, errPlain):
		s.warn("protocol", "a connection was closed that does not speak the protocol", slog.String("address", c.remote), slog.Any("reason", c.why))
	case c.cutOff():
		s.warn(c.why.Error(), "a connection was cut off", slog.String("address", c.remote), slog.Any("reason", c.why))
	}
	if wrong {
		s.counters.malformed.Add(1)
	}
	s.log.Debug("a connection ended", slog.String("address", c.remote), slog.Any("reason", c.why))
}

// malformed: the peer sent something that is no request.
func malformed(err error) bool {
	_, frame := errors.AsType[*remoting.FrameError](err)
	_, syntax := errors.AsType[*remoting.SyntaxError](err)
	return frame || syntax
}

// tick looks after deadlines while there are connections.
func (s *Server) tick() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.closing:
			return
		}
		if s.sweep() {
			continue
		}
		t.Stop()
		select {
		case <-s.wake:
			t.Reset(tick)
		case <-s.closing:
			return
		}
	}
}

// sweep ends what is late. It answers whether there is more to look after.
func (s *Server) sweep() bool {
	type late struct {
		c   *conn
		why error
	}
	now := s.clock.update()
	crowd := crowd{in: s.arrivals.crowded(), out: s.unsent.crowded() || s.unsent.exceeded()}
	var ends []late
	s.mu.Lock()
	left := len(s.conns)
	for c := range s.conns {
		if why := c.late(now, &s.cfg.Limits, crowd); why != nil {
			ends = append(ends, late{c, why})
		}
	}
	s.mu.Unlock()
	for _, e := range ends {
		s.counters.expired.Add(1)
		e.c.end(e.why)
	}
	for _, f := range s.tickers {
		f()
	}
	return s.tellQuiet(false) || left > 0
}

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// Close stops to accept, reads no further requests, answers those that were
// accepted, closes the connections and waits for every goroutine. When ctx
// ends first the rest is cut off, and the error is ctx's cause. It may be
// called more than once; the others wait for the first.
func (s *Server) Close(ctx context.Context) error {
	var err error
	s.once.Do(func() {
		err = s.close(ctx)
		close(s.closed)
	})
	select {
	case <-s.closed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Server) close(ctx context.Context) error {
	close(s.closing)
	defer s.cancel()
	if s.listener == nil {
		return nil // it was never opened
	}
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	for _, f := range s.closers {
		f()
	}
	past := time.Unix(1, 0)
	for _, c := range s.connections() {
		c.stopReading(func() error { return c.raw.SetReadDeadline(past) })
	}
	gone := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() { s.wg.Wait(); close(gone) })
	select {
	case <-gone:
	case <-ctx.Done():
		err = errors.Join(err, fmt.Errorf("close server: %w", context.Cause(ctx)))
		s.cancel()
		for _, c := range s.connections() {
			c.end(errShutdown)
		}
	}
	waiter.Wait()
	s.tellQuiet(true)
	return err
}

// connections are the connections of now.
func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}
