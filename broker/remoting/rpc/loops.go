package rpc

import (
	"bytes"
	"fmt"
	"log/slog"

	"github.com/sluicemq/sluice/broker/remoting"
)

// write sends what is queued, all there is at once.
func (c *Conn) write() {
	for {
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
		for b := c.take(); b != nil; b = c.take() {
			_, err := c.conn.Write(b.buf)
			c.settle(b, err)
			if err != nil {
				c.fail(fmt.Errorf("write: %w", err))
				return
			}
		}
	}
}

// take answers the next batch, nil if it is empty.
func (c *Conn) take() *batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.next
	if len(b.buf) == 0 || c.err != nil {
		return nil
	}
	c.next = &batch{number: b.number + 1, buf: c.spare[:0]}
	c.spare = nil
	c.started = b.number
	if c.space != nil {
		close(c.space)
		c.space = nil
	}
	return b
}

func (c *Conn) settle(b *batch, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cap(b.buf) <= keepBuffer {
		c.spare = b.buf
	}
	b.buf = nil
	if b.done != nil {
		b.err = err
		close(b.done)
	}
}

// received is a command with room for the fields of the usual answers.
type received struct {
	remoting.Command
	fields [8]remoting.Field
}

// read takes answers to their calls and requests to the handler.
func (c *Conn) read() {
	r := remoting.NewReader(c.conn, c.o.Limits)
	for {
		frame, err := r.Next()
		if err != nil {
			c.fail(fmt.Errorf("read: %w", err))
			return
		}
		c.frames.Add(1)
		in := new(received)
		cmd := &in.Command
		cmd.Fields = in.fields[:0]
		if err := remoting.Decode(frame, cmd, c.o.Limits); err != nil {
			c.fail(fmt.Errorf("read: %w", err))
			return
		}
		cmd.Body = bytes.Clone(cmd.Body)
		if cmd.IsResponse() {
			c.deliver(cmd)
		} else {
			c.receive(cmd)
		}
	}
}

func (c *Conn) deliver(answer *remoting.Command) {
	c.mu.Lock()
	k := c.pending[answer.Opaque]
	delete(c.pending, answer.Opaque)
	c.mu.Unlock()
	if k == nil {
		// It came too late, or answers a one-way request, which every peer may.
		c.log.Debug("answer without a request dropped", slog.Int("code", answer.Code), slog.Int("opaque", int(answer.Opaque)))
		return
	}
	k.answer <- answer
}

// receive never waits: the handler may be waiting for an answer that read is
// to deliver.
func (c *Conn) receive(req *remoting.Command) {
	if c.o.Handler == nil {
		c.answer(req, nil)
		return
	}
	if c.o.Apart != nil && c.o.Apart(req.Code) {
		c.handleApart(req)
		return
	}
	select {
	case c.requests <- req:
	default:
		c.tooMany(req)
	}
}

func (c *Conn) tooMany(req *remoting.Command) {
	c.log.Warn("request of the server dropped: too many wait for the handler", slog.String("request", remoting.RequestName(req.Code)))
	c.answer(req, &remoting.Command{Code: remoting.ResSystemBusy, Remark: "too many requests wait"})
}

// handleApart runs the handler for a request that takes time.
func (c *Conn) handleApart(req *remoting.Command) {
	select {
	case c.apart <- struct{}{}:
	default:
		c.tooMany(req)
		return
	}
	c.wg.Go(func() { // read, which is one of wg, has not ended yet
		defer func() { <-c.apart }()
		c.answer(req, c.call(req))
	})
}

// handle runs the handler for one request after the other.
func (c *Conn) handle() {
	for {
		select {
		case req := <-c.requests:
			c.answer(req, c.call(req))
		case <-c.done:
			return
		}
	}
}

// call runs the handler; a panic of it is an answer, not the end.
func (c *Conn) call(req *remoting.Command) (answer *remoting.Command) {
	defer func() {
		if r := recover(); r != nil {
			c.log.Error("handler panicked", slog.String("request", remoting.RequestName(req.Code)), slog.Any("panic", r))
			answer = &remoting.Command{Code: remoting.ResSystemError, Remark: "the handler failed"}
		}
	}()
	return c.o.Handler(req)
}

// answer queues the answer to a request of the server, unless it wants none.
func (c *Conn) answer(req, answer *remoting.Command) {
	if req.IsOneWay() {
		return
	}
	out := remoting.Command{
		Code:   remoting.ResUnsupported,
		Remark: fmt.Sprintf("request type %d not supported", req.Code),
	}
	if answer != nil {
		out = *answer
	}
	out.Language, out.Version = remoting.LanguageGo, remoting.Version
	out.Flag, out.Opaque = remoting.FlagResponse, req.Opaque
	// Without space it is dropped: a server that does not read has no use for it.
	if _, full, err := c.tryEnqueue(&out, nil, false); err != nil || full != nil {
		c.log.Warn("answer to the server dropped", slog.String("request", remoting.RequestName(req.Code)))
	}
}
