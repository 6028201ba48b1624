package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

var (
	// ErrClosed is what calls end with after Close.
	ErrClosed = errors.New("connection closed")
	// ErrNoAnswer is what calls end with whose limit is over.
	ErrNoAnswer = errors.New("no answer in time")
)

// Options of a connection. The zero value is usable.
type Options struct {
	// TLS turns TLS on. A server name that is missing is taken from the
	// address. Defaults to a plain connection.
	TLS *tls.Config
	// Dial makes the plain connection. Defaults to that of a [net.Dialer].
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// AccessKey and SecretKey sign every request, and every answer to a request
	// of the server is left unsigned, as Apache's clients do. Defaults to no
	// signatures.
	AccessKey, SecretKey string
	// SHA256 signs in Sluice's own scheme, which other servers do not know.
	// Defaults to the HMAC-SHA1 of Apache's clients.
	SHA256 bool
	// Handler answers requests of the server; it owns the command. It may
	// call and send on the connection but must not close it. Its answer needs
	// no more than a code, fields and a body, is dropped for one-way requests,
	// and nil stands for a code that is not supported, as no handler does.
	Handler func(*remoting.Command) *remoting.Command
	// Apart says which requests take time to answer. The handler gets each of
	// them in a goroutine of its own, instead of one request after the other;
	// beyond a few at a time they are answered as too many. It should return
	// when its connection is closed, which waits for it. Defaults to none.
	Apart func(code int) bool
	// Limits of what is read. Defaults to those of package remoting.
	Limits remoting.Limits
	// Logger gets what has no caller to tell. Defaults to none.
	Logger *slog.Logger
}

// Error says which request failed and whether it may have been done.
type Error struct {
	// Op is the name of the request code, or what else was tried.
	Op string
	// Addr is the address of the server.
	Addr string
	// MaybeDone is false only if the server cannot have seen the request.
	MaybeDone bool
	// Err is the cause: that of the context, [ErrNoAnswer], [ErrClosed], or
	// what the connection answered.
	Err error
}

func (e *Error) Error() string {
	done := "not done"
	if e.MaybeDone {
		done = "perhaps done"
	}
	return fmt.Sprintf("%s at %s: %s: %v", e.Op, e.Addr, done, e.Err)
}

// Unwrap answers Err.
func (e *Error) Unwrap() error { return e.Err }

const (
	// maxQueued is how many bytes may wait to be written before a sender waits.
	maxQueued = 8 << 20
	// keepBuffer is the largest buffer that is used again: many callers with a
	// batch each fill one of some MiB all the time.
	keepBuffer = 4 << 20
	// maxFree is how many calls are kept for others: as many as a busy client
	// has in flight.
	maxFree = 256
	// maxRequests is how many requests of the server may wait for the handler:
	// a rebalance of a client with many groups brings one for each.
	maxRequests = 256
	// maxApart is how many requests are handled apart at a time.
	maxApart = 16
)

// Conn is one connection. It is made by [Dial] or [New].
type Conn struct {
	conn net.Conn
	o    Options
	log  *slog.Logger
	wg   sync.WaitGroup

	requests chan *remoting.Command // of the server
	apart    chan struct{}          // one element for each that is handled apart
	wake     chan struct{}          // there is something to write
	done     chan struct{}          // closed when the connection is lost
	frames   atomic.Int64           // that have come

	mu      sync.Mutex
	err     error // why it was lost; set before done is closed
	opaque  int32
	pending map[int32]*call
	free    []*call       // for the calls to come
	next    *batch        // what is not being written yet
	spare   []byte        // memory for the batch after it
	started int64         // number of the last batch of which a byte may be out
	space   chan struct{} // closed when a full batch is taken; nil if nobody waits
}

// batch is what is written at once.
type batch struct {
	number int64
	buf    []byte
	done   chan struct{} // closed when it is written; nil if nobody waits
	err    error         // set before done is closed
}

// call is a request that is waited for. Who takes it out of pending puts the one
// answer in, nil if the connection was lost.
type call struct {
	batch  int64
	answer chan *remoting.Command // has room for the one answer
	timer  *time.Timer            // stands still unless the call has a limit
}

// Dial connects to a server; ctx bounds that and nothing later.
func Dial(ctx context.Context, network, addr string, o Options) (*Conn, error) {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, network, addr)
	if err != nil {
		return nil, &Error{Op: "dial", Addr: addr, Err: err}
	}
	if o.TLS != nil {
		secure := tls.Client(conn, serverName(o.TLS, addr))
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // the handshake's error says more
			return nil, &Error{Op: "dial", Addr: addr, Err: err}
		}
		conn = secure
	}
	return New(conn, o), nil
}

func serverName(c *tls.Config, addr string) *tls.Config {
	if c.ServerName != "" || c.InsecureSkipVerify {
		return c
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	c = c.Clone()
	c.ServerName = host
	return c
}

// New is [Dial] for a connection that is there, TLS and all; it owns conn.
func New(conn net.Conn, o Options) *Conn {
	c := &Conn{
		conn: conn, o: o, log: o.Logger,
		requests: make(chan *remoting.Command, maxRequests),
		apart:    make(chan struct{}, maxApart),
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		pending:  map[int32]*call{},
		next:     &batch{number: 1},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.wg.Go(c.read)
	c.wg.Go(c.write)
	if o.Handler != nil {
		c.wg.Go(c.handle)
	}
	return c
}

// Addr is the address of the server.
func (c *Conn) Addr() net.Addr { return c.conn.RemoteAddr() }

// LocalAddr is the address of this end.
func (c *Conn) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// Received answers how many frames have come from the server: answers, those
// that came too late included, and requests.
func (c *Conn) Received() int64 { return c.frames.Load() }

// Done is closed when the connection is lost or closed.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection is lost; nil while it is not.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection, fails what is in flight with [ErrClosed] and waits
// for the handler and the goroutines. It may be called again.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	c.wg.Wait()
	return nil
}

// fail loses the connection because of err; only the first cause counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		for opaque, k := range c.pending {
			delete(c.pending, opaque)
			k.answer <- nil
		}
	}
	c.mu.Unlock()
	if first {
		close(c.done)
		_ = c.conn.Close() // nothing is to be saved any more
	}
}

// Call sends req and waits for its answer, whatever its code; the answer owns
// its memory. Req is as the caller made it: opaque, signature, and language and
// version if it has no version, are those of the connection. Its body is copied
// before Call returns, and nothing of it is kept. The error is an [*Error].
func (c *Conn) Call(ctx context.Context, req *remoting.Command) (*remoting.Command, error) {
	return c.CallWithin(ctx, 0, req)
}

// CallWithin is [Conn.Call] that ends with [ErrNoAnswer] after so long. It costs
// less than a context with a deadline. A limit of 0 is none.
func (c *Conn) CallWithin(ctx context.Context, limit time.Duration, req *remoting.Command) (*remoting.Command, error) {
	out := c.prepare(*req)
	out.Flag = 0
	k := c.newCall(limit)
	defer c.release(k)
	if _, err := c.enqueue(ctx, &out, k, false); err != nil {
		return nil, err
	}
	var cause error
	select {
	case answer := <-k.answer:
		return c.answered(req.Code, k, answer)
	case <-k.timer.C:
		cause = ErrNoAnswer
	case <-ctx.Done():
		cause = context.Cause(ctx)
	}
	if !c.forget(out.Opaque, k) { // an answer that came before the end counts
		return c.answered(req.Code, k, <-k.answer)
	}
	return nil, c.failure(req.Code, true, cause)
}

// answered is the end of a call that got an answer, nil for a lost connection.
func (c *Conn) answered(code int, k *call, answer *remoting.Command) (*remoting.Command, error) {
	if answer != nil {
		return answer, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return nil, c.failure(code, k.batch <= c.started, c.err)
}

// newCall answers a call that was used before, if there is one.
func (c *Conn) newCall(limit time.Duration) *call {
	c.mu.Lock()
	var k *call
	if n := len(c.free); n > 0 {
		k = c.free[n-1]
		c.free = c.free[:n-1]
	}
	c.mu.Unlock()
	if k == nil {
		k = &call{answer: make(chan *remoting.Command, 1), timer: time.NewTimer(time.Hour)}
		k.timer.Stop()
	}
	if limit > 0 {
		k.timer.Reset(limit)
	}
	return k
}

// release keeps a call, which is not pending and has no answer, for another one.
func (c *Conn) release(k *call) {
	k.timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) < maxFree {
		c.free = append(c.free, k)
	}
}

// OneWay sends req, which is not answered, and waits until it is handed to the
// operating system. The error is an [*Error].
func (c *Conn) OneWay(ctx context.Context, req *remoting.Command) error {
	out := c.prepare(*req)
	out.Flag = remoting.FlagOneWay
	b, err := c.enqueue(ctx, &out, nil, true)
	if err != nil {
		return err
	}
	select {
	case <-b.done:
		if b.err != nil {
			return c.failure(req.Code, true, b.err)
		}
		return nil
	case <-ctx.Done():
		return c.failure(req.Code, true, context.Cause(ctx))
	case <-c.done:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure(req.Code, b.number <= c.started, c.err)
}

func (c *Conn) failure(code int, maybe bool, err error) *Error {
	return &Error{Op: remoting.RequestName(code), Addr: c.conn.RemoteAddr().String(), MaybeDone: maybe, Err: err}
}

// prepare answers a request as it goes out, but for its opaque. Signatures do
// not cover the opaque.
func (c *Conn) prepare(out remoting.Command) remoting.Command {
	if out.Version == 0 {
		out.Language, out.Version = remoting.LanguageGo, remoting.Version
	}
	if c.o.AccessKey == "" {
		return out
	}
	return c.sign(out)
}

func (c *Conn) sign(out remoting.Command) remoting.Command {
	out.Fields = append(make(remoting.Fields, 0, len(out.Fields)+4), out.Fields...)
	if c.o.SHA256 {
		remoting.SignCommandSHA256(c.o.AccessKey, c.o.SecretKey, &out, time.Now())
	} else {
		remoting.SignCommand(c.o.AccessKey, c.o.SecretKey, &out)
	}
	return out
}

// enqueue puts a request behind what waits to be written and, unless k is nil,
// makes k the one that gets its answer. With wait the batch has a done channel.
func (c *Conn) enqueue(ctx context.Context, out *remoting.Command, k *call, wait bool) (*batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, c.failure(out.Code, false, context.Cause(ctx))
	}
	var over <-chan time.Time
	if k != nil {
		over = k.timer.C
	}
	for {
		b, full, err := c.tryEnqueue(out, k, wait)
		if err != nil {
			return nil, c.failure(out.Code, false, err)
		}
		if full == nil {
			return b, nil
		}
		select {
		case <-full:
		case <-c.done:
		case <-over:
			return nil, c.failure(out.Code, false, ErrNoAnswer)
		case <-ctx.Done():
			return nil, c.failure(out.Code, false, context.Cause(ctx))
		}
	}
}

// tryEnqueue answers a channel to wait for if there is no space.
func (c *Conn) tryEnqueue(out *remoting.Command, k *call, wait bool) (*batch, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, nil, c.err
	}
	b := c.next
	if len(b.buf) > maxQueued {
		if c.space == nil {
			c.space = make(chan struct{})
		}
		return nil, c.space, nil
	}
	if !out.IsResponse() {
		out.Opaque = c.nextOpaque()
	}
	buf, err := remoting.AppendFrame(b.buf, out)
	if err != nil {
		return nil, nil, err
	}
	b.buf = buf
	if wait && b.done == nil {
		b.done = make(chan struct{})
	}
	if k != nil {
		k.batch = b.number
		c.pending[out.Opaque] = k
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return b, nil, nil
}

// nextOpaque answers a number that no pending call has. mu is held.
func (c *Conn) nextOpaque() int32 {
	for {
		c.opaque++ // wraps around like everybody's
		if c.pending[c.opaque] == nil {
			return c.opaque
		}
	}
}

// forget gives up the call k; an answer that comes later is dropped. It reports
// false if the answer is there already.
func (c *Conn) forget(opaque int32, k *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending[opaque] != k {
		return false
	}
	delete(c.pending, opaque)
	return true
}
