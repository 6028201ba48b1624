package server

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// pipes is a listener whose connections are pipes, for tests in bubbles of
// time, where sockets do not work.
type pipes struct {
	offered chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func newPipes() *pipes { return &pipes{offered: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.offered:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "127.0.0.1:9876" }

// bundle is a server with a store in memory.
type bundle struct {
	*Server
	pipes *pipes // nil over TCP
}

// serveOn starts a server with further handlers, over loopback.
func serveOn(t *testing.T, cfg Config, extra ...handler) *bundle {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	return startServer(t, cfg, nil, extra)
}

// serveSynced starts a server whose store is on disk and syncs.
func serveSynced(t *testing.T, cfg Config) *bundle {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	return startStore(t, t.TempDir(), cfg, nil, nil)
}

// servePipes does the same over pipes.
func servePipes(t *testing.T, cfg Config, extra ...handler) *bundle {
	t.Helper()
	p := newPipes()
	cfg.Listener = func() (net.Listener, error) { return p, nil }
	return startServer(t, cfg, p, extra)
}

func startServer(t *testing.T, cfg Config, p *pipes, extra []handler) *bundle {
	t.Helper()
	return startStore(t, "", cfg, p, extra)
}

func startStore(t *testing.T, dir string, cfg Config, p *pipes, extra []handler) *bundle {
	t.Helper()
	b, err := embedded.Open(dir, embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, b, cfg, p, extra)
}

// startOn starts a server on a broker, which ends with it.
func startOn(t *testing.T, b *embedded.Broker, cfg Config, p *pipes, extra []handler) *bundle {
	t.Helper()
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	s := newServer(b, cfg)
	s.table = newLookup(append(handlers(), extra...))
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := b.Close(ctx); err != nil {
			t.Errorf("close broker: %v", err)
		}
	})
	return &bundle{Server: s, pipes: p}
}

// peer is a client that sees every frame.
type peer struct {
	net.Conn
	t      *testing.T
	frames *remoting.Reader
	opaque int32
}

func (b *bundle) dial(t *testing.T) *peer {
	t.Helper()
	var c net.Conn
	if b.pipes != nil {
		var far net.Conn
		c, far = net.Pipe()
		b.pipes.offered <- far
	} else {
		var err error
		if c, err = net.Dial("tcp", b.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	return newPeer(t, c)
}

func newPeer(t *testing.T, c net.Conn) *peer {
	p := &peer{Conn: c, t: t, frames: remoting.NewReader(c, remoting.Limits{})}
	t.Cleanup(func() { _ = c.Close() })
	return p
}

// request makes a request with pairs of names and values.
func request(code int, pairs ...string) *remoting.Command {
	cmd := &remoting.Command{Code: code, Version: remoting.Version}
	for i := 0; i+1 < len(pairs); i += 2 {
		cmd.Fields.Add(pairs[i], pairs[i+1])
	}
	return cmd
}

// send sends cmd with the next opaque, which it answers.
func (p *peer) send(cmd *remoting.Command) int32 {
	p.t.Helper()
	p.opaque++
	cmd.Opaque = p.opaque
	p.write(cmd)
	return cmd.Opaque
}

func (p *peer) write(cmd *remoting.Command) {
	p.t.Helper()
	frame, err := remoting.AppendFrame(nil, cmd)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.Write(frame); err != nil {
		p.t.Fatalf("write request %d: %v", cmd.Code, err)
	}
}

// next reads a frame.
func (p *peer) next() *remoting.Command {
	p.t.Helper()
	frame, err := p.frames.Next()
	if err != nil {
		p.t.Fatalf("read a frame: %v", err)
	}
	var cmd remoting.Command
	if err := remoting.Decode(frame, &cmd, remoting.Limits{}); err != nil {
		p.t.Fatal(err)
	}
	return clone(&cmd)
}

// quietly is ask that takes nothing before the answer.
func (p *peer) quietly(cmd *remoting.Command) {
	p.t.Helper()
	opaque := p.send(cmd)
	if a := p.next(); !a.IsResponse() || a.Opaque != opaque || a.Code != 0 {
		p.t.Fatalf("got %+v, want a success for %d", a, opaque)
	}
}

// ask sends a request and reads its answer, past notices.
func (p *peer) ask(cmd *remoting.Command) *remoting.Command {
	p.t.Helper()
	opaque := p.send(cmd)
	for {
		a := p.next()
		if !a.IsResponse() {
			continue
		}
		if a.Opaque != opaque {
			p.t.Fatalf("answer to %d has opaque %d", opaque, a.Opaque)
		}
		return a
	}
}

// ended waits for the server to close the connection.
func (p *peer) ended() {
	p.t.Helper()
	for {
		_, err := p.frames.Next()
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) && !isReset(err) {
			p.t.Fatalf("read: %v", err)
		}
		return
	}
}

func isReset(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}
