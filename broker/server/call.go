package server

import (
	"context"
	"slices"

	"github.com/sluicemq/sluice/broker/remoting"
)

// callsMost is how many requests to one client may be unanswered. Relayed
// commands of operators and replies are the only ones.
const callsMost = 256

// call asks the client and waits for its answer, which owns its memory. The
// error is ctx's cause, or a *lostError when the connection ends; the client
// may have done what it was asked all the same. cmd needs code, fields and
// body only.
func (c *conn) call(ctx context.Context, cmd *remoting.Command) (*remoting.Command, error) {
	answer := make(chan *remoting.Command, 1)
	c.callsMu.Lock()
	if len(c.calls) >= callsMost {
		c.callsMu.Unlock()
		return nil, &lostError{c.remote, errTooManyCalls}
	}
	c.opaque++
	opaque := c.opaque
	c.calls[opaque] = answer
	c.callsMu.Unlock()
	defer func() {
		c.callsMu.Lock()
		delete(c.calls, opaque)
		c.callsMu.Unlock()
	}()
	ask := *cmd
	ask.Opaque, ask.Flag, ask.Language, ask.Version, ask.Binary = opaque, 0, remoting.LanguageGo, remoting.Version, false
	if err := c.send(&ask); err != nil {
		return nil, &lostError{c.remote, err}
	}
	select {
	case a := <-answer:
		return a, nil
	case <-c.done:
		return nil, &lostError{c.remote, c.cause()}
	case <-c.srv.closing: // no further answers are read
		return nil, &lostError{c.remote, errShutdown}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// notify tells the client something that it does not answer. cmd needs code,
// fields and body only.
func (c *conn) notify(cmd *remoting.Command) error {
	c.callsMu.Lock()
	c.opaque++
	opaque := c.opaque
	c.callsMu.Unlock()
	tell := *cmd
	tell.Opaque, tell.Flag, tell.Language, tell.Version, tell.Binary = opaque, remoting.FlagOneWay, remoting.LanguageGo, remoting.Version, false
	if err := c.send(&tell); err != nil {
		return &lostError{c.remote, err}
	}
	return nil
}

// send queues a frame and has it written.
func (c *conn) send(cmd *remoting.Command) error {
	idle, err := c.out.put(cmd)
	if idle {
		c.out.wake()
	}
	return err
}

// answered hands the client's answer to who waits for it. An answer that
// nobody waits for is dropped, as by every other peer.
func (c *conn) answered(resp *remoting.Command) {
	c.callsMu.Lock()
	answer := c.calls[resp.Opaque]
	delete(c.calls, resp.Opaque)
	c.callsMu.Unlock()
	if answer != nil {
		answer <- clone(resp)
	}
}

// clone copies a command that belongs to a connection.
func clone(cmd *remoting.Command) *remoting.Command {
	own := *cmd
	own.Fields = slices.Clone(cmd.Fields)
	own.Body = slices.Clone(cmd.Body)
	return &own
}
