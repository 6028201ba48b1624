package server

import (
	"errors"
	"sync"

	"github.com/sluicemq/sluice/broker/driver"
	"github.com/sluicemq/sluice/broker/embedded"
	"github.com/sluicemq/sluice/broker/remoting"
)

// queued is a request whose work is staged in the store and not durable yet.
type queued struct {
	pending      *embedded.Pending
	code         int
	opaque, flag int32
	// answer makes the response of what became of the work.
	answer answerer
}

// answerer makes the response to a request that has waited.
type answerer interface {
	answer(s *Server, results []embedded.PutResult, resp *remoting.Command) error
}

// durables are the requests of one connection that wait for the disk, in the
// order in which they were staged, which is the order in which the disk is done
// with them. So one goroutine waits for all of them. It begins with the first
// one and stays as long as the connection, because a goroutine that begins
// anew has to grow its stack anew.
type durables struct {
	mu      sync.Mutex
	list    []queued
	running bool
	idle    bool          // it runs, and waits for more
	more    chan struct{} // room for one
}

// await answers a request now if its work is done, else later.
func (c *conn) await(p *embedded.Pending, req, resp *remoting.Command, a answerer) error {
	if p.Ready() {
		return c.srv.finishPut(p, a, resp)
	}
	d := &c.durables
	d.mu.Lock()
	d.list = append(d.list, queued{p, req.Code, req.Opaque, resp.Flag, a})
	start, wake := !d.running, d.idle
	d.running, d.idle = true, false
	d.mu.Unlock()
	switch {
	case start:
		c.srv.wg.Go(c.awaitDurable)
	case wake:
		select {
		case d.more <- struct{}{}:
		default: // there is a signal already
		}
	}
	return errLater
}

// finishPut makes the response of a work that is done, or waits for it.
func (s *Server) finishPut(p *embedded.Pending, a answerer, resp *remoting.Command) error {
	results, failure := p.Wait(s.root)
	var err error
	if failure != nil {
		err = failed(failure)
	} else {
		err = a.answer(s, results, resp)
	}
	p.Release()
	return err
}

// awaitDurable answers what waits for the disk, until the connection has ended
// and nothing does.
func (c *conn) awaitDurable() {
	var batch []queued
	var resp remoting.Command
	for {
		if batch = c.durables.take(batch[:0], c.done); len(batch) == 0 {
			return
		}
		idle := false
		for i := range batch {
			q := &batch[i]
			if idle && !q.pending.Ready() {
				c.flushAnswers() // what is answered need not wait for the next round
				idle = false
			}
			resp.Reset()
			resp.Code, resp.Language, resp.Version = remoting.ResSuccess, remoting.LanguageGo, remoting.Version
			resp.Opaque, resp.Flag = q.opaque, q.flag
			settle(&resp, c.answerQueued(q, &resp))
			idle = c.enqueue(&resp) || idle
		}
		if idle {
			c.flushAnswers()
		}
		clear(batch)
	}
}

// answerQueued makes the response to one of them; its panic is its own.
func (c *conn) answerQueued(q *queued, resp *remoting.Command) (err error) {
	defer c.srv.guard(q.code, c, &err)
	return c.srv.finishPut(q.pending, q.answer, resp)
}

// take waits for requests that wait for the disk, and answers none when ended is
// closed and there are none. It swaps its list for the empty one.
func (d *durables) take(empty []queued, ended <-chan struct{}) []queued {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.list) == 0 {
		d.idle = true
		d.mu.Unlock()
		select {
		case <-d.more:
			d.mu.Lock()
			continue
		case <-ended:
		}
		d.mu.Lock()
		if d.idle { // else somebody has asked meanwhile
			d.running, d.idle = false, false
			return nil
		}
	}
	batch := d.list
	d.list = empty
	return batch
}

// flushAnswers writes what was answered, without a change to the writing
// goroutine: that one is for those who must not wait for the peer.
func (c *conn) flushAnswers() {
	if err := c.out.flush(-1); err != nil {
		c.end(err)
	}
}

// failed is the answer to a request that the store could not serve.
func failed(err error) error {
	d, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return refuse(remoting.ResSystemError, "%v", err)
	}
	code := remoting.ResSystemError
	switch d.Code {
	case driver.InvalidArgument:
		code = remoting.ResMessageIllegal
	case driver.NotFound:
		code = remoting.ResTopicNotExist
	case driver.FailedPrecondition:
		code = remoting.ResIllegalOperation
	case driver.ResourceExhausted:
		code = remoting.ResServiceNotAvailable
		if errors.Is(err, embedded.ErrBusy) {
			code = remoting.ResSystemBusy
		}
	case driver.Unavailable, driver.Closed:
		code = remoting.ResServiceNotAvailable
	default:
	}
	return refuse(code, "%v", d)
}
