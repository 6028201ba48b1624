package tcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluicemq/sluice/broker/remoting"
	"github.com/sluicemq/sluice/broker/remoting/message"
)

// attack is what hostile peers have in common. Each phase comes from addresses
// of its own, which is what a server can tell them apart by.
type attack struct {
	t    *testing.T
	addr string
	seen *ledger // gets what is wrong
}

// dial connects from 127.0.0.host. It answers nil if the server does not take
// the connection, which it may.
func (a *attack) dial(host int) *net.TCPConn {
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(host))}}
	c, err := d.DialContext(ctx, "tcp", a.addr)
	if err != nil {
		return nil
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return nil
	}
	_ = tcp.SetDeadline(time.Now().Add(patience)) // of a socket that is open
	return tcp
}

// peer is one hostile connection on which answers are waited for.
type peer struct {
	*net.TCPConn
	a      *attack
	frames *remoting.Reader
	opaque int32
}

func (a *attack) peer(host int) *peer {
	c := a.dial(host)
	if c == nil {
		a.seen.bad("the server does not take a connection")
		return nil
	}
	return &peer{TCPConn: c, a: a, frames: remoting.NewReader(c, remoting.Limits{})}
}

// next reads one command; nil at the end of the connection.
func (p *peer) next() *remoting.Command {
	_ = p.SetDeadline(time.Now().Add(patience)) // with each answer anew
	frame, err := p.frames.Next()
	if err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			p.a.seen.bad("a hostile peer got neither an answer nor an end")
		}
		return nil
	}
	c := new(remoting.Command)
	// What comes from the server is not what is tested for limits.
	if err := remoting.Decode(frame, c, remoting.Limits{Header: 1 << 23, Fields: 1 << 16, Name: 1 << 16}); err != nil {
		p.a.seen.bad("the server sent what cannot be read: %v", err)
		return nil
	}
	return c
}

// all sends requests and waits for every answer that is owed.
func (p *peer) all(requests []odd) bool {
	owed := map[int32]int{}
	var out []byte
	for _, o := range requests {
		p.opaque++
		o.cmd.Opaque = p.opaque
		b, ok := encode(&o.cmd)
		if !ok {
			continue
		}
		out = append(out, b...)
		if !o.silent {
			owed[o.cmd.Opaque] = o.cmd.Code
		}
	}
	_ = p.SetDeadline(time.Now().Add(patience))
	if _, err := p.Write(out); err != nil {
		p.a.seen.bad("the server ended a connection whose requests are whole: %v, among %v", err, owed)
		return false
	}
	for len(owed) > 0 {
		c := p.next()
		if c == nil {
			p.a.seen.bad("the server ended a connection whose requests are whole; it owes answers to %v", owed)
			return false
		}
		if !c.IsResponse() {
			continue // a notice to a member
		}
		code, ok := owed[c.Opaque]
		if !ok {
			p.a.seen.bad("an answer that nobody asked for: %d %s", c.Code, c.Remark)
		}
		delete(owed, c.Opaque)
		if strings.Contains(c.Remark, "internal failure") {
			p.a.seen.bad("request %d: %s", code, c.Remark)
		}
	}
	return true
}

// encode encodes a request whose header is within the limits, for which it
// drops fields.
func encode(c *remoting.Command) ([]byte, bool) {
	if c.Binary && int(int16(c.Code)) != c.Code {
		c.Binary = false
	}
	for {
		b, err := remoting.AppendFrame(nil, c)
		if err != nil {
			return nil, false
		}
		if binary.BigEndian.Uint32(b[4:])&(1<<24-1) <= remoting.DefaultHeader {
			return b, true
		}
		if len(c.Fields) == 0 {
			return nil, false
		}
		c.Fields = c.Fields[:len(c.Fields)/2]
	}
}

// ends requires that the server ends the connection after b.
func (p *peer) ends(b []byte) {
	_, _ = p.Write(b) // the end may come before all is written
	for {
		c := p.next()
		if c == nil {
			return
		}
		p.a.seen.bad("%.80q was answered %d: %s", b, c.Code, c.Remark)
	}
}

// whatever sends b and no more, and waits for the end.
func (p *peer) whatever(b []byte) {
	_, _ = p.Write(b)
	_ = p.CloseWrite() // it may have ended
	for p.next() != nil {
	}
}

// malformed sends n requests of all kinds that are wrong.
func (a *attack) malformed(r *rand.Rand, n int) (ended, answered int64) {
	const workers = 6
	var left, ends, answers atomic.Int64
	left.Store(int64(n))
	var wg sync.WaitGroup
	for i := range workers {
		r := fork(r)
		wg.Go(func() {
			for left.Add(-8) > -8 {
				p := a.peer(10 + i)
				if p == nil {
					return
				}
				requests := make([]odd, 6)
				for i := range requests {
					requests[i] = pick(r, oddKinds)(r)
				}
				ok := p.all(requests)
				answers.Add(int64(len(requests)))
				if ok {
					p.ends(pick(r, brokenKinds)(r))
					ends.Add(1)
				}
				_ = p.Close()
				if p = a.peer(10 + i); p != nil {
					p.whatever(mutated(r))
					_ = p.Close()
				}
			}
		})
	}
	wg.Wait()
	return ends.Load(), answers.Load()
}

// traverse sends every name in every field of every command.
func (a *attack) traverse() int {
	all := traversals()
	p := a.peer(20)
	for rest := all; len(rest) > 0 && p != nil; {
		n := min(len(rest), 64)
		if !p.all(rest[:n]) {
			break
		}
		rest = rest[n:]
	}
	if p != nil {
		_ = p.Close()
	}
	return len(all)
}

// invent uses n new names of every kind, which are good ones. A server may make
// what they name, up to its limits, and has to answer.
func (a *attack) invent(n int) int {
	p := a.peer(22)
	if p == nil {
		return 0
	}
	defer p.Close()
	sent := 0
	for from := 0; from < n; from += 20 {
		var batch []odd
		for i := from; i < from+20; i++ {
			name := "prey-" + strconv.Itoa(i)
			for _, topic := range []string{name, "%RETRY%" + name, "%DLQ%" + name} {
				c := remoting.Command{Code: remoting.ReqSendMessageV2, Body: []byte("x")}
				remoting.SendMessage{
					ProducerGroup: name, Topic: topic, DefaultTopic: message.AutoCreateTopic, DefaultTopicQueues: 4, MaxReconsumeTimes: -1,
				}.AppendTo(c.Code, &c.Fields)
				batch = append(batch, odd{cmd: c})
			}
			beat := remoting.Heartbeat{ClientID: name, Producers: []string{name}, Consumers: []remoting.ConsumerData{{Group: name}}}
			batch = append(batch,
				odd{cmd: *request(remoting.ReqUpdateConsumerOffset, remoting.UpdateOffset{Group: name, Topic: prey, CommitOffset: 1})},
				odd{cmd: remoting.Command{Code: remoting.ReqHeartbeat, Body: beat.AppendTo(nil)}},
				odd{cmd: remoting.Command{Code: remoting.ReqPutKVConfig, Fields: remoting.Fields{
					{Name: "namespace", Value: name}, {Name: "key", Value: name}, {Name: "value", Value: strings.Repeat("v", 4000)},
				}}})
		}
		if !p.all(batch) {
			break
		}
		sent += len(batch)
	}
	return sent
}

// drip lets n connections send a byte now and then of a request that never
// ends, half of them after a good one. It answers how many the server has ended.
func (a *attack) drip(ctx context.Context, r *rand.Rand, n int) int {
	var ended atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		proven := i%2 == 0 && i < 700 // beyond, no place would be left for others
		host := 30 + i%4
		c := a.dial(host)
		if c == nil {
			ended.Add(1)
			continue
		}
		frame, _ := encode(&remoting.Command{Code: remoting.ReqGetRoute, Fields: remoting.Fields{{Name: "topic", Value: prey}}})
		each := between(r, 100*time.Millisecond, 2*time.Second)
		wg.Go(func() {
			defer c.Close()
			if proven {
				if _, err := c.Write(frame); err != nil {
					ended.Add(1)
					return
				}
			}
			for i := range len(frame) - 1 {
				if _, err := c.Write(frame[i : i+1]); err != nil {
					ended.Add(1)
					return
				}
				if !pause(ctx, each) {
					return
				}
			}
		})
	}
	wg.Wait()
	return int(ended.Load())
}

// flood connects as fast as it can, says nothing or half a word, and goes, in
// order or not, until ctx ends.
func (a *attack) flood(ctx context.Context, r *rand.Rand) int {
	var n atomic.Int64
	var wg sync.WaitGroup
	for i := range 6 {
		r := fork(r)
		wg.Go(func() {
			for ctx.Err() == nil {
				c := a.dial(40 + i)
				if c == nil {
					continue
				}
				n.Add(1)
				switch r.IntN(4) {
				case 0:
					_, _ = c.Write([]byte{0, 0})
				case 1:
					_, _ = c.Write([]byte{0, 0, 1, 0, 0, 0, 0, 200, '{'})
					_ = c.CloseWrite()
				}
				if r.IntN(2) == 0 {
					_ = c.SetLinger(0) // a reset
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	return int(n.Load())
}

// proven makes n connections, each with a good request behind it, so that the
// server does not end them for being new.
func (a *attack) proven(host, n int) []*peer {
	var all []*peer
	for i := range n {
		if p := a.peer(host + i%2); p != nil && p.all([]odd{{cmd: remoting.Command{Code: remoting.ReqGetAllTopicList}}}) {
			all = append(all, p)
		}
	}
	return all
}

// each lets peers do something side by side and closes them.
func each(all []*peer, f func(p *peer)) {
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			defer p.Close()
			f(p)
		})
	}
	wg.Wait()
}

// withhold lets n connections send nearly all of a request as large as they may
// be, and no more, until ctx ends. It answers how much was taken.
func (a *attack) withhold(ctx context.Context, n int) int64 {
	chunk := make([]byte, 64<<10)
	var taken atomic.Int64
	each(a.proven(50, n), func(p *peer) {
		_ = p.SetWriteDeadline(time.Now().Add(4 * time.Second))
		head := framed(0, []byte("{}"), nil)
		binary.BigEndian.PutUint32(head, 16<<20)
		_, err := p.Write(head)
		for sent := len(head); err == nil && sent < 15<<20 && ctx.Err() == nil; sent += len(chunk) {
			if _, err = p.Write(chunk); err == nil {
				taken.Add(int64(len(chunk)))
			}
		}
		<-ctx.Done()
	})
	return taken.Load()
}

// keep lets n connections send a large request each and then nothing, until ctx
// ends: what was needed for it must not stay.
func (a *attack) keep(ctx context.Context, n int) {
	large := odd{cmd: remoting.Command{Code: 4711, Body: make([]byte, 900<<10)}}
	each(a.proven(55, n), func(p *peer) {
		p.all([]odd{large})
		<-ctx.Done()
	})
}

// hoard lets n connections ask for large answers and take none, until ctx ends.
func (a *attack) hoard(ctx context.Context, n int) {
	pull, _ := encode(request(remoting.ReqPullMessage, remoting.PullMessage{
		Group: prey, Topic: prey, MaxMessages: 1024, SysFlag: remoting.PullSubscription, Subscription: "*",
	}))
	each(a.proven(60, n), func(p *peer) {
		_ = p.SetReadBuffer(4 << 10)
		_ = p.SetWriteDeadline(time.Now().Add(4 * time.Second))
		for range 2000 {
			if _, err := p.Write(pull); err != nil {
				break
			}
		}
		<-ctx.Done()
	})
}

// hold lets n connections wait for messages with as many pulls as they may, and
// take no answer, until ctx ends; wake sends what they all wait for.
func (a *attack) hold(ctx context.Context, n int, wake func()) {
	var out []byte
	for queue := range 4 {
		pull, _ := encode(request(remoting.ReqPullMessage, remoting.PullMessage{
			Group: prey, Topic: heldTopic, QueueID: int32(queue), MaxMessages: 1024,
			SysFlag: remoting.PullSubscription | remoting.PullSuspend, SuspendMillis: 20000, Subscription: "*",
		}))
		out = append(out, bytes.Repeat(pull, 256)...)
	}
	all := a.proven(70, n)
	for _, p := range all {
		_ = p.SetReadBuffer(4 << 10)
		if _, err := p.Write(out); err != nil {
			a.seen.bad("held pulls: %v", err)
		}
	}
	wake()
	each(all, func(*peer) { <-ctx.Done() })
}

// half opens connections whose other end vanishes without a word.
func (a *attack) half(n int) {
	for i := range n {
		c := a.dial(80 + i%2)
		if c == nil {
			continue
		}
		_, _ = c.Write([]byte{0, 0, 1, 0, 0, 0, 0, 200, '{', '"', 'c'})
		if i%2 == 0 {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
}
