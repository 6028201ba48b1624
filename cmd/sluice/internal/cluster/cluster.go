package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/rpc"
)

const (
	defaultTimeout = 5 * time.Second
	// parallel is how many questions are asked at a time where there are many,
	// such as one for each topic. They share a connection.
	parallel = 16
)

// Config says which cluster, and how to talk to it.
type Config struct {
	// NameServers are addresses host:port, of which the first that answers is
	// asked. It is required.
	NameServers []string
	// TLS makes every connection one of TLS. Its ServerName defaults to the
	// host of the address. Defaults to none.
	TLS *tls.Config
	// AccessKey and SecretKey sign requests. Defaults to none.
	AccessKey, SecretKey string
	// Timeout bounds one request, connecting included. Defaults to 5 s.
	Timeout time.Duration
	// Dial replaces the dialer of package net. Defaults to it.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Cluster is a message cluster as operators see it.
type Cluster struct {
	cfg  Config
	last atomic.Int32 // the name server that answered last

	mu    sync.Mutex
	conns map[string]*link
	heard map[string]bool // the addresses that have answered
}

// link is the connection to one address, or the attempt to make it.
type link struct {
	done chan struct{} // closed once the rest is set
	conn *rpc.Conn
	err  error
}

// New answers the cluster behind the name servers of cfg. It does not connect.
func New(cfg Config) *Cluster {
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	return &Cluster{cfg: cfg, conns: map[string]*link{}, heard: map[string]bool{}}
}

// Close ends all connections. Requests must have ended.
func (c *Cluster) Close() {
	c.mu.Lock()
	links := c.conns
	c.conns = map[string]*link{}
	c.mu.Unlock()
	for _, l := range links {
		<-l.done
		if l.conn != nil {
			_ = l.conn.Close()
		}
	}
}

// connect answers the connection to addr, and makes it if there is none.
func (c *Cluster) connect(ctx context.Context, addr string) (*rpc.Conn, error) {
	c.mu.Lock()
	l := c.conns[addr]
	if l != nil {
		c.mu.Unlock()
		select {
		case <-l.done:
			return l.conn, l.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	l = &link{done: make(chan struct{})}
	c.conns[addr] = l
	c.mu.Unlock()
	l.conn, l.err = rpc.Dial(ctx, "tcp", addr, rpc.Options{
		TLS: c.cfg.TLS, Dial: c.cfg.Dial, AccessKey: c.cfg.AccessKey, SecretKey: c.cfg.SecretKey,
	})
	close(l.done)
	if l.err != nil {
		c.forget(addr, nil)
	}
	return l.conn, l.err
}

// forget drops a connection that is of no use any more.
func (c *Cluster) forget(addr string, conn *rpc.Conn) {
	c.mu.Lock()
	l := c.conns[addr]
	if l != nil {
		select {
		case <-l.done:
			if l.conn == conn {
				delete(c.conns, addr)
			}
		default:
		}
	}
	c.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}

// errTimeout is why a request has ended that took longer than Config.Timeout.
var errTimeout = errors.New("no answer")

// request is one question.
type request struct {
	op     string // for errors: what is asked
	code   int
	fields remoting.Fields
	body   []byte
	// also are codes that are no refusal, besides success.
	also []int
	// changes: something may have been done although nobody answered.
	changes bool
}

// header are fields of a request.
type header interface{ AppendTo(f *remoting.Fields) }

// with answers r with the fields of h.
func (r request) with(h header) request {
	h.AppendTo(&r.fields)
	return r
}

// ask asks one address.
func (c *Cluster) ask(ctx context.Context, addr string, r request) (*remoting.Command, error) {
	limited, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errTimeout)
	defer cancel()
	resp, err := c.roundTrip(limited, addr, r)
	switch {
	case err == nil && (resp.Code == remoting.ResSuccess || slices.Contains(r.also, resp.Code)):
		return resp, nil
	case err == nil:
		return nil, refused(r.op, addr, resp)
	}
	unreachable := &UnreachableError{Op: r.op, Addr: addr, Err: err}
	if e, ok := errors.AsType[*rpc.Error](err); ok {
		unreachable.MaybeDone, unreachable.Err = r.changes && e.MaybeDone, e.Err
	}
	if ctx.Err() != nil {
		if unreachable.Err = context.Cause(ctx); unreachable.MaybeDone {
			return nil, unreachable
		}
		return nil, context.Cause(ctx)
	}
	if hint := c.hint(addr, err); hint != "" {
		unreachable.Err = fmt.Errorf("%w; %s", unreachable.Err, hint)
	}
	if limited.Err() != nil {
		unreachable.Err = fmt.Errorf("%w within %v", errTimeout, c.cfg.Timeout)
	}
	return nil, unreachable
}

func (c *Cluster) roundTrip(ctx context.Context, addr string, r request) (*remoting.Command, error) {
	conn, err := c.connect(ctx, addr)
	if err != nil {
		return nil, err
	}
	resp, err := conn.Call(ctx, &remoting.Command{
		Code: r.code, Language: remoting.LanguageGo, Version: remoting.Version, Fields: r.fields, Body: r.body,
	})
	if err != nil && ctx.Err() == nil {
		c.forget(addr, conn)
	}
	if err == nil {
		c.mu.Lock()
		c.heard[addr] = true
		c.mu.Unlock()
	}
	return resp, err
}

// frameOfHTTP is how the first bytes of an answer in HTTP read as a length.
const frameOfHTTP = 'H'<<24 | 'T'<<16 | 'T'<<8 | 'P'

// hint is what err probably means if the first thing that came from an address
// was no answer: such servers say nothing themselves.
func (c *Cluster) hint(addr string, err error) string {
	c.mu.Lock()
	heard := c.heard[addr]
	c.mu.Unlock()
	frame, framed := errors.AsType[*remoting.FrameError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case heard:
		return ""
	case framed && frame.Size == frameOfHTTP:
		return "it answers in HTTP, not in RocketMQ's protocol"
	case !framed && !noTLS && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE):
		return ""
	case framed, noTLS:
		return protocol(c.cfg.TLS != nil)
	}
	// A server that has as many connections as it may have closes one more in the
	// same way: it cannot answer what it has not read.
	return protocol(c.cfg.TLS != nil) + " Or has it as many connections as its limits allow? Its log says so"
}

// protocol asks about the protocol of a server.
func protocol(overTLS bool) string {
	if overTLS {
		return "does it talk TLS at all?"
	}
	return "does it talk TLS, or another protocol?"
}

// askNames asks the name servers in their order, until one answers. It answers
// which one did.
func (c *Cluster) askNames(ctx context.Context, r request) (*remoting.Command, string, error) {
	var errs []error
	first := int(c.last.Load())
	for i := range c.cfg.NameServers {
		at := (first + i) % len(c.cfg.NameServers)
		addr := c.cfg.NameServers[at]
		resp, err := c.ask(ctx, addr, r)
		if _, unreachable := errors.AsType[*UnreachableError](err); unreachable {
			errs = append(errs, err)
			continue
		}
		c.last.Store(int32(at))
		return resp, addr, err
	}
	return nil, "", errors.Join(errs...)
}

// decode reads the body of an answer.
func decode[T any](r request, addr string, resp *remoting.Command, read func([]byte) (T, error)) (T, error) {
	x, err := read(resp.Body)
	if err != nil {
		return x, &MalformedError{Op: r.op, Addr: addr, Err: err}
	}
	return x, nil
}

// each runs f for everything in in, some at a time, and answers in the same
// order what came. The error joins what did not.
func each[T, R any](ctx context.Context, in []T, f func(ctx context.Context, x T) (R, error)) ([]R, error) {
	results, errs := make([]R, len(in)), make([]error, len(in))
	var wg sync.WaitGroup
	tokens := make(chan struct{}, parallel)
	for i, x := range in {
		tokens <- struct{}{}
		wg.Go(func() {
			results[i], errs[i] = f(ctx, x)
			<-tokens
		})
	}
	wg.Wait()
	out := results[:0]
	for i, r := range results {
		if errs[i] == nil {
			out = append(out, r)
		}
	}
	if ctx.Err() != nil {
		i := slices.IndexFunc(errs, MaybeDone)
		if i >= 0 {
			return out, errs[i]
		}
		return out, context.Cause(ctx)
	}
	return out, errors.Join(errs...)
}
