package rocketmq_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
)

// network is servers in memory, which clients reach by pipes, so that a test
// can run in a bubble of package synctest and pull any plug.
type network struct {
	t  testing.TB
	wg sync.WaitGroup

	mu    sync.Mutex
	nodes map[string]*node
	dials map[string]int // attempts to connect, by address
}

func newNetwork(t testing.TB) *network {
	n := &network{t: t, nodes: map[string]*node{}, dials: map[string]int{}}
	t.Cleanup(n.close)
	return n
}

// state is how a server behaves.
type state int

const (
	up       state = iota
	down           // refuses connections
	silent         // takes connections and requests and says nothing
	halfDead       // takes connections and does not even read
	hangsUp        // takes connections and ends each soon after its first request
)

// node is one server.
type node struct {
	n    *network
	addr string
	// handle answers a request, in a goroutine of its own; nil: no answer. It
	// may wait until its peer is done.
	handle func(p *peer, req *remoting.Command) *remoting.Command

	mu    sync.Mutex
	state state
	peers map[*peer]struct{}
}

// serve puts a server into the network.
func (n *network) serve(addr string, handle func(p *peer, req *remoting.Command) *remoting.Command) *node {
	s := &node{n: n, addr: addr, handle: handle, peers: map[*peer]struct{}{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[addr] = s
	return s
}

var errRefused = errors.New("connection refused")

// dial is the Dial of clients.
func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[addr]++
	s := n.nodes[addr]
	n.mu.Unlock()
	if s == nil || ctx.Err() != nil {
		return nil, errRefused
	}
	client, server := net.Pipe()
	p := &peer{s: s, conn: server, client: client, done: make(chan struct{}), asked: map[int32]chan *remoting.Command{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == down {
		return nil, errRefused
	}
	s.peers[p] = struct{}{}
	if s.state != halfDead {
		n.wg.Go(p.read)
	}
	return client, nil
}

// dialed is how often clients have tried to connect to a server.
func (n *network) dialed(s *node) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[s.addr]
}

// set changes how a server behaves; one that goes down drops its connections.
func (s *node) set(to state) {
	s.mu.Lock()
	s.state = to
	var cut []*peer
	if to == down {
		for p := range s.peers {
			cut = append(cut, p)
		}
	}
	s.mu.Unlock()
	for _, p := range cut {
		p.close()
	}
}

// freeze makes the connections that are there half open: what comes by them is
// lost and they do not end. New ones are fine.
func (s *node) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.peers {
		p.frozen.Store(true)
	}
}

func (s *node) is() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// close ends everything.
func (n *network) close() {
	n.mu.Lock()
	nodes := n.nodes
	n.mu.Unlock()
	for _, s := range nodes {
		s.set(down)
	}
	n.wg.Wait()
}

// peer is one connection of a client, seen from the server.
type peer struct {
	s      *node
	conn   net.Conn
	client net.Conn
	done   chan struct{} // closed when the connection has ended
	once   sync.Once
	frozen atomic.Bool

	write sync.Mutex

	mu     sync.Mutex
	opaque int32
	asked  map[int32]chan *remoting.Command
}

func (p *peer) close() {
	p.once.Do(func() {
		close(p.done)
		_ = p.conn.Close()
		p.s.mu.Lock()
		delete(p.s.peers, p)
		p.s.mu.Unlock()
	})
}

func (p *peer) read() {
	defer p.close()
	r := remoting.NewReader(p.conn, remoting.Limits{})
	for {
		frame, err := r.Next()
		if err != nil {
			return
		}
		req := new(remoting.Command)
		if err := remoting.Decode(frame, req, remoting.Limits{}); err != nil {
			p.s.n.t.Errorf("a client sent what cannot be read: %v", err)
			return
		}
		req.Body = bytes.Clone(req.Body)
		if req.IsResponse() {
			p.mu.Lock()
			answer := p.asked[req.Opaque]
			delete(p.asked, req.Opaque)
			p.mu.Unlock()
			if answer != nil {
				answer <- req
			}
			continue
		}
		if p.s.is() == hangsUp {
			time.Sleep(10 * time.Millisecond)
			return
		}
		if p.s.is() != up || p.frozen.Load() {
			continue
		}
		p.s.n.wg.Go(func() {
			a := p.s.handle(p, req)
			if a == nil || req.IsOneWay() || p.s.is() != up || p.frozen.Load() {
				return
			}
			a.Opaque, a.Flag, a.Version = req.Opaque, remoting.FlagResponse, cmp.Or(a.Version, remoting.Version)
			p.send(a)
		})
	}
}

func (p *peer) send(c *remoting.Command) {
	b, err := remoting.AppendFrame(nil, c)
	if err != nil {
		p.s.n.t.Errorf("encode: %v", err)
		return
	}
	p.write.Lock()
	defer p.write.Unlock()
	_, _ = p.conn.Write(b) // the client may be gone
}

// ask asks the client and waits for its answer, nil if the connection ends.
func (p *peer) ask(req *remoting.Command) *remoting.Command {
	answer := make(chan *remoting.Command, 1)
	p.mu.Lock()
	p.opaque++
	req.Opaque, req.Version = p.opaque, remoting.Version
	p.asked[req.Opaque] = answer
	p.mu.Unlock()
	p.send(req)
	select {
	case a := <-answer:
		return a
	case <-p.done:
		return nil
	}
}
